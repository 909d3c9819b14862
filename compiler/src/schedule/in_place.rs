//! Which results of a step may take over the bytes of one of its operands, and why the others may not.

use std::collections::BTreeMap;

use ck_kernels::partition::Axis;

use super::Entry;
use super::access::{Access, Operand, Pattern};
use crate::graph::{Graph, OpKind, Source, TensorId};

/// A result and an operand of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The step.
    pub step: usize,
    /// What it writes.
    pub dst: TensorId,
    /// What it reads.
    pub src: TensorId,
    /// Why they must not share bytes, if they must not.
    pub refusal: Option<Refusal>,
}

/// Why a result must not be written over an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The kernel reads elements of the operand after it has written the result.
    Kernel,
    /// Another number of rows, columns, or another element type.
    Shape,
    /// The caller or another entry gave the operand, or will read it.
    Outside,
    /// This later step reads the operand.
    Needed(usize),
    /// In this step, since the last barrier, other workers may still be reading what this worker would overwrite.
    Workers(usize),
}

impl Entry {
    /// Every result with every operand of every step.
    pub fn in_place_pairs(&self) -> Vec<Pair> {
        let data = self.data_barriers();
        let uses = self.uses();
        let mut pairs = Vec::new();
        // Workers may still be in an earlier step of this stretch.
        let mut stretch = 0;
        for (step, planned) in self.steps.iter().enumerate() {
            stretch = if data[step].is_some_and(|b| b.always()) {
                step
            } else {
                stretch
            };
            let op = &self.graph.ops[planned.op];
            for (out, dst) in op.outputs.iter().enumerate() {
                for (input, src) in op.inputs.iter().enumerate() {
                    let by_kernel = may_alias(&op.kind, planned.axis).contains(&(out, input));
                    let refusal = match (by_kernel, same_shape(&self.graph, *dst, *src)) {
                        (_, false) => Some(Refusal::Shape),
                        (true, true) => {
                            self.refusal(uses.get(src).map_or(&[], Vec::as_slice), step, stretch, *dst, *src)
                        }
                        (false, true) if self.shared(step, *src) => Some(Refusal::Workers(step)),
                        (false, true) => Some(Refusal::Kernel),
                    };
                    pairs.push(Pair {
                        step,
                        dst: *dst,
                        src: *src,
                        refusal,
                    });
                }
            }
        }
        pairs
    }

    /// Pairs `(written, read)` of a step that may share bytes: the kernel reads every element before it writes it, on
    /// the worker that owns both, and nobody needs the read one afterwards.
    pub fn in_place(&self) -> Vec<(TensorId, TensorId)> {
        let allowed = self.in_place_pairs().into_iter().filter(|p| p.refusal.is_none());
        allowed.map(|p| (p.dst, p.src)).collect()
    }

    /// The steps that touch each tensor, and how, in order.
    fn uses(&self) -> BTreeMap<TensorId, Vec<(usize, Pattern)>> {
        let mut uses: BTreeMap<TensorId, Vec<(usize, Pattern)>> = BTreeMap::new();
        for (index, step) in self.steps.iter().enumerate() {
            for access in &step.accesses {
                if let Operand::Tensor(t) = access.operand {
                    uses.entry(t).or_default().push((index, access.pattern));
                }
            }
        }
        uses
    }

    /// Whether every worker reads all of `src` in that step.
    fn shared(&self, step: usize, src: TensorId) -> bool {
        let all = |a: &Access| a.operand == Operand::Tensor(src) && a.pattern == Pattern::All;
        self.steps[step].accesses.iter().any(all)
    }

    /// Why a pair of one shape that the kernel allows is refused, if it is. `uses` are those of `src`.
    fn refusal(
        &self,
        uses: &[(usize, Pattern)],
        step: usize,
        stretch: usize,
        dst: TensorId,
        src: TensorId,
    ) -> Option<Refusal> {
        if self.graph.outputs.contains(&src) || self.graph.inputs.contains(&src) {
            return Some(Refusal::Outside);
        }
        let after = uses.partition_point(|(i, _)| *i <= step);
        if let Some((later, _)) = uses.get(after) {
            return Some(Refusal::Needed(*later));
        }
        let pattern = |t, write| {
            let same = |a: &&Access| a.operand == Operand::Tensor(t) && a.write == write;
            self.steps[step].accesses.iter().find(same).map(|a| a.pattern)
        };
        let (Some(written), Some(read)) = (pattern(dst, true), pattern(src, false)) else {
            return Some(Refusal::Kernel);
        };
        if !(written.aligned(read) || (written == read && stretch == step)) {
            return Some(Refusal::Workers(step));
        }
        let first = uses.partition_point(|(i, _)| *i < stretch);
        let mut earlier = uses[first..].iter().take_while(|(i, _)| *i < step);
        // A step in which a worker touches another's part of `src`.
        let meets = earlier.find(|(_, pattern)| !pattern.aligned(written));
        meets.map(|(i, _)| Refusal::Workers(*i))
    }
}

pub(super) fn same_shape(graph: &Graph, a: TensorId, b: TensorId) -> bool {
    let (a, b) = (graph.tensor(a), graph.tensor(b));
    (a.rows, a.cols, a.act) == (b.rows, b.cols, b.act)
}

/// The (output, input) pairs of a kernel that may be one slot.
pub(super) fn may_alias(kind: &OpKind, axis: Axis) -> &'static [(usize, usize)] {
    match (kind, axis) {
        (OpKind::Add | OpKind::Glu { .. }, _) => &[(0, 0), (0, 1)],
        (OpKind::Rope(_) | OpKind::Attend(_), _) => &[(0, 0)],
        (OpKind::RmsNorm { .. }, Axis::Tokens { .. }) => &[(0, 0)],
        (OpKind::AddNorm { .. }, Axis::Tokens { .. }) => &[(0, 0)],
        (OpKind::Project { source, .. } | OpKind::ProjectGlu { source, .. }, Axis::Tokens { .. })
            if matches!(source, Source::AddNorm { .. }) =>
        {
            &[(0, 0)]
        }
        _ => &[],
    }
}
