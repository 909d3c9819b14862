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

/// The shipped model with these memories and an edit, planned near `hint`.
fn in_memories(arena: &str, (from, to): (&str, &str), hint: &Hint) -> Planned {
    let dir = tempfile::tempdir().unwrap();
    let yaml = dir.path().join("shakespeare.yaml");
    let text = std::fs::read_to_string(model("shakespeare")).unwrap();
    assert!(text.contains(from) && text.contains("\noutputs: ["));
    let text = text.replace("\noutputs: [", &format!("\narena: {arena}\noutputs: ["));
    std::fs::write(&yaml, text.replace(from, to)).unwrap();
    planned(&yaml, hint)
}

const NOTHING: (&str, &str) = ("n_layers: 4", "n_layers: 4");
const TWO: &str = "[{name: fast, bytes: 300KiB}, {name: main}]";
/// Room for the caches of some layers, which are all touched alike.
const CACHES: &str = "[{name: fast, bytes: 600KiB}, {name: main}]";

/// The memory of every tensor, and its offset there.
fn homes(report: &Report) -> Vec<(String, String, String, u64)> {
    let base = |t: &report::Tensor| {
        report
            .totals
            .regions
            .iter()
            .find(|r| r.name == t.home())
            .unwrap()
            .offset
    };
    let row = |t: &report::Tensor| (t.entry.clone(), t.id.clone(), t.home().to_owned(), t.offset - base(t));
    report.tensors.iter().map(row).collect()
}

/// Rows of both that are not the same in both.
fn changed(old: &Report, new: &Report) -> usize {
    let before = homes(old);
    let same = |row: &(String, String, String, u64)| before.contains(row);
    homes(new).iter().filter(|row| !same(row)).count()
}

#[test]
fn a_model_in_memories_with_its_own_report_has_the_same_plan() {
    for arena in [
        TWO,
        CACHES,
        "[{name: a, bytes: 5000}, {name: b, bytes: 200KiB}, {name: c, bytes: 9MB}]",
    ] {
        let plain = in_memories(arena, NOTHING, &Hint::default());
        let hint = Hint::new(&plain.report);
        let again = in_memories(arena, NOTHING, &hint);
        assert_eq!(
            report::to_json(&again.report),
            report::to_json(&plain.report),
            "{arena}"
        );
        let said = hint.outcome(&again.layout, "shakespeare");
        assert!(said.ends_with(" keep their offsets, 0 move, 0 are new"), "{said}");
    }
}

#[test]
fn in_memories_edits_move_fewer_tensors_with_a_hint_and_cost_nothing() {
    let mut fewer = 0;
    for arena in [TWO, CACHES] {
        let old = in_memories(arena, NOTHING, &Hint::default()).report;
        for edit in [
            ("n_layers: 4", "n_layers: 5"),
            ("n_layers: 4", "n_layers: 3"),
            ("d_ff: 768", "d_ff: 832"),
            ("n_heads: 8", "n_heads: 16"),
            ("batch: 128", "batch: 192"),
        ] {
            let without = in_memories(arena, edit, &Hint::default()).report;
            let with = in_memories(arena, edit, &Hint::new(&old)).report;
            let (a, b) = (changed(&old, &without), changed(&old, &with));
            assert!(b <= a, "{arena} {edit:?}: {b} with, {a} without");
            fewer += usize::from(b < a);
            for (with, without) in with.totals.memories.iter().zip(&without.totals.memories) {
                assert!(with.bytes <= without.bytes, "{arena} {edit:?}: {with:?} {without:?}");
            }
            let served = |r: &Report| r.totals.memories[0].accesses;
            assert!(served(&with) >= served(&without), "{arena} {edit:?}");
            let again = in_memories(arena, edit, &Hint::new(&with)).report;
            assert_eq!(report::to_json(&again), report::to_json(&with), "{arena} {edit:?}");
        }
    }
    assert!(fewer > 2, "{fewer}");
}

/// Of caches that are touched alike, those stay in the fast memory that were there.
#[test]
fn equal_tensors_stay_in_the_memory_they_were_in() {
    let plain = in_memories(CACHES, NOTHING, &Hint::default()).report;
    let caches = |report: &Report, home: &str| -> Vec<String> {
        let all = report.tensors.iter().filter(|t| t.region == "kv" && t.home() == home);
        all.map(|t| t.id.clone()).collect()
    };
    let (fast, main) = (caches(&plain, "fast"), caches(&plain, "main"));
    let keys = |list: &[String]| list.iter().position(|id| id.ends_with(".keys"));
    let (Some(i), Some(j)) = (keys(&fast), keys(&main)) else {
        panic!("{fast:?} {main:?}")
    };
    // The report of a plan that had these two the other way round.
    let mut other = plain.clone();
    let place = |id: &str| {
        let tensor = plain.tensors.iter().find(|t| t.id == id).unwrap();
        (tensor.offset, tensor.memory.clone())
    };
    for (id, from) in [(&fast[i], &main[j]), (&main[j], &fast[i])] {
        let tensor = other.tensors.iter_mut().find(|t| t.id == *id).unwrap();
        (tensor.offset, tensor.memory) = place(from);
    }
    assert_eq!(report::check(&other), []);
    let near = in_memories(CACHES, NOTHING, &Hint::new(&other));
    assert_eq!(homes(&near.report), homes(&other));
    assert!(
        Hint::new(&other)
            .outcome(&near.layout, "shakespeare")
            .ends_with(", 0 move, 0 are new")
    );
}

#[test]
fn what_of_a_hint_is_of_no_use_is_said() {
    let (one, two) = (
        planned(&model("shakespeare"), &Hint::default()),
        in_memories(TWO, NOTHING, &Hint::default()),
    );
    let other = in_memories(
        "[{name: quick, bytes: 300KiB}, {name: main}]",
        NOTHING,
        &Hint::default(),
    );
    let mut strange = two.report.clone();
    let prefill = strange.tensors.iter_mut().filter(|t| t.entry == "prefill");
    prefill.for_each(|t| t.entry = "train_step".into());
    let mut stride = one.report.clone();
    stride.header.options.layout = "stride".into();
    for (hint, now, said) in [
        (
            &one.report,
            &two,
            "of its tensors are in the memory `activations`, which is not here",
        ),
        (
            &two.report,
            &one,
            "of its tensors are in the memories `fast`, `main`, which are not here",
        ),
        (
            &other.report,
            &two,
            "of its tensors are in the memory `quick`, which is not here",
        ),
        (
            &strange,
            &two,
            "of its tensors are in the entry `train_step`, which is not here",
        ),
        (&stride, &two, "it is a stride layout, which has no places to keep"),
        (&stride, &one, "hint: 0 tensors keep their offsets"),
    ] {
        let hint = Hint::new(hint);
        let text = hint.outcome(&now.layout, "shakespeare");
        assert!(text.contains(said), "{text}");
    }
    // What can be used of it is.
    let near = in_memories(TWO, NOTHING, &Hint::new(&other.report));
    assert_eq!(report::to_json(&near.report), report::to_json(&two.report));
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
    assert!(err(&run(&["--layout", "stride"])).contains("not used, in a stride layout"));
    for broken in ["", "{}", "[1]", &json[..json.len() / 2], "\u{0}"] {
        std::fs::write(&path, broken).unwrap();
        let output = run(&[]);
        assert_eq!(output.status.code(), Some(1), "{}", err(&output));
        assert!(err(&output).starts_with("error[CK"), "{}", err(&output));
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(run(&[]).status.code(), Some(1));
}
