//! What a step costs: scratch, arithmetic, bytes moved. Exact at the upper bounds of the symbols.

use ck_kernels::dtype::GROUP;
use ck_kernels::ops::{project_workspace, split_workspace};
use ck_kernels::partition::Axis;

use crate::graph::{ActType, Graph, Op, OpKind, Rows, Source, TensorId, WeightId};

/// Bytes of scratch of a step, all workers together.
pub fn workspace(graph: &Graph, op: &Op, axis: Axis) -> usize {
    if let OpKind::Attend(a) = &op.kind {
        let head = graph.caches[a.cache.index()].head_dim;
        // With several tokens there is enough to divide without the context.
        return match graph.batch {
            1 => split_workspace(a.heads, head, graph.context.next_multiple_of(GROUP), a.visible()),
            _ => 0,
        };
    }
    let matrices = matrices(op);
    let Some(first) = matrices.first() else { return 0 };
    let (source_rows, tokens) = match &op.kind {
        OpKind::Linear { .. } => (Some(op.inputs[0]), rows(graph, op.inputs[0])),
        OpKind::AttendProject { .. } => (Some(op.inputs[0]), rows(graph, op.inputs[0])),
        OpKind::Project { source, .. } | OpKind::ProjectGlu { source, .. } => (
            (*source == Source::Rows).then_some(op.inputs[0]),
            rows(graph, op.inputs[0]),
        ),
        _ => return 0,
    };
    let stored = source_rows.map(|t| graph.tensor(t).act);
    let quantised = |w: &WeightId| graph.weight(*w).dtype.quantised();
    let float = matrices.iter().any(|w| !graph.weight(*w).vector && !quantised(w)) && stored != Some(ActType::F32);
    let quantised = matrices.iter().any(quantised) && stored != Some(ActType::Q8);
    project_workspace(graph.weight(*first).cols, float, quantised, tokens, axis)
}

/// The matrices that the op multiplies with.
pub fn matrices(op: &Op) -> &[WeightId] {
    let skip = match &op.kind {
        OpKind::Linear { .. } | OpKind::AttendProject { .. } => 0,
        OpKind::Project { source, .. } | OpKind::ProjectGlu { source, .. } => source_weights(source),
        _ => return &[],
    };
    &op.weights[skip..]
}

/// Weights that belong to the prologue.
pub fn source_weights(source: &Source) -> usize {
    match source {
        Source::Rows | Source::Glu { .. } => 0,
        Source::Norm { .. } | Source::AddNorm { .. } => 1,
        Source::EmbedNorm { .. } => 2,
    }
}

/// Arithmetic and traffic of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations, a multiply-add counted as two, without attention over the cache.
    pub flops_per_token: u64,
    /// Operations of attention for the last token of a full context.
    pub attention_flops: u64,
    /// Weight bytes read by one call.
    pub weight_bytes: u64,
    /// Activation and cache bytes read by one call at the upper bounds.
    pub read: u64,
    /// Activation and cache bytes written by one call at the upper bounds.
    pub written: u64,
}

/// The cost of the op in an entry whose calls have at most `graph.batch` tokens.
pub fn cost(graph: &Graph, op: &Op) -> Cost {
    let mut cost = Cost::default();
    for w in &op.weights {
        let weight = graph.weight(*w);
        cost.weight_bytes += if weight.vector {
            weight.cols as u64 * 4
        } else if is_table(op, *w) {
            weight.dtype.row_bytes(weight.cols) as u64
        } else {
            cost.flops_per_token += 2 * weight.rows as u64 * weight.cols as u64;
            weight.dtype.packed_bytes(weight.rows, weight.cols) as u64
        };
    }
    let bytes = |t: &TensorId| {
        let tensor = graph.tensor(*t);
        rows(graph, *t) as u64 * tensor.act.row_bytes(tensor.cols) as u64
    };
    cost.read = op.inputs.iter().map(bytes).sum();
    cost.written = op.outputs.iter().map(bytes).sum();
    let cache_row = |c: crate::graph::CacheId| {
        let cache = &graph.caches[c.index()];
        let element = if cache.act == ActType::F16 { 2 } else { 4 };
        (cache.kv_heads * cache.head_dim * element) as u64
    };
    match &op.kind {
        OpKind::CacheKeys(c) | OpKind::CacheValues(c) => cost.written += cache_row(*c) * graph.batch as u64,
        OpKind::Project { parts, .. } => {
            for part in parts {
                match part.sink {
                    crate::graph::Sink::RopeKeys(_, c) | crate::graph::Sink::Values(c) => {
                        cost.written += cache_row(c) * graph.batch as u64;
                    }
                    _ => {}
                }
            }
        }
        OpKind::Attend(a) | OpKind::AttendProject { attention: a, .. } => {
            let cache = &graph.caches[a.cache.index()];
            cost.attention_flops = 4 * (a.heads * cache.head_dim) as u64 * graph.context as u64;
            cost.read += 2 * cache_row(a.cache) * graph.context as u64;
        }
        _ => {}
    }
    cost
}

/// Whether the weight is looked up by row, not multiplied with.
fn is_table(op: &Op, weight: WeightId) -> bool {
    let first = op.weights.first() == Some(&weight);
    match &op.kind {
        OpKind::Embedding | OpKind::EmbedNorm { .. } => first,
        OpKind::Project {
            source: Source::EmbedNorm { .. },
            ..
        }
        | OpKind::ProjectGlu {
            source: Source::EmbedNorm { .. },
            ..
        } => first,
        _ => false,
    }
}

/// Rows of a tensor in the largest call.
fn rows(graph: &Graph, tensor: TensorId) -> usize {
    match graph.tensor(tensor).rows {
        Rows::Tokens => graph.batch,
        Rows::Selected => 1,
    }
}
