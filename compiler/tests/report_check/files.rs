//! Any text is taken for what it is, and in a moment; the commands that read reports.

use std::path::Path;
use std::process::{Command, Output};

use ckc::fuse::Flags;
use ckc::layout::Kind;
use ckc::report::{self, Report, Status, check, codes};

use crate::fixtures::*;

fn load(folder: &Path, bytes: &[u8]) -> Result<Report, Vec<&'static str>> {
    let path = folder.join("report.json");
    std::fs::write(&path, bytes).unwrap();
    report::load(&path).map_err(|problems| {
        assert!(
            problems.iter().all(|p| p.file.is_some() && p.help.is_some()),
            "{problems:?}"
        );
        problems.iter().map(|p| p.code).collect()
    })
}

#[test]
fn a_report_that_is_cut_is_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let json = tiny_json();
    assert_eq!(
        load(folder.path(), json.as_bytes())
            .map(|r| report::to_json(&r))
            .as_deref(),
        Ok(json.as_str())
    );
    let end = json.trim_end().len();
    for cut in 0..end {
        assert!(report::from_json(&json[..cut]).is_err(), "cut to {cut} bytes");
    }
    for cut in (0..end).step_by(151) {
        let bytes = &json.as_bytes()[..cut];
        assert_eq!(load(folder.path(), bytes), Err(vec!["CK0907"]), "cut to {cut} bytes");
    }
}

/// Flipped bits: an error with a code, or a report that breaks no rule; no other outcome.
#[test]
fn flipped_bytes_are_noticed_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let json = tiny_json();
    let mut state = 7u64;
    let mut below = |n: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let mut refused = 0;
    for _ in 0..4000 {
        let mut bytes = json.clone().into_bytes();
        for _ in 0..1 + below(3) {
            let at = below(bytes.len());
            bytes[at] = match below(4) {
                0 => b"0123456789"[below(10)],
                1 => b"{}[],:\"-e. \\"[below(12)],
                2 => bytes[at] ^ (1 << below(8)),
                _ => below(256) as u8,
            };
        }
        match load(folder.path(), &bytes) {
            Ok(report) => assert_eq!(told(&report), ""),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 3000, "only {refused}");
}

#[test]
fn malformed_reports_are_errors_with_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let json = tiny_json();
    let batch = "\"batch\": 16";
    let edits = [
        ("ckc-layout/1", "ckc-layout/2", "CK1001"),
        (batch, "\"batch\": -1", "CK0907"),
        (batch, "\"batch\": 1.5", "CK0907"),
        (batch, "\"batch\": 1e400", "CK0907"),
        (batch, "\"batch\": 99999999999999999999999", "CK0907"),
        (batch, "\"batch\": \"16\"", "CK0907"),
        (batch, "\"batch\": null", "CK0907"),
        (batch, "\"batch\": 16, \"batch\": 16", "CK0907"),
        (batch, "\"batch\": 16, \"bitch\": 16", "CK0907"),
        ("\"batch\": 16,", "", "CK0907"),
        ("\"f32\": ", "\"f32\": 1, \"f32\": ", "CK0907"),
        ("\"parts\":{", "\"parts\":{\"all\":[],\"all\":[],", "CK0907"),
        ("\"totals\":", "\"totals\": {}, \"totals\":", "CK0907"),
        ("\"kind\":\"axis\"", "\"kind\":\"spiral\"", "CK0907"),
        ("\"offset\":", "\"offset\":18446744073709551615,\"was\":", "CK0907"),
    ];
    for (from, to, code) in edits {
        let broken = json.replacen(from, to, 1);
        assert_ne!(broken, json, "{from} is not in the report");
        assert_eq!(load(folder.path(), broken.as_bytes()), Err(vec![code]), "{to}");
    }
    let deep = [&b"["[..], b"{\"header\":", b"{\"a\":["].map(|open| open.repeat(200_000));
    for bytes in [
        &b""[..],
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"{\"header\":{\"schema\":1}}",
    ]
    .into_iter()
    .chain(deep.iter().map(|d| &d[..]))
    {
        assert_eq!(load(folder.path(), bytes), Err(vec!["CK0907"]));
    }
    assert!(report::load(folder.path()).is_err() && report::load(&folder.path().join("none")).is_err());
}

/// A hundred thousand steps that all touch the same bytes, without a barrier: told in a moment, and shortly.
#[test]
fn a_report_made_to_be_slow_is_not() {
    let mut report = planned(TINY, Flags::NONE, Kind::Packed, None);
    let (step, tensor) = (report.steps[0].clone(), activation(&mut report).unwrap().clone());
    let weight = report.weights[1].clone();
    for i in 0..100_000u64 {
        let mut t = tensor.clone();
        (t.id, t.entry) = (format!("t{i}"), step.entry.clone());
        (t.first, t.last) = (0, u64::MAX);
        t.offset += 64 * (i % 7);
        t.alias_of = Some(format!("t{}", i / 2));
        let mut s = step.clone();
        (s.id, s.index) = (format!("s{i}"), 1000 + i);
        s.inputs = vec!["t0".into(), format!("t{}", i / 3)];
        s.outputs = vec![t.id.clone()];
        s.in_place_of = Some("t0".into());
        s.parts = [(
            ["all", "private", "rows/4"][i as usize % 3].to_owned(),
            vec![t.id.clone(), "t0".into()],
        )]
        .into();
        report.tensors.push(t);
        report.steps.push(s);
        report.weights.push(weight.clone());
    }
    let violations = check(&report);
    assert!(violations.iter().any(|v| v.code == codes::RACE));
    assert!(violations.len() < 300, "{}", violations.len());
}

/// The same in one step, with as many memories, budgets and parts.
#[test]
fn a_step_made_to_be_slow_is_not() {
    let mut report = extended(TINY, EXTRAS[0], Flags::NONE);
    let tensor = activation(&mut report).unwrap().clone();
    let step = report.steps.iter().position(|s| s.entry == tensor.entry).unwrap();
    let memory = report.totals.memories[0].clone();
    for i in 0..30_000u64 {
        let mut t = tensor.clone();
        (t.id, t.first, t.last) = (format!("t{i}"), i % 3, 3);
        (t.alias_of, t.memory) = (Some(format!("t{}", i / 2)), Some(format!("m{i}")));
        let step = &mut report.steps[step];
        step.in_place_of = Some(t.id.clone());
        let lists = [&mut step.inputs, &mut step.outputs, &mut step.clobbers];
        lists.into_iter().for_each(|names| names.push(t.id.clone()));
        for part in ["all".to_owned(), "private".into(), format!("rows/{i}")] {
            step.parts.entry(part).or_default().push(t.id.clone());
        }
        report.tensors.push(t);
        let mut m = memory.clone();
        m.name = format!("m{i}");
        report.totals.memories.push(m);
        report.totals.budgets.push(report::Limit {
            name: format!("m{i}"),
            ..Default::default()
        });
        report.totals.regions.push(report::Region {
            name: format!("m{i}"),
            offset: u64::MAX - i,
            bytes: u64::MAX / 2,
            status: Status::OverBudget { by: i },
            ..Default::default()
        });
    }
    let violations = check(&report);
    assert!(violations.iter().any(|v| v.code == codes::MEMORIES));
    assert!(violations.len() < 300, "{}", violations.len());
    let longest = violations.iter().map(|v| v.message.len()).max();
    assert!(longest < Some(10_000), "{longest:?}");
}

fn ckc(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ckc")).args(args).output().unwrap()
}

#[test]
fn verify_and_diff_judge_reports() {
    let folder = tempfile::tempdir().unwrap();
    let json = tiny_json();
    let mut report = report::from_json(&json).unwrap();
    let barrier = report.steps.iter().position(|s| s.barrier.is_some()).unwrap();
    report.steps[barrier].barrier = None;
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (good, bad) = (write("good.json", &json), write("bad.json", &report::to_json(&report)));
    let output = ckc(&["verify", &good]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("break no rule"));
    for (args, code) in [
        (&["verify", &bad][..], 1),
        (&["diff", &good, &bad], 2),
        (&["diff", &bad, &good], 2),
        (&["diff", &good, &good], 0),
    ] {
        let output = ckc(args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(
            code == 0 || text.contains("error[CK1018]") && text.contains("bad.json"),
            "{text}"
        );
    }
}
