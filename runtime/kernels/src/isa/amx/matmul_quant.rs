//! Matmuls with quantised weights: a block's 32 columns are a tile, whose sums are scaled as vectors.

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::pairs::{self, Pairs};
use super::tiles::{BATCH, ROWS, Tile, Unit};
use crate::dtype::{GROUP, Q8};
use crate::isa::Matmul;
use crate::isa::avx512::matmul_quant::{Scale, Unpack};
use crate::isa::avx512::tail_mask;
use crate::quant::{Affine, Block, Centred, Scales, SubAffine, SubCentred, Values};

/// Tokens that are staged together.
const TOKENS: usize = 4 * ROWS;
/// Blocks of a chunk of K, a multiple of [`BATCH`].
const BLOCKS: usize = 16;
/// Bytes of weights that stay in the L2 cache while all tokens pass.
const PANEL: usize = 1 << 20;

/// What tiles want to know of a way to scale.
trait Tiled: Scale {
    /// The integers without their bias, as bf16.
    const WHOLE: [u16; 64] = pairs::whole(Self::BIAS);
    /// Tiles of a block: one for each of its scales.
    const SUBS: usize = 1 + Self::HALVED as usize;
    /// Whether each block adds a multiple of the activations' sum.
    const SHIFTED: bool = false;

    /// Factors of a block's tiles, and of the activations' sum.
    ///
    /// # Safety
    /// The CPU has the tier's features.
    unsafe fn split(factors: Self::Factors) -> ([__m512; 2], __m512);
}

impl<const BIAS: i32> Tiled for Centred<BIAS> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn split(d: __m512) -> ([__m512; 2], __m512) {
        ([d; 2], _mm512_setzero_ps())
    }
}

impl Tiled for Affine {
    const SHIFTED: bool = true;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn split([d, m]: [__m512; 2]) -> ([__m512; 2], __m512) {
        ([d; 2], m)
    }
}

impl Tiled for SubAffine {
    const SHIFTED: bool = true;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn split([d, dmin]: [__m512; 2]) -> ([__m512; 2], __m512) {
        ([d; 2], _mm512_sub_ps(_mm512_setzero_ps(), dmin))
    }
}

impl<const BIAS: i32> Tiled for SubCentred<BIAS> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn split(factors: [__m512; 2]) -> ([__m512; 2], __m512) {
        (factors, _mm512_setzero_ps())
    }
}

/// Blocks that this tier multiplies.
trait Packed: Block<Values: Pairs, Scales: Tiled> {}

impl<B: Block<Values: Pairs, Scales: Tiled>> Packed for B {}

/// Activations of a chunk of K: by 16 tokens, block after block.
struct Stage {
    tiles: [[MaybeUninit<Tile>; BLOCKS]; TOKENS / ROWS],
    sums: [[MaybeUninit<f32>; TOKENS]; BLOCKS],
}

/// Weights of a group and a chunk of K.
struct Weights {
    tiles: [Tile; 2 * BLOCKS],
    factors: [__m512; 2 * BLOCKS],
    shifts: [__m512; BLOCKS],
}

/// A chunk of K.
#[derive(Clone, Copy)]
struct Chunk {
    /// Its first block of 32 columns.
    first: usize,
    /// Its blocks.
    blocks: usize,
}

/// Weights of that kind of block.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`]; the CPU has this tier's features.
#[expect(private_bounds, reason = "how the tier does it is its own affair")]
pub unsafe fn matmul<U: Unit, B: Packed>(m: &Matmul) {
    // SAFETY: passed on.
    unsafe { run::<U, B>(m) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c")]
unsafe fn run<U: Unit, B: Packed>(m: &Matmul) {
    debug_assert!(m.k.is_multiple_of(B::DTYPE.block_len()));
    let group_bytes = GROUP * B::DTYPE.row_bytes(m.k);
    let panel = (PANEL / group_bytes.max(1)).max(1) * GROUP;
    let mut stage = Stage {
        tiles: [[MaybeUninit::uninit(); _]; _],
        sums: [[MaybeUninit::uninit(); _]; _],
    };
    let mut weights = Weights {
        tiles: [Tile::ZERO; _],
        factors: [_mm512_setzero_ps(); _],
        shifts: [_mm512_setzero_ps(); _],
    };
    // SAFETY: rows, tokens and blocks are inside `m`.
    unsafe {
        U::begin();
        for row in (0..m.rows).step_by(panel) {
            let end = m.rows.min(row + panel);
            for t0 in (0..m.tokens).step_by(TOKENS) {
                let tokens = TOKENS.min(m.tokens - t0);
                // Once at least, so that sums of nothing are zero.
                for first in (0..(m.k / 32).max(1)).step_by(BLOCKS) {
                    let chunk = Chunk {
                        first,
                        blocks: BLOCKS.min(m.k / 32 - first),
                    };
                    stage.fill(m, t0, tokens, chunk);
                    for r in (row..end).step_by(GROUP) {
                        weights.unpack::<B>(m.w.add(r / GROUP * group_bytes), chunk);
                        let rows = end - r;
                        for tile in 0..tokens.div_ceil(ROWS) {
                            let t = t0 + tile * ROWS;
                            let out = m.out.add(t * m.out_stride + r);
                            let count = ROWS.min(m.tokens - t);
                            multiply::<U, B>(&weights, &stage, tile, chunk, out, m.out_stride, count, rows);
                        }
                    }
                }
            }
        }
        U::end();
    }
}

impl Stage {
    /// Copies the blocks of `chunk` of `tokens` tokens from `t0`; up to whole tiles and whole batches all else is zero.
    ///
    /// # Safety
    /// They are there.
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn fill(&mut self, m: &Matmul, t0: usize, tokens: usize, chunk: Chunk) {
        for t in 0..tokens.next_multiple_of(ROWS) {
            let tiles = &mut self.tiles[t / ROWS];
            let used = if t < tokens { chunk.blocks } else { 0 };
            // SAFETY: block `first + b` of the row, a row of a tile.
            unsafe {
                let row = m.x.wrapping_add((t0 + t) * m.x_stride);
                let bytes = row.wrapping_add(chunk.first * Q8::BLOCK_BYTES);
                let sums = row
                    .wrapping_add(Q8 { cols: m.k }.scales() + 4 * chunk.first)
                    .cast::<f32>();
                for b in 0..used {
                    let block = _mm512_loadu_si512(bytes.add(b * Q8::BLOCK_BYTES).cast());
                    _mm512_store_si512(tiles[b].as_mut_ptr().cast::<__m512i>().add(t % ROWS), block);
                    self.sums[b][t].write(*sums.add(b));
                }
                for b in used..chunk.blocks.next_multiple_of(BATCH) {
                    let zero = _mm512_setzero_si512();
                    _mm512_store_si512(tiles[b].as_mut_ptr().cast::<__m512i>().add(t % ROWS), zero);
                    self.sums[b][t].write(0.0);
                }
            }
        }
    }
}

impl Weights {
    /// Unpacks the blocks of `chunk` of a group.
    ///
    /// # Safety
    /// They are there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma,f16c")]
    unsafe fn unpack<B: Packed>(&mut self, group: *const u8, chunk: Chunk) {
        let (subs, steps) = (<B::Scales>::SUBS, B::DTYPE.block_len() / 32);
        let block_bytes = B::DTYPE.block_bytes() * GROUP;
        for b in 0..chunk.blocks {
            let (block, j) = ((chunk.first + b) / steps, (chunk.first + b) % steps);
            // SAFETY: the block is in the group.
            unsafe {
                let block = group.add(block * block_bytes);
                let table = <B::Values>::table(const { &<B::Scales>::WHOLE });
                let quads = <B::Values>::quads(block.add(<B::Scales>::HEADER + j * <B::Values>::SLAB));
                let (factors, shift) = <B::Scales>::split(<B::Scales>::factors(block, j));
                for sub in 0..subs {
                    let half = (subs > 1).then_some(sub);
                    pairs::fill::<B::Values>(table, &quads, half, &mut self.tiles[subs * b + sub]);
                    let unit = _mm512_set1_ps(<B::Values>::UNIT);
                    self.factors[subs * b + sub] = _mm512_mul_ps(factors[sub], unit);
                }
                self.shifts[b] = shift;
            }
        }
    }
}

/// Sums of 16 tokens and a group of rows, on top of those that `out` holds unless the chunk is the first.
///
/// # Safety
/// Weights and stage hold the chunk; `out` is valid for `count` rows of `rows` floats, at most a group, `stride` apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
#[expect(
    clippy::too_many_arguments,
    reason = "a rectangle of the output, and what it is made of"
)]
unsafe fn multiply<U: Unit, B: Packed>(
    weights: &Weights,
    stage: &Stage,
    tile: usize,
    chunk: Chunk,
    out: *mut f32,
    stride: usize,
    count: usize,
    rows: usize,
) {
    let subs = <B::Scales>::SUBS;
    let mask = tail_mask(rows);
    let mut acc = [_mm512_setzero_ps(); ROWS];
    if chunk.first > 0 {
        for (t, acc) in acc.iter_mut().enumerate().take(count) {
            // SAFETY: a row of the output; the mask keeps to its columns.
            *acc = unsafe { _mm512_maskz_loadu_ps(mask, out.add(t * stride)) };
        }
    }
    let products = chunk.blocks * subs;
    // Two places, so that one is scaled while the other is made.
    let mut sums = [[Tile::ZERO; BATCH]; 2];
    let x = stage.tiles[tile].as_ptr().cast::<Tile>();
    for i in (0..products).step_by(BATCH) {
        let batch = &mut sums[i / BATCH % 2];
        // SAFETY: the stage is filled up to whole batches, and there are as many places for weights.
        unsafe {
            let (a, b) = (x.add(i / subs), weights.tiles.as_ptr().add(i));
            if subs == 1 {
                U::products::<1>(a, b, batch.as_mut_ptr());
            } else {
                U::products::<2>(a, b, batch.as_mut_ptr());
            }
        }
        for (i, batch) in (i..products).zip(&*batch) {
            let from = (&raw const *batch).cast::<f32>();
            for (t, acc) in acc.iter_mut().enumerate() {
                // SAFETY: a tile of sums has as many rows of 16.
                *acc = _mm512_fmadd_ps(unsafe { _mm512_load_ps(from.add(t * GROUP)) }, weights.factors[i], *acc);
            }
            if <B::Scales>::SHIFTED {
                for (t, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: the stage is filled up to whole tiles.
                    let sum = unsafe { stage.sums[i][tile * ROWS + t].assume_init() };
                    *acc = _mm512_fmadd_ps(weights.shifts[i], _mm512_set1_ps(sum), *acc);
                }
            }
        }
    }
    for (t, acc) in acc.iter().enumerate().take(count) {
        // SAFETY: a row of the output; the mask keeps to its columns.
        unsafe { _mm512_mask_storeu_ps(out.add(t * stride), mask, *acc) };
    }
}
