//! A planned program run in this process: the very kernels, arena and pool of an emitted runner, without the crate.

use std::collections::BTreeMap;
use std::path::Path;

use ck_runtime::{Config, Error, Lines, Machine, Segment, Worker, debug};

use crate::compile::Planned;
use crate::layout::call::{Call, call};
use crate::layout::debug::{EntryTable, StepTable, Watched, tables};
use crate::layout::{EntryLayout, Kind, Layout};
use crate::schedule::access::Operand;
use crate::schedule::barrier::Barrier;

/// The entries of a layout as kernel calls and barriers, as the emitter would write them.
pub struct Program {
    prefill: Line,
    decode: Line,
    head: Line,
}

/// One entry.
struct Line {
    steps: Vec<Step>,
    /// What is watched in a debug run.
    watch: Option<debug::Entry>,
}

/// One step.
pub struct Step {
    /// The barrier before it.
    pub barrier: Option<Barrier>,
    /// The kernel with its operands.
    pub call: Call,
}

impl Program {
    /// The calls of every entry.
    pub fn new(layout: &Layout) -> Program {
        let mut watch = watch(layout);
        let mut line = |name: &str| {
            let entry = entry(layout, name);
            let steps = (0..entry.entry.steps.len())
                .map(|index| Step {
                    barrier: entry.barriers[index],
                    call: call(layout, entry, index),
                })
                .collect();
            let watch = watch.remove(name);
            Line { steps, watch }
        };
        Program {
            prefill: line("prefill"),
            decode: line("decode"),
            head: line("head"),
        }
    }

    /// The steps of the entry of that name.
    pub(super) fn steps(&self, name: &str) -> &[Step] {
        match name {
            "prefill" => &self.prefill.steps,
            "decode" => &self.decode.steps,
            _ => &self.head.steps,
        }
    }
}

/// The entry of that name.
///
/// # Panics
/// If there is none: every program has `prefill`, `decode` and `head`.
pub(super) fn entry<'a>(layout: &'a Layout, name: &str) -> &'a EntryLayout {
    let found = layout.entries.iter().find(|e| e.entry.name == name);
    found.expect("every program has this entry")
}

impl Line {
    fn run(&self, w: &Worker<'_>) {
        for (index, step) in self.steps.iter().enumerate() {
            match step.barrier.map(|b| b.unless) {
                None => {}
                Some(None) => w.barrier(),
                Some(Some(heads)) => w.barrier_unless(heads),
            }
            match &self.watch {
                Some(entry) => step.call.watch(w, entry, index),
                None => step.call.run(w),
            }
        }
    }
}

impl Lines for Program {
    fn prefill(&self, w: &Worker<'_>) {
        self.prefill.run(w);
    }

    fn decode(&self, w: &Worker<'_>) {
        self.decode.run(w);
    }

    fn head(&self, w: &Worker<'_>) {
        self.head.run(w);
    }
}

/// What a debug run watches, by entry; nothing if this is none. As in [`runtime_layout`], constants are leaked.
fn watch(layout: &Layout) -> BTreeMap<&'static str, debug::Entry> {
    if !layout.debug.watches() {
        return BTreeMap::new();
    }
    let tables = tables(layout);
    let watched = |w: &Watched| debug::Watched {
        name: w.name.clone().leak(),
        what: w.what,
    };
    let caches: BTreeMap<Operand, debug::Watched> = tables.caches.iter().map(|(o, w)| (*o, watched(w))).collect();
    let caches_list: Vec<debug::Watched> = caches.values().copied().collect();
    let caches_list: &[debug::Watched] = caches_list.leak();
    let resident: Vec<debug::Watched> = tables.resident.iter().map(watched).collect();
    let resident: &[debug::Watched] = resident.leak();
    let entry = |(table, planned): (&EntryTable, &EntryLayout)| {
        let mut all = caches.clone();
        all.extend(table.watched.iter().map(|(o, w)| (*o, watched(w))));
        let list = |operands: &[Operand]| -> &'static [debug::Watched] {
            operands.iter().map(|o| all[o]).collect::<Vec<_>>().leak()
        };
        let step = |(row, step): (&StepTable, &crate::schedule::Step)| debug::Step {
            id: planned.entry.graph.ops[step.op].name.clone().leak(),
            born: list(&row.born),
            in_place: row
                .in_place
                .iter()
                .map(|(new, old)| (all[new], all[old]))
                .collect::<Vec<_>>()
                .leak(),
            writes: list(&row.writes),
            live: list(&row.live),
            dies: list(&row.dies),
        };
        let steps: Vec<debug::Step> = table.steps.iter().zip(&planned.entry.steps).map(step).collect();
        let entry = debug::Entry {
            name: planned.entry.name,
            canaries: layout.debug.canaries,
            poison: layout.debug.poison,
            starts: table.starts,
            caches: caches_list,
            resident,
            given: list(&table.given),
            steps: steps.leak(),
        };
        (planned.entry.name, entry)
    };
    tables.entries.iter().zip(&layout.entries).map(entry).collect()
}

/// Opens the packed file at `weights`, written by [`Planned::pack`], for a [`Program`] of the same plan.
///
/// # Errors
/// What [`Machine::open`] reports.
pub fn open(planned: &Planned, weights: &Path, config: &Config) -> Result<Machine, Error> {
    Machine::open(runtime_layout(planned), weights, config)
}

/// The layout as an emitted program states it, without the table of steps, which only reports read.
///
/// What is a constant of an emitted program is leaked here: some hundred bytes a plan.
fn runtime_layout(planned: &Planned) -> ck_runtime::Layout {
    let (layout, graph) = (&planned.layout, &planned.model.graph);
    let kv = layout.regions.iter().find(|r| r.name == "kv").map(|r| &r.bytes);
    let segments: Vec<Segment> = match layout.kind {
        Kind::Packed => Vec::new(),
        Kind::Stride => {
            let pieces = layout.ropes.iter().chain(&layout.weights);
            let segment = pieces.map(|piece| Segment {
                file_offset: piece.payload as usize,
                arena_offset: piece.arena as usize,
                bytes: piece.bytes as usize,
            });
            segment.collect()
        }
    };
    ck_runtime::Layout {
        model: graph.name.clone().leak(),
        hash: planned.hash,
        arena_bytes: layout.arena_bytes as usize,
        weights_bytes: layout.payload_bytes as usize,
        context: graph.context,
        batch: graph.batch,
        vocab: layout.logits.cols,
        ids: layout.ids,
        logits: layout.logits,
        kv_offset: kv.map_or(0, |kv| kv.start as usize),
        kv_bytes: kv.map_or(0, |kv| (kv.end - kv.start) as usize),
        segments: segments.leak(),
        choices: planned.choices,
        steps: &[],
    }
}
