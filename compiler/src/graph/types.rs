//! Tensors, weights, caches and ops.

pub use ck_kernels::dtype::{ActType, DType};
use ck_kernels::ops::{Gate, Pairing};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            /// The position in the graph's list.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id! {
    /// A tensor of a graph.
    TensorId
}
id! {
    /// A weight of a graph.
    WeightId
}
id! {
    /// A KV cache of a graph: one a layer.
    CacheId
}
id! {
    /// A rotary embedding table of a graph.
    RopeId
}

/// How many rows a tensor has in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rows {
    /// One a token of the call: symbol `T`, at most `batch`.
    Tokens,
    /// One: the row whose logits are asked for.
    Selected,
}

/// An activation: `rows` by `cols`. SSA: written by exactly one op, or an input.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Stable name, unique in the graph: `layers.3.q`. Never contains a step number.
    pub name: String,
    /// Element type.
    pub act: ActType,
    /// Rows in one call.
    pub rows: Rows,
    /// Elements of a row.
    pub cols: usize,
}

/// A weight: a matrix `[rows, cols]` = `[out, in]`, or a vector (`rows == 1`, always f32).
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// The tensor in the weights file. Two uses of one source tensor are one weight (tied embeddings).
    pub source: String,
    /// Output features; 1 for vectors.
    pub rows: usize,
    /// Input features; the length for vectors.
    pub cols: usize,
    /// Whether it is a vector.
    pub vector: bool,
    /// The type it is packed as.
    pub dtype: DType,
}

/// The keys and values of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// Stable name: `layers.3.kv`.
    pub name: String,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// F32 or F16.
    pub act: ActType,
}

/// How rotary frequencies are stretched for longer contexts.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Positions divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3: long wavelengths divided by `factor`, short ones kept, a ramp between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Positions the model was first trained on.
        original: f64,
    },
    /// Each frequency divided by its element of a source tensor (GGUF `rope_freqs.weight`).
    Factors {
        /// The tensor in the weights file, `dims / 2` floats.
        source: String,
    },
}

/// A rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Base of the frequencies: `theta^(-2i/dims)`.
    pub theta: f64,
    /// Leading elements of a head that rotate; even.
    pub dims: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Which elements pair up.
    pub pairing: Pairing,
    /// Frequency scaling.
    pub scaling: RopeScaling,
}

/// What a projection does to its input rows first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// Nothing. Tensor operands: `[x]`.
    Rows,
    /// `norm(x)`. Operands `[x]`, weights `[norm]`.
    Norm {
        /// Added to the mean square.
        eps: f32,
    },
    /// `sum = a + b`, then `norm(sum)`. Operands `[a, b]`, weights `[norm]`, outputs `[sum]`.
    AddNorm {
        /// Added to the mean square.
        eps: f32,
    },
    /// Embedding rows, then their norm. Operands `[ids]`, weights `[table, norm]`, outputs `[x]`.
    EmbedNorm {
        /// Added to the mean square.
        eps: f32,
    },
    /// `gate_fn(gate) * up`. Operands `[gate, up]`.
    Glu {
        /// The gate function.
        gate: Gate,
    },
}

/// Where a matrix of a projection puts its outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sink {
    /// A tensor: one output of the op.
    Store,
    /// Rotated, a tensor: one output of the op.
    Rope(RopeId),
    /// Rotated, the keys of a cache.
    RopeKeys(RopeId, CacheId),
    /// The values of a cache.
    Values(CacheId),
}

/// One matrix of a projection. Weights `[matrix]` or `[matrix, bias]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// Whether a bias follows the matrix in the op's weights.
    pub bias: bool,
    /// Where the outputs go.
    pub sink: Sink,
}

/// Attention over a cache, causal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// The keys and values.
    pub cache: CacheId,
    /// Query heads.
    pub heads: usize,
    /// `score = scale * q.k`.
    pub scale: f32,
    /// `cap * tanh(score / cap)` if positive.
    pub softcap: f32,
    /// Positions a query sees, itself included; 0 for all.
    pub window: usize,
}

impl Attention {
    /// Positions a query sees, itself included; `usize::MAX` for all.
    pub fn visible(&self) -> usize {
        match self.window {
            0 => usize::MAX,
            window => window,
        }
    }
}

/// What an op computes. Operands in the order given; `w` are weights.
#[derive(Clone, Debug, PartialEq)]
pub enum OpKind {
    // The model language.
    /// `[ids] w[table] -> [x]`
    Embedding,
    /// `[x] w[norm] -> [y]`
    RmsNorm {
        /// Added to the mean square.
        eps: f32,
    },
    /// `[x] w[matrix, bias?] -> [y]`
    Linear {
        /// Whether there is a bias.
        bias: bool,
    },
    /// `[x] -> [y]`, every head of a row rotated by its position.
    Rope(RopeId),
    /// `[q, k, v] -> [y]`: keys and values join the cache, then every query attends.
    Attention(Attention),
    /// `[gate, up] -> [y]`
    Glu {
        /// The gate function.
        gate: Gate,
    },
    /// `[a, b] -> [y]`
    Add,
    /// `[x] -> [y]`: the selected row.
    SelectRow,
    // Lowering.
    /// `[x] -> [q8 rows of x]`
    Quantize,
    /// `[k] -> []`, into the cache.
    CacheKeys(CacheId),
    /// `[v] -> []`, into the cache.
    CacheValues(CacheId),
    /// `[q] -> [y]` over the cache as it is.
    Attend(Attention),
    // Fusion.
    /// `[ids] w[table, norm] -> [x, normed]`
    EmbedNorm {
        /// Added to the mean square.
        eps: f32,
    },
    /// `[a, b] w[norm] -> [sum, normed]`
    AddNorm {
        /// Added to the mean square.
        eps: f32,
    },
    /// `[source operands] w[source weights, then each part's] -> [source outputs, then each part's]`
    Project {
        /// The prologue.
        source: Source,
        /// The matrices.
        parts: Vec<Part>,
    },
    /// `[source operands] w[source weights, gate, up] -> [source outputs, y]`: `gate_fn(gate x) * (up x)`.
    ProjectGlu {
        /// The prologue.
        source: Source,
        /// The gate function.
        gate: Gate,
    },
    /// `[q] w[matrix, bias?] -> [y]`: attention, then its output projection. Clobbers `q`.
    AttendProject {
        /// The attention.
        attention: Attention,
        /// Whether the projection has a bias.
        bias: bool,
    },
}

/// One op.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    /// Stable name, unique in the graph: `layers.3.attn_norm`.
    pub name: String,
    /// What it computes.
    pub kind: OpKind,
    /// Tensor operands.
    pub inputs: Vec<TensorId>,
    /// Weight operands.
    pub weights: Vec<WeightId>,
    /// Tensors it defines.
    pub outputs: Vec<TensorId>,
    /// The pass of the `repeat` it came from: becomes one function of the emitted program.
    pub layer: Option<usize>,
    /// Names of the ops that were fused into this one, in order; empty for an op of the model.
    pub fused_from: Vec<String>,
}

/// A model: ops in a valid order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// The model's name: also the runner's package name.
    pub name: String,
    /// Activations.
    pub tensors: Vec<Tensor>,
    /// Weights, in order of first use.
    pub weights: Vec<Weight>,
    /// KV caches.
    pub caches: Vec<Cache>,
    /// Rotary tables.
    pub ropes: Vec<Rope>,
    /// Ops, in execution order.
    pub ops: Vec<Op>,
    /// Tensors given from outside: token ids.
    pub inputs: Vec<TensorId>,
    /// Tensors kept for the outside: logits.
    pub outputs: Vec<TensorId>,
    /// Most positions: what the KV cache holds.
    pub context: usize,
    /// Most tokens of one call.
    pub batch: usize,
}

impl Graph {
    /// The tensor.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.index()]
    }

    /// The weight.
    pub fn weight(&self, id: WeightId) -> &Weight {
        &self.weights[id.index()]
    }

    /// Adds a tensor.
    pub fn add_tensor(&mut self, tensor: Tensor) -> TensorId {
        self.tensors.push(tensor);
        TensorId(u32::try_from(self.tensors.len() - 1).expect("fewer than 2^32 tensors"))
    }
}
