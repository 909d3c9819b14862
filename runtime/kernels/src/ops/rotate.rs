//! Rotary position embedding (Su et al., RoFormer), by table.

use core::ops::Range;

use super::rows::Rows;
use super::{Ctx, Kernel, Pairing, Rope, Slot};
use crate::partition::Axis;

impl Rope {
    /// Rotates one head at `head` as position `position`.
    ///
    /// # Panics
    /// If the table has no such position.
    ///
    /// # Safety
    /// `head` is valid for reads and writes of `head_dim` floats.
    pub(super) unsafe fn rotate_head(&self, ctx: &Ctx<'_>, position: usize, head: *mut f32) {
        assert!(position < self.positions, "position outside the rotary table");
        assert!(self.dims <= self.head_dim && self.dims.is_multiple_of(2), "rotary dims");
        let row = self.dims * size_of::<f32>();
        let cos = ctx.at(self.table + position * row, row).cast::<f32>().cast_const();
        let half = self.dims / 2;
        let (stride, partner) = match self.pairing {
            Pairing::Halves => (1, half),
            Pairing::Interleaved => (2, 1),
        };
        for i in 0..half {
            // SAFETY: `i < half`: the table's row has `half` cosines, then as many sines; both elements of the pair are
            // among the first `dims` of the head.
            unsafe {
                let (c, s) = (*cos.add(i), *cos.add(half + i));
                let (a, b) = (head.add(i * stride), head.add(i * stride + partner));
                let (x, y) = (*a, *b);
                *a = x * c - y * s;
                *b = x * s + y * c;
            }
        }
    }

    /// Rotates the heads in columns `cols` (whole heads) of row `t`.
    ///
    /// # Safety
    /// This worker owns those columns.
    pub(super) unsafe fn rotate_row(&self, ctx: &Ctx<'_>, rows: &Rows, t: usize, cols: Range<usize>) {
        assert!(
            cols.start.is_multiple_of(self.head_dim) && cols.len().is_multiple_of(self.head_dim),
            "a head is rotated whole"
        );
        for col in cols.step_by(self.head_dim) {
            // SAFETY: the row has a whole head at `col`.
            unsafe { self.rotate_head(ctx, ctx.pos + t, rows.at(t, col, self.head_dim)) };
        }
    }
}

/// `out = rope(x)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rotate {
    /// f32 rows of whole heads.
    pub x: Slot,
    /// The rotation.
    pub rope: Rope,
    /// f32 rows; may be the slot of `x`.
    pub out: Slot,
    /// `Tokens`, `Columns` (cut at whole heads) or `Serial`.
    pub axis: Axis,
}

impl Kernel for Rotate {
    fn axis(&self) -> Axis {
        self.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        let x = Rows::f32(ctx, &self.x, ctx.tokens);
        let out = Rows::f32(ctx, &self.out, ctx.tokens);
        let share = self
            .axis
            .share_in(self.rope.head_dim, ctx.tokens, out.cols(), ctx.ith, ctx.nth);
        let (col, n) = (share.cols.start, share.cols.len());
        for t in share.tokens {
            // SAFETY: both rows have these columns, which belong to this worker; they may be the same memory.
            unsafe {
                x.at(t, col, n).copy_to(out.at(t, col, n), n);
                self.rope.rotate_row(ctx, &out, t, share.cols.clone());
            }
        }
    }
}
