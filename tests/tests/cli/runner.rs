//! The command line of a runner, built as users build it.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::{ckc, err, model, out};

/// A runner outside the workspace, built once for all tests of this program, offline: it has no dependencies.
fn runner() -> &'static (TempDir, PathBuf) {
    static RUNNER: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    RUNNER.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("runner");
        let compiled = ckc(&["compile", &model(), "-o", &folder.display().to_string()]);
        assert!(compiled.status.success(), "{}", err(&compiled));
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--offline", "--quiet", "--target-dir"])
            .arg(dir.path().join("target"))
            .current_dir(&folder)
            .env_remove("RUSTFLAGS")
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", err(&built));
        assert!(err(&built).is_empty(), "warnings: {}", err(&built));
        let program = dir.path().join("target/release/shakespeare");
        (dir, program)
    })
}

fn run(args: &[&str]) -> Output {
    let (dir, program) = runner();
    Command::new(program)
        .args(args)
        .current_dir(dir.path().join("runner"))
        .output()
        .unwrap()
}

/// One test for all of it: nextest runs every test in a process of its own, which would build the runner again.
#[test]
fn a_runner_outside_the_workspace_builds_offline_and_serves() {
    let (dir, _) = runner();
    let good = |args: &[&str]| {
        let output = run(args);
        assert!(output.status.success(), "{args:?}: {}", err(&output));
        out(&output)
    };
    let generate = [
        "generate", "--prompt", "ROMEO:", "-n", "12", "--seed", "1", "--temp", "0.8",
    ];
    assert_eq!(good(&generate), good(&generate), "same seed, same text");
    let ids = good(&["tokenize", "ROMEO:"]);
    // With the token that the tokenizer puts in front.
    assert!(good(&["detokenize", ids.trim()]).trim_end().ends_with("ROMEO:"));
    let logits = dir.path().join("logits.safetensors").display().to_string();
    good(&["logits", "--ids", "1,2,3", "--out", &logits]);
    let bytes = std::fs::read(&logits).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("logits").unwrap().shape(), [3, 1024]);
    for args in [
        &["report", "--json"][..],
        &["bench", "-p", "8", "-n", "4", "-r", "1", "--json"],
    ] {
        let json: serde_json::Value = serde_json::from_str(&good(args)).unwrap();
        assert_eq!(json["model"], "shakespeare", "{args:?}");
    }
    // How near decode comes to reading, which prefill is not up against; without being asked for, nothing is read.
    let bench = |more: &[&str]| -> serde_json::Value {
        let args = [&["bench", "-p", "8", "-n", "4", "-r", "2", "--json"], more].concat();
        serde_json::from_str(&good(&args)).unwrap()
    };
    let (plain, read) = (bench(&[]), bench(&["--ceiling"]));
    for value in ["read_gb_per_s", "percent_of_read"] {
        assert!(
            read["decode"][value].as_f64().is_some_and(|x| x > 0.0),
            "{value}: {read}"
        );
        assert!(
            read["prefill"][value].is_null() && plain["decode"][value].is_null(),
            "{value}"
        );
    }

    let bad = |args: &[&str], code: i32, says: &str| {
        let output = run(args);
        let text = err(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(says), "{args:?} does not say {says:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    };
    let packed = std::fs::read(dir.path().join("runner/shakespeare.ckw")).unwrap();
    let cut = dir.path().join("cut.ckw");
    for keep in [0, 1, 63, 4096, packed.len() / 2, packed.len() - 1] {
        std::fs::write(&cut, &packed[..keep]).unwrap();
        bad(
            &[
                "logits",
                "--ids",
                "1",
                "--out",
                &logits,
                "--weights",
                &cut.display().to_string(),
            ],
            1,
            "cut.ckw",
        );
    }
    let other = dir.path().join("other").display().to_string();
    let compiled = ckc(&["compile", &model(), "-o", &other, "--batch", "64"]);
    assert!(compiled.status.success(), "{}", err(&compiled));
    let foreign = format!("{other}/shakespeare.ckw");
    bad(
        &["generate", "--prompt", "x", "--weights", &foreign],
        1,
        "another layout",
    );
    bad(&["logits", "--ids", "99999", "--out", &logits], 1, "99999");
    bad(
        &["generate", "--prompt", "x", "--weights", "nowhere.ckw"],
        1,
        "nowhere.ckw",
    );
    bad(&["generate", "--prompt", &"word ".repeat(4000)], 1, "context");
    bad(&["generate", "--nonsense"], 2, "--nonsense");
}
