//! One call, a step at a time, each tensor compared as soon as it is written.

use std::ops::Range;

use ck_kernels::dtype::ActType;
use ck_kernels::ops::Slot;
use ck_runtime::Machine;

use super::outcome::{Compared, Outcome};
use super::program::{Program, Step, entry};
use super::{Difference, PackedWeights, failed};
use crate::compile::Planned;
use crate::diag::Diagnostic;
use crate::graph::interpret::{Interpreter, Values};
use crate::graph::{CacheId, Graph, Op, OpKind, Rows, Sink, TensorId};
use crate::layout::EntryLayout;
use crate::layout::call::cache;
use crate::schedule::access::Operand;
use crate::schedule::lower::QUANTISED;

/// A program and the interpreter, side by side.
pub(super) struct Stepwise<'a> {
    pub planned: &'a Planned,
    pub program: &'a Program,
    pub machine: Machine,
    pub interpreter: Interpreter<'a, PackedWeights<'a>>,
}

/// One of the two halves of a cache.
#[derive(Clone, Copy)]
enum Half {
    Keys,
    Values,
}

/// The call that is run: where it stands, and what every tensor should be.
struct Call<'a> {
    positions: Range<usize>,
    ids: &'a [u32],
    /// The row that the head is run for.
    row: usize,
    want: Values,
}

impl Stepwise<'_> {
    /// Runs `ids` at `pos`, then the head for the last of them; returns its logits.
    pub fn run(&mut self, pos: usize, ids: &[u32], outcome: &mut Outcome) -> Result<Vec<f32>, Vec<Diagnostic>> {
        let call = Call {
            positions: pos..pos + ids.len(),
            ids,
            row: ids.len() - 1,
            want: self.interpreter.run(ids).map_err(failed)?,
        };
        let body = if ids.len() == 1 { "decode" } else { "prefill" };
        for name in [body, "head"] {
            let planned = entry(&self.planned.layout, name);
            for (index, step) in self.program.steps(name).iter().enumerate() {
                let op = &planned.entry.graph.ops[planned.entry.steps[index].op];
                self.step(&call, name, op, step)?;
                self.compare(&call, planned, op, step, outcome);
            }
        }
        Ok(self.machine.logits().to_vec())
    }

    /// A wake of the pool for one step.
    fn step(&mut self, call: &Call<'_>, entry: &str, op: &Op, step: &Step) -> Result<(), Vec<Diagnostic>> {
        let (tokens, pos) = (call.ids.len(), call.positions.start);
        let result = match entry {
            "head" => self
                .machine
                .call(tokens, pos, None, &|w| step.call.run(&w.of_row(call.row))),
            // The ids are there from the first step on; their bytes may be the logits' later.
            _ => {
                let first = op.inputs.iter().any(|t| self.planned.model.graph.inputs.contains(t));
                let ids = first.then_some(call.ids);
                self.machine.call(tokens, pos, ids, &|w| step.call.run(w))
            }
        };
        let place = |e| format!("step `{}` (kernel {}) of {entry}: {e}", op.name, step.call.kernel());
        result.map_err(|e| failed(place(e.to_string())))
    }

    /// Everything that the step wrote.
    fn compare(&self, call: &Call<'_>, planned: &EntryLayout, op: &Op, step: &Step, outcome: &mut Outcome) {
        let (graph, model) = (&planned.entry.graph, &self.planned.model.graph);
        let mut put = |tensor: String, got: &[f32], want: &[f32]| {
            let tolerance = outcome.tolerance;
            outcome.push(Compared {
                entry: planned.entry.name,
                positions: call.positions.clone(),
                step: op.name.clone(),
                kernel: step.call.kernel(),
                tensor,
                difference: Difference::of(got, want),
                tolerance,
            });
        };
        for output in &op.outputs {
            let tensor = graph.tensor(*output);
            let slot = Slot {
                offset: planned.places[&Operand::Tensor(*output)] as usize,
                cols: tensor.cols,
                act: tensor.act,
            };
            // A quantised tensor is the one it was made from, rounded.
            let meant = match tensor.act {
                ActType::Q8 => tensor.name.strip_suffix(QUANTISED).unwrap_or(&tensor.name),
                _ => &tensor.name,
            };
            let want = call
                .want
                .named(model, meant)
                .expect("fusion keeps the names of tensors");
            let (rows, want) = match tensor.rows {
                Rows::Tokens => (call.ids.len(), want),
                Rows::Selected => (1, &want[call.row * tensor.cols..][..tensor.cols]),
            };
            put(tensor.name.clone(), &self.machine.rows(&slot, rows), want);
        }
        for (id, half) in cached(&op.kind) {
            let operand = cache(&self.planned.layout, &model.caches[id.index()], id);
            let [keys, values] = self.machine.cache_rows(&operand, call.positions.start, call.ids.len());
            let name = &model.caches[id.index()].name;
            let (got, name, input) = match half {
                Half::Keys => (keys, format!("{name}.keys"), 1),
                Half::Values => (values, format!("{name}.values"), 2),
            };
            put(name, &got, call.want.rows(cached_tensor(model, id, input)));
        }
    }
}

/// The caches that an op writes.
fn cached(kind: &OpKind) -> Vec<(CacheId, Half)> {
    match kind {
        OpKind::CacheKeys(id) => vec![(*id, Half::Keys)],
        OpKind::CacheValues(id) => vec![(*id, Half::Values)],
        OpKind::Project { parts, .. } => {
            let half = |sink| match sink {
                Sink::RopeKeys(_, id) => Some((id, Half::Keys)),
                Sink::Values(id) => Some((id, Half::Values)),
                Sink::Store | Sink::Rope(_) => None,
            };
            parts.iter().filter_map(|part| half(part.sink)).collect()
        }
        _ => Vec::new(),
    }
}

/// The tensor of the unfused model that joins the cache: operand `input` of its attention.
fn cached_tensor(model: &Graph, id: CacheId, input: usize) -> TensorId {
    let attention = |op: &&Op| matches!(op.kind, OpKind::Attention(a) if a.cache == id);
    let op = model.ops.iter().find(attention);
    op.expect("every cache is an attention's").inputs[input]
}
