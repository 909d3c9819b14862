//! The workers' ranges, as the report lists them, cover each step's work exactly once.

use std::collections::BTreeSet;

use super::Say;
use super::counts::MOST_WORKERS;
use super::view::View;
use crate::report::types::{Division, Partition};

/// What work is divided by.
const AXES: &[&str] = &["rows", "columns", "heads", "elements"];

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    let r = view.report;
    let most = r.header.options.max_threads.min(MOST_WORKERS);
    let mut listed = BTreeSet::new();
    for (i, division) in r.partitions.iter().enumerate() {
        if !listed.insert((division.axis.as_str(), division.length, division.granule)) {
            say(format!("partitions[{i}]"), "a second row for the same division".into());
        }
        judge(division, i, most, say);
    }
    for (i, step) in r.steps.iter().enumerate() {
        let Partition::Axis { axis, length, granule } = &step.partition else {
            continue;
        };
        let place = format!("steps[{i}].partition");
        if !AXES.contains(&axis.as_str()) {
            say(place, format!("`{}` cannot be divided by `{axis}`", step.id));
        } else if !listed.contains(&(axis.as_str(), *length, *granule)) {
            let message = format!("who takes what of {length} {axis} by {granule} is not listed in `partitions`");
            say(place, message);
        }
    }
}

/// One division, for 2, 4, 8, .. workers, up to the most that there is room for.
fn judge(division: &Division, index: usize, most: u64, say: &mut Say<'_>) {
    let Division { length, granule, .. } = division;
    let place = format!("partitions[{index}]");
    if *granule == 0 || *length == 0 {
        say(place, format!("{length} cannot be divided by {granule}"));
        return;
    }
    let counts: Vec<u64> = (1..).map(|i| 1u64 << i).take_while(|n| *n <= most).collect();
    if division.ranges.len() != counts.len() {
        let message = format!(
            "ranges for {} numbers of workers, not {}",
            division.ranges.len(),
            counts.len()
        );
        say(format!("{place}.ranges"), message);
    }
    for (at, (cuts, workers)) in division.ranges.iter().zip(counts).enumerate() {
        let place = || format!("{place}.ranges[{at}]");
        if cuts.len() as u64 != workers + 1 {
            say(place(), format!("{} ends for {workers} workers", cuts.len()));
            continue;
        }
        if cuts.first() != Some(&0) || cuts.last() != Some(length) || !cuts.is_sorted() {
            say(
                place(),
                format!("the parts of {workers} workers do not cover 0..{length} exactly once"),
            );
        }
        let cut = |c: &u64| c.is_multiple_of(*granule) || c == length;
        if !cuts.iter().all(cut) {
            say(
                place(),
                format!("a part of {workers} workers begins inside of {granule} that stay together"),
            );
        }
    }
}
