//! Several memories: `plans` looks at what lives where, what keeps within its capacity, and what a program that does not
//! fit is told; `runs` at programs that are watched, in strides or a crate of their own, and at the bits they compute.

mod plans;
mod runs;

use std::fs;
use std::path::{Path, PathBuf};

use ckc::compile::{self, Options, Planned};
use ckc::diag;

/// The memories of most tests.
const TWO: &str = "[{name: fast, bytes: 2MiB}, {name: main}]";

fn models() -> PathBuf {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    models.canonicalize().expect("the models folder")
}

fn descriptions() -> Vec<PathBuf> {
    let entries = fs::read_dir(models()).expect("the models folder");
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    found.sort();
    found
}

/// A description with these memories; its weights are where they are.
fn with_arena(yaml: &Path, arena: &str) -> String {
    let text = fs::read_to_string(yaml).expect("a description");
    let folder = models().join("shakespeare").display().to_string();
    let text = text
        .replace("file: shakespeare,", &format!("file: {folder},"))
        .replace("tokenizer: shakespeare", &format!("tokenizer: {folder}"));
    assert!(text.contains("\noutputs: ["));
    text.replace("\noutputs: [", &format!("\narena: {arena}\noutputs: ["))
}

fn plan_as(yaml: &Path, arena: &str, options: &Options) -> Planned {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.yaml");
    fs::write(&path, with_arena(yaml, arena)).expect("a description");
    let planned = compile::plan(&path, options);
    planned.unwrap_or_else(|e| {
        panic!(
            "{}: {}",
            yaml.display(),
            diag::render(&e.diagnostics, [].as_slice(), false)
        )
    })
}
