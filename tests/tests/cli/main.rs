//! The `ckc` command and the command line of a runner, as processes: what works, and what bad input does.

mod bench;
mod budgets;
mod commands;
mod output;
mod runner;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const CKC: &str = env!("CARGO_BIN_EXE_ckc-under-test");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn model() -> String {
    root().join("models/shakespeare.yaml").display().to_string()
}

fn ckc(args: &[&str]) -> Output {
    Command::new(CKC).args(args).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every file below a folder, hidden ones too.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.insert(path.clone(), Vec::new());
                open.push(path);
            } else {
                found.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    found
}

/// Fails with `code` and says `says`; `folder` is as it was.
fn refused(folder: &Path, args: &[&str], code: i32, says: &str) {
    let before = tree(folder);
    let output = ckc(args);
    let text = err(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    assert!(text.contains(says), "{args:?} does not say {says:?}: {text}");
    assert!(!text.contains("panicked"), "{text}");
    assert!(tree(folder) == before, "{args:?} left something behind");
}

/// The shipped model's folder, copied, with its description edited.
fn edited(edit: impl Fn(&str) -> String) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let yaml = dir.path().join("shakespeare.yaml");
    std::fs::write(&yaml, edit(&std::fs::read_to_string(model()).unwrap())).unwrap();
    let weights = dir.path().join("shakespeare");
    std::fs::create_dir(&weights).unwrap();
    for entry in std::fs::read_dir(root().join("models/shakespeare")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, weights.join(path.file_name().unwrap())).unwrap();
    }
    let yaml = yaml.display().to_string();
    (dir, yaml)
}
