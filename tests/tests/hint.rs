//! `--hint`: plans near an earlier report.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ckc::compile::{self, Options, Planned};
use ckc::layout::hint::Hint;
use ckc::report::{self, Report};

const CKC: &str = env!("CARGO_BIN_EXE_ckc-under-test");

fn model(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../models/{name}.yaml"))
}

fn planned(yaml: &Path, hint: &Hint) -> Planned {
    compile::plan_near(yaml, &Options::default(), hint).unwrap_or_else(|e| panic!("{:?}", e.diagnostics))
}

/// The shipped model with an edit, planned near `hint`.
fn edited(from: &str, to: &str, hint: &Hint) -> Report {
    let dir = tempfile::tempdir().unwrap();
    let yaml = dir.path().join("shakespeare.yaml");
    let text = std::fs::read_to_string(model("shakespeare")).unwrap();
    assert!(text.contains(from));
    std::fs::write(&yaml, text.replace(from, to)).unwrap();
    planned(&yaml, hint).report
}

/// Activations of both reports that lie elsewhere in their region.
fn moved(old: &Report, new: &Report) -> usize {
    let base = |r: &Report| {
        r.totals
            .regions
            .iter()
            .find(|r| r.name == "activations")
            .unwrap()
            .offset
    };
    let (a, b) = (base(old), base(new));
    let of = |t: &&report::Tensor| t.region == "activations";
    let elsewhere = |t: &&report::Tensor| {
        let now = new
            .tensors
            .iter()
            .filter(of)
            .find(|n| (&n.entry, &n.id) == (&t.entry, &t.id));
        now.is_some_and(|n| n.offset - b != t.offset - a)
    };
    old.tensors.iter().filter(of).filter(elsewhere).count()
}

#[test]
fn a_model_with_its_own_report_has_the_same_plan() {
    for name in ["shakespeare", "qwen2.5-0.5b"] {
        let plain = planned(&model(name), &Hint::default());
        let hint = Hint::new(&plain.report);
        let again = planned(&model(name), &hint);
        assert_eq!(report::to_json(&again.report), report::to_json(&plain.report), "{name}");
        assert_eq!(again.hash, plain.hash);
        let said = hint.outcome(&again.layout, name);
        assert!(said.contains(" 0 move, 0 are new"), "{said}");
    }
}

/// A plan that came about by a hint is its own report's plan too.
#[test]
fn edits_move_fewer_tensors_with_a_hint_and_never_cost_a_byte() {
    let old = planned(&model("shakespeare"), &Hint::default()).report;
    let mut fewer = 0;
    for (from, to) in [
        ("n_layers: 4", "n_layers: 5"),
        ("n_layers: 4", "n_layers: 3"),
        ("d_ff: 768", "d_ff: 832"),
        ("n_heads: 8", "n_heads: 16"),
        ("batch: 128", "batch: 192"),
    ] {
        let without = edited(from, to, &Hint::default());
        let with = edited(from, to, &Hint::new(&old));
        let (a, b) = (moved(&old, &without), moved(&old, &with));
        assert!(b <= a, "{to}: {b} with, {a} without");
        assert!(with.totals.arena_bytes <= without.totals.arena_bytes, "{to}");
        fewer += usize::from(b < a);
        let again = edited(from, to, &Hint::new(&with));
        assert_eq!(report::to_json(&again), report::to_json(&with), "{to}");
    }
    assert!(fewer > 0);
}

#[test]
fn hints_of_other_models_and_impossible_offsets_are_ignored() {
    let plain = planned(&model("shakespeare"), &Hint::default()).report;
    let other = planned(&model("qwen2.5-0.5b"), &Hint::default()).report;
    let mut hostile = vec![other, Report::default()];
    for (scale, add) in [(0, 0), (1, 1), (1, 64), (0, u64::MAX), (3, 1 << 61)] {
        let mut report = plain.clone();
        for t in &mut report.tensors {
            t.offset = t.offset.wrapping_mul(scale).wrapping_add(add);
        }
        hostile.push(report);
    }
    for report in hostile {
        let near = planned(&model("shakespeare"), &Hint::new(&report)).report;
        assert_eq!(near.totals.arena_bytes, plain.totals.arena_bytes);
    }
}

#[test]
fn the_command_says_what_became_of_the_hint() {
    let dir = tempfile::tempdir().unwrap();
    let (yaml, path) = (model("shakespeare"), dir.path().join("old.json"));
    let run = |args: &[&str]| -> Output {
        let mut command = Command::new(CKC);
        command.arg("plan").arg(&yaml).args(args).arg("--hint").arg(&path);
        command.output().unwrap()
    };
    let err = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let json = report::to_json(&planned(&model("qwen2.5-0.5b"), &Hint::default()).report);
    std::fs::write(&path, &json).unwrap();
    let other = run(&["--json"]);
    assert_eq!(other.status.code(), Some(0));
    assert!(
        err(&other).contains("are of no tensor here; it is a report of `qwen2_5-0_5b`"),
        "{}",
        err(&other)
    );
    assert!(err(&run(&["--layout", "stride"])).contains("takes no hints"));
    for broken in ["", "{}", "[1]", &json[..json.len() / 2], "\u{0}"] {
        std::fs::write(&path, broken).unwrap();
        let output = run(&[]);
        assert_eq!(output.status.code(), Some(1), "{}", err(&output));
        assert!(err(&output).starts_with("error[CK"), "{}", err(&output));
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(run(&[]).status.code(), Some(1));
}
