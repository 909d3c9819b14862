//! Reports that are read: what is written comes back, and nothing else does.

use super::*;

#[test]
fn json_survives_a_round_trip() {
    let mut report = base();
    report.moves.push(Move {
        entry: "prefill".into(),
        tensor: "x".into(),
        bytes: 9,
        ..Move::default()
    });
    report.totals.status = Status::Feasible { gap: 64 };
    let json = to_json(&report);
    let back = from_json(&json).expect("our own report");
    report.normalise();
    assert_eq!(back, report);
    assert_eq!(to_json(&back), json);
}

#[test]
fn the_order_rows_come_in_does_not_matter() {
    let (mut report, json) = (base(), to_json(&base()));
    report.steps.reverse();
    report.tensors.reverse();
    report.weights.reverse();
    report.fusions.reverse();
    report.totals.regions.reverse();
    assert_eq!(to_json(&report), json);
    assert_eq!(to_text(&report), to_text(&base()));
}

#[test]
fn no_prefix_of_a_report_is_a_report() {
    let json = to_json(&base());
    let end = json.trim_end().len();
    for (cut, _) in json.char_indices().filter(|&(cut, _)| cut < end) {
        assert!(from_json(&json[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn corrupt_reports_are_errors() {
    let json = to_json(&base());
    let cases = [
        ("", "", "EOF"),
        ("ckc-layout/1", "ckc-layout/2", "schema is `ckc-layout/2`"),
        ("\"arena_bytes\": 36864", "\"arena_bytes\": -1", "not a layout report"),
        (
            "\"arena_bytes\": 36864",
            "\"arena_bytes\": 1e400",
            "not a layout report",
        ),
        ("\"arena_bytes\": 36864", "\"arena_bytes\": 1.5", "not a layout report"),
        ("\"arena_bytes\"", "\"arena_byte\"", "unknown field `arena_byte`"),
        ("\"kind\":\"serial\"", "\"kind\":\"spiral\"", "unknown variant `spiral`"),
    ];
    for (from, to, message) in cases {
        let broken = if from.is_empty() {
            String::new()
        } else {
            json.replacen(from, to, 1)
        };
        assert_ne!(broken, json, "{from} is not in the sample");
        let error = from_json(&broken).expect_err(to).to_string();
        assert!(error.contains(message), "{to}: {error}");
    }
    let deep = "[".repeat(100_000);
    assert!(from_json(&deep).is_err());
}
