//! Weights of bf16, which are packed as tiles; their activations are rounded on the way, or were before.

use core::arch::x86_64::*;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

use super::matmul::{Activations, Part, Stage, TILE_COLS, TOKENS, Weights};
use super::tiles::{ROWS, Raw, Tile};
use crate::dtype::{DType, GROUP};
use crate::isa::Matmul;
use crate::isa::avx512::tail_mask;

/// Weights of bf16.
pub(super) struct Packed<A>(PhantomData<A>);

impl<A: Activations> Weights for Packed<A> {
    const DTYPE: DType = DType::BF16;
    type Activations = A;
    const MADE: bool = false;

    unsafe fn raw(_: *const u8, _: usize, _: &mut MaybeUninit<Raw>) {}

    #[inline]
    unsafe fn copy(group: *const u8, k0: usize, cols: usize, room: *mut Tile) {
        // SAFETY: the columns are there. Whole pairs are as in a tile; the last column alone is sixteen words, without
        // partners. The room is at least as many whole tiles.
        unsafe {
            let from = group.cast::<u16>().add(k0 * GROUP);
            let to = room.cast::<u16>();
            to.write_bytes(0, cols.next_multiple_of(TILE_COLS) * GROUP);
            from.copy_to_nonoverlapping(to, cols / 2 * 2 * GROUP);
            if cols % 2 == 1 {
                for r in 0..GROUP {
                    *to.add((cols - 1) * GROUP + 2 * r) = from.add((cols - 1) * GROUP + r).read();
                }
            }
        }
    }
}

/// Rows of f32, rounded.
pub(super) struct Rounded([Stage; TOKENS / ROWS]);

impl Activations for Rounded {
    const COLUMN: usize = 4;

    fn new() -> Rounded {
        Rounded([Stage::NEW; _])
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn prepare(&mut self, m: &Matmul, part: Part) {
        for t in 0..part.tokens.next_multiple_of(ROWS) {
            let to = self.0[t / ROWS].row(t % ROWS);
            let row = m.x.wrapping_add((part.t0 + t) * m.x_stride).cast::<f32>();
            let cols = if t < part.tokens { part.cols } else { 0 };
            for col in (0..part.cols).step_by(TILE_COLS) {
                let half = |i: usize| {
                    let at = col + i * TILE_COLS / 2;
                    // SAFETY: the mask keeps to the row.
                    unsafe { _mm512_maskz_loadu_ps(tail_mask(cols.saturating_sub(at)), row.wrapping_add(part.k0 + at)) }
                };
                // SAFETY: both are 64 bytes: a cache line of the stage's row.
                unsafe {
                    let both: __m512i = core::mem::transmute(_mm512_cvtne2ps_pbh(half(1), half(0)));
                    _mm512_store_si512(to.add(2 * col).cast(), both);
                }
            }
        }
    }

    #[inline]
    fn rows(&self, _: &Matmul, part: Part, t: usize) -> (*const u8, usize) {
        self.0[(t - part.t0) / ROWS].rows()
    }
}
