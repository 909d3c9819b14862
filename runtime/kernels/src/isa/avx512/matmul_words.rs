//! Matmuls with quantised weights for many tokens by `vpdpwssd`: sixteen rows a vector, each activation that is loaded
//! meets two of them. See [`crate::isa::words`].

use core::arch::x86_64::*;
use core::marker::PhantomData;
use core::ops::Range;

use super::matmul_quant::{Packed, Quads, Scale, Unpack};
use super::tail_mask;
use crate::dtype::{DType, GROUP, Q8};
use crate::isa::Matmul;
use crate::isa::blocking::{Fix, Fixed};
use crate::isa::words::{self, Kernel, LANES, PAIR, TILE, Tile, Words};
use crate::quant::{Scales, Values};

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
    type Factors = <B::Scales as Scale>::Factors;

    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn whole(bytes: *const u8, to: &mut Words) {
        // SAFETY: a block's high bytes, then its low ones.
        let part = |at: usize| unsafe { _mm512_cvtepi8_epi16(_mm256_loadu_si256(bytes.add(at).cast())) };
        let step = _mm512_set1_epi16(Q8::STEP as i16);
        let whole = _mm512_add_epi16(_mm512_mullo_epi16(part(0), step), part(Q8::BLOCK));
        // SAFETY: 32 words.
        unsafe { _mm512_store_si512(to.at_mut(), in_order(whole)) };
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma,f16c")]
    unsafe fn unpack(block: *const u8, j: usize, to: &mut [Words; LANES]) -> Self::Factors {
        let bias = _mm512_set1_epi16(<B::Scales>::BIAS as i16);
        // SAFETY: the block has these columns, the slab is in the block.
        let (factors, quads): (_, Quads) = unsafe {
            (
                <B::Scales>::factors(block, j),
                <B::Values>::quads(block.add(<B::Scales>::HEADER + j * <B::Values>::SLAB)),
            )
        };
        for (v, (to, quad)) in to.as_chunks_mut::<2>().0.iter_mut().zip(quads).enumerate() {
            let even = _mm512_and_si512(quad, _mm512_set1_epi16(0xff));
            let odd = _mm512_srli_epi16::<8>(quad);
            for (to, columns) in to.iter_mut().zip([even, odd]) {
                // SAFETY: 32 words; half of the quads are of either half of the columns.
                unsafe {
                    let words = <B::Scales>::words(_mm512_sub_epi16(columns, bias), factors, v / 4);
                    _mm512_store_si512(to.at_mut(), words);
                }
            }
        }
        factors
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
    unsafe fn tile<const FULL: bool>(tile: &Tile<'_, Self::Factors>) {
        let masks: [__mmask16; PAIR] = core::array::from_fn(|i| tail_mask(tile.rows.saturating_sub(i * GROUP)));
        let mut acc = [[_mm512_setzero_ps(); TILE]; PAIR];
        if !tile.first {
            for i in 0..PAIR {
                for t in 0..TILE {
                    // SAFETY: the mask keeps to the output's rows.
                    acc[i][t] = unsafe { _mm512_maskz_loadu_ps(masks[i], tile.out::<FULL>(i, t)) };
                }
            }
        }
        for b in 0..tile.blocks {
            // SAFETY: the block is there.
            unsafe { block::<B>(tile, b, &mut acc) };
        }
        for i in 0..PAIR {
            for t in 0..TILE {
                // SAFETY: as above; the same sums go to the same place.
                unsafe { _mm512_mask_storeu_ps(tile.out::<FULL>(i, t), masks[i], acc[i][t]) };
            }
        }
    }
}

/// Columns 0 and 2 of each quad, then 1 and 3: the order of unpacked weights.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn in_order(words: __m512i) -> __m512i {
    const ORDER: i32 = 0b11_01_10_00;
    _mm512_shufflehi_epi16::<ORDER>(_mm512_shufflelo_epi16::<ORDER>(words))
}

/// Adds the products of a block.
///
/// # Safety
/// The tile has it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,fma")]
unsafe fn block<B: Packed>(tile: &Tile<'_, <B::Scales as Scale>::Factors>, b: usize, acc: &mut [[__m512; TILE]; PAIR]) {
    let dot = |lanes: Range<usize>| {
        let mut sums = [[_mm512_setzero_si512(); TILE]; PAIR];
        for lane in lanes {
            // SAFETY: the block is there.
            let w: [__m512i; PAIR] =
                core::array::from_fn(|i| unsafe { _mm512_load_si512(tile.weights(i, b).add(lane).cast()) });
            for t in 0..TILE {
                // SAFETY: as above; a pair of words of a token.
                let x = unsafe { _mm512_set1_epi32(tile.words(b, t).at::<i32>().add(lane).read()) };
                for i in 0..PAIR {
                    sums[i][t] = _mm512_dpwssd_epi32(sums[i][t], w[i], x);
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
    for i in 0..PAIR {
        for t in 0..TILE {
            let shift = if let Fix::Scaled = <B::Scales>::FIX {
                tile.shift(b, t)
            } else {
                0.0
            };
            // SAFETY: the block is there.
            unsafe {
                let factors = tile.factors(i, b);
                acc[i][t] = <B::Scales>::add(acc[i][t], [low[i][t], high[i][t]], factors, tile.scale(b, t), shift);
            }
        }
    }
}
