//! The stride layout: every tensor keeps its own place, weights and activations interleaved in execution order, and what
//! fusion took away is stepped over. Over several memories each has its part of that order; weights are in the last.

use std::collections::{BTreeMap, BTreeSet};

use super::debug::DebugMode;
use super::hint::Hint;
use super::memories::{self, Homes};
use super::{
    EntryLayout, Kind, Layout, LayoutError, Memory, PAGE, Region, align, cache_half_bytes, cache_positions,
    check_sizes, io_slots, operand_bytes, operand_name, packed, payload, place_barriers, rope_bytes, tensor_bytes,
    weight_bytes,
};
use crate::fuse::{Config, Flags};
use crate::graph::{CacheId, Graph, OpKind};
use crate::schedule::access::Operand;
use crate::schedule::order;
use crate::schedule::{self, Entry};

/// Something with a place of its own.
pub(super) struct Item {
    pub what: What,
    pub name: String,
    pub bytes: u64,
    /// The entry and the step that it stands before.
    pub at: (&'static str, String),
}

/// What has a place of its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Rope(usize),
    Weight(usize),
    Keys(CacheId),
    Values(CacheId),
    /// A tensor or a workspace, by [`place_name`].
    Named(String),
}

impl Item {
    /// Bytes of the arena that it takes.
    pub fn size(&self, debug: DebugMode) -> u64 {
        align(self.bytes + debug.canary())
    }
}

impl What {
    /// Whether it comes from the packed file.
    pub fn is_weight(&self) -> bool {
        matches!(self, What::Rope(_) | What::Weight(_))
    }
}

/// Everything that has a place, in execution order: that of the program without fusion, the body, then the head.
fn items(model: &Graph, entries: &[Entry]) -> Vec<Item> {
    let unfused = schedule::entries(
        model,
        &Config {
            flags: Flags::NONE,
            sites: Vec::new(),
        },
        None,
    );
    let start = |entry: &Entry| {
        let first = entry.graph.ops.first().map_or(String::new(), |op| op.name.clone());
        (entry.name, first)
    };
    let mut items: Vec<Item> = Vec::new();
    let mut placed: BTreeSet<What> = BTreeSet::new();
    let mut take = |what: What, name: &str, bytes: u64, at: &(&'static str, String)| {
        if placed.insert(what.clone()) {
            let (name, at) = (name.to_owned(), at.clone());
            items.push(Item { what, name, bytes, at });
        }
    };
    let before = start(&unfused[0]);
    for rope in 0..model.ropes.len() {
        take(What::Rope(rope), "rope", rope_bytes(model, rope), &before);
    }
    for input in &model.inputs {
        let name = &model.tensor(*input).name;
        take(What::Named(name.clone()), name, tensor_bytes(model, *input), &before);
    }
    for entry in unfused.iter().filter(|e| e.name != "decode") {
        for op in &entry.graph.ops {
            let at = (entry.name, op.name.clone());
            for w in &op.weights {
                let source = &model.weight(*w).source;
                take(What::Weight(w.index()), source, weight_bytes(model, w.index()), &at);
            }
            let half = match op.kind {
                OpKind::CacheKeys(c) => Some((What::Keys(c), Operand::Keys(c), c)),
                OpKind::CacheValues(c) => Some((What::Values(c), Operand::Values(c), c)),
                _ => None,
            };
            if let Some((what, operand, c)) = half {
                take(what, &operand_name(entry, operand), cache_half_bytes(model, c), &at);
            }
            for t in &op.outputs {
                let name = &entry.graph.tensor(*t).name;
                take(What::Named(name.clone()), name, tensor_bytes(&entry.graph, *t), &at);
            }
        }
    }
    // Workspaces, and tensors that only exist in a fused form.
    for entry in entries {
        for step in &entry.steps {
            let at = (entry.name, entry.graph.ops[step.op].name.clone());
            for access in &step.accesses {
                if !matches!(access.operand, Operand::Keys(_) | Operand::Values(_)) {
                    let bytes = operand_bytes(entry, model, access.operand);
                    let name = place_name(entry, access.operand);
                    take(What::Named(name.clone()), &name, bytes, &at);
                }
            }
        }
    }
    items
}

pub(super) fn lay_out(
    model: &Graph,
    entries: Vec<Entry>,
    memories: &[Memory],
    debug: DebugMode,
) -> Result<Layout, LayoutError> {
    check_sizes(model, &entries)?;
    let (mut ropes, mut weights, payload_bytes) = payload(model);
    let items = items(model, &entries);
    let homes = match memories {
        [] => None,
        memories => Some(memories::homes(model, &entries, &items, memories, debug)?),
    };
    let home = |i: usize| homes.as_ref().map_or(0, |homes| homes.of[i]);

    let parts = Parts::new(&items, home, memories.len().max(1), debug);
    let mut places: BTreeMap<&str, u64> = BTreeMap::new();
    let mut caches = vec![(0, 0); model.caches.len()];
    for (item, &at) in items.iter().zip(&parts.places) {
        match &item.what {
            What::Rope(rope) => ropes[*rope].arena = at,
            What::Weight(weight) => weights[*weight].arena = at,
            What::Keys(c) => caches[c.index()].0 = at,
            What::Values(c) => caches[c.index()].1 = at,
            What::Named(name) => drop(places.insert(name, at)),
        }
    }

    // The packed plan of the same entries says how far from the least this layout is: no order of steps saves a byte
    // where every tensor has a place of its own. Its regions begin on pages, which can cost more than reuse saves.
    let reference = packed::lay_out(model, entries.clone(), order::Kind::Source, debug, &Hint::default())?;
    let bound: u64 = reference.regions.iter().map(|r| r.lower_bound).sum();
    let (regions, memories) = match &homes {
        None => (vec![parts.whole(bound)], Vec::new()),
        Some(homes) => parts.memories(homes, &items, memories, payload_bytes, debug)?,
    };
    let place = |entry: &Entry, operand: Operand| match operand {
        Operand::Keys(c) => caches[c.index()].0,
        Operand::Values(c) => caches[c.index()].1,
        _ => places[place_name(entry, operand).as_str()],
    };
    let entries = (0..).zip(reference.entries).map(|(e, planned)| {
        let entry = planned.entry;
        let operands = entry.steps.iter().flat_map(|s| &s.accesses).map(|a| a.operand);
        let own: BTreeMap<Operand, u64> = operands.map(|o| (o, place(&entry, o))).collect();
        let touched = |o: &Operand| Some((*o, homes.as_ref()?.accesses(e, *o)?));
        let accesses = own.keys().filter_map(touched).collect();
        let barriers = place_barriers(&entry, model, |o| own[&o]);
        EntryLayout {
            entry,
            places: own,
            barriers,
            merged: Vec::new(),
            accesses,
            ..planned
        }
    });
    let entries = entries.collect();
    let at = |list: &[crate::graph::TensorId]| list.first().map_or(0, |t| places[model.tensor(*t).name.as_str()]);
    let (ids, logits) = io_slots(model, at(&model.inputs), at(&model.outputs));
    Ok(Layout {
        kind: Kind::Stride,
        entries,
        arena_bytes: regions.last().map_or(0, |r: &Region| r.bytes.end),
        regions,
        memories,
        ropes,
        weights,
        caches,
        payload_bytes,
        ids,
        logits,
        cache_positions: cache_positions(model),
        debug,
    })
}

/// The parts of the arena, one a memory: the last memory first, then the others, each from a page on.
struct Parts {
    /// Where each item is.
    places: Vec<u64>,
    /// First byte and end of each memory.
    ends: Vec<std::ops::Range<u64>>,
}

impl Parts {
    fn new(items: &[Item], home: impl Fn(usize) -> usize, memories: usize, debug: DebugMode) -> Parts {
        let mut used = vec![0; memories];
        let mut places = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            let end = &mut used[home(i)];
            // In front of the first one.
            *end = (*end).max(debug.canary());
            places.push(*end);
            *end += item.size(debug);
        }
        let mut ends = vec![0..0; memories];
        let mut end: u64 = 0;
        for m in std::iter::once(memories - 1).chain(0..memories - 1) {
            let start = end.next_multiple_of(PAGE);
            end = start + used[m];
            ends[m] = start..end;
        }
        for (i, place) in places.iter_mut().enumerate() {
            *place += ends[home(i)].start;
        }
        Parts { places, ends }
    }

    /// The one region where the description names no memories.
    fn whole(&self, bound: u64) -> Region {
        let bytes = self.ends[0].end.next_multiple_of(PAGE);
        Region {
            name: "interleaved".into(),
            bytes: 0..bytes,
            lower_bound: bound.min(bytes),
            naive: bytes,
        }
    }

    /// The regions of memories, in the order of the arena, and what is said of each memory.
    fn memories(
        &self,
        homes: &Homes,
        items: &[Item],
        memories: &[Memory],
        payload_bytes: u64,
        debug: DebugMode,
    ) -> Result<(Vec<Region>, Vec<super::MemoryPlan>), LayoutError> {
        let least = homes.least(memories)?;
        let last = memories.len() - 1;
        let bound = |m: usize| {
            let bytes = self.ends[m].end - self.ends[m].start;
            let weights = if m == last { payload_bytes } else { 0 };
            (least[m] + weights).min(bytes)
        };
        let region = |m: usize| Region {
            name: memories[m].name.clone(),
            bytes: self.ends[m].clone(),
            lower_bound: bound(m),
            naive: self.ends[m].end - self.ends[m].start,
        };
        let plan = |(m, memory): (usize, &Memory)| {
            let bytes = self.ends[m].end - self.ends[m].start;
            homes.memory(items, memory, m, bytes, bound(m), debug)
        };
        let regions = std::iter::once(last).chain(0..last).map(region).collect();
        Ok((regions, memories.iter().enumerate().map(plan).collect()))
    }
}

/// Tensors are the same in every entry; a workspace belongs to one.
pub(super) fn place_name(entry: &Entry, operand: Operand) -> String {
    match operand {
        Operand::Workspace(_) => format!("{}/{}", entry.name, operand_name(entry, operand)),
        _ => operand_name(entry, operand),
    }
}
