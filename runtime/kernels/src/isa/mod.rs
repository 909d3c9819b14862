//! Primitives, once per instruction set. The CPU is looked at once, at start ([`best`]); from then on calls go
//! through one table of functions.
//!
//! A primitive works on raw memory that its caller (a kernel in [`crate::ops`]) has bounds-checked. The scalar version
//! always exists and is the meaning of the primitive.

#[cfg(target_arch = "x86_64")]
pub mod amx;
#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod blocking;
mod choices;
pub mod chunks;
#[cfg_attr(
    any(not(target_arch = "x86_64"), miri),
    allow(dead_code, reason = "only x86-64 has these features to look for")
)]
mod detect;
#[cfg(target_arch = "aarch64")]
pub mod neon;
pub mod scalar;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod vector;
#[cfg(target_arch = "x86_64")]
mod words;

pub use choices::{Choices, Thresholds};
pub use detect::{Features, IsaError, best, by_name, supported};

use crate::dtype::{ALIGN, DType};
use crate::ops::Gate;
use chunks::{Chunk, Merge};

/// A tier's matmuls by [`DType`], for `registry!`: the tier has a module `matmul_float` with a function for any
/// [`crate::quant::Float`], and `matmul_quant` with one for any [`crate::quant::Block`].
macro_rules! matmuls {
    (@float $dtype:ident $name:ident) => { matmul_float::matmul::<crate::quant::$name::$dtype> };
    (@block $dtype:ident $name:ident) => { matmul_quant::matmul::<crate::quant::$name::$dtype> };
    ($($dtype:ident $name:ident $kind:ident $id:literal $block:tt $about:literal;)*) => {
        [$($crate::isa::matmuls!(@$kind $dtype $name)),*]
    };
}
pub(crate) use matmuls;

/// The same for many tokens: the tier has a module `matmul_words` as well. Floats have one way for any number.
#[cfg(target_arch = "x86_64")]
macro_rules! matmuls_of_words {
    (@float $dtype:ident $name:ident) => { matmul_float::matmul::<crate::quant::$name::$dtype> };
    (@block $dtype:ident $name:ident) => { matmul_words::matmul::<crate::quant::$name::$dtype> };
    ($($dtype:ident $name:ident $kind:ident $id:literal $block:tt $about:literal;)*) => {
        [$($crate::isa::matmuls_of_words!(@$kind $dtype $name)),*]
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use matmuls_of_words;

/// One tile of a matmul: `out[t][r] = dot(x[t], w[r])` for `tokens` rows of `x` and `rows` rows of `w`.
///
/// Every output is summed over K in ascending order by one accumulator (f32 types: element by element; quantised
/// types: block by block, each block an exact integer sum), so a result does not depend on how the work was cut.
pub struct Matmul {
    /// Packed weights, from the start of a group of 16 rows.
    pub w: *const u8,
    /// Input features.
    pub k: usize,
    /// Output rows to compute; the last group may be cut.
    pub rows: usize,
    /// Activations: f32 rows for float weights, Q8 rows for quantised ones.
    pub x: *const u8,
    /// Bytes from one activation row to the next.
    pub x_stride: usize,
    /// Activation rows.
    pub tokens: usize,
    /// Outputs, f32.
    pub out: *mut f32,
    /// Floats from one output row to the next.
    pub out_stride: usize,
}

/// Attention of `tokens` consecutive tokens, with the queries of some of the heads that share a key/value head, over
/// the cache of that one, causal: a query at position `p` sees positions `p.saturating_sub(window - 1)..=p`.
/// Online softmax in tiles of positions aligned to absolute positions, begun anew in every chunk of them; what the
/// chunks gave is put together in ascending order ([`chunks`]). Scores are never stored beyond a tile, and one query's
/// result does not depend on which other queries are in the call, nor on who looks at which chunk.
pub struct Attend {
    /// Queries, f32, the first head's first element of the first token; the heads follow each other.
    pub q: *const f32,
    /// Floats from one token's queries to the next.
    pub q_stride: usize,
    /// Outputs, f32, same geometry as `q`; may be the same memory as `q`.
    pub out: *mut f32,
    /// Floats from one token's output to the next.
    pub out_stride: usize,
    /// This kv head's keys, `[context/16][head_dim][16]`.
    pub k: *const u8,
    /// This kv head's values, `[context][head_dim]`.
    pub v: *const u8,
    /// Whether keys and values are f16 (else f32).
    pub half: bool,
    /// Elements of a head, at most 256.
    pub head_dim: usize,
    /// Query heads.
    pub heads: usize,
    /// Tokens.
    pub tokens: usize,
    /// Position of the first token.
    pub pos: usize,
    /// Score = scale * dot(q, k).
    pub scale: f32,
    /// If positive: score = cap * tanh(score / cap).
    pub softcap: f32,
    /// Positions a query sees, itself included; `usize::MAX` for all.
    pub window: usize,
    /// If this is for one chunk of the cache, which, and where its part of the results goes. `out` is not written.
    pub chunk: Option<Chunk>,
}

/// The primitives of one instruction set.
pub struct Isa {
    /// `scalar`, `avx2`, `avx512`, `amx`, `neon`, `dotprod`: as accepted by `CKC_ISA`.
    pub name: &'static str,
    /// Whose primitives serve runs with less than [`Choices::tiles`] tokens, if not these. Both have the same type of rows under
    /// [`crate::dtype::ActType::Q8`], but not the same contents: see [`Isa::for_tokens`].
    pub few: Option<&'static Isa>,
    /// By [`DType`]: a [`Matmul`] with weights of that type. To call one is sound if
    /// - `w` is valid for reads of `DType::packed_bytes(rows, k)` bytes, `k` a multiple of `DType::block_len()`,
    /// - `x` is valid for reads of `tokens` rows, `x_stride` apart, aligned to 4: of `k` floats, or, if
    ///   `DType::quantised()`, `k` elements of [`crate::dtype::ActType::Q8`],
    /// - `out` is valid for writes of `rows` floats at `tokens` places, `out_stride` apart, none of them inside `w` or `x`,
    /// - the CPU has what the table needs: it came from [`supported`], [`best`] or [`by_name`].
    pub matmul: [unsafe fn(&Matmul); DType::ALL.len()],
    /// The same, to the bit, in ways that pay with many tokens, if the tier has any: see [`Isa::matmul_of`].
    pub many: Option<[unsafe fn(&Matmul); DType::ALL.len()]>,
    /// If the tier rounds activations of bf16 weights and of quantised ones: how they meet rows that are rounded once.
    /// [`Isa::matmul`] of quantised weights then takes such rows as well.
    pub rounded: Option<Rounded>,
    /// `n` floats to one Q8 row ([`crate::dtype::ActType::Q8`]); `n` a multiple of 32.
    pub quantize_row: unsafe fn(x: *const f32, n: usize, out: *mut u8),
    /// What a Q8 row of `n` columns, quantised by the same table, stands for; for tests and reports.
    pub dequantize_row: unsafe fn(q8: *const u8, n: usize, out: *mut f32),
    /// `sum(x^2)`: the statistic of an RMS norm.
    pub sum_squares: unsafe fn(x: *const f32, n: usize) -> f32,
    /// `out = x * factor * weight`; `out` may be `x`.
    pub scale_row: unsafe fn(x: *const f32, factor: f32, weight: *const f32, n: usize, out: *mut f32),
    /// `out = a + b`; `out` may be `a` or `b`.
    pub add_row: unsafe fn(a: *const f32, b: *const f32, n: usize, out: *mut f32),
    /// `out = gate_fn(gate) * up`; `out` may be `gate` or `up`.
    pub glu_row: unsafe fn(kind: Gate, gate: *const f32, up: *const f32, n: usize, out: *mut f32),
    /// See [`Attend`].
    pub attend: unsafe fn(&Attend),
    /// See [`Merge`].
    pub merge: unsafe fn(&Merge),
    /// `n` floats to IEEE halves, round to nearest even.
    pub to_f16: unsafe fn(x: *const f32, n: usize, out: *mut u16),
    /// What the primitives are measured against.
    pub peak: Peak,
}

impl Isa {
    /// Whether the matmul of these weights with that many tokens runs on a matrix unit.
    pub fn on_tiles(&self, dtype: DType, tokens: usize, choices: &Choices) -> bool {
        self.peak.tiles.is_some() && tokens >= choices.tiles && (dtype.quantised() || dtype == DType::BF16)
    }

    /// The table for an entry's run with that many tokens: what one step quantised, another step of the same run reads.
    pub fn for_tokens(&self, tokens: usize, choices: &Choices) -> &Isa {
        self.few.filter(|_| tokens < choices.tiles).unwrap_or(self)
    }

    /// The matmul of these weights with that many tokens; sound to call as [`Isa::matmul`].
    pub fn matmul_of(&self, dtype: DType, tokens: usize, choices: &Choices) -> unsafe fn(&Matmul) {
        let few = &self.matmul;
        let from = choices.many_from(self.name, dtype);
        self.many.as_ref().filter(|_| tokens >= from).unwrap_or(few)[dtype as usize]
    }
}

/// Rows of bf16, and what multiplies them.
#[derive(Clone, Copy)]
pub struct Rounded {
    /// `n` floats, a multiple of 32, to bf16.
    pub row: unsafe fn(x: *const f32, n: usize, out: *mut u8),
    /// A [`Matmul`] of bf16 weights, `k` a multiple of 32, whose activations are such rows; sound to call as
    /// [`Isa::matmul`]. The bits are those of rows of floats.
    pub matmul: unsafe fn(&Matmul),
}

impl Rounded {
    /// Bytes from a row of `k` elements to the next: whole cache lines, an odd number of them, so that neighbours do not
    /// share the sets of a cache.
    pub const fn stride(k: usize) -> usize {
        (2 * k).next_multiple_of(ALIGN) | ALIGN
    }
}

/// Loops that do nothing but keep the machine busy: their speed is the ceiling of the primitives of the same
/// instruction set. Each returns how much it did.
pub struct Peak {
    /// Multiplies and adds floats in registers: operations, two per multiply-add.
    pub float: unsafe fn(rounds: usize) -> u64,
    /// The same for products of bytes, in the instructions that the matmuls use: operations, two per multiply-add.
    pub int8: unsafe fn(rounds: usize) -> u64,
    /// Multiplies and adds bf16 on the matrix unit, if there is one: operations, two per multiply-add.
    pub tiles: Option<unsafe fn(rounds: usize) -> u64>,
    /// Reads `bytes` bytes from `at` once, as `streams` parts side by side, each prefetched `ahead` bytes before its
    /// use, as far as the instruction set can: bytes. To call it is sound if `at` is valid for reads of `bytes` bytes.
    pub read: unsafe fn(at: *const u8, bytes: usize, streams: usize, ahead: usize) -> u64,
}
