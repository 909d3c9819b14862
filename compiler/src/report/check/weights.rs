//! What no entry writes as its own lies apart: packed weights behind each other, and in the arena apart from the caches.

use std::ops::Range;

use super::Say;
use super::view::{Operand, View, bytes, payload};

/// What every weight begins on: a cache line.
const LINE: u64 = 64;

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    let r = view.report;
    let mut packed: Vec<_> = r.weights.iter().enumerate().map(|(i, w)| (payload(w), i)).collect();
    packed.sort_by_key(|(bytes, i)| (bytes.start, bytes.end, *i));
    behind_each_other(&packed, view, say);
    for (i, step) in r.steps.iter().enumerate() {
        for name in step.outputs.iter().chain(&step.clobbers) {
            if matches!(view.find(&step.entry, name), Some(Operand::Weight(_))) {
                say(
                    format!("steps[{i}].outputs"),
                    format!("`{}` writes the weight `{name}`", step.id),
                );
            }
        }
    }
    let interleaved = r.header.options.layout == "stride";
    for (i, w) in r
        .weights
        .iter()
        .enumerate()
        .filter(|(_, w)| w.place.is_some() != interleaved)
    {
        let message = format!("`{}` has a place of its own in a stride layout, and only there", w.name);
        say(format!("weights[{i}].place"), message);
    }
    let stay = standing(view);
    apart(stay, |i| standing_place(view, i), |i| standing_name(view, i), say);
}

/// The packed file has no gaps but to the next cache line.
fn behind_each_other(packed: &[(Range<u64>, usize)], view: &View<'_>, say: &mut Say<'_>) {
    let mut end = 0;
    for (bytes, i) in packed {
        if bytes.start != end {
            let name = &view.report.weights[*i].name;
            let message = format!(
                "`{name}` begins at {}, and what is before it ends at {end}",
                bytes.start
            );
            say(format!("weights[{i}].offset"), message);
        }
        end = bytes.end.checked_next_multiple_of(LINE).unwrap_or(u64::MAX);
    }
}

/// The bytes that hold their value through all entries, sorted by start; weights are numbered first, then tensors.
pub fn standing(view: &View<'_>) -> Vec<(Range<u64>, usize)> {
    let r = view.report;
    let region = r.totals.regions.iter().find(|r| r.name == "weights");
    let base = region.map_or(0, |r| r.offset);
    let in_arena = |w: &crate::report::WeightRow| {
        let start = w.place.unwrap_or_else(|| base.saturating_add(w.offset));
        start..start.saturating_add(w.bytes)
    };
    let weights = r.weights.iter().enumerate().map(|(i, w)| (in_arena(w), i));
    let shared = r.tensors.iter().enumerate().filter(|(_, t)| t.entry.is_empty());
    let tensors = shared.map(|(i, t)| (bytes(t), r.weights.len() + i));
    let mut all: Vec<_> = weights.chain(tensors).filter(|(bytes, _)| !bytes.is_empty()).collect();
    all.sort_by_key(|(bytes, i)| (bytes.start, *i));
    all
}

/// Where in the report one of [`standing`] is placed.
pub fn standing_place(view: &View<'_>, i: usize) -> String {
    match i.checked_sub(view.report.weights.len()) {
        Some(tensor) => format!("tensors[{tensor}].offset"),
        None => format!("weights[{i}].place"),
    }
}

/// The name of one of [`standing`].
pub fn standing_name<'a>(view: &View<'a>, i: usize) -> &'a str {
    match i.checked_sub(view.report.weights.len()) {
        Some(tensor) => &view.report.tensors[tensor].id,
        None => &view.report.weights[i].name,
    }
}

/// No two have a byte in common.
fn apart<'a>(
    mut list: Vec<(Range<u64>, usize)>,
    place: impl Fn(usize) -> String,
    name: impl Fn(usize) -> &'a str,
    say: &mut Say<'_>,
) {
    list.retain(|(bytes, _)| !bytes.is_empty());
    list.sort_by_key(|(bytes, i)| (bytes.start, *i));
    let mut furthest: Option<(u64, usize)> = None;
    for (bytes, i) in list {
        if let Some((end, other)) = furthest.filter(|(end, _)| *end > bytes.start) {
            let message = format!(
                "`{}` begins at {} and `{}` ends at {end}",
                name(i),
                bytes.start,
                name(other)
            );
            say(place(i), message);
        }
        if furthest.is_none_or(|(end, _)| end < bytes.end) {
            furthest = Some((bytes.end, i));
        }
    }
}
