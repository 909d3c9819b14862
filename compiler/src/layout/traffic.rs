//! How often a program touches its bytes: what is worth a place in a fast memory.

use std::collections::BTreeMap;

use super::{cache_positions, operand_bytes, tensor_bytes};
use crate::graph::{Graph, Op, OpKind};
use crate::schedule::Entry;
use crate::schedule::access::{Access, Operand};

/// Runs of each entry that accesses are counted over: one prompt of `batch` tokens, `batch` tokens decoded after it, and
/// the logits after each of these calls.
///
/// Each token counts once in either entry. The tokens of a prompt share their passes over memory and a decoded token
/// has its passes to itself, so that a byte of decode weighs `batch` times one of prefill.
pub fn runs(model: &Graph, entry: &str) -> u64 {
    let batch = model.batch as u64;
    match entry {
        "prefill" => 1,
        "decode" => batch,
        _ => batch + 1,
    }
}

/// Bytes that one run of the entry reads and writes of each operand, at the upper bounds.
///
/// A step passes once over what it reads and once over what it writes; a call writes its own tokens' rows of a cache.
pub fn traffic(model: &Graph, entry: &Entry) -> BTreeMap<Operand, u128> {
    let mut bytes: BTreeMap<Operand, u128> = BTreeMap::new();
    for step in &entry.steps {
        let op = &entry.graph.ops[step.op];
        for access in &step.accesses {
            let whole = u128::from(match access.operand {
                // The head reads a row of what the body left, however many there are.
                Operand::Tensor(t) => tensor_bytes(&entry.graph, t),
                other => operand_bytes(entry, model, other),
            });
            *bytes.entry(access.operand).or_default() += match access.operand {
                Operand::Keys(_) | Operand::Values(_) if access.write => {
                    whole * entry.graph.batch as u128 / cache_positions(model).max(1) as u128
                }
                _ => whole * passes(op, access),
            };
        }
    }
    // The caller writes the ids before a run, and reads the logits after it.
    for tensor in model.inputs.iter().chain(&model.outputs) {
        let operand = Operand::Tensor(*tensor);
        if let Some(sum) = bytes.get_mut(&operand) {
            *sum += u128::from(operand_bytes(entry, model, operand));
        }
    }
    bytes
}

fn passes(op: &Op, access: &Access) -> u128 {
    let input = |t| op.inputs.first() == Some(&t);
    match (&op.kind, access.operand) {
        // Written, and read back in the same step.
        (_, Operand::Workspace(_)) => 2,
        // The attention output stands in the rows of q until it is projected: read, written, read.
        (OpKind::AttendProject { .. }, Operand::Tensor(q)) if input(q) => 3,
        _ => 1,
    }
}
