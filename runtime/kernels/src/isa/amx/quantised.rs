//! Quantised weights: each becomes the nearest bf16 on its way into a tile. Their activations are bf16 already.

use core::arch::x86_64::*;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

use super::matmul::{Activations, Part, Stage, TILE_COLS, Weights};
use super::tiles::{Half, ROWS, Raw, Tile};
use crate::dtype::{DType, GROUP, Q8};
use crate::isa::Matmul;
use crate::isa::avx512::matmul_quant::{Scale, Unpack};
use crate::quant::{Affine, Block, Centred, Scales, SubAffine, SubCentred, Values};

/// What tiles want to know of a way to scale.
pub(super) trait Line: Scale {
    /// A weight is `factor * q + shift`: both, for each half of 32 columns.
    ///
    /// # Safety
    /// The CPU has the tier's features.
    unsafe fn line(factors: Self::Factors) -> [[__m512; 2]; 2];
}

impl<const BIAS: i32> Line for Centred<BIAS> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn line(d: __m512) -> [[__m512; 2]; 2] {
        [[d, _mm512_mul_ps(d, _mm512_set1_ps(-BIAS as f32))]; 2]
    }
}

impl Line for Affine {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn line(factors: [__m512; 2]) -> [[__m512; 2]; 2] {
        [factors; 2]
    }
}

impl Line for SubAffine {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn line([d, dmin]: [__m512; 2]) -> [[__m512; 2]; 2] {
        [[d, _mm512_sub_ps(_mm512_setzero_ps(), dmin)]; 2]
    }
}

impl<const BIAS: i32> Line for SubCentred<BIAS> {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn line((d, sc): (__m512, [__m512i; 2])) -> [[__m512; 2]; 2] {
        let bias = _mm512_set1_ps(-BIAS as f32);
        sc.map(|sc| {
            let scale = _mm512_mul_ps(d, _mm512_cvtepi32_ps(sc));
            [scale, _mm512_mul_ps(scale, bias)]
        })
    }
}

/// Weights of a kind of block.
pub(super) struct Blocks<B>(PhantomData<B>);

impl<B: Block<Values: Unpack, Scales: Line>> Weights for Blocks<B> {
    const DTYPE: DType = B::DTYPE;
    type Activations = Ready;
    const MADE: bool = true;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma,f16c")]
    unsafe fn raw(group: *const u8, i: usize, raw: &mut MaybeUninit<Raw>) {
        let (steps, block_bytes) = (B::DTYPE.block_len() / TILE_COLS, B::DTYPE.block_bytes() * GROUP);
        // SAFETY: the block is in the group.
        unsafe {
            let (block, j) = (group.add(i / steps * block_bytes), i % steps);
            let [a, b, c, d, e, f, g, h] = <B::Values>::quads(block.add(<B::Scales>::HEADER + j * <B::Values>::SLAB));
            let [first, second] = <B::Scales>::line(<B::Scales>::factors(block, j));
            raw.write([
                Half {
                    quads: [a, b, c, d],
                    line: first,
                },
                Half {
                    quads: [e, f, g, h],
                    line: second,
                },
            ]);
        }
    }

    unsafe fn copy(_: *const u8, _: usize, _: usize, _: *mut Tile) {}
}

/// Rows of bf16 as [`super::quantize`] makes them. They are read where they are, but for the last tokens, which are filled
/// up with zeros. Sixteen rows may lie in few sets of the L1 cache: that costs less than a copy, which nothing would hide.
pub(super) struct Ready(Stage);

impl Activations for Ready {
    const COLUMN: usize = 2;

    fn new() -> Ready {
        Ready(Stage::NEW)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn prepare(&mut self, m: &Matmul, part: Part) {
        for t in part.tokens / ROWS * ROWS..part.tokens.next_multiple_of(ROWS) {
            let to = self.0.row(t % ROWS);
            let from = m.x.wrapping_add((part.t0 + t) * m.x_stride);
            for b in 0..part.cols / Q8::BLOCK {
                // SAFETY: a block of the row, a cache line of the stage's.
                unsafe {
                    let block = if t < part.tokens {
                        _mm512_loadu_si512(from.add(2 * part.k0 + b * Q8::BLOCK_BYTES).cast())
                    } else {
                        _mm512_setzero_si512()
                    };
                    _mm512_store_si512(to.add(b * Q8::BLOCK_BYTES).cast(), block);
                }
            }
        }
    }

    #[inline]
    fn rows(&self, m: &Matmul, part: Part, t: usize) -> (*const u8, usize) {
        if t + ROWS > part.t0 + part.tokens {
            self.0.rows()
        } else {
            (m.x.wrapping_add(t * m.x_stride + 2 * part.k0), m.x_stride)
        }
    }
}

const _: () = assert!(
    TILE_COLS == Q8::BLOCK && Q8::BLOCK_BYTES == 2 * TILE_COLS,
    "a block is a row of a tile"
);
