//! Totals are the sums of their parts.

use std::collections::BTreeMap;

use super::Say;
use super::view::View;
use crate::report::types::{Region, Report};

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    let r = view.report;
    let t = &r.totals;
    // Memories begin on pages, behind what the one before them left of its last.
    let end = t
        .regions
        .iter()
        .map(|r| u128::from(r.offset) + u128::from(r.bytes))
        .max();
    let between = match t.memories.is_empty() {
        true => 0,
        false => end
            .unwrap_or(0)
            .saturating_sub(t.regions.iter().map(|r| u128::from(r.bytes)).sum()),
    };
    let sum = |value: fn(&Region) -> u64| t.regions.iter().map(|r| u128::from(value(r))).sum::<u128>();
    let sums = [
        (
            "arena_bytes",
            t.arena_bytes,
            sum(|r| r.bytes) + between,
            "the regions have",
        ),
        (
            "lower_bound_bytes",
            t.lower_bound_bytes,
            sum(|r| r.lower_bound) + between,
            "the regions' bounds are",
        ),
        (
            "naive_bytes",
            t.naive_bytes,
            sum(|r| r.naive) + between,
            "without reuse the regions have",
        ),
        (
            "kv_bytes_per_token",
            t.kv_bytes_per_token,
            kv_per_token(r),
            "the caches have",
        ),
    ];
    for (name, stated, counted, what) in sums {
        if u128::from(stated) != counted {
            say(format!("totals.{name}"), format!("{stated}, but {what} {counted}"));
        }
    }
    by_dtype(view, say);
    if let Some(region) = t.regions.iter().position(|r| r.name == "weights") {
        let end = r
            .weights
            .iter()
            .map(|w| u128::from(w.offset) + u128::from(w.bytes))
            .max();
        let (bytes, end) = (t.regions[region].bytes, end.unwrap_or(0));
        if end > u128::from(bytes) {
            let message = format!("{bytes}, but the packed weights end at {end}");
            say(format!("totals.regions[{region}].bytes"), message);
        }
    }
    for (i, step) in r.steps.iter().enumerate() {
        let scratch = view.scratch(step).map_or(0, |t| r.tensors[t].bytes);
        if scratch != step.workspace_bytes {
            let message = format!("{}, but `{}.workspace` has {scratch}", step.workspace_bytes, step.id);
            say(format!("steps[{i}].workspace_bytes"), message);
        }
    }
    peak(view, say);
    budgets(r, say);
}

/// A budget is for bytes that the report says elsewhere, where it does.
fn budgets(r: &Report, say: &mut Say<'_>) {
    let t = &r.totals;
    let region = |name: &str| t.regions.iter().find(|r| r.name == name).map(|r| r.bytes);
    for (i, budget) in t.budgets.iter().enumerate() {
        let stated = match budget.name.as_str() {
            "arena" => Some(t.arena_bytes),
            "scratch" => r.steps.iter().map(|s| s.workspace_bytes).max(),
            // Of the weights only what is packed counts, and not the rest of the page.
            "kv" | "activations" => region(&budget.name),
            _ => None,
        };
        if let Some(stated) = stated.filter(|bytes| *bytes != budget.bytes) {
            let message = format!("{}, but `{}` has {stated}", budget.bytes, budget.name);
            say(format!("totals.budgets[{i}].bytes"), message);
        }
    }
}

/// The peak is a step's, and the tensors in it have the bytes that they have.
fn peak(view: &View<'_>, say: &mut Say<'_>) {
    let r = view.report;
    let Some(peak) = &r.totals.peak else { return };
    // In a stride layout nothing is reused: there the peak is that of the packed form.
    let packed = r.totals.regions.iter().any(|r| r.name == "activations");
    let step = r
        .steps
        .iter()
        .find(|s| packed && s.entry == peak.entry && s.id == peak.step);
    if let Some(step) = step.filter(|s| s.live_bytes != peak.bytes) {
        let message = format!("{}, but `{}` has {} live", peak.bytes, step.id, step.live_bytes);
        say("totals.peak.bytes".into(), message);
    }
    for (i, live) in peak.live.iter().enumerate() {
        let tensor = view.tensor(&peak.entry, &live.id).map(|t| &r.tensors[t]);
        if let Some(tensor) = tensor.filter(|t| t.bytes != live.bytes) {
            let message = format!("{}, but `{}` has {} bytes", live.bytes, live.id, tensor.bytes);
            say(format!("totals.peak.live[{i}].bytes"), message);
        }
    }
}

/// Bytes that a position takes in all caches.
fn kv_per_token(r: &Report) -> u128 {
    let caches = r.tensors.iter().filter(|t| t.region == "kv");
    caches
        .map(|t| {
            let positions = match &t.shape[..] {
                [_, tiles, _, lanes] => u128::from(*tiles) * u128::from(*lanes),
                [_, positions, _] => u128::from(*positions),
                _ => 0,
            };
            u128::from(t.bytes).checked_div(positions).unwrap_or(0)
        })
        .sum()
}

fn by_dtype(view: &View<'_>, say: &mut Say<'_>) {
    let mut counted: BTreeMap<&str, u128> = BTreeMap::new();
    // Rotary tables are made by the compiler; they are no weights of the model.
    for w in view.report.weights.iter().filter(|w| w.source != "computed") {
        *counted.entry(w.dtype.as_str()).or_default() += u128::from(w.bytes);
    }
    let stated = &view.report.totals.weights_bytes;
    for (dtype, bytes) in stated {
        let counted = counted.remove(dtype.as_str()).unwrap_or(0);
        if u128::from(*bytes) != counted {
            let message = format!("{bytes}, but the weights of that type have {counted}");
            say(format!("totals.weights_bytes.{dtype}"), message);
        }
    }
    for (dtype, counted) in counted {
        let message = format!("nothing is said of the {counted} bytes of type {dtype}");
        say("totals.weights_bytes".into(), message);
    }
}
