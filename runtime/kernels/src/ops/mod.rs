//! The kernels: what a step of an emitted program calls. One file each.
//!
//! A kernel is a plain `const`-constructible value that names its operands as slots of one arena, and says
//! - how its work is divided ([`Kernel::axis`]),
//! - how many bytes of workspace it needs (a `const fn` that the compiler's planner calls too),
//! - and what it computes ([`Kernel::run`]), on the part of worker `ith` of `nth`.

pub mod activation;
mod attention;
mod attention_split;
mod cache;
mod elementwise;
mod embed;
pub mod layernorm;
pub mod linear;
pub mod loss;
mod norm;
mod project;
mod project_glu;
mod quantize;
mod rotate;
mod rows;
mod select;
mod source;

pub use attention::Attention;
pub use attention_split::{AttentionSplit, split_workspace};
pub use cache::{CacheKeys, CacheValues};
pub use elementwise::{Add, Glu};
pub use embed::Embed;
pub use norm::{AddNorm, EmbedNorm, RmsNorm};
pub use project::{AttentionProject, Project, Workspace, project_workspace};
pub use project_glu::ProjectGlu;
pub use quantize::Quantize;
pub use rotate::Rotate;
pub use select::SelectRow;

use crate::{
    dtype::{ActType, DType},
    isa::{Choices, Isa},
    partition::Axis,
};

/// The largest number of workers any plan serves: per-worker workspaces of one row are sized for it.
pub const MAX_WORKERS: usize = 64;

/// An activation tensor in the arena: rows of `cols` elements, one row per token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Byte offset in the arena.
    pub offset: usize,
    /// Elements of a row.
    pub cols: usize,
    /// Element type.
    pub act: ActType,
}

impl Slot {
    /// Bytes from one row to the next.
    pub const fn stride(&self) -> usize {
        self.act.row_bytes(self.cols)
    }
}

/// A packed weight matrix in the arena, `rows` (outputs) by `cols` (inputs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Byte offset in the arena.
    pub offset: usize,
    /// Output features.
    pub rows: usize,
    /// Input features.
    pub cols: usize,
    /// Storage type.
    pub dtype: DType,
}

/// A vector of f32 in the weights region: norm weights, biases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vector {
    /// Byte offset in the arena.
    pub offset: usize,
    /// Elements.
    pub len: usize,
}

/// Root-mean-square normalisation: `y = x / sqrt(mean(x^2) + eps) * weight`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// One factor per column.
    pub weight: Vector,
    /// Added to the mean square.
    pub eps: f32,
}

/// Which elements of a head are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Element `i` with `i + dims/2` (GPT-NeoX, Hugging Face llama).
    Halves,
    /// Element `2i` with `2i + 1` (the original llama, GGUF llama).
    Interleaved,
}

/// Rotary position embedding through a table made at compile time: for position `p`, `dims/2` cosines then `dims/2`
/// sines, f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rope {
    /// Byte offset of the table in the arena.
    pub table: usize,
    /// Positions in the table.
    pub positions: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Leading elements of a head that rotate (even, at most `head_dim`); the rest pass through.
    pub dims: usize,
    /// Which elements pair up.
    pub pairing: Pairing,
}

/// The KV cache of one layer.
///
/// Keys are stored in tiles of 16 positions with the positions in the lanes, `[kv_heads][context/16][head_dim][16]`;
/// values by position, `[kv_heads][context][head_dim]`. Element type f32 or f16. `context` is a multiple of 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cache {
    /// Byte offset of the keys in the arena.
    pub k: usize,
    /// Byte offset of the values in the arena.
    pub v: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Positions there is room for, a multiple of 16.
    pub context: usize,
    /// F32 or F16.
    pub act: ActType,
}

impl Cache {
    /// Bytes of the keys (and of the values) of one layer.
    pub const fn half_bytes(&self) -> usize {
        let el = match self.act {
            ActType::F16 => 2,
            _ => 4,
        };
        self.kv_heads * self.context * self.head_dim * el
    }
}

/// The gate of a gated MLP: `act(gate) * up`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `x * sigmoid(x)`: SwiGLU.
    Silu,
    /// `gelu(x)`, tanh form: GeGLU.
    GeluTanh,
}

/// Where a projection gets its input rows from: the prologues that fusion puts in front of a matmul.
/// Whatever is computed here lives in the kernel's workspace and is never written as a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// Rows as they are: f32 for float weights, Q8 for quantised ones.
    Rows(Slot),
    /// `norm(x)`.
    Norm {
        /// f32 rows.
        x: Slot,
        /// The norm.
        norm: Norm,
    },
    /// `sum = x + delta`, written; then `norm(sum)`. `sum` may share its slot with `x` only if the axis is `Tokens`.
    AddNorm {
        /// f32 rows.
        x: Slot,
        /// f32 rows.
        delta: Slot,
        /// The sum: f32 rows, written by each worker for its own part.
        sum: Slot,
        /// The norm.
        norm: Norm,
    },
    /// `out = embedding rows of ids`, written; then `norm(out)`.
    EmbedNorm {
        /// Token ids.
        ids: Slot,
        /// The embedding matrix, one row per id.
        table: Weight,
        /// The embedded rows, f32, written by each worker for its own part.
        out: Slot,
        /// The norm.
        norm: Norm,
    },
    /// `act(gate) * up`.
    Glu {
        /// f32 rows.
        gate: Slot,
        /// f32 rows.
        up: Slot,
        /// The gate function.
        kind: Gate,
    },
}

/// Where a projection's outputs go: the epilogues that fusion puts behind a matmul.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sink {
    /// f32 rows.
    Store(Slot),
    /// Rotated, then f32 rows.
    Rope {
        /// The rotation.
        rope: Rope,
        /// f32 rows.
        out: Slot,
    },
    /// Rotated, then into the cache as keys of the tokens' positions.
    RopeKeys {
        /// The rotation.
        rope: Rope,
        /// The layer's cache.
        cache: Cache,
    },
    /// Into the cache as values of the tokens' positions.
    Values {
        /// The layer's cache.
        cache: Cache,
    },
}

/// One matrix of a projection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// The matrix.
    pub weight: Weight,
    /// Added to the product.
    pub bias: Option<Vector>,
    /// Where the outputs go.
    pub sink: Sink,
}

/// What every kernel of a call sees.
#[derive(Clone, Copy)]
pub struct Ctx<'a> {
    /// This worker, `0..nth`.
    pub ith: usize,
    /// Workers in the call.
    pub nth: usize,
    /// The primitives of this machine.
    pub isa: &'a Isa,
    /// What the program chose between them.
    pub choices: &'a Choices,
    /// Start of the arena, aligned to [`crate::dtype::ALIGN`].
    pub base: *mut u8,
    /// Bytes of the arena.
    pub len: usize,
    /// Tokens (rows) of this call, at least 1.
    pub tokens: usize,
    /// Position of the first of them.
    pub pos: usize,
    /// In the head of a program, which is a call of one token: the row of the body's result whose logits are asked for.
    pub row: usize,
}

impl Ctx<'_> {
    /// The address of `offset..offset + bytes`.
    ///
    /// # Panics
    /// If the range leaves the arena.
    pub fn at(&self, offset: usize, bytes: usize) -> *mut u8 {
        assert!(
            offset.checked_add(bytes).is_some_and(|end| end <= self.len),
            "operand outside the arena"
        );
        // SAFETY: the range was just checked to lie inside the one allocation that `base` points to.
        unsafe { self.base.add(offset) }
    }

    /// The address of the first of `rows` rows of `slot`, all inside the arena.
    pub fn rows(&self, slot: &Slot, rows: usize) -> *mut u8 {
        self.at(slot.offset, rows * slot.stride())
    }
}

/// A kernel: what a step of an emitted program calls.
pub trait Kernel {
    /// How the work is divided between workers.
    fn axis(&self) -> Axis;

    /// Computes this worker's part.
    ///
    /// # Safety
    /// - `ctx.base..+ctx.len` is memory valid for reads and, outside the weights, writes, for as long as the call runs.
    /// - No other worker writes what this one reads or writes in the meantime: the parts of one kernel are disjoint by
    ///   construction; between kernels the compiler's plan and barriers guarantee it.
    /// - `ctx.isa` is supported by this CPU.
    unsafe fn run(&self, ctx: &Ctx<'_>);

    /// Whether this call has a second half, which begins when every worker is through [`Kernel::run`]. All workers say the
    /// same.
    fn halves(&self, _ctx: &Ctx<'_>) -> bool {
        false
    }

    /// Computes this worker's part of the second half.
    ///
    /// # Safety
    /// As [`Kernel::run`], which every worker has left.
    unsafe fn run_second(&self, _ctx: &Ctx<'_>) {}
}
