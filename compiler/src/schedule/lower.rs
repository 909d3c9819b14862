//! What the model language leaves open and the program must say: cache writes, and quantised activations.

use ck_kernels::dtype::ActType;

use crate::graph::{Graph, Op, OpKind, Rows, Source, Tensor, TensorId};

/// What the name of a tensor's quantised form ends with.
pub const QUANTISED: &str = ".q8";

/// Splits every attention into: keys to the cache, values to the cache, attend.
pub fn split_attention(graph: &Graph) -> Graph {
    let mut out = graph.clone();
    out.ops = Vec::with_capacity(graph.ops.len());
    for op in &graph.ops {
        let OpKind::Attention(attention) = op.kind else {
            out.ops.push(op.clone());
            continue;
        };
        let store = |name: &str, kind, input| Op {
            name: format!("{}.{name}", op.name),
            kind,
            inputs: vec![input],
            weights: Vec::new(),
            outputs: Vec::new(),
            layer: op.layer,
            fused_from: Vec::new(),
        };
        out.ops
            .push(store("keys", OpKind::CacheKeys(attention.cache), op.inputs[1]));
        out.ops
            .push(store("values", OpKind::CacheValues(attention.cache), op.inputs[2]));
        out.ops.push(Op {
            kind: OpKind::Attend(attention),
            inputs: vec![op.inputs[0]],
            ..op.clone()
        });
    }
    out
}

/// Puts a `Quantize` in front of the first op that multiplies a tensor with quantised weights, and lets every such op
/// read its result: a tensor is quantised once.
///
/// An op whose prologue makes its own rows quantises them in its workspace and is left alone; so is one that also has
/// float weights, because it needs the rows in both forms. A gated MLP whose result is wanted in no other form writes it
/// quantised: the floats never exist.
pub fn quantise_activations(graph: &Graph) -> Graph {
    let mut out = graph.clone();
    out.ops = Vec::with_capacity(graph.ops.len());
    let mut made: Vec<Option<TensorId>> = vec![None; graph.tensors.len()];
    for op in &graph.ops {
        let mut op = op.clone();
        if reads_quantised(graph, &op) {
            let x = op.inputs[0];
            op.inputs[0] = *made[x.index()].get_or_insert_with(|| {
                let tensor = add_tensor(&mut out, x);
                let only_quantised = || {
                    let mut readers = graph.ops.iter().filter(|op| op.inputs.contains(&x));
                    readers.all(|op| reads_quantised(graph, op) && !op.inputs[1..].contains(&x))
                };
                match out.ops.iter_mut().find(|op| writes_quantised(op, x)) {
                    Some(writer) if only_quantised() => {
                        writer.outputs.pop();
                        writer.outputs.push(tensor);
                    }
                    _ => add_quantize(&mut out, x, tensor, op.layer),
                }
                tensor
            });
        }
        out.ops.push(op);
    }
    out
}

/// Whether the op multiplies rows that it does not make itself, with quantised weights alone.
fn reads_quantised(graph: &Graph, op: &Op) -> bool {
    let mut matrices = op.weights.iter().filter(|w| !graph.weight(**w).vector).peekable();
    multiplies_rows(op) && matrices.peek().is_some() && matrices.all(|w| graph.weight(*w).dtype.quantised())
}

/// Whether the op's last output is `x` and its kernel can write that quantised.
fn writes_quantised(op: &Op, x: TensorId) -> bool {
    matches!(op.kind, OpKind::ProjectGlu { .. }) && op.outputs.last() == Some(&x)
}

/// Whether the op multiplies its first operand as it is.
fn multiplies_rows(op: &Op) -> bool {
    match &op.kind {
        OpKind::Linear { .. } => true,
        OpKind::Project { source, .. } | OpKind::ProjectGlu { source, .. } => *source == Source::Rows,
        _ => false,
    }
}

/// The quantised form of `x`.
fn add_tensor(graph: &mut Graph, x: TensorId) -> TensorId {
    let tensor = graph.tensor(x);
    graph.add_tensor(Tensor {
        name: format!("{}{QUANTISED}", tensor.name),
        act: ActType::Q8,
        rows: tensor.rows,
        cols: tensor.cols,
    })
}

fn add_quantize(graph: &mut Graph, x: TensorId, tensor: TensorId, layer: Option<usize>) {
    let Tensor { name, rows, .. } = graph.tensor(tensor).clone();
    graph.ops.push(Op {
        name,
        kind: OpKind::Quantize,
        inputs: vec![x],
        weights: Vec::new(),
        outputs: vec![tensor],
        // The selected row belongs to no layer even when its producer does.
        layer: if rows == Rows::Selected { None } else { layer },
        fused_from: Vec::new(),
    });
}
