//! The forms of a report: text, JSON and page.

use super::*;

#[test]
fn text_and_json_of_the_sample() {
    insta::assert_snapshot!("text", to_text(&base()));
    insta::assert_snapshot!("json", to_json(&base()));
}

#[test]
fn html_of_the_sample() {
    let page = to_html(&base()).expect("the template is valid");
    insta::assert_snapshot!("html", page);
    for forbidden in [
        "<script",
        "http://",
        "https://",
        "url(",
        "@import",
        "@font-face",
        "<link",
        "src=",
        "href=",
        "<iframe",
        "<img",
    ] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn html_escapes_names() {
    let mut report = base();
    report.header.model = "<b>&\"".into();
    report.tensors[0].id = "</title><script>".into();
    report.steps[0].id = "<script>".into();
    report.fusions[0].reason = "<script>".into();
    let page = to_html(&report).expect("the template is valid");
    assert!(!page.contains("<b>") && !page.contains("<script"));
}

/// What a phone, the dark and people who do not see colours rely on.
#[test]
fn html_has_what_small_and_dark_screens_need() {
    let page = to_html(&base()).expect("the template is valid");
    for needed in [
        "width=device-width",
        "prefers-color-scheme: dark",
        "overflow-x: auto",
        "tabindex=\"-1\"",
    ] {
        assert!(page.contains(needed), "{needed}");
    }
    // Every table and chart scrolls inside a box of its own.
    let boxes = page.matches("class=\"wide\"").count();
    assert_eq!(boxes, page.matches("<table>").count() + page.matches("<svg").count());
    // Every box of the chart says its tensor, by hovering and by tapping.
    let slots = page.matches("<g class=\"b\"").count();
    assert!(slots > 0 && slots == page.matches("<title>").count() - 1 && slots == page.matches("class=\"tip").count());
}

#[test]
fn what_exceeds_a_budget_is_said_everywhere() {
    let mut report = base();
    report.totals.budgets = vec![
        Limit {
            name: "arena".into(),
            limit: 10,
            bytes: report.totals.arena_bytes,
        },
        Limit {
            name: "kv".into(),
            limit: 512,
            bytes: 512,
        },
    ];
    let over = format!("over budget by {}", report.totals.arena_bytes - 10);
    report.totals.status = Status::OverBudget {
        by: report.totals.arena_bytes - 10,
    };
    assert!(to_text(&report).contains(&format!("total   status {over}")));
    assert!(to_html(&report).expect("the template is valid").contains(&over));
    assert!(to_json(&report).contains("\"over_budget\""));
    let [message] = report.over_budget().try_into().expect("one budget is exceeded");
    for says in [
        over.as_str(),
        crate::codes::OVER_BUDGET,
        "no layout fits",
        "its parts are",
        "live at the peak, `",
    ] {
        assert!(message.contains(says), "{says}: {message}");
    }
}

/// Extents beyond anything real: drawn somewhere, without overflow.
#[test]
fn html_takes_any_numbers() {
    let mut report = base();
    for t in &mut report.tensors {
        (t.offset, t.bytes, t.first, t.last) = (u64::MAX, u64::MAX, u64::MAX, u64::MAX);
    }
    report.totals.regions[0].bytes = u64::MAX;
    report.totals.regions[0].offset = u64::MAX;
    report.steps[0].live_bytes = u64::MAX;
    to_html(&report).expect("the template is valid");
    to_html(&Report::default()).expect("the template is valid");
}
