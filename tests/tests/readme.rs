//! What the README shows is what there is: the plan of a model, and a step of an emitted program.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// Whether `lines` occur in `text` in that order, others between them; the first that does not.
fn missing<'a>(text: &str, lines: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut there = text.lines().map(str::trim);
    lines.map(str::trim).find(|line| !there.any(|other| other == *line))
}

#[test]
fn the_plan_is_what_ckc_prints() {
    let readme = read("README.md");
    let (_, block) = readme
        .split_once("(`ckc plan models/qwen2.5-0.5b.yaml`):\n\n")
        .expect("the README shows a plan");
    let block = block.lines().take_while(|line| line.starts_with("    "));
    let out = Command::new(env!("CARGO_BIN_EXE_ckc-under-test"))
        .args(["plan", "models/qwen2.5-0.5b.yaml"])
        .current_dir(root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert_eq!(missing(&said, block), None, "{said}");
}

#[test]
fn the_step_is_one_of_the_shipped_program() {
    let readme = read("README.md");
    let (_, step) = readme.split_once("```rust\n").expect("the README shows a step");
    let (step, _) = step.split_once("```").expect("it ends");
    let program = read("generated/shakespeare/src/decode.rs");
    let shown = step.lines().filter(|line| line.trim() != "...");
    assert_eq!(missing(&program, shown), None);
}
