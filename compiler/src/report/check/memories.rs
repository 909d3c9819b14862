//! Several memories: each is the region of its name, and what it has is what lives there.

use std::collections::BTreeMap;

use super::Say;
use super::view::View;
use crate::report::types::{Region, Report};

/// What a memory begins on.
const PAGE: u64 = 4096;
/// What each buffer's size is rounded up to where it outlives a call.
const LINE: u128 = 64;

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    let r = view.report;
    let memories = &r.totals.memories;
    for (i, tensor) in r.tensors.iter().enumerate() {
        let said = (tensor.memory.is_some(), tensor.accesses.is_some());
        let several = !memories.is_empty();
        if said != (several, several) {
            let message = match several {
                true => format!(
                    "where `{}` lives is not said, or not how often it is touched",
                    tensor.id
                ),
                false => format!("`{}` lives in a memory, and there are none", tensor.id),
            };
            say(format!("tensors[{i}]"), message);
        }
    }
    if memories.is_empty() {
        return;
    }
    pages(r, say);
    let regions: BTreeMap<&str, &Region> = r.totals.regions.iter().map(|r| (r.name.as_str(), r)).collect();
    let stride = r.header.options.layout == "stride";
    // A stride layout has them among the tensors.
    let (resident, among) = match stride {
        true => (0, r.weights.iter().map(|w| u128::from(w.bytes)).sum()),
        false => (regions.get("weights").map_or(0, |r| r.bytes), 0),
    };
    let touched = accesses(r);
    for (i, memory) in memories.iter().enumerate() {
        let place = format!("totals.memories[{i}]");
        let Some(region) = regions.get(memory.name.as_str()) else {
            say(place, format!("there is no region `{}`", memory.name));
            continue;
        };
        // The weights are mapped where the last memory begins.
        let (weights, among) = if i + 1 == memories.len() {
            (resident, among)
        } else {
            (0, 0)
        };
        let with_weights = |bytes: u64| u128::from(bytes) + u128::from(weights);
        let counted = [
            ("weights_bytes", memory.weights_bytes, u128::from(weights) + among),
            ("bytes", memory.bytes, with_weights(region.bytes)),
            ("lower_bound", memory.lower_bound, with_weights(region.lower_bound)),
            (
                "accesses",
                memory.accesses,
                touched.get(memory.name.as_str()).copied().unwrap_or(0),
            ),
        ];
        for (name, stated, counted) in counted {
            if u128::from(stated) != counted {
                let message = format!("{stated}, but what lives in `{}` has {counted}", memory.name);
                say(format!("{place}.{name}"), message);
            }
        }
        if memory.status != region.status {
            let message = format!("`{}`, but its region is `{}`", memory.status, region.status);
            say(format!("{place}.status"), message);
        }
    }
}

/// Regions begin on the next page behind each other.
fn pages(r: &Report, say: &mut Say<'_>) {
    let mut regions: Vec<(u64, u64, usize)> = (0..)
        .zip(&r.totals.regions)
        .map(|(i, region)| (region.offset, region.bytes, i))
        .collect();
    regions.sort_unstable();
    let mut end = 0;
    for (offset, bytes, i) in regions {
        if Some(offset) != u64::checked_next_multiple_of(end, PAGE) {
            let message = format!(
                "`{}` begins at {offset}, not on the page after {end}",
                r.totals.regions[i].name
            );
            say(format!("totals.regions[{i}].offset"), message);
        }
        end = offset.saturating_add(bytes);
    }
}

/// Bytes read and written in each memory. What outlives a call is one buffer of whole cache lines for all entries.
fn accesses(r: &Report) -> BTreeMap<&str, u128> {
    let mut sums: BTreeMap<&str, u128> = BTreeMap::new();
    let mut stay: BTreeMap<(&str, &str), u128> = BTreeMap::new();
    for tensor in &r.tensors {
        let (each, bytes) = (u128::from(tensor.accesses.unwrap_or(0)), u128::from(tensor.bytes));
        if tensor.entry.is_empty() || tensor.region == "io" {
            let most = stay.entry((tensor.home(), &tensor.id)).or_default();
            *most = (*most).max(bytes.next_multiple_of(LINE) * each);
        } else {
            *sums.entry(tensor.home()).or_default() += bytes * each;
        }
    }
    for ((home, _), bytes) in stay {
        *sums.entry(home).or_default() += bytes;
    }
    sums
}
