//! Matmuls with quantised weights for many tokens by `vpmaddwd`: eight rows a vector, both halves of a group with four
//! tokens at once, whose eight sums leave room for what they are made of. See [`crate::isa::words`].

use core::arch::x86_64::*;
use core::marker::PhantomData;

use super::matmul_quant::{Packed, Scale, Unpack};
use super::{load, store, tail_masks};
use crate::dtype::{DType, GROUP, Q8};
use crate::isa::Matmul;
use crate::isa::blocking::{Fix, Fixed};
use crate::isa::words::{self, Kernel, LANES, PAIR, TILE, Tile, Words};
use crate::quant::{Scales, Values};

/// Tokens whose sums fit the registers.
const SOME: usize = 4;

/// The arithmetic of a kind of block.
struct Blocks<B>(PhantomData<B>);

/// Weights of that kind of block.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`]; the CPU has this tier's features.
pub unsafe fn matmul<B: Packed>(m: &Matmul) {
    // SAFETY: passed on.
    unsafe { words::matmul::<Blocks<B>>(m) }
}

impl<B: Packed> Kernel for Blocks<B> {
    const DTYPE: DType = B::DTYPE;
    /// Of both halves.
    type Factors = [<B::Scales as Scale>::Factors; 2];

    #[target_feature(enable = "avx2")]
    unsafe fn whole(bytes: *const u8, to: &mut Words) {
        let step = _mm256_set1_epi16(Q8::STEP as i16);
        for h in 0..2 {
            // SAFETY: a block's high bytes, then its low ones.
            let part = |at: usize| unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes.add(16 * h + at).cast())) };
            let whole = _mm256_add_epi16(_mm256_mullo_epi16(part(0), step), part(Q8::BLOCK));
            // SAFETY: 32 words.
            unsafe { _mm256_store_si256(to.at_mut::<__m256i>().add(h), in_order(whole)) };
        }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn unpack(block: *const u8, j: usize, to: &mut [Words; LANES]) -> Self::Factors {
        // SAFETY: the slab is in the block.
        let slab = unsafe { block.add(<B::Scales>::HEADER + j * <B::Values>::SLAB) };
        // SAFETY: the block has these columns.
        let factors = [0, 1].map(|h| unsafe { <B::Scales>::factors(block, j, h) });
        for (v, to) in to.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            for h in 0..2 {
                // SAFETY: passed on.
                let quads = unsafe { <B::Values>::two(slab, h, v) };
                for (to, quad) in to.as_chunks_mut::<2>().0.iter_mut().zip(quads) {
                    for (to, columns) in to.iter_mut().zip(columns::<B>(quad)) {
                        // SAFETY: 32 words; half of the quads are of either half of the columns.
                        unsafe {
                            let words = <B::Scales>::words(columns, factors[h], v / 2);
                            _mm256_store_si256(to.at_mut::<__m256i>().add(h), words);
                        }
                    }
                }
            }
        }
        factors
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn tile<const FULL: bool>(tile: &Tile<'_, Self::Factors>) {
        for i in 0..PAIR.min(tile.rows.div_ceil(GROUP)) {
            for t0 in (0..TILE.min(tile.tokens)).step_by(SOME) {
                // SAFETY: the group has rows, one of the tokens counts.
                unsafe { quarter::<B, FULL>(tile, i, t0) };
            }
        }
    }
}

/// Columns 0 and 2 of each quad, then 1 and 3: the order of unpacked weights.
#[inline]
#[target_feature(enable = "avx2")]
fn in_order(words: __m256i) -> __m256i {
    const ORDER: i32 = 0b11_01_10_00;
    _mm256_shufflehi_epi16::<ORDER>(_mm256_shufflelo_epi16::<ORDER>(words))
}

/// The even columns of a quad, and the odd ones, without bias.
#[inline]
#[target_feature(enable = "avx2")]
fn columns<B: Packed>(quad: __m256i) -> [__m256i; 2] {
    if <B::Values>::SIGNED {
        return [
            _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(quad)),
            _mm256_srai_epi16::<8>(quad),
        ];
    }
    let bias = _mm256_set1_epi16(<B::Scales>::BIAS as i16);
    [
        _mm256_sub_epi16(_mm256_and_si256(quad, _mm256_set1_epi16(0xff)), bias),
        _mm256_sub_epi16(_mm256_srli_epi16::<8>(quad), bias),
    ]
}

/// The sums of a group with [`SOME`] tokens from `t0`.
///
/// # Safety
/// The output is there.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn quarter<B: Packed, const FULL: bool>(
    tile: &Tile<'_, [<B::Scales as Scale>::Factors; 2]>,
    i: usize,
    t0: usize,
) {
    let masks = tail_masks(tile.rows - i * GROUP);
    let mut acc = [[_mm256_setzero_ps(); 2]; SOME];
    if !tile.first {
        // SAFETY: the masks keep to the output's rows.
        acc = core::array::from_fn(|t| unsafe { load(tile.out::<FULL>(i, t0 + t), masks) });
    }
    for b in 0..tile.blocks {
        let dot = |lanes: core::ops::Range<usize>| {
            let mut sums = [[_mm256_setzero_si256(); 2]; SOME];
            for lane in lanes {
                // SAFETY: the block is there.
                let w =
                    [0, 1].map(|h| unsafe { _mm256_load_si256(tile.weights(i, b).add(lane).cast::<__m256i>().add(h)) });
                for t in 0..SOME {
                    // SAFETY: as above; a pair of words of a token.
                    let x = unsafe { _mm256_set1_epi32(tile.words(b, t0 + t).at::<i32>().add(lane).read()) };
                    for h in 0..2 {
                        sums[t][h] = _mm256_add_epi32(sums[t][h], _mm256_madd_epi16(w[h], x));
                    }
                }
            }
            sums
        };
        let (mut low, high);
        if <B::Scales>::HALVED {
            low = dot(words::as_it_is(0..LANES / 2));
            // It stays where it is until it is added.
            words::in_memory(&mut low);
            high = dot(words::as_it_is(LANES / 2..LANES));
        } else {
            low = dot(0..LANES);
            high = low;
        }
        for h in 0..2 {
            for t in 0..SOME {
                let scale = tile.scale(b, t0 + t);
                let shift = if let Fix::Scaled = <B::Scales>::FIX {
                    tile.shift(b, t0 + t)
                } else {
                    0.0
                };
                // SAFETY: the block is there.
                unsafe {
                    let factors = tile.factors(i, b)[h];
                    acc[t][h] = <B::Scales>::add(acc[t][h], [low[t][h], high[t][h]], factors, scale, shift);
                }
            }
        }
    }
    for (t, sums) in acc.into_iter().enumerate() {
        // SAFETY: as above; the same sums go to the same place.
        unsafe { store(tile.out::<FULL>(i, t0 + t), masks, sums) };
    }
}
