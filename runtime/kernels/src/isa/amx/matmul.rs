//! Matmuls on tiles: how they are cut. Where tiles of weights and of activations come from is the affair of [`Weights`]
//! and [`Activations`].
//!
//! A square is 32 tokens by 32 rows of weights: four tiles of sums in registers, through a chunk of K. The weights of a
//! panel, two groups of rows, are made tiles once for all tokens that pass; they stay in the L1 cache. Activations come
//! from the L2 cache, and so do the sums, which wait in the output between chunks. None of this changes a result: sums
//! are taken in order of K, and an f32 is stored and loaded as it is.

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::tiles::{ROWS, SIDE, Square, Tile, Unit};
use crate::dtype::{DType, GROUP};
use crate::isa::Matmul;
use crate::isa::avx512::tail_mask;

/// Columns of a tile.
pub(super) const TILE_COLS: usize = 32;
/// Tiles of a group in a chunk of K.
const TILES: usize = 16;
/// Columns of a chunk of K.
const COLS: usize = TILES * TILE_COLS;
/// Tokens that pass a panel.
pub(super) const TOKENS: usize = 256;
/// Rows of weights whose sums stay in the L2 cache.
const OUTPUTS: usize = 512;

/// Room for the tiles of a group and a chunk of K.
pub(super) type Room = [MaybeUninit<Tile>; TILES];

/// Weights of a type.
pub(super) trait Weights {
    /// The type.
    const DTYPE: DType;
    /// How it meets its activations.
    type Activations: Activations;

    /// The tiles of `cols` columns from `k0` of a group: where they are, or made in `room`. Beyond the last column there
    /// are zeros up to a whole tile.
    ///
    /// # Safety
    /// The columns are there; `k0` is a multiple of `COLS`, `cols` at most that; the CPU has the tier's features.
    unsafe fn tiles(group: *const u8, k0: usize, cols: usize, room: &mut Room) -> *const Tile;
}

/// A part of the activations of a matmul.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// First token, and tokens, at most [`TOKENS`].
    pub t0: usize,
    pub tokens: usize,
    /// First column, and columns, at most those of a chunk.
    pub k0: usize,
    pub cols: usize,
}

/// Activations as bf16 rows.
pub(super) trait Activations {
    /// Nothing yet.
    fn new() -> Self;

    /// Prepares a part. Beyond its tokens and columns there are zeros, up to whole tiles of 32 tokens.
    ///
    /// # Safety
    /// It is there; the CPU has the tier's features.
    unsafe fn prepare(&mut self, m: &Matmul, part: Part);

    /// The rows of 32 tokens from `t`, a multiple of 32 in `part`, which is prepared: the first, and bytes to the next.
    fn rows(&self, m: &Matmul, part: Part, t: usize) -> (*const u8, usize);
}

/// Bytes of a row of [`Stage`]: a chunk of K, and a cache line, so that rows do not share the sets of the L1 cache.
const STAGE_ROW: usize = 2 * COLS + 64;

/// Room for the chunk of K of 32 tokens.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Stage([MaybeUninit<[u8; STAGE_ROW]>; SIDE]);

impl Stage {
    pub(super) const NEW: Stage = Stage([MaybeUninit::uninit(); SIDE]);

    /// Row `t`.
    pub(super) fn row(&mut self, t: usize) -> *mut u8 {
        self.0[t].as_mut_ptr().cast()
    }

    /// As [`Activations::rows`].
    pub(super) fn rows(&self) -> (*const u8, usize) {
        (self.0.as_ptr().cast(), STAGE_ROW)
    }
}

/// See [`crate::isa::Isa::matmul`].
///
/// # Safety
/// As there, and the CPU has this tier's features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn matmul<U: Unit, W: Weights>(m: &Matmul) {
    debug_assert!(m.k.is_multiple_of(W::DTYPE.block_len()));
    let group_bytes = GROUP * W::DTYPE.row_bytes(m.k);
    let mut x = W::Activations::new();
    let mut rooms = [[MaybeUninit::uninit(); TILES]; 2];
    // SAFETY: rows, tokens and columns are inside `m`.
    unsafe {
        U::begin();
        for t0 in (0..m.tokens).step_by(TOKENS) {
            let tokens = TOKENS.min(m.tokens - t0);
            for r0 in (0..m.rows).step_by(OUTPUTS) {
                let end = m.rows.min(r0 + OUTPUTS);
                // Once at least, so that sums of nothing are zero.
                for k0 in (0..m.k.max(1)).step_by(COLS) {
                    let cols = COLS.min(m.k - k0);
                    let part = Part { t0, tokens, k0, cols };
                    x.prepare(m, part);
                    for r in (r0..end).step_by(SIDE) {
                        let group = |r: usize| m.w.add(r / GROUP * group_bytes);
                        let [room, other] = &mut rooms;
                        let first = W::tiles(group(r), k0, cols, room);
                        // A panel may lack its second group: it gets the first's weights, and no place in the output.
                        let second = if r + GROUP < end {
                            W::tiles(group(r + GROUP), k0, cols, other)
                        } else {
                            first
                        };
                        for t in (t0..t0 + tokens).step_by(SIDE) {
                            let (rows, x_stride) = x.rows(m, part, t);
                            let square = Square {
                                x: rows,
                                x_stride,
                                w: [first, second],
                                tiles: cols.div_ceil(TILE_COLS),
                                sums: m.out.add(t * m.out_stride + r),
                                sums_stride: m.out_stride * size_of::<f32>(),
                                first: k0 == 0,
                            };
                            if t + SIDE <= m.tokens && r + SIDE <= end {
                                U::multiply(&square);
                            } else {
                                ragged::<U>(square, m.tokens - t, end - r);
                            }
                        }
                    }
                }
            }
        }
        U::end();
    }
}

/// A square of which `tokens` and `rows` count, or fewer than 32: by way of a place where all have room.
///
/// # Safety
/// As [`Unit::multiply`], but the sums are only there as far as they count.
#[target_feature(enable = "avx512f")]
unsafe fn ragged<U: Unit>(square: Square, tokens: usize, rows: usize) {
    #[repr(C, align(64))]
    struct Sums([[f32; SIDE]; SIDE]);

    let mut sums = Sums([[0.0; SIDE]; SIDE]);
    let place = |t: usize, i: usize| {
        square
            .sums
            .wrapping_byte_add(t * square.sums_stride)
            .wrapping_add(i * GROUP)
    };
    let masks = [0, GROUP].map(|i| tail_mask(rows.saturating_sub(i)));
    for (t, row) in sums.0.iter_mut().enumerate().take(tokens) {
        for (i, mask) in masks.iter().enumerate().filter(|_| !square.first) {
            // SAFETY: the mask keeps to the sums that are there.
            unsafe { _mm512_store_ps(row[i * GROUP..].as_mut_ptr(), _mm512_maskz_loadu_ps(*mask, place(t, i))) };
        }
    }
    // SAFETY: passed on; all sums have room.
    unsafe {
        U::multiply(&Square {
            sums: sums.0.as_mut_ptr().cast(),
            sums_stride: size_of::<[f32; SIDE]>(),
            ..square
        });
    }
    for (t, row) in sums.0.iter().enumerate().take(tokens) {
        for (i, mask) in masks.iter().enumerate() {
            // SAFETY: as above.
            unsafe { _mm512_mask_storeu_ps(place(t, i), *mask, _mm512_load_ps(row[i * GROUP..].as_ptr())) };
        }
    }
}

const _: () = assert!(ROWS == GROUP && SIDE == 2 * ROWS, "a tile is a group of rows");
