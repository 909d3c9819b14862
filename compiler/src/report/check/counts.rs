//! Steps are numbered, and the header's counts are theirs.

use std::collections::BTreeSet;

use super::Say;
use super::view::View;
use crate::report::types::Step;

/// More workers than any machine has.
pub const MOST_WORKERS: u64 = 1024;

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    let header = &view.report.header;
    let options = &header.options;
    let limits = [
        ("max_threads", options.max_threads, 1..=MOST_WORKERS),
        ("context", options.context, 1..=u64::from(u32::MAX)),
        ("batch", options.batch, 1..=options.context.max(1)),
    ];
    for (name, value, range) in limits {
        if !range.contains(&value) {
            let message = format!("{value} is not in {}..={}", range.start(), range.end());
            say(format!("header.options.{name}"), message);
        }
    }
    if !["packed", "stride"].contains(&options.layout.as_str()) {
        say(
            "header.options.layout".into(),
            format!("no layout is called `{}`", options.layout),
        );
    }
    for line in view.lines.values() {
        for (position, step) in line.steps.iter().enumerate() {
            let index = view.report.steps[*step].index;
            if index != position as u64 {
                let message = format!("the step after {position} others has the index {index}");
                say(format!("steps[{step}].index"), message);
            }
        }
    }
    let mut counted = BTreeSet::new();
    for (i, entry) in header.entries.iter().enumerate() {
        // Rows of one name are told of elsewhere.
        if !counted.insert(&entry.name) {
            continue;
        }
        let line = view.lines.get(entry.name.as_str());
        let steps = || line.iter().flat_map(|l| &l.steps).map(|s| &view.report.steps[*s]);
        let sum = |value: fn(&Step) -> u64| steps().map(|s| u128::from(value(s))).sum::<u128>();
        let counted = [
            ("steps", entry.steps, steps().count() as u128),
            ("barriers", entry.barriers, sum(|s| stand(s, |unless| unless.is_none()))),
            (
                "barriers_unless",
                entry.barriers_unless,
                sum(|s| stand(s, |unless| unless.is_some())),
            ),
            ("flops", entry.flops, sum(|s| s.flops)),
            ("bytes_read", entry.bytes_read, sum(|s| s.bytes_read)),
            ("bytes_written", entry.bytes_written, sum(|s| s.bytes_written)),
            (
                "predicted_ns",
                entry.predicted_ns,
                sum(|s| s.predicted.as_ref().map_or(0, |p| p.nanoseconds)),
            ),
        ];
        for (name, stated, counted) in counted {
            if u128::from(stated) != counted {
                let message = format!("{stated}, but the steps of {} have {counted}", entry.name);
                say(format!("header.entries[{i}].{name}"), message);
            }
        }
    }
}

/// The barriers of that kind before the step and within it.
fn stand(step: &Step, kind: fn(Option<u64>) -> bool) -> u64 {
    let barriers = step.barrier.iter().chain(&step.halves);
    barriers.filter(|b| kind(b.unless)).count() as u64
}
