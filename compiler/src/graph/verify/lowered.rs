//! What kernels need beyond a valid graph: one meaning of each op, rows in the type that the weights are multiplied with.

use ck_kernels::dtype::ActType;

use super::{Rule, Violations};
use crate::graph::{Graph, Op, OpKind, Source};

/// The ids of the op exist and its operands are the right number.
pub(super) fn check(graph: &Graph, op: &Op, found: &mut Violations) {
    if matches!(op.kind, OpKind::Attention(_)) {
        let detail = "attention still writes its cache by itself; no kernel does both".into();
        found.op(Rule::Lowered, op, detail);
    }
    if !matches!(op.kind, OpKind::Linear { .. }) && op.kind.source() != Some(Source::Rows) {
        return;
    }
    let x = graph.tensor(op.inputs[0]);
    for id in op.kind.matrices(&op.weights) {
        let weight = graph.weight(id);
        if weight.dtype.quantised() && x.act != ActType::Q8 {
            found.op(
                Rule::Lowered,
                op,
                format!("{x} meets {weight}, which multiplies q8 rows"),
            );
        }
    }
}
