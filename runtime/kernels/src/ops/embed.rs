//! Embedding rows.

use core::ops::Range;

use super::rows::Rows;
use super::source::{PIECE, Piece, pieces};
use super::{Ctx, Kernel, Slot, Weight};
use crate::dtype::{ActType, GROUP};
use crate::partition::Axis;
use crate::quant;

/// Columns at which a row of any format can be cut: a multiple of every block length.
const CUT: usize = 256;

/// Decodes columns `cols` (inside one [`PIECE`]) of the embedding of token `t` into `piece`; returns where they are.
///
/// # Panics
/// If the token's id is not a row of the table.
///
/// # Safety
/// As [`Kernel::run`].
pub(super) unsafe fn unpack(
    ctx: &Ctx<'_>,
    ids: &Slot,
    table: &Weight,
    t: usize,
    cols: &Range<usize>,
    piece: &mut Piece,
) -> *const f32 {
    let ids = Rows::of(ctx, ids, ctx.tokens, ActType::U32);
    // SAFETY: the row holds one id.
    let id = unsafe { *ids.row(t).cast::<u32>() } as usize;
    assert!(id < table.rows, "token id outside the vocabulary");
    let from = cols.start / CUT * CUT;
    let to = cols.end.next_multiple_of(CUT).min(table.cols);
    assert!(cols.end <= to && to - from <= PIECE, "columns of one piece");
    let row = id % GROUP;
    let group = table.offset + table.dtype.packed_bytes(id - row, table.cols);
    let bytes = table.dtype.packed_bytes(GROUP, to - from);
    let packed = ctx.at(group + table.dtype.packed_bytes(GROUP, from), bytes);
    // SAFETY: inside the arena; weights are not written while a program runs.
    let packed = unsafe { core::slice::from_raw_parts(packed, bytes) };
    let out = &mut piece.0[..to - from];
    quant::format(table.dtype).unpack_row(packed, row, out);
    out[cols.start - from..].as_ptr()
}

/// Rows of the embedding matrix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Embed {
    /// Token ids.
    pub ids: Slot,
    /// The matrix, one row per id.
    pub table: Weight,
    /// f32 rows.
    pub out: Slot,
    /// `Tokens`, `Columns` or `Serial`.
    pub axis: Axis,
}

impl Kernel for Embed {
    fn axis(&self) -> Axis {
        self.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        let out = Rows::f32(ctx, &self.out, ctx.tokens);
        let share = self.axis.share(ctx.tokens, self.table.cols, ctx.ith, ctx.nth);
        let mut piece = Piece::ZERO;
        for t in share.tokens {
            for cols in pieces(share.cols.clone()) {
                let n = cols.len();
                // SAFETY: the caller's contract; the row has these columns, which belong to this worker.
                unsafe {
                    let x = unpack(ctx, &self.ids, &self.table, t, &cols, &mut piece);
                    x.copy_to_nonoverlapping(out.at(t, cols.start, n), n);
                }
            }
        }
    }
}
