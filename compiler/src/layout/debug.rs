//! What a debug run adds to a layout, and what it watches.
//!
//! With canaries every buffer is planned [`CANARY`] bytes larger, so that what the verifier proves of the buffers it
//! proves of the canaries. [`tables`] says, for each step, who is born, who dies and who is alive: what the emitter
//! writes down and `ckc verify` runs.

use std::collections::BTreeMap;
use std::ops::Range;

use ck_kernels::ops::Slot;
use ck_runtime::debug::{CANARY, What};

use super::call::cache;
use super::{EntryLayout, Kind, Layout, operand_bytes, operand_name, packed};
use crate::graph::{CacheId, Graph, TensorId};
use crate::schedule::access::Operand;

/// What a program does to find faults of its own plan and kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugMode {
    /// Canaries stand behind every buffer, and before the first of every region.
    pub canaries: bool,
    /// What is dead or not yet written is poisoned.
    pub poison: bool,
    /// Activations share bytes. Without, each has a place of its own.
    pub reuse: bool,
}

impl Default for DebugMode {
    fn default() -> DebugMode {
        DebugMode {
            canaries: false,
            poison: false,
            reuse: true,
        }
    }
}

impl DebugMode {
    /// Whether the program watches itself.
    pub fn watches(self) -> bool {
        self.canaries || self.poison
    }

    /// Bytes behind a buffer.
    pub fn canary(self) -> u64 {
        if self.canaries { CANARY as u64 } else { 0 }
    }

    /// What differs from a program without it, in words of the YAML; nothing by default.
    pub fn names(self) -> Vec<&'static str> {
        let names = [
            (self.canaries, "canaries"),
            (self.poison, "poison"),
            (!self.reuse, "no_reuse"),
        ];
        names.into_iter().filter_map(|(on, name)| on.then_some(name)).collect()
    }
}

/// What a debug run watches.
#[derive(Clone, Debug, PartialEq)]
pub struct Tables {
    /// What is alive whatever runs, without keys and values.
    pub resident: Vec<Watched>,
    /// Keys and values of every cache.
    pub caches: BTreeMap<Operand, Watched>,
    /// The entries of the layout.
    pub entries: Vec<EntryTable>,
}

/// What a debug run watches in an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct EntryTable {
    /// Activations and workspaces.
    pub watched: BTreeMap<Operand, Watched>,
    /// Whether it starts a sequence.
    pub starts: bool,
    /// What is there before the first step.
    pub given: Vec<Operand>,
    /// By step.
    pub steps: Vec<StepTable>,
}

/// What happens to memory in a step: as [`ck_runtime::debug::Step`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepTable {
    /// Written for the first time.
    pub born: Vec<Operand>,
    /// Pairs `(new, old)` that share bytes.
    pub in_place: Vec<(Operand, Operand)>,
    /// Activations and caches that the step writes.
    pub writes: Vec<Operand>,
    /// Activations and workspaces that are alive.
    pub live: Vec<Operand>,
    /// Never used again.
    pub dies: Vec<Operand>,
}

/// Something with bytes of its own: as [`ck_runtime::debug::Watched`].
#[derive(Clone, Debug, PartialEq)]
pub struct Watched {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub what: What,
}

/// What a debug run of a layout watches.
pub fn tables(layout: &Layout) -> Tables {
    let model = &layout.entries[0].entry.graph;
    Tables {
        resident: resident(layout, model),
        caches: caches(layout, model),
        entries: layout.entries.iter().map(|e| entry_table(layout, e)).collect(),
    }
}

fn resident(layout: &Layout, model: &Graph) -> Vec<Watched> {
    let watched = |name: String, what| Watched { name, what };
    let mut list = Vec::new();
    match layout.kind {
        Kind::Packed => list.push(watched("weights".into(), What::Fixed(0, layout.payload_bytes as usize))),
        Kind::Stride => {
            let names = (0..layout.ropes.len()).map(|i| format!("rope_{i}"));
            let names = names.chain(model.weights.iter().map(|w| w.source.clone()));
            let pieces = layout.ropes.iter().chain(&layout.weights);
            let fixed = names
                .zip(pieces)
                .map(|(name, p)| watched(name, What::Fixed(p.arena as usize, p.bytes as usize)));
            list.extend(fixed);
        }
    }
    if layout.debug.canaries {
        // A memory may have nothing in it.
        let first = |r: &&super::Region| r.name != "weights" && !r.bytes.is_empty();
        let edges = layout.regions.iter().filter(first);
        list.extend(edges.map(|r| {
            watched(
                format!("the start of {}", r.name),
                What::Scratch(r.bytes.start as usize, 0),
            )
        }));
    }
    // Where entries name them they are to be the same.
    let name = |graph: &Graph, list: &[TensorId]| list.first().map(|t| graph.tensor(*t).name.clone());
    let ids = name(model, &model.inputs).map(|name| watched(name, What::Rows(layout.ids, model.batch)));
    let last = layout.entries.last().map(|e| &e.entry.graph);
    let logits = last.and_then(|graph| name(graph, &graph.outputs));
    list.extend(ids);
    list.extend(logits.map(|name| watched(name, What::Rows(layout.logits, 1))));
    list
}

fn caches(layout: &Layout, model: &Graph) -> BTreeMap<Operand, Watched> {
    let halves = |(i, shape): (usize, &crate::graph::Cache)| {
        let id = CacheId(i as u32);
        let cache = cache(layout, shape, id);
        let half = |operand, what| {
            let name = operand_name(&layout.entries[0].entry, operand);
            (operand, Watched { name, what })
        };
        [
            half(Operand::Keys(id), What::Keys(cache)),
            half(Operand::Values(id), What::Values(cache)),
        ]
    };
    model.caches.iter().enumerate().flat_map(halves).collect()
}

fn entry_table(layout: &Layout, planned: &EntryLayout) -> EntryTable {
    let entry = &planned.entry;
    let steps = entry.steps.len();
    let planned_or_io = |o: &Operand| matches!(o, Operand::Tensor(_) | Operand::Workspace(_));
    let mut used: BTreeMap<Operand, Range<usize>> = BTreeMap::new();
    for (i, step) in entry.steps.iter().enumerate() {
        for operand in step.accesses.iter().map(|a| a.operand).filter(planned_or_io) {
            used.entry(operand).or_insert(i..i + 1).end = i + 1;
        }
    }
    let mut tables = vec![StepTable::default(); steps];
    for (&operand, used) in &used {
        let tensor = match operand {
            Operand::Tensor(t) => Some(t),
            _ => None,
        };
        let is = |list: &[TensorId]| tensor.is_some_and(|t| list.contains(&t));
        let given = is(&entry.graph.inputs);
        // What another entry or the caller reads afterwards outlives the entry, and so does what they gave to it.
        let (io, stays) = (
            !planned.live.contains_key(&operand),
            is(&entry.graph.outputs) || given && entry.name == "head",
        );
        let takes = planned.merged.iter().find(|(new, _)| *new == operand);
        let taken = planned.merged.iter().any(|(_, old)| *old == operand);
        if !given {
            tables[used.start].born.push(operand);
            tables[used.start].in_place.extend(takes);
        }
        if !stays && !taken {
            tables[used.end - 1].dies.push(operand);
        }
        if !io {
            let start = if given { 0 } else { used.start };
            let end = planned.live[&operand].end as usize;
            tables[start..end.min(steps)]
                .iter_mut()
                .for_each(|t| t.live.push(operand));
        }
    }
    for (table, step) in tables.iter_mut().zip(&entry.steps) {
        let written = step.accesses.iter().filter(|a| a.write).map(|a| a.operand);
        for operand in written.filter(|o| !matches!(o, Operand::Workspace(_))) {
            if !table.writes.contains(&operand) {
                table.writes.push(operand);
            }
        }
    }
    let given_here = |o: &Operand| used.contains_key(o) && planned.live.contains_key(o);
    let given = entry.graph.inputs.iter().map(|t| Operand::Tensor(*t));
    EntryTable {
        watched: used.keys().map(|o| (*o, watched(layout, planned, *o))).collect(),
        starts: entry.name != "head",
        given: given.filter(given_here).collect(),
        steps: tables,
    }
}

fn watched(layout: &Layout, planned: &EntryLayout, operand: Operand) -> Watched {
    let (entry, model) = (&planned.entry, &layout.entries[0].entry.graph);
    let offset = planned.places[&operand] as usize;
    let what = match operand {
        Operand::Tensor(t) => {
            let tensor = entry.graph.tensor(t);
            let slot = Slot {
                offset,
                cols: tensor.cols,
                act: tensor.act,
            };
            let bytes = packed::operand_bytes_in_region(model, entry, operand);
            What::Rows(slot, bytes as usize / slot.stride())
        }
        _ => What::Scratch(offset, operand_bytes(entry, model, operand) as usize),
    };
    Watched {
        name: operand_name(entry, operand),
        what,
    }
}
