//! Input rows, computed piece by piece: what a prologue does, and what the unfused kernels of the same names do.
//!
//! A row is never needed as a whole: the statistic of a norm is a sum over pieces, and everything else is elementwise
//! or by blocks of 32. So the only memory here is one piece on the stack.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::rows::{Q8Row, Rows};
use super::{Ctx, Norm, Source, embed};
use crate::dtype::{ActType, Q8};
use crate::isa::Rounded;
use crate::math;

/// Columns of a piece. A multiple of every block length, so that pieces are whole blocks; sums run over the same
/// pieces whoever computes them.
pub(super) const PIECE: usize = 1024;

/// One piece of f32.
#[repr(align(64))]
pub(super) struct Piece(pub(super) [f32; PIECE]);

impl Piece {
    pub(super) const ZERO: Piece = Piece([0.0; PIECE]);
}

/// One piece as a Q8 row.
#[repr(align(64))]
struct Q8Piece([MaybeUninit<u8>; ActType::Q8.row_bytes(PIECE)]);

impl Source {
    /// Elements of a row.
    pub const fn cols(&self) -> usize {
        match self {
            Source::Rows(x) | Source::Norm { x, .. } | Source::AddNorm { x, .. } => x.cols,
            Source::EmbedNorm { table, .. } => table.cols,
            Source::Glu { gate, .. } => gate.cols,
        }
    }

    fn norm(&self) -> Option<&Norm> {
        match self {
            Source::Norm { norm, .. } | Source::AddNorm { norm, .. } | Source::EmbedNorm { norm, .. } => Some(norm),
            Source::Rows(_) | Source::Glu { .. } => None,
        }
    }

    /// The rows before the norm, where they are a tensor of their own.
    fn residual(&self, ctx: &Ctx<'_>) -> Option<Rows> {
        match self {
            Source::AddNorm { sum: slot, .. } | Source::EmbedNorm { out: slot, .. } => {
                Some(Rows::f32(ctx, slot, ctx.tokens))
            }
            Source::Rows(_) | Source::Norm { .. } | Source::Glu { .. } => None,
        }
    }

    /// The columns `cols` of row `t` before the norm: where they are, or computed into `piece`.
    ///
    /// # Safety
    /// As [`super::Kernel::run`]; `cols` is at most [`PIECE`] long.
    unsafe fn raw(&self, ctx: &Ctx<'_>, t: usize, cols: &Range<usize>, piece: &mut Piece) -> *const f32 {
        let n = cols.len();
        assert!(n <= PIECE, "a piece at a time");
        let view = |slot| Rows::f32(ctx, slot, ctx.tokens).at(t, cols.start, n);
        let out = piece.0.as_mut_ptr();
        match self {
            Source::Rows(x) | Source::Norm { x, .. } => return view(x),
            // SAFETY: the caller's contract.
            Source::EmbedNorm { ids, table, .. } => return unsafe { embed::unpack(ctx, ids, table, t, cols, piece) },
            // SAFETY: both rows have these columns, and the piece has room for them.
            Source::AddNorm { x, delta, .. } => unsafe { (ctx.isa.add_row)(view(x), view(delta), n, out) },
            // SAFETY: as for the sum.
            Source::Glu { gate, up, kind } => unsafe { (ctx.isa.glu_row)(*kind, view(gate), view(up), n, out) },
        }
        out
    }
}

/// The pieces of `cols`: cut at multiples of [`PIECE`] from column 0, whatever `cols` starts at.
pub(super) fn pieces(cols: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    (cols.start / PIECE..cols.end.div_ceil(PIECE))
        .map(move |i| cols.start.max(i * PIECE)..cols.end.min((i + 1) * PIECE))
        .filter(|piece| !piece.is_empty())
}

/// Where a source row is written.
#[derive(Clone, Copy, Default)]
pub(super) struct Outputs {
    /// As f32: start of the row.
    pub(super) f32: Option<*mut f32>,
    /// As Q8.
    pub(super) q8: Option<Q8Row>,
    /// As bf16: start of the row.
    pub(super) bf16: Option<(Rounded, *mut u8)>,
}

/// Computes row `t` of `source`: the columns `cols` of it into `out`, and the columns `own` of the residual stream
/// (if the source has one) into its slot.
///
/// # Safety
/// - As [`super::Kernel::run`].
/// - The rows of `out` are valid for `source.cols()` elements, and overlap no input but for an f32 row that is an input
///   row itself.
pub(super) unsafe fn write_row(
    ctx: &Ctx<'_>,
    source: &Source,
    t: usize,
    own: Range<usize>,
    cols: Range<usize>,
    out: Outputs,
) {
    let k = source.cols();
    let residual = source.residual(ctx);
    let mut piece = Piece::ZERO;
    let mut factor = 1.0;
    if let Some(norm) = source.norm() {
        let mut squares = 0.0;
        for part in pieces(0..k) {
            // SAFETY: the caller's contract.
            let raw = unsafe { source.raw(ctx, t, &part, &mut piece) };
            // SAFETY: `raw` has the part's columns.
            squares += unsafe { (ctx.isa.sum_squares)(raw, part.len()) };
            let (lo, hi) = (part.start.max(own.start), part.end.min(own.end));
            if let Some(rows) = residual
                && lo < hi
            {
                let to = rows.at(t, lo, hi - lo);
                // SAFETY: `lo..hi` is inside the part, and inside the row of the residual; the raw columns of a source
                // with a residual are in the piece, not in the arena.
                unsafe { raw.add(lo - part.start).copy_to_nonoverlapping(to, hi - lo) };
            }
        }
        factor = 1.0 / math::sqrt(squares / k as f32 + norm.eps);
    }
    // A residual that is complete is read back: its inputs may be the same memory.
    let complete = residual.filter(|_| own == (0..k));
    for part in pieces(cols) {
        let n = part.len();
        let mut x = match complete {
            Some(rows) => rows.at(t, part.start, n).cast_const(),
            // SAFETY: the caller's contract.
            None => unsafe { source.raw(ctx, t, &part, &mut piece) },
        };
        let scratch = piece.0.as_mut_ptr();
        // SAFETY: the row has `k` columns.
        let to = out.f32.map(|row| unsafe { row.add(part.start) });
        if let Some(norm) = source.norm() {
            let weight = norm.weight.at(ctx, part.start, n);
            let normed = to.unwrap_or(scratch);
            // SAFETY: all have `n` elements here; `normed` may be `x`.
            unsafe { (ctx.isa.scale_row)(x, factor, weight, n, normed) };
            x = normed;
        } else if let Some(to) = to {
            // SAFETY: both have `n` elements here; they may be the same.
            unsafe { x.copy_to(to, n) };
        }
        if let Some((rounded, row)) = out.bf16 {
            // SAFETY: `x` has the part's columns, and the row has room for them.
            unsafe { (rounded.row)(x, n, row.add(2 * part.start)) };
        }
        if let Some(row) = &out.q8 {
            // SAFETY: `x` has the part's columns, and the row has room for them.
            unsafe { quantize(ctx, x, part, row) };
        }
    }
}

/// Quantises `x`, the columns `cols` of a row, into the Q8 row `out`. Columns are cut at blocks, at most a piece.
///
/// # Safety
/// `x` is valid for `cols.len()` reads, `out` for its row.
pub(super) unsafe fn quantize(ctx: &Ctx<'_>, x: *const f32, cols: Range<usize>, out: &Q8Row) {
    assert!(
        cols.len() <= PIECE && cols.len().is_multiple_of(Q8::BLOCK),
        "whole blocks, a piece at a time"
    );
    let mut piece = Q8Piece([MaybeUninit::uninit(); _]);
    let start = piece.0.as_mut_ptr().cast::<u8>();
    // SAFETY: the piece has room for a row of `PIECE` elements, and is no part of the arena.
    unsafe {
        (ctx.isa.quantize_row)(x, cols.len(), start);
        out.put(cols.start, &Q8Row::new(start, cols.len()));
    }
}
