//! Matmuls with quantised weights for many tokens: words times words, exact integer sums per block.
//!
//! Weights are unpacked once for all tokens of a stage, to words without bias, two columns a lane; activations are put
//! together from their bytes. So a block of 32 columns takes 16 products a token, where bytes take as many for both of an
//! activation's parts; and one scaling. The sums are those of [`super::matmul_quant`], to the bit.

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::matmul_quant::{Packed, Quads, Scale, Unpack};
use super::tail_mask;
use crate::dtype::{GROUP, Q8};
use crate::isa::Matmul;
use crate::isa::blocking::{Fix, Fixed};
use crate::quant::{Scales, Values};

/// Tokens of a tile.
const TILE: usize = 8;
/// Groups of a tile: each activation that is loaded meets two vectors of weights.
const PAIR: usize = 2;
/// Tokens that are staged together.
const TOKENS: usize = 64;
/// Blocks of a chunk of K: weights of a pair of groups stay in the L1 cache.
const BLOCKS: usize = 8;
/// Bytes of a chunk's weights that all tokens of a stage pass: they, and the sums, stay in the L2 cache.
const PANEL: usize = 96 << 10;
/// Vectors of a block: pairs of columns.
const LANES: usize = Q8::BLOCK / 2;

/// Activations of a chunk of K: by tile of tokens, block after block, a token a cache line.
#[repr(C, align(64))]
struct Stage {
    words: [[[MaybeUninit<[i16; Q8::BLOCK]>; TILE]; BLOCKS]; TOKENS / TILE],
    /// Scale, and scale times sum.
    scales: [[[MaybeUninit<[f32; 2]>; TILE]; BLOCKS]; TOKENS / TILE],
}

/// Weights of a group and a chunk of K.
struct Weights<F> {
    words: [[MaybeUninit<__m512i>; LANES]; BLOCKS],
    factors: [MaybeUninit<F>; BLOCKS],
}

/// Weights of that kind of block.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`]; the CPU has this tier's features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma,f16c")]
pub(super) unsafe fn matmul<B: Packed>(m: &Matmul) {
    debug_assert!(m.k.is_multiple_of(B::DTYPE.block_len()));
    let group_bytes = GROUP * B::DTYPE.row_bytes(m.k);
    let chunk_bytes = GROUP * B::DTYPE.row_bytes(m.k.min(BLOCKS * Q8::BLOCK).next_multiple_of(B::DTYPE.block_len()));
    let panel = (PANEL / chunk_bytes.max(1)).max(PAIR) / PAIR * PAIR * GROUP;
    let mut stage = Stage {
        words: [[[MaybeUninit::uninit(); _]; _]; _],
        scales: [[[MaybeUninit::uninit(); _]; _]; _],
    };
    let mut weights: [Weights<<B::Scales as Scale>::Factors>; PAIR] = [const {
        Weights {
            words: [[MaybeUninit::uninit(); _]; _],
            factors: [MaybeUninit::uninit(); _],
        }
    }; _];
    for row in (0..m.rows).step_by(panel) {
        let end = m.rows.min(row + panel);
        for t0 in (0..m.tokens).step_by(TOKENS) {
            let tokens = TOKENS.min(m.tokens - t0);
            // Once at least, so that sums of nothing are zero.
            for first in (0..(m.k / Q8::BLOCK).max(1)).step_by(BLOCKS) {
                let blocks = BLOCKS.min(m.k / Q8::BLOCK - first);
                // SAFETY: rows, tokens and blocks are inside `m`.
                unsafe {
                    stage.fill(m, t0, tokens, first, blocks);
                    for r in (row..end).step_by(PAIR * GROUP) {
                        for (i, weights) in weights.iter_mut().enumerate() {
                            // A pair may lack its second group: it gets the first's weights, and no place in the output.
                            let r = if r + i * GROUP < end { r + i * GROUP } else { r };
                            weights.unpack::<B>(m.w.add(r / GROUP * group_bytes), first, blocks);
                        }
                        for tile in 0..tokens.div_ceil(TILE) {
                            let t = t0 + tile * TILE;
                            let place = Place {
                                out: m.out.add(t * m.out_stride + r),
                                stride: m.out_stride,
                                tokens: TILE.min(m.tokens - t),
                                masks: [0, GROUP].map(|i| tail_mask((end - r).saturating_sub(i))),
                            };
                            if place.tokens == TILE {
                                tile_of::<B, true>(&weights, &stage, tile, first, blocks, &place);
                            } else {
                                tile_of::<B, false>(&weights, &stage, tile, first, blocks, &place);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Where the sums of a tile go.
struct Place {
    /// The first token's first row.
    out: *mut f32,
    /// Floats from one token to the next.
    stride: usize,
    /// Tokens that count.
    tokens: usize,
    /// Rows that count.
    masks: [__mmask16; PAIR],
}

/// The sums of a tile, on top of those that are in their place unless the chunk is the first; `FULL` if all tokens count.
///
/// # Safety
/// Weights and stage hold the blocks; the output is there.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn tile_of<B: Packed, const FULL: bool>(
    weights: &[Weights<<B::Scales as Scale>::Factors>; PAIR],
    stage: &Stage,
    tile: usize,
    first: usize,
    blocks: usize,
    place: &Place,
) {
    // Tokens that do not count are the last one that does.
    let token = |t: usize| if FULL { t } else { t.min(place.tokens - 1) };
    let out = |t: usize, i: usize| place.out.wrapping_add(token(t) * place.stride + i * GROUP);
    let mut acc = [[_mm512_setzero_ps(); TILE]; PAIR];
    if first > 0 {
        for i in 0..PAIR {
            for t in 0..TILE {
                // SAFETY: the mask keeps to the output's rows.
                acc[i][t] = unsafe { _mm512_maskz_loadu_ps(place.masks[i], out(t, i)) };
            }
        }
    }
    // SAFETY: passed on.
    unsafe { multiply::<B>(weights, stage, tile, blocks, &mut acc) };
    for i in 0..PAIR {
        for t in 0..TILE {
            // SAFETY: as above; the same sums go to the same place.
            unsafe { _mm512_mask_storeu_ps(out(t, i), place.masks[i], acc[i][t]) };
        }
    }
}

/// Columns 0 and 2 of each quad, then 1 and 3: the order in which [`Weights::unpack`] has them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn in_order(words: __m512i) -> __m512i {
    const ORDER: i32 = 0b11_01_10_00;
    _mm512_shufflehi_epi16::<ORDER>(_mm512_shufflelo_epi16::<ORDER>(words))
}

impl Stage {
    /// Puts blocks `first..first + blocks` of `tokens` tokens from `t0` together; the last tile is filled up with the last
    /// token.
    ///
    /// # Safety
    /// They are there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn fill(&mut self, m: &Matmul, t0: usize, tokens: usize, first: usize, blocks: usize) {
        let row = Q8 { cols: m.k };
        let step = _mm512_set1_epi16(Q8::STEP as i16);
        for t in 0..tokens.next_multiple_of(TILE) {
            // SAFETY: the parts of a row.
            unsafe {
                let x = m.x.add((t0 + t.min(tokens - 1)) * m.x_stride);
                let bytes = x.add(first * Q8::BLOCK_BYTES);
                let scales = x.add(row.scales()).cast::<f32>().add(first);
                let sums = x.add(row.sums()).cast::<i32>().add(first);
                for b in 0..blocks {
                    let part = |at: usize| {
                        _mm512_cvtepi8_epi16(_mm256_loadu_si256(bytes.add(b * Q8::BLOCK_BYTES + at).cast()))
                    };
                    let whole = _mm512_add_epi16(_mm512_mullo_epi16(part(0), step), part(Q8::BLOCK));
                    let to = self.words[t / TILE][b][t % TILE].as_mut_ptr();
                    _mm512_store_si512(to.cast(), in_order(whole));
                    let scale = *scales.add(b);
                    self.scales[t / TILE][b][t % TILE].write([scale, scale * *sums.add(b) as f32]);
                }
            }
        }
    }
}

impl<F: Copy> Weights<F> {
    /// Unpacks blocks `first..first + blocks` of 32 columns of a group.
    ///
    /// # Safety
    /// They are there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma,f16c")]
    unsafe fn unpack<B: Packed<Scales: Scale<Factors = F>>>(&mut self, group: *const u8, first: usize, blocks: usize) {
        let steps = B::DTYPE.block_len() / Q8::BLOCK;
        let block_bytes = B::DTYPE.block_bytes() * GROUP;
        let bias = _mm512_set1_epi16(<B::Scales>::BIAS as i16);
        for b in 0..blocks {
            let (block, j) = ((first + b) / steps, (first + b) % steps);
            // SAFETY: the block is in the group.
            let quads: Quads = unsafe {
                let block = group.add(block * block_bytes);
                self.factors[b].write(<B::Scales>::factors(block, j));
                <B::Values>::quads(block.add(<B::Scales>::HEADER + j * <B::Values>::SLAB))
            };
            for (v, quad) in quads.into_iter().enumerate() {
                let even = _mm512_and_si512(quad, _mm512_set1_epi16(0xff));
                let odd = _mm512_srli_epi16::<8>(quad);
                self.words[b][2 * v].write(_mm512_sub_epi16(even, bias));
                self.words[b][2 * v + 1].write(_mm512_sub_epi16(odd, bias));
            }
        }
    }
}

/// Adds the products of a pair of groups with a tile of tokens over the blocks of a chunk.
///
/// # Safety
/// Weights and stage hold them.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn multiply<B: Packed>(
    weights: &[Weights<<B::Scales as Scale>::Factors>; PAIR],
    stage: &Stage,
    tile: usize,
    blocks: usize,
    acc: &mut [[__m512; TILE]; PAIR],
) {
    for b in 0..blocks {
        let x = &stage.words[tile][b];
        let dot = |lanes: core::ops::Range<usize>| {
            let mut sums = [[_mm512_setzero_si512(); TILE]; PAIR];
            for lane in lanes {
                // SAFETY: the block is there.
                let w: [__m512i; PAIR] = core::array::from_fn(|i| unsafe { weights[i].words[b][lane].assume_init() });
                for t in 0..TILE {
                    // SAFETY: as above; a pair of words of a token.
                    let x = unsafe { _mm512_set1_epi32(x[t].as_ptr().cast::<i32>().add(lane).read()) };
                    for i in 0..PAIR {
                        sums[i][t] = _mm512_dpwssd_epi32(sums[i][t], w[i], x);
                    }
                }
            }
            sums
        };
        let both = if <B::Scales>::HALVED {
            [dot(0..LANES / 2), dot(LANES / 2..LANES)]
        } else {
            [dot(0..LANES); 2]
        };
        for i in 0..PAIR {
            for t in 0..TILE {
                // SAFETY: the block is there.
                unsafe {
                    let [scale, shift] = stage.scales[tile][b][t].assume_init();
                    let shift = if let Fix::Scaled = <B::Scales>::FIX { shift } else { 0.0 };
                    let factors = weights[i].factors[b].assume_init();
                    acc[i][t] = <B::Scales>::add(acc[i][t], [both[0][i][t], both[1][i][t]], factors, scale, shift);
                }
            }
        }
    }
}
