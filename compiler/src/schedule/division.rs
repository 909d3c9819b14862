//! How each step's work is divided between workers.

use ck_kernels::dtype::GROUP;
use ck_kernels::partition::Axis;

use crate::fuse::Division;
use crate::graph::{CacheId, Graph, Op, OpKind, Sink, TensorId};

/// Tokens that stay together: a matmul tile is filled as soon as there are enough of them.
const TOKEN_GRANULE: usize = 4;

/// Columns that stay together: two groups of output rows, one quantisation block.
const COLUMN_GRANULE: usize = 32;

/// The axis of the op at `index`, and the length of that axis.
pub fn divide(graph: &Graph, index: usize, division: Division) -> (Axis, usize) {
    let op = &graph.ops[index];
    if let OpKind::Attend(a) = &op.kind {
        return (Axis::Heads, a.heads);
    }
    match division {
        Division::Tokens => (Axis::Tokens { granule: TOKEN_GRANULE }, graph.batch),
        Division::Columns => {
            let granule = column_granule(graph, op);
            let widest = op.outputs.iter().chain(&op.inputs).map(|t| graph.tensor(*t).cols).max();
            (Axis::Columns { granule }, widest.unwrap_or(1))
        }
    }
}

/// The columns that one worker must own together: whole heads where they are rotated or cached.
fn column_granule(graph: &Graph, op: &Op) -> usize {
    let head_of_cache = |c: CacheId| graph.caches[c.index()].head_dim;
    let head = match &op.kind {
        OpKind::Rope(r) => Some(graph.ropes[r.index()].head_dim),
        OpKind::CacheKeys(c) | OpKind::CacheValues(c) => Some(head_of_cache(*c)),
        OpKind::Project { parts, .. } => parts.iter().find_map(|p| match p.sink {
            Sink::Rope(r) => Some(graph.ropes[r.index()].head_dim),
            Sink::RopeKeys(_, c) | Sink::Values(c) => Some(head_of_cache(c)),
            Sink::Store => None,
        }),
        _ => None,
    };
    match head
        .or_else(|| head_of_readers(graph, op))
        .or_else(|| head_of_writer(graph, op))
    {
        Some(head) => lcm(head, GROUP),
        None => COLUMN_GRANULE,
    }
}

/// If what the op writes is next rotated or cached, the head it must be cut by for that to need no barrier.
fn head_of_readers(graph: &Graph, op: &Op) -> Option<usize> {
    let reads_output = |reader: &&Op| reader.inputs.iter().any(|t| op.outputs.contains(t));
    graph
        .ops
        .iter()
        .filter(reads_output)
        .find_map(|reader| match &reader.kind {
            OpKind::Rope(r) => Some(graph.ropes[r.index()].head_dim),
            OpKind::CacheKeys(c) | OpKind::CacheValues(c) => Some(graph.caches[c.index()].head_dim),
            _ => None,
        })
}

/// The attention output is cut by head; quantising it by whole heads needs no barrier where a head is whole blocks.
fn head_of_writer(graph: &Graph, op: &Op) -> Option<usize> {
    if op.kind != OpKind::Quantize {
        return None;
    }
    let writes = |t: TensorId| graph.ops.iter().find(|o| o.outputs.contains(&t));
    match writes(op.inputs[0])?.kind {
        OpKind::Attend(a) => {
            let head = graph.caches[a.cache.index()].head_dim;
            head.is_multiple_of(COLUMN_GRANULE).then_some(head)
        }
        _ => None,
    }
}

fn lcm(a: usize, b: usize) -> usize {
    let gcd = |mut a: usize, mut b: usize| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    a / gcd(a, b) * b
}
