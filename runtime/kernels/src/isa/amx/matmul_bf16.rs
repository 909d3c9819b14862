//! Matmuls with bf16 weights: packed as tiles already, times activations in two parts.

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::tiles::{ROWS, Square, Tile, Unit};
use crate::dtype::{DType, GROUP};
use crate::isa::Matmul;
use crate::isa::avx512::tail_mask;

/// Tokens that are staged together: twice two tiles.
const TOKENS: usize = 4 * ROWS;
/// Columns of a tile.
const COLS: usize = 32;
/// Tiles of a chunk of K.
const TILES: usize = 8;
/// Bytes of weights that stay in the L2 cache while all tokens pass.
const PANEL: usize = 1 << 20;

/// Activations of a chunk of K: by 16 tokens, tile after tile, each in two parts.
struct Stage([[MaybeUninit<[Tile; 2]>; TILES]; TOKENS / ROWS]);

/// The last columns of two groups, filled up to a tile with zeros.
struct Tail([Tile; 2]);

/// `bf16` weights.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`]; the CPU has this tier's features.
pub unsafe fn matmul<U: Unit>(m: &Matmul) {
    // SAFETY: passed on.
    unsafe { run::<U>(m) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
unsafe fn run<U: Unit>(m: &Matmul) {
    let group_bytes = GROUP * DType::BF16.row_bytes(m.k);
    let panel = (PANEL / group_bytes.max(1)).max(2) / 2 * 2 * GROUP;
    let mut stage = Stage([[MaybeUninit::uninit(); _]; _]);
    // SAFETY: rows, tokens and columns are inside `m`.
    unsafe {
        U::begin();
        for row in (0..m.rows).step_by(panel) {
            let end = m.rows.min(row + panel);
            for t0 in (0..m.tokens).step_by(TOKENS) {
                let tokens = TOKENS.min(m.tokens - t0);
                // Once at least, so that sums of nothing are zero.
                for k0 in (0..m.k.max(1)).step_by(TILES * COLS) {
                    let cols = (TILES * COLS).min(m.k - k0);
                    stage.fill(m, t0, tokens, k0, cols);
                    for r in (row..end).step_by(2 * GROUP) {
                        let groups = [r, (r + GROUP).min((end - 1) / GROUP * GROUP)];
                        let w = groups.map(|r| m.w.add(r / GROUP * group_bytes + k0 * 2 * GROUP));
                        for tile in (0..tokens.div_ceil(ROWS)).step_by(2) {
                            let t = t0 + tile * ROWS;
                            let out = m.out.add(t * m.out_stride + r);
                            let shape = (m.tokens - t, end - r);
                            multiply::<U>(&stage, tile, w, cols, k0 == 0, out, m.out_stride, shape);
                        }
                    }
                }
            }
        }
        U::end();
    }
}

impl Stage {
    /// Splits columns `k0..k0 + cols` of `tokens` tokens from `t0`; up to two tiles of tokens and one of columns all else
    /// is zero.
    ///
    /// # Safety
    /// They are there.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    unsafe fn fill(&mut self, m: &Matmul, t0: usize, tokens: usize, k0: usize, cols: usize) {
        for t in 0..tokens.next_multiple_of(2 * ROWS) {
            let row = m.x.wrapping_add((t0 + t) * m.x_stride).cast::<f32>().wrapping_add(k0);
            for tile in 0..cols.div_ceil(COLS) {
                let left = if t < tokens { cols - tile * COLS } else { 0 };
                let to = self.0[t / ROWS][tile].as_mut_ptr().cast::<Tile>();
                for half in 0..2 {
                    let mask = tail_mask(left.saturating_sub(half * 16));
                    // SAFETY: the mask keeps to the row; half a row of a tile.
                    unsafe {
                        let x = _mm512_maskz_loadu_ps(mask, row.wrapping_add(tile * COLS + half * 16));
                        let high: __m256i = core::mem::transmute(_mm512_cvtneps_pbh(x));
                        let whole = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(high));
                        let rest = _mm512_sub_ps(x, _mm512_castsi512_ps(whole));
                        // What an infinity leaves is no number, and the sum is to stay infinite.
                        let finite = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(rest, rest);
                        let low: __m256i = core::mem::transmute(_mm512_cvtneps_pbh(_mm512_maskz_mov_ps(finite, rest)));
                        let at = |part: usize| to.add(part).cast::<__m256i>().add(2 * (t % ROWS) + half);
                        _mm256_store_si256(at(0), high);
                        _mm256_store_si256(at(1), low);
                    }
                }
            }
        }
    }
}

impl Tail {
    /// Columns `from..from + n` of both groups.
    ///
    /// # Safety
    /// They are there; `n < COLS`, `from` is even.
    unsafe fn new(w: [*const u8; 2], from: usize, n: usize) -> Tail {
        let mut tail = Tail([Tile::ZERO; 2]);
        for (w, tile) in w.into_iter().zip(&mut tail.0) {
            let to = (&raw mut *tile).cast::<u16>();
            // SAFETY: whole pairs are as in a tile; the last column alone is sixteen words, without partners.
            unsafe {
                let from = w.cast::<u16>().add(from * GROUP);
                from.copy_to_nonoverlapping(to, n / 2 * 2 * GROUP);
                if n % 2 == 1 {
                    for r in 0..GROUP {
                        *to.add((n - 1) * GROUP + 2 * r) = from.add((n - 1) * GROUP + r).read();
                    }
                }
            }
        }
        tail
    }
}

/// Sums of 32 tokens and two groups of rows, on top of those that `out` holds unless they are the first.
///
/// # Safety
/// The stage holds the `cols` columns at `w`; `out` is valid for `shape`, as far as it counts, `stride` apart.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[expect(
    clippy::too_many_arguments,
    reason = "a rectangle of the output, and what it is made of"
)]
unsafe fn multiply<U: Unit>(
    stage: &Stage,
    tile: usize,
    w: [*const u8; 2],
    cols: usize,
    first: bool,
    out: *mut f32,
    stride: usize,
    shape: (usize, usize),
) {
    let (tokens, masks) = (
        shape.0.min(2 * ROWS),
        [0, GROUP].map(|r| tail_mask(shape.1.saturating_sub(r))),
    );
    let mut sums = Square([[0.0; 2 * ROWS]; 2 * ROWS]);
    let place = |t: usize, i: usize| out.wrapping_add(t * stride + i * GROUP);
    if !first {
        for (t, row) in sums.0.iter_mut().enumerate().take(tokens) {
            for (i, mask) in masks.iter().enumerate() {
                // SAFETY: the mask keeps to the output's columns.
                unsafe {
                    let sum = _mm512_maskz_loadu_ps(*mask, place(t, i));
                    _mm512_store_ps(row[i * GROUP..].as_mut_ptr(), sum);
                }
            }
        }
    }
    let x = [0, 1].map(|i| stage.0[tile + i].as_ptr().cast::<[Tile; 2]>());
    let whole = cols / COLS;
    // SAFETY: whole tiles are in the groups as they are in memory; the stage has as many.
    unsafe {
        if whole > 0 {
            U::square(x, w.map(<*const u8>::cast::<Tile>), whole, &mut sums);
        }
        if cols > whole * COLS {
            let tail = Tail::new(w, whole * COLS, cols - whole * COLS);
            let tiles = [&raw const tail.0[0], &raw const tail.0[1]];
            U::square(x.map(|x| x.add(whole)), tiles, 1, &mut sums);
        }
    }
    for (t, row) in sums.0.iter().enumerate().take(tokens) {
        for (i, mask) in masks.iter().enumerate() {
            // SAFETY: the mask keeps to the output's columns.
            unsafe { _mm512_mask_storeu_ps(place(t, i), *mask, _mm512_load_ps(row[i * GROUP..].as_ptr())) };
        }
    }
}
