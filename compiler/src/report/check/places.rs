//! Regions lie in the arena and apart, tensors in their region and on a cache line.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Say;
use super::view::View;

/// What everything begins on: a cache line.
const LINE: u64 = 64;

/// Regions lie in the arena and do not overlap.
pub fn regions(view: &View<'_>, say: &mut Say<'_>) {
    let totals = &view.report.totals;
    let mut taken: Vec<(Range<u64>, usize)> = Vec::new();
    for (i, region) in totals.regions.iter().enumerate() {
        match end(region.offset, region.bytes, totals.arena_bytes) {
            Some(end) if region.bytes > 0 => taken.push((region.offset..end, i)),
            Some(_) => {}
            None => {
                let message = format!(
                    "`{}` at {} with {} bytes leaves the arena of {}",
                    region.name, region.offset, region.bytes, totals.arena_bytes
                );
                say(format!("totals.regions[{i}]"), message);
            }
        }
    }
    taken.sort_by_key(|(bytes, i)| (bytes.start, *i));
    for pair in taken.windows(2).filter(|pair| pair[0].0.end > pair[1].0.start) {
        let name = |i: usize| &totals.regions[i].name;
        let message = format!("`{}` begins in `{}`", name(pair[1].1), name(pair[0].1));
        say(format!("totals.regions[{}]", pair[1].1), message);
    }
}

/// Tensors lie in their memory or region; where all regions are one, in that.
pub fn tensors(view: &View<'_>, say: &mut Say<'_>) {
    let regions: BTreeMap<&str, Range<u64>> = view
        .report
        .totals
        .regions
        .iter()
        .map(|r| (r.name.as_str(), r.offset..r.offset.saturating_add(r.bytes)))
        .collect();
    for (i, tensor) in view.report.tensors.iter().enumerate() {
        let region = regions.get(tensor.home()).or_else(|| regions.get("interleaved"));
        let Some(region) = region else {
            say(
                format!("tensors[{i}].region"),
                format!("there is no region `{}`", tensor.home()),
            );
            continue;
        };
        let inside = tensor.offset >= region.start && end(tensor.offset, tensor.bytes, region.end).is_some();
        if !inside {
            let message = format!(
                "`{}` at {} with {} bytes is outside of `{}`, which is {}..{}",
                tensor.id,
                tensor.offset,
                tensor.bytes,
                tensor.home(),
                region.start,
                region.end
            );
            say(format!("tensors[{i}].offset"), message);
        }
    }
}

/// Everything begins on a cache line, and on what it says of itself.
pub fn alignment(view: &View<'_>, say: &mut Say<'_>) {
    let mut aligned = |place: String, name: &str, offset: u64, align: u64| {
        if !offset.is_multiple_of(align) {
            say(
                place,
                format!("`{name}` begins at {offset}, which is no multiple of {align}"),
            );
        }
    };
    for (i, region) in view.report.totals.regions.iter().enumerate() {
        aligned(format!("totals.regions[{i}].offset"), &region.name, region.offset, LINE);
    }
    for (i, weight) in view.report.weights.iter().enumerate() {
        aligned(format!("weights[{i}].offset"), &weight.name, weight.offset, LINE);
        aligned(
            format!("weights[{i}].place"),
            &weight.name,
            weight.place.unwrap_or(0),
            LINE,
        );
    }
    for (i, tensor) in view.report.tensors.iter().enumerate() {
        aligned(
            format!("tensors[{i}].offset"),
            &tensor.id,
            tensor.offset,
            tensor.align.max(LINE),
        );
    }
    for (i, tensor) in view.report.tensors.iter().enumerate() {
        if !tensor.align.is_power_of_two() || tensor.align < LINE {
            let message = format!("{} is no power of two from {LINE} on", tensor.align);
            say(format!("tensors[{i}].align"), message);
        }
    }
}

/// Where `bytes` from `offset` end, if not behind `limit`.
fn end(offset: u64, bytes: u64, limit: u64) -> Option<u64> {
    offset.checked_add(bytes).filter(|end| *end <= limit)
}
