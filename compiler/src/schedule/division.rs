//! How each step's work is divided between workers.

use ck_kernels::dtype::GROUP;
use ck_kernels::partition::Axis;

use crate::fuse::Division;
use crate::graph::{CacheId, Graph, Op, OpKind, Sink};

/// Tokens that stay together: a matmul tile is filled as soon as there are enough of them.
const TOKEN_GRANULE: usize = 4;

/// Columns that stay together: two groups of output rows, one quantisation block.
const COLUMN_GRANULE: usize = 32;

/// Who reads and who writes each tensor of a graph.
pub struct Uses {
    readers: Vec<Vec<usize>>,
    writer: Vec<Option<usize>>,
}

impl Uses {
    /// Looks at every op once.
    pub fn new(graph: &Graph) -> Uses {
        let (mut readers, mut writer) = (vec![Vec::new(); graph.tensors.len()], vec![None; graph.tensors.len()]);
        for (index, op) in graph.ops.iter().enumerate() {
            op.inputs.iter().for_each(|t| readers[t.index()].push(index));
            op.outputs.iter().for_each(|t| writer[t.index()] = Some(index));
        }
        Uses { readers, writer }
    }
}

/// The axis of the op at `index`, and the length of that axis.
pub fn divide(graph: &Graph, uses: &Uses, index: usize, division: Division) -> (Axis, usize) {
    let op = &graph.ops[index];
    if let OpKind::Attend(a) = &op.kind {
        return (Axis::Heads, a.heads);
    }
    match division {
        Division::Tokens => (Axis::Tokens { granule: TOKEN_GRANULE }, graph.batch),
        Division::Columns => {
            let granule = column_granule(graph, uses, op);
            let widest = op.outputs.iter().chain(&op.inputs).map(|t| graph.tensor(*t).cols).max();
            (Axis::Columns { granule }, widest.unwrap_or(1))
        }
    }
}

/// The columns that one worker must own together: whole heads where they are rotated or cached.
fn column_granule(graph: &Graph, uses: &Uses, op: &Op) -> usize {
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
        .or_else(|| head_of_readers(graph, uses, op))
        .or_else(|| head_of_writer(graph, uses, op))
    {
        Some(head) => lcm(head, GROUP),
        None => COLUMN_GRANULE,
    }
}

/// If what the op writes is next rotated or cached, the head it must be cut by for that to need no barrier.
fn head_of_readers(graph: &Graph, uses: &Uses, op: &Op) -> Option<usize> {
    let mut readers: Vec<usize> = op
        .outputs
        .iter()
        .flat_map(|t| &uses.readers[t.index()])
        .copied()
        .collect();
    readers.sort_unstable();
    readers.into_iter().find_map(|reader| match &graph.ops[reader].kind {
        OpKind::Rope(r) => Some(graph.ropes[r.index()].head_dim),
        OpKind::CacheKeys(c) | OpKind::CacheValues(c) => Some(graph.caches[c.index()].head_dim),
        _ => None,
    })
}

/// The attention output is cut by head; quantising it by whole heads needs no barrier where a head is whole blocks.
fn head_of_writer(graph: &Graph, uses: &Uses, op: &Op) -> Option<usize> {
    if op.kind != OpKind::Quantize {
        return None;
    }
    match graph.ops[uses.writer[op.inputs[0].index()]?].kind {
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
