//! How the SIMD tiers cut a matmul to fit the caches; the arithmetic is theirs.
//!
//! Weights are taken in panels of groups that stay in the L2 cache while all tokens pass. Tokens are taken in tiles of
//! at most eight, whose activations are first copied ([`Stage`]) to a dense place: rows a power of two apart would
//! share the sets of the L1 cache. K is taken in chunks that make the copy fit; between chunks the sums wait in the
//! output. None of this changes a result: sums are taken in order of K, and an f32 is stored and loaded as it is.

use core::mem::MaybeUninit;

use super::Matmul;
use crate::dtype::{DType, GROUP, Q8};
use crate::quant::{Affine, Centred, Scales, SubAffine, SubCentred};

/// Tokens of the largest tile.
const MOST_TOKENS: usize = 8;

/// Bytes of weights that stay in the L2 cache.
const PANEL: usize = 384 << 10;

/// Activations of a tile of tokens and a chunk of K.
pub trait Stage: Sized {
    /// Columns of a chunk, times the tokens of a tile. A multiple of 256 for every tile.
    const AREA: usize;
    /// Columns of a chunk for one token, which shares L1 with no other: at least `AREA`, a multiple of 256.
    const ALONE: usize = Self::AREA;

    /// Columns of a chunk for `T` tokens.
    #[inline(always)]
    fn columns<const T: usize>() -> usize {
        if T == 1 { Self::ALONE } else { Self::AREA / T }
    }

    /// A place for a tile.
    fn new() -> Self;

    /// Copies `cols` columns from `k0` of the `T` tokens from `t0`.
    ///
    /// # Safety
    /// They are there, `cols <= columns::<T>()`.
    unsafe fn fill<const T: usize>(&mut self, m: &Matmul, t0: usize, k0: usize, cols: usize, fix: Fix);
}

/// What a quantised format wants to know of the sums of the activations.
#[derive(Clone, Copy)]
pub enum Fix {
    /// Nothing.
    None,
    /// Per 32 columns, the sum times this: `-bias` if weights are stored as `q + bias`.
    Whole(i32),
    /// The same per 16 columns.
    Halves(i32),
    /// Per 32 columns, the sum times the scale, as f32.
    Scaled,
}

/// What a way to scale wants to know.
pub trait Fixed: Scales {
    /// Of the sums.
    const FIX: Fix;

    /// What weights are stored too large by.
    #[cfg(target_arch = "x86_64")]
    const BIAS: i32 = match Self::FIX {
        Fix::Whole(by) | Fix::Halves(by) => -by,
        Fix::None | Fix::Scaled => 0,
    };

    /// Whether each half of 32 columns has a scale of its own.
    #[cfg(target_arch = "x86_64")]
    const HALVED: bool = matches!(Self::FIX, Fix::Halves(_));
}

impl<const BIAS: i32> Fixed for Centred<BIAS> {
    const FIX: Fix = Fix::Whole(-BIAS);
}

impl Fixed for Affine {
    const FIX: Fix = Fix::Scaled;
}

impl Fixed for SubAffine {
    const FIX: Fix = Fix::Scaled;
}

impl<const BIAS: i32> Fixed for SubCentred<BIAS> {
    const FIX: Fix = Fix::Halves(-BIAS);
}

/// A panel of weights, one chunk of K of it, and where its sums go.
pub struct Panel {
    /// Weights of the first group's first column.
    pub w: *const u8,
    /// Bytes from one group to the next.
    pub group_bytes: usize,
    /// Output rows; the last group may be cut.
    pub rows: usize,
    /// Columns of the chunk.
    pub cols: usize,
    /// First output of the first token.
    pub out: *mut f32,
    /// Floats from one token to the next.
    pub out_stride: usize,
    /// Whether the sums start here; otherwise they go on from what `out` holds.
    pub first: bool,
}

/// The arithmetic of one weight type in one tier.
pub trait Kernel {
    /// The weight type.
    const DTYPE: DType;
    /// What it needs besides bytes and scales, if it is quantised.
    const FIX: Fix = Fix::None;
    /// How its activations are staged.
    type Stage: Stage;

    /// Multiplies a panel with the `T` tokens of a stage.
    ///
    /// # Safety
    /// The panel's memory is there, the stage is filled for the same columns, the CPU has the tier's features.
    unsafe fn panel<const T: usize>(p: &Panel, x: &Self::Stage);
}

/// The matmul.
///
/// # Safety
/// As [`super::Isa::matmul`], and the CPU has the tier's features.
pub unsafe fn matmul<K: Kernel>(m: &Matmul) {
    debug_assert!(m.k.is_multiple_of(K::DTYPE.block_len()));
    let cols = m.k.min(K::Stage::AREA / MOST_TOKENS);
    let chunk_bytes = (GROUP * K::DTYPE.row_bytes(cols)).max(1);
    let panel_rows = if m.tokens <= MOST_TOKENS {
        m.rows
    } else {
        (PANEL / chunk_bytes).max(1) * GROUP
    };
    let mut stage = K::Stage::new();
    let mut row = 0;
    while row < m.rows {
        let rows = panel_rows.min(m.rows - row);
        // SAFETY: passed on; the tiles cover `0..tokens`, in order.
        unsafe {
            let t = tiles::<K, 8>(m, row, rows, 0, &mut stage);
            let t = tiles::<K, 4>(m, row, rows, t, &mut stage);
            let t = tiles::<K, 2>(m, row, rows, t, &mut stage);
            tiles::<K, 1>(m, row, rows, t, &mut stage);
        }
        row += rows;
    }
}

/// Takes as many tiles of `T` tokens from `t0` as there are; the first token that is left.
///
/// # Safety
/// As [`matmul`]; `row` is the first of a group, `row + rows <= m.rows`, `t0 <= m.tokens`.
unsafe fn tiles<K: Kernel, const T: usize>(
    m: &Matmul,
    row: usize,
    rows: usize,
    t0: usize,
    stage: &mut K::Stage,
) -> usize {
    let end = t0 + (m.tokens - t0) / T * T;
    let group_bytes = GROUP * K::DTYPE.row_bytes(m.k);
    // Once at least, so that sums of nothing are zero.
    let most = K::Stage::columns::<T>();
    for k0 in (0..m.k.max(1)).step_by(most) {
        let cols = (m.k - k0).min(most);
        for t in (t0..end).step_by(T) {
            // SAFETY: rows, columns and tokens are inside `m`; chunks start on whole blocks of weights.
            unsafe {
                stage.fill::<T>(m, t, k0, cols, K::FIX);
                let panel = Panel {
                    w: m.w.add(row / GROUP * group_bytes + GROUP * K::DTYPE.row_bytes(k0)),
                    group_bytes,
                    rows,
                    cols,
                    out: m.out.add(t * m.out_stride + row),
                    out_stride: m.out_stride,
                    first: k0 == 0,
                };
                K::panel::<T>(&panel, stage);
            }
        }
    }
    end
}

/// Floats between the rows of a [`Floats`] beyond its columns: a cache line.
const FLOAT_PAD: usize = 16;

/// f32 activations.
#[repr(C, align(64))]
pub struct Floats([MaybeUninit<f32>; Self::AREA + MOST_TOKENS * FLOAT_PAD]);

impl Floats {
    /// The columns of token `t`.
    #[inline(always)]
    pub const fn row<const T: usize>(&self, t: usize) -> *const f32 {
        self.0.as_ptr().wrapping_add(t * (Self::AREA / T + FLOAT_PAD)).cast()
    }
}

impl Stage for Floats {
    const AREA: usize = 4096;

    fn new() -> Self {
        Self([MaybeUninit::uninit(); _])
    }

    unsafe fn fill<const T: usize>(&mut self, m: &Matmul, t0: usize, k0: usize, cols: usize, _: Fix) {
        for t in 0..T {
            let to = self.row::<T>(t).cast_mut();
            // SAFETY: the source is there; `T` rows of `AREA / T` floats and a pad fit.
            unsafe {
                let from = m.x.add((t0 + t) * m.x_stride).cast::<f32>().add(k0);
                core::ptr::copy_nonoverlapping(from, to, cols);
            }
        }
    }
}

/// Bytes between the rows of a [`Quants`] beyond its columns: a cache line.
const BYTE_PAD: usize = 64;

/// Columns of a chunk of Q8 activations, times the tokens of a tile of several.
const QUANT_AREA: usize = 4096;

/// Columns of a chunk of Q8 activations for one token.
const QUANT_ALONE: usize = 2 * QUANT_AREA;

/// Q8 activations: dense blocks, and per block the tokens' scales and fixes side by side.
#[repr(C, align(64))]
pub struct Quants {
    bytes: [MaybeUninit<i8>; 2 * QUANT_ALONE + MOST_TOKENS * BYTE_PAD],
    scales: [MaybeUninit<f32>; QUANT_ALONE / 32],
    fixes: [MaybeUninit<i32>; QUANT_ALONE / 16],
}

impl Quants {
    /// Bytes from one token to the next.
    #[inline(always)]
    pub const fn stride<const T: usize>() -> usize {
        2 * QUANT_AREA / T + BYTE_PAD
    }

    /// The blocks of token `t`.
    #[inline(always)]
    pub const fn row<const T: usize>(&self, t: usize) -> *const i8 {
        self.bytes.as_ptr().wrapping_add(t * Self::stride::<T>()).cast()
    }

    /// `[cols/32][T]`.
    #[inline(always)]
    pub const fn scales(&self) -> *const f32 {
        self.scales.as_ptr().cast()
    }

    /// `[cols/32][T]`, or `[cols/16][T]` if the kernel asked for [`Fix::Halves`].
    #[inline(always)]
    pub const fn fixes(&self) -> *const i32 {
        self.fixes.as_ptr().cast()
    }
}

impl Stage for Quants {
    const AREA: usize = QUANT_AREA;
    const ALONE: usize = QUANT_ALONE;

    fn new() -> Self {
        Self {
            bytes: [MaybeUninit::uninit(); _],
            scales: [MaybeUninit::uninit(); _],
            fixes: [MaybeUninit::uninit(); _],
        }
    }

    unsafe fn fill<const T: usize>(&mut self, m: &Matmul, t0: usize, k0: usize, cols: usize, fix: Fix) {
        let (row, first, blocks) = (Q8 { cols: m.k }, k0 / Q8::BLOCK, cols / Q8::BLOCK);
        for t in 0..T {
            let to = self.row::<T>(t).cast_mut();
            // SAFETY: the source is a row of `m.k` columns; one row of `QUANT_ALONE` columns, or `T` of `QUANT_AREA / T`
            // and a pad each, fit.
            let (bytes, scales, sums) = unsafe {
                let x = m.x.add((t0 + t) * m.x_stride);
                let bytes = x.add(first * Q8::BLOCK_BYTES).cast::<i8>();
                core::ptr::copy_nonoverlapping(bytes, to, blocks * Q8::BLOCK_BYTES);
                (
                    core::slice::from_raw_parts(bytes, blocks * Q8::BLOCK_BYTES),
                    core::slice::from_raw_parts(x.add(row.scales()).cast::<f32>().add(first), blocks),
                    core::slice::from_raw_parts(x.add(row.sums()).cast::<i32>().add(first), blocks),
                )
            };
            for (to, from) in self.scales.as_chunks_mut::<T>().0.iter_mut().zip(scales) {
                to[t].write(*from);
            }
            let fixes = self.fixes.as_chunks_mut::<T>().0.iter_mut();
            match fix {
                Fix::None => {}
                Fix::Whole(by) => fixes.zip(sums).for_each(|(to, s)| _ = to[t].write(by * s)),
                Fix::Halves(by) => {
                    let halves = bytes.as_chunks::<{ Q8::BLOCK_BYTES }>().0.iter().flat_map(half_sums);
                    fixes.zip(halves).for_each(|(to, s)| _ = to[t].write(by * s));
                }
                Fix::Scaled => fixes.zip(scales).zip(sums).for_each(|((to, d), s)| {
                    to[t].write((d * *s as f32).to_bits().cast_signed());
                }),
            }
        }
    }
}

/// The sums of the first 16 elements of a block and of the others.
#[inline(always)]
fn half_sums(block: &[i8; Q8::BLOCK_BYTES]) -> [i32; 2] {
    let [a, b, c, d] = [0, 16, 32, 48].map(|at| block[at..at + 16].iter().map(|q| i32::from(*q)).sum::<i32>());
    [Q8::STEP * a + c, Q8::STEP * b + d]
}
