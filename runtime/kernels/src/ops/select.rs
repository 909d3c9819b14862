//! The row whose logits are asked for.

use super::rows::Rows;
use super::{Ctx, Kernel, Slot};
use crate::partition::Axis;

/// Row `ctx.row` of `x` as the one row of `out`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SelectRow {
    /// f32 rows.
    pub x: Slot,
    /// One f32 row; not the slot of `x`.
    pub out: Slot,
    /// `Columns` or `Serial`.
    pub axis: Axis,
}

impl Kernel for SelectRow {
    fn axis(&self) -> Axis {
        self.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        // `ctx.tokens` is the one row that comes out, not the rows to choose from.
        let x = Rows::f32(ctx, &self.x, ctx.row + 1);
        let out = Rows::f32(ctx, &self.out, 1);
        let share = self.axis.share(1, out.cols(), ctx.ith, ctx.nth);
        let (col, n) = (share.cols.start, share.cols.len());
        for t in share.tokens {
            // SAFETY: both rows have these columns; they are different tensors.
            unsafe { x.at(ctx.row, col, n).copy_to_nonoverlapping(out.at(t, col, n), n) };
        }
    }
}
