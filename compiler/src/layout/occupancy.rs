//! What the planned operands of an entry occupy, step by step, and what the peak depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use ck_kernels::dtype::ALIGN;

use super::{EntryLayout, Layout, cache_half_bytes, operand_name};
use crate::glob::any_layer;
use crate::graph::CacheId;
use crate::report::Shrink;
use crate::schedule::access::Operand;

/// Buffers that the report offers for shrinking.
const MOST: usize = 5;

/// Some bytes of the arena and when they are in use: one tensor, or several that are updated in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The bytes.
    pub bytes: Range<u64>,
    /// The steps.
    pub live: Range<u32>,
}

/// The planned buffers of an entry with their canaries, those merged in place joined to one.
pub fn merged_buffers(layout: &Layout, planned: &EntryLayout) -> Vec<Merged> {
    let whole = |group: &Vec<Resident>| Merged {
        bytes: hull(group.iter().map(|r| &r.bytes)),
        live: hull(group.iter().map(|r| &r.live)),
    };
    Occupancy::new(layout, planned).groups.iter().map(whole).collect()
}

/// What memories hold through every run of an entry, between its planned buffers, with canaries; nothing where regions
/// keep it apart.
pub fn state(layout: &Layout, planned: &EntryLayout) -> Vec<(Operand, Merged)> {
    if layout.memories.is_empty() {
        return Vec::new();
    }
    let model = &layout.entries[0].entry.graph;
    let steps = u32::try_from(planned.entry.steps.len()).expect("fewer than 2^32 steps");
    let mut state: Vec<(Operand, u64, u64)> = Vec::new();
    for (c, (keys, values)) in (0..).map(CacheId).zip(&layout.caches) {
        let bytes = cache_half_bytes(model, c);
        state.extend([(Operand::Keys(c), *keys, bytes), (Operand::Values(c), *values, bytes)]);
    }
    // The body starts from the ids, and the head ends with the logits of a row.
    let logits = layout.entries.last().and_then(|head| head.entry.graph.outputs.first());
    for (tensor, slot, rows) in [
        (model.inputs.first(), &layout.ids, model.batch),
        (logits, &layout.logits, 1),
    ] {
        let bytes = (rows * slot.stride()) as u64;
        state.extend(tensor.map(|t| (Operand::Tensor(*t), slot.offset as u64, bytes)));
    }
    let whole = |(operand, at, bytes): (Operand, u64, u64)| {
        let (bytes, live) = (at..at + bytes + layout.debug.canary(), 0..steps);
        (operand, Merged { bytes, live })
    };
    state.into_iter().map(whole).collect()
}

/// The planned operands of an entry, those merged in place together.
pub fn merged_operands(layout: &Layout, planned: &EntryLayout) -> Vec<Vec<Operand>> {
    let groups = Occupancy::new(layout, planned).groups;
    let operands = |group: Vec<Resident>| group.into_iter().map(|r| r.operand).collect();
    groups.into_iter().map(operands).collect()
}

fn hull<'a, T: Copy + Ord + Default + 'a>(ranges: impl Iterator<Item = &'a Range<T>> + Clone) -> Range<T> {
    let start = ranges.clone().map(|r| r.start).min().unwrap_or_default();
    start..ranges.map(|r| r.end).max().unwrap_or(start)
}

/// An operand where it lies while it is live.
struct Resident {
    operand: Operand,
    bytes: Range<u64>,
    live: Range<u32>,
}

/// The planned operands of an entry; those of one group share bytes by being merged in place.
pub(super) struct Occupancy<'a> {
    planned: &'a EntryLayout,
    groups: Vec<Vec<Resident>>,
}

impl<'a> Occupancy<'a> {
    pub fn new(layout: &Layout, planned: &'a EntryLayout) -> Occupancy<'a> {
        let model = &layout.entries[0].entry.graph;
        let operands: Vec<Operand> = planned.live.keys().copied().collect();
        let mut group: Vec<usize> = (0..operands.len()).collect();
        let at = |operand: &Operand| operands.binary_search(operand).expect("merged operands are planned");
        for (dst, src) in &planned.merged {
            let (keep, join) = (group[at(dst)], group[at(src)]);
            group.iter_mut().filter(|g| **g == join).for_each(|g| *g = keep);
        }
        let mut groups: BTreeMap<usize, Vec<Resident>> = BTreeMap::new();
        for (operand, group) in operands.iter().zip(group) {
            let place = planned.places[operand];
            let size = super::packed::operand_bytes_in_region(model, &planned.entry, *operand) + layout.debug.canary();
            groups.entry(group).or_default().push(Resident {
                operand: *operand,
                bytes: place..place + size,
                live: planned.live[operand].clone(),
            });
        }
        Occupancy {
            planned,
            groups: groups.into_values().collect(),
        }
    }

    /// Bytes live in each step.
    pub fn live_bytes(&self) -> Vec<u64> {
        self.live_without(&BTreeSet::new())
    }

    /// Bytes live in each step if these operands had none.
    fn live_without(&self, gone: &BTreeSet<Operand>) -> Vec<u64> {
        let mut live = vec![0; self.planned.entry.steps.len()];
        for group in &self.groups {
            let rest: Vec<&Resident> = group.iter().filter(|r| !gone.contains(&r.operand)).collect();
            for step in hull(rest.iter().map(|r| &r.live)) {
                if let Some(bytes) = live.get_mut(step as usize) {
                    *bytes += covered(rest.iter().filter(|r| r.live.contains(&step)).map(|r| &r.bytes));
                }
            }
        }
        live
    }

    /// The buffers at the peak whose shrinking would lower it, the most effective first. `floor` is what the other
    /// entries need whatever happens here.
    pub fn shrink(&self, floor: u64) -> Vec<Shrink> {
        let entry = &self.planned.entry;
        let name = |r: &Resident| operand_name(entry, r.operand);
        let peak = self.planned.solution.peak_at;
        let highest = |gone: &BTreeSet<Operand>| self.live_without(gone).into_iter().max().unwrap_or(0).max(floor);
        let bound = highest(&BTreeSet::new());
        let mut found = Vec::new();
        for group in &self.groups {
            let here: Vec<&Resident> = group.iter().filter(|r| r.live.contains(&peak)).collect();
            let Some(bytes) = here.iter().map(|r| r.bytes.end - r.bytes.start).max() else {
                continue;
            };
            let families: BTreeSet<String> = group.iter().map(|r| any_layer(&name(r))).collect();
            let alike: BTreeSet<Operand> = self
                .groups
                .iter()
                .flatten()
                .filter(|r| families.contains(&any_layer(&name(r))))
                .map(|r| r.operand)
                .collect();
            let lowers_by = bound - highest(&alike);
            if lowers_by == 0 {
                continue;
            }
            let names: Vec<String> = match alike.len() {
                1 => group.iter().map(name).collect(),
                _ => families.into_iter().collect(),
            };
            found.push(Shrink {
                id: names.join("+"),
                buffers: alike.len() as u64,
                bytes,
                lowers_by,
                alone: bound - highest(&group.iter().map(|r| r.operand).collect()),
            });
        }
        found.sort_by(|a, b| b.lowers_by.cmp(&a.lowers_by).then_with(|| a.id.cmp(&b.id)));
        found.truncate(MOST);
        found
    }
}

/// Bytes that the ranges cover together, each grown to the alignment of every buffer.
fn covered<'a>(ranges: impl Iterator<Item = &'a Range<u64>>) -> u64 {
    let align = ALIGN as u64;
    let mut grown: Vec<(u64, u64)> = ranges
        .filter(|r| !r.is_empty())
        .map(|r| (r.start / align * align, r.end.next_multiple_of(align)))
        .collect();
    grown.sort_unstable();
    let (mut total, mut reached) = (0, 0);
    for (start, end) in grown {
        total += end.saturating_sub(start.max(reached));
        reached = reached.max(end);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_overlap_count_once() {
        let list = [0..100, 64..128, 300..301, 200..200];
        assert_eq!(covered(list.iter()), 128 + 64);
    }
}
