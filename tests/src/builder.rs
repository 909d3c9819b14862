//! Graphs by hand, an op at a time.

use ck_kernels::dtype::{ActType, DType};
use ckc::graph::{Cache, CacheId, Graph, Op, OpKind, Rope, RopeId, Rows, Tensor, TensorId, Weight, WeightId};

/// A graph being built. Ops are named as their first output.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    /// The graph so far.
    pub graph: Graph,
    /// The layer of the ops to come.
    pub layer: Option<usize>,
    /// The type of the matrices to come.
    pub dtype: Option<DType>,
}

impl Builder {
    /// An empty graph of that name.
    pub fn new(name: &str, context: usize, batch: usize) -> Builder {
        let graph = Graph {
            name: name.into(),
            context,
            batch,
            ..Graph::default()
        };
        Builder {
            graph,
            ..Builder::default()
        }
    }

    /// An input of the graph.
    pub fn input(&mut self, name: &str, act: ActType, cols: usize) -> TensorId {
        let id = self.tensor(name, act, Rows::Tokens, cols);
        self.graph.inputs.push(id);
        id
    }

    /// A tensor that an op is about to write.
    pub fn tensor(&mut self, name: &str, act: ActType, rows: Rows, cols: usize) -> TensorId {
        self.graph.add_tensor(Tensor {
            name: name.into(),
            act,
            rows,
            cols,
        })
    }

    /// The matrix of that source, added if it is new.
    pub fn matrix(&mut self, source: &str, rows: usize, cols: usize) -> WeightId {
        let dtype = self.dtype.unwrap_or(DType::F32);
        self.weight(Weight {
            source: source.into(),
            rows,
            cols,
            vector: false,
            dtype,
        })
    }

    /// The vector of that source, added if it is new.
    pub fn vector(&mut self, source: &str, len: usize) -> WeightId {
        self.weight(Weight {
            source: source.into(),
            rows: 1,
            cols: len,
            vector: true,
            dtype: DType::F32,
        })
    }

    fn weight(&mut self, weight: Weight) -> WeightId {
        let known = self.graph.weights.iter().position(|w| w.source == weight.source);
        let index = known.unwrap_or_else(|| {
            self.graph.weights.push(weight);
            self.graph.weights.len() - 1
        });
        WeightId(index as u32)
    }

    /// A cache of f32.
    pub fn cache(&mut self, name: &str, kv_heads: usize, head_dim: usize) -> CacheId {
        self.graph.caches.push(Cache {
            name: name.into(),
            kv_heads,
            head_dim,
            act: ActType::F32,
        });
        CacheId(self.graph.caches.len() as u32 - 1)
    }

    /// A rotary embedding.
    pub fn rope(&mut self, rope: Rope) -> RopeId {
        self.graph.ropes.push(rope);
        RopeId(self.graph.ropes.len() as u32 - 1)
    }

    /// An op with the outputs given.
    pub fn op(&mut self, name: &str, kind: OpKind, inputs: &[TensorId], weights: &[WeightId], outputs: &[TensorId]) {
        self.graph.ops.push(Op {
            name: name.into(),
            kind,
            inputs: inputs.to_vec(),
            weights: weights.to_vec(),
            outputs: outputs.to_vec(),
            layer: self.layer,
            fused_from: Vec::new(),
        });
    }

    /// An op with one f32 output of `cols` columns and the rows of its first operand.
    pub fn op1(
        &mut self,
        name: &str,
        kind: OpKind,
        inputs: &[TensorId],
        weights: &[WeightId],
        cols: usize,
    ) -> TensorId {
        let rows = match kind {
            OpKind::SelectRow => Rows::Selected,
            _ => self.graph.tensor(inputs[0]).rows,
        };
        let act = if kind == OpKind::Quantize {
            ActType::Q8
        } else {
            ActType::F32
        };
        let out = self.tensor(name, act, rows, cols);
        self.op(name, kind, inputs, weights, &[out]);
        out
    }
}
