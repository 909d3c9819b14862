//! What the model language leaves open and the program must say: cache writes, and quantised activations.

use ck_kernels::dtype::ActType;

use crate::graph::{Graph, Op, OpKind, Rows, Source, Tensor, TensorId, WeightId};

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
/// float weights, because it needs the rows in both forms.
pub fn quantise_activations(graph: &Graph) -> Graph {
    let mut out = graph.clone();
    out.ops = Vec::with_capacity(graph.ops.len());
    let mut made: Vec<Option<TensorId>> = vec![None; graph.tensors.len()];
    for op in &graph.ops {
        let mut op = op.clone();
        let quantised = |w: &WeightId| graph.weight(*w).dtype.quantised();
        let mut matrices = op.weights.iter().filter(|w| !graph.weight(**w).vector).peekable();
        if multiplies_rows(&op) && matrices.peek().is_some() && matrices.all(quantised) {
            let x = op.inputs[0];
            let quantised = match made[x.index()] {
                Some(tensor) => tensor,
                None => {
                    let tensor = add_quantize(&mut out, x, op.layer);
                    made[x.index()] = Some(tensor);
                    tensor
                }
            };
            op.inputs[0] = quantised;
        }
        out.ops.push(op);
    }
    out
}

/// Whether the op multiplies its first operand as it is.
fn multiplies_rows(op: &Op) -> bool {
    match &op.kind {
        OpKind::Linear { .. } => true,
        OpKind::Project { source, .. } | OpKind::ProjectGlu { source, .. } => *source == Source::Rows,
        _ => false,
    }
}

fn add_quantize(graph: &mut Graph, x: TensorId, layer: Option<usize>) -> TensorId {
    let (name, cols, rows) = {
        let t = graph.tensor(x);
        (format!("{}.q8", t.name), t.cols, t.rows)
    };
    let tensor = graph.add_tensor(Tensor {
        name: name.clone(),
        act: ActType::Q8,
        rows,
        cols,
    });
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
    tensor
}
