//! Two reports compared.

use super::*;

pub(super) fn compare(old: &Report, new: &Report, limit: Option<u64>) -> Diff {
    diff(
        old,
        new,
        DiffOptions {
            max_arena_growth: limit,
        },
    )
}

#[test]
fn a_report_does_not_differ_from_itself() {
    let d = compare(&base(), &base(), Some(0));
    assert_eq!(d.verdict().exit_code(), 0);
    insta::assert_snapshot!("same", d);
}

/// A layer between two others: the others stay as they were.
#[test]
fn an_inserted_layer_is_the_only_difference() {
    let d = compare(&base(), &sample(&["a", "aa", "b"]), Some(16000));
    assert_eq!(d.verdict(), Verdict::OverBudget);
    assert_eq!(d.verdict().exit_code(), 3);
    insta::assert_snapshot!("inserted_layer", d);
}

#[test]
fn a_lost_fusion_is_told_with_its_reason() {
    let mut new = base();
    new.fusions[1].outcome = FuseOutcome::Refused;
    new.fusions[1].reason = "used outside (logits|debug)".into();
    new.fusions[2].outcome = FuseOutcome::Applied;
    new.steps[0].kernel = "linear".into();
    new.steps[0].barrier = Some(Barrier {
        reason: "reads a.normed".into(),
        unless: None,
    });
    new.steps[1].partition = Partition::Serial {
        reason: "too small".into(),
    };
    new.tensors[0].bytes = 4096;
    new.tensors[0].shape = vec![16, 64];
    new.tensors[2].offset += 64;
    new.weights[0].hash = "cd".into();
    new.totals.arena_bytes += 64;
    new.totals.status = Status::Feasible { gap: 64 };
    let peak = new.totals.peak.as_mut().expect("the sample has one");
    peak.step = "head".into();
    let d = compare(&base(), &new, None);
    assert_eq!((d.verdict(), d.verdict().exit_code()), (Verdict::Larger, 0));
    insta::assert_snapshot!("lost_fusion", d);
    insta::assert_snapshot!("lost_fusion_markdown", d.to_markdown());
    insta::assert_snapshot!("lost_fusion_json", d.to_json());
}

#[test]
fn reports_without_weights_compare_with_reports_that_have_them() {
    let mut new = base();
    for w in &mut new.weights {
        w.hash.clear();
        w.dtype_source.clear();
    }
    let d = compare(&base(), &new, None);
    assert!(d.facts.iter().all(|f| f.kind == Kind::Note), "{d}");
}

#[test]
fn both_forms_are_bounded_and_count_what_they_leave_out() {
    let words = |prefix: &str| -> Vec<String> {
        let word = |i: u32| format!("{prefix}{}x{}", i, "|`*\n".repeat(30));
        (0..3000).map(word).collect()
    };
    let report = |prefix: &str| {
        let names = words(prefix);
        let mut report = sample(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let dtypes = names.iter().take(300);
        report.totals.weights_bytes = dtypes.map(|n| (n.clone(), 1)).collect();
        report
    };
    let d = compare(&report("a"), &report("b"), Some(0));
    let markdown = d.to_markdown();
    assert!(markdown.lines().count() <= 40, "{markdown}");
    assert!(markdown.lines().all(|l| l.chars().count() < 1300));
    let left = markdown.lines().last().unwrap_or_default();
    let shown = markdown.lines().filter(|l| l.starts_with("- **")).count();
    let missing = d.facts.len() - shown;
    assert!(left.contains(&format!("and {missing} more changes")), "{left}");
    let text = d.to_string();
    assert!(text.lines().count() < 400, "{}", text.lines().count());
    assert!(text.contains("... and "));
    let names: usize = d.facts.iter().map(|f| f.names.len()).sum();
    assert!(names > 12_000, "all of them are in the JSON form: {names}");
}

#[test]
fn names_cannot_break_the_forms() {
    let mut new = base();
    let name = "a|`b`<img>*_[x](y)@all&#1\u{1b}[31m\n# title";
    new.tensors[0].id = name.into();
    new.header.model = name.into();
    let d = compare(&base(), &new, None);
    for form in [d.to_markdown(), d.to_string()] {
        assert!(!form.contains('\u{1b}') && !form.contains("\n# title"), "{form}");
    }
    let markdown = d.to_markdown();
    assert!(
        markdown.contains("a\\|\\`b\\`\\<img>\\*\\_\\[x\\](y)&#64;all&#38;\\#1"),
        "{markdown}"
    );
    for line in markdown.lines().filter(|l| l.starts_with("| ")) {
        let bars = line.replace("\\|", "").matches('|').count();
        assert_eq!(bars, 5, "{line}");
    }
}

#[test]
fn any_two_numbers_compare() {
    let (mut old, mut new) = (base(), base());
    (old.totals.arena_bytes, new.totals.arena_bytes) = (u64::MAX, 1);
    assert!(
        compare(&old, &new, None)
            .to_string()
            .contains("(-18446744073709551614, -99.9 %)")
    );
    assert!(
        compare(&new, &old, Some(7))
            .to_string()
            .contains("over the 7 B that it may grow")
    );
}
