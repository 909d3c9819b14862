//! A planned program run in this process: the very kernels, arena and pool of an emitted runner, without the crate.

use std::path::Path;

use ck_runtime::{Config, Error, Lines, Machine, Segment, Worker};

use crate::compile::Planned;
use crate::layout::call::{Call, call};
use crate::layout::{EntryLayout, Kind, Layout};

/// The entries of a layout as kernel calls and barriers, as the emitter would write them.
pub struct Program {
    prefill: Vec<Step>,
    decode: Vec<Step>,
    head: Vec<Step>,
}

/// One step.
pub struct Step {
    /// Whether a barrier stands before it.
    pub barrier: bool,
    /// The kernel with its operands.
    pub call: Call,
}

impl Program {
    /// The calls of every entry.
    pub fn new(layout: &Layout) -> Program {
        let steps = |name: &str| {
            let entry = entry(layout, name);
            (0..entry.entry.steps.len())
                .map(|index| Step {
                    barrier: entry.barriers[index].is_some(),
                    call: call(layout, entry, index),
                })
                .collect()
        };
        Program {
            prefill: steps("prefill"),
            decode: steps("decode"),
            head: steps("head"),
        }
    }

    /// The steps of the entry of that name.
    pub(super) fn steps(&self, name: &str) -> &[Step] {
        match name {
            "prefill" => &self.prefill,
            "decode" => &self.decode,
            _ => &self.head,
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

fn run(steps: &[Step], w: &Worker<'_>) {
    for step in steps {
        if step.barrier {
            w.barrier();
        }
        step.call.run(w);
    }
}

impl Lines for Program {
    fn prefill(&self, w: &Worker<'_>) {
        run(&self.prefill, w);
    }

    fn decode(&self, w: &Worker<'_>) {
        run(&self.decode, w);
    }

    fn head(&self, w: &Worker<'_>) {
        run(&self.head, w);
    }
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
        steps: &[],
    }
}
