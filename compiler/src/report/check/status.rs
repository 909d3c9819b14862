//! Lower bound <= bytes <= naive, and the status says how the first two compare.

use std::collections::BTreeSet;

use super::Say;
use super::view::View;
use crate::report::types::Status;

/// Bytes before the first buffer of a region, in a program that watches its memory.
const CANARY: u64 = 64;

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    let t = &view.report.totals;
    let mut judge = |place: String, bytes: u64, bound: u64, naive: u64, status: Status| {
        if bound > bytes {
            say(
                format!("{place}.lower_bound"),
                format!("{bound} is above the {bytes} bytes that suffice"),
            );
            return;
        }
        if naive < bytes {
            say(
                format!("{place}.naive"),
                format!("{naive} bytes without reuse, and {bytes} with it"),
            );
        }
        let true_of_both = match status {
            Status::Optimal => bytes == bound,
            Status::OptimalSearch => bytes > bound,
            Status::Feasible { gap } => gap > 0 && bytes - bound == gap,
            Status::OverBudget { by } => by > 0,
            Status::Infeasible => true,
        };
        if !true_of_both {
            let message = format!("`{status}` is not what {bytes} bytes over a bound of {bound} are");
            say(format!("{place}.status"), message);
        }
    };
    judge(
        "totals".into(),
        t.arena_bytes,
        t.lower_bound_bytes,
        t.naive_bytes,
        t.status,
    );
    for (i, r) in t.regions.iter().enumerate() {
        judge(
            format!("totals.regions[{i}]"),
            r.bytes,
            r.lower_bound,
            r.naive,
            r.status,
        );
    }
    let canaries = view.report.header.options.debug.iter().any(|d| d == "canaries");
    let canary = if canaries { CANARY } else { 0 };
    let plans = t.regions.iter().enumerate().filter_map(|(i, r)| {
        let place = format!("totals.regions[{i}].plan");
        r.plan
            .as_ref()
            .map(|plan| (place, plan, r.bytes.saturating_sub(canary)))
    });
    let entries = view.report.header.entries.iter().enumerate();
    let own = entries.filter_map(|(i, e)| {
        e.plan
            .as_ref()
            .map(|p| (format!("header.entries[{i}].plan"), p, e.peak_bytes))
    });
    for (place, plan, bytes) in plans.chain(own) {
        if plan.candidates.get(&plan.chosen) != Some(&bytes) || plan.bytes != bytes {
            let message = format!("`{}` is no candidate with {bytes} bytes", plan.chosen);
            say(format!("{place}.chosen"), message);
        }
        if plan.lower_bound.checked_add(plan.gap) != Some(plan.bytes) {
            let message = format!(
                "{} is not what {} bytes over a bound of {} are",
                plan.gap, plan.bytes, plan.lower_bound
            );
            say(format!("{place}.gap"), message);
        }
    }
    // In a stride layout nothing is reused: there the peaks are those of the packed form.
    let Some(room) = t.regions.iter().find(|r| r.name == "activations") else {
        return;
    };
    let mut judged = BTreeSet::new();
    for (i, entry) in view.report.header.entries.iter().enumerate() {
        // Rows of one name are told of elsewhere.
        if !judged.insert(&entry.name) {
            continue;
        }
        if entry.peak_bytes > room.bytes {
            let message = format!("{} is more than the activations have", entry.peak_bytes);
            say(format!("header.entries[{i}].peak_bytes"), message);
        }
        let steps = view.lines.get(entry.name.as_str()).into_iter().flat_map(|l| &l.steps);
        for step in steps.filter(|s| view.report.steps[**s].live_bytes > entry.peak_bytes) {
            let live = view.report.steps[*step].live_bytes;
            let message = format!("{live} is more than the peak of {}, {}", entry.name, entry.peak_bytes);
            say(format!("steps[{step}].live_bytes"), message);
        }
    }
}
