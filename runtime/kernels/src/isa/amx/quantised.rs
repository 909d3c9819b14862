//! Quantised weights: each becomes the nearest bf16 on its way into a tile. Their activations are bf16 already.

use core::arch::x86_64::*;
use core::marker::PhantomData;

use super::matmul::{Activations, Part, Room, Stage, TILE_COLS, Weights};
use super::tiles::{SIDE, Tile};
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
    unsafe fn line(factors: [__m512; 2]) -> [[__m512; 2]; 2] {
        let bias = _mm512_set1_ps(-BIAS as f32);
        factors.map(|d| [d, _mm512_mul_ps(d, bias)])
    }
}

/// Weights of a kind of block.
pub(super) struct Blocks<B>(PhantomData<B>);

impl<B: Block<Values: Unpack, Scales: Line>> Weights for Blocks<B> {
    const DTYPE: DType = B::DTYPE;
    type Activations = Ready;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma,f16c")]
    unsafe fn tiles(group: *const u8, k0: usize, cols: usize, room: &mut Room) -> *const Tile {
        let (steps, block_bytes) = (B::DTYPE.block_len() / TILE_COLS, B::DTYPE.block_bytes() * GROUP);
        for (i, tile) in room.iter_mut().enumerate().take(cols / TILE_COLS) {
            let at = k0 / TILE_COLS + i;
            // SAFETY: the block is in the group; a tile is sixteen vectors.
            unsafe {
                let (block, j) = (group.add(at / steps * block_bytes), at % steps);
                let halves = <B::Scales>::line(<B::Scales>::factors(block, j));
                let quads = <B::Values>::quads(block.add(<B::Scales>::HEADER + j * <B::Values>::SLAB));
                let to = tile.as_mut_ptr().cast::<__m512i>();
                for (v, quad) in quads.into_iter().enumerate() {
                    let [even, odd] = pairs(quad, halves[v / 4]);
                    _mm512_store_si512(to.add(2 * v), even);
                    _mm512_store_si512(to.add(2 * v + 1), odd);
                }
            }
        }
        room.as_ptr().cast()
    }
}

/// Four columns of sixteen rows as two rows of a tile: the first two columns, and the others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn pairs(quad: __m512i, [factor, shift]: [__m512; 2]) -> [__m512i; 2] {
    /// Where the words of a pair are once two vectors are one behind the other.
    const ORDER: [u16; 32] = {
        let mut order = [0; 32];
        let mut i = 0;
        while i < 32 {
            order[i] = (i / 2 + i % 2 * 16) as u16;
            i += 1;
        }
        order
    };
    let byte = _mm512_set1_epi32(0xff);
    let weight = |q| _mm512_fmadd_ps(_mm512_cvtepi32_ps(q), factor, shift);
    let weights = [
        weight(_mm512_and_si512(quad, byte)),
        weight(_mm512_and_si512(_mm512_srli_epi32::<8>(quad), byte)),
        weight(_mm512_and_si512(_mm512_srli_epi32::<16>(quad), byte)),
        weight(_mm512_srli_epi32::<24>(quad)),
    ];
    // SAFETY: both are 32 words.
    let order: __m512i = unsafe { core::mem::transmute(ORDER) };
    [0, 2].map(|i| {
        // SAFETY: both are 32 words.
        let both: __m512i = unsafe { core::mem::transmute(_mm512_cvtne2ps_pbh(weights[i + 1], weights[i])) };
        _mm512_permutexvar_epi16(order, both)
    })
}

/// Rows of bf16 as [`super::quantize`] makes them. The last tokens are copied, to be filled up with zeros.
pub(super) struct Ready(Stage);

impl Activations for Ready {
    fn new() -> Ready {
        Ready(Stage::NEW)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn prepare(&mut self, m: &Matmul, part: Part) {
        let tail = part.tokens % SIDE;
        if tail == 0 {
            return;
        }
        for t in 0..SIDE {
            let to = self.0.row(t);
            let from = m.x.wrapping_add((part.t0 + part.tokens - tail + t) * m.x_stride);
            for b in 0..part.cols / Q8::BLOCK {
                // SAFETY: a block of the row, a cache line of the stage's.
                unsafe {
                    let block = if t < tail {
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
        if t + SIDE <= part.t0 + part.tokens {
            (m.x.wrapping_add(t * m.x_stride + 2 * part.k0), m.x_stride)
        } else {
            self.0.rows()
        }
    }
}

const _: () = assert!(
    TILE_COLS == Q8::BLOCK && Q8::BLOCK_BYTES == 2 * TILE_COLS,
    "a block is a row of a tile"
);
