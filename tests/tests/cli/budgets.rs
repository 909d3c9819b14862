//! Budgets and growth: the exit code for CI, and what is said.

use crate::{ckc, edited, err, model, out, refused};

#[test]
fn budgets_and_growth_exit_with_3() {
    let (dir, yaml) = edited(|text| format!("{text}\nbudget: {{arena: 1MiB}}\n"));
    let target = dir.path().join("out").display().to_string();
    refused(dir.path(), &["compile", &yaml, "-o", &target], 3, "over budget");
    let plan = ckc(&["plan", &yaml]);
    assert_eq!(plan.status.code(), Some(3));
    let (old, new) = (dir.path().join("old.json"), dir.path().join("new.json"));
    std::fs::write(&old, ckc(&["plan", &model(), "--json", "--batch", "64"]).stdout).unwrap();
    std::fs::write(&new, ckc(&["plan", &model(), "--json", "--batch", "128"]).stdout).unwrap();
    let (old, new) = (old.display().to_string(), new.display().to_string());
    assert_eq!(
        ckc(&["diff", &old, &new, "--max-arena-growth", "1KiB"]).status.code(),
        Some(3)
    );
    assert_eq!(
        ckc(&["diff", &old, &new, "--max-arena-growth", "1GiB"]).status.code(),
        Some(0)
    );
    assert_eq!(
        ckc(&["diff", &new, &old, "--max-arena-growth", "0"]).status.code(),
        Some(0)
    );
}

/// Every key of `budget`: exit code 3, what it is over by, and what to do about it, in every form of the report.
#[test]
fn every_budget_is_checked_and_explained() {
    for (key, says) in [
        ("arena", &["live at the peak, `", "without `", "its parts are"][..]),
        ("activations", &["live at the peak, `", "without `"]),
        ("weights", &["the largest are `model."]),
        ("kv", &["a position of the context costs"]),
        ("scratch", &["the largest are `layers."]),
    ] {
        let (_dir, yaml) = edited(|text| format!("{text}\nbudget: {{{key}: 100}}\n"));
        let plan = ckc(&["plan", &yaml]);
        assert_eq!(plan.status.code(), Some(3), "{key}");
        let over = err(&plan);
        let over_by = "error[CK0913]: over budget by ";
        assert!(
            over.contains(over_by) && over.contains(&format!(": {key} needs ")),
            "{over}"
        );
        says.iter()
            .for_each(|says| assert!(over.contains(says), "{key} does not say {says:?}: {over}"));
        assert!(out(&plan).contains("over budget by"), "{key}: {}", out(&plan));
        let stride = ckc(&["plan", &yaml, "--layout", "stride"]);
        assert_eq!(stride.status.code(), Some(3), "{key}: {}", err(&stride));
        for form in [&["--json"][..], &["--html"], &["--sweep", "batch=64,128"]] {
            let args = [&["plan", yaml.as_str()], form].concat();
            let output = ckc(&args);
            assert_eq!(output.status.code(), Some(3), "{args:?}");
            let status = if form == ["--json"] {
                "over_budget"
            } else {
                "over budget by"
            };
            assert!(out(&output).contains(status), "{args:?}");
        }
    }
    let (_dir, yaml) = edited(|text| format!("{text}\nbudget: {{arena: 1GiB, activations: 1GiB, kv: 1048576}}\n"));
    let kept = ckc(&["plan", &yaml]);
    assert_eq!(kept.status.code(), Some(0), "{}", err(&kept));
    assert!(out(&kept).contains("1048576 of 1048576 bytes, kept"), "{}", out(&kept));
}
