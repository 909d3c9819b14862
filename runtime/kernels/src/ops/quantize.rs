//! Activations to Q8.

use super::rows::Rows;
use super::source::{self, Outputs};
use super::{Ctx, Kernel, Slot, Source};
use crate::dtype::{ActType, Q8};
use crate::partition::Axis;

/// `out = q8(x)`: for projections that share an unfused input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantize {
    /// f32 rows, of whole blocks of 32.
    pub x: Slot,
    /// Q8 rows.
    pub out: Slot,
    /// `Tokens`, `Columns` (cut at whole blocks) or `Serial`.
    pub axis: Axis,
}

impl Kernel for Quantize {
    fn axis(&self) -> Axis {
        self.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        let rows = Rows::of(ctx, &self.out, ctx.tokens, ActType::Q8);
        assert!(self.x.cols == rows.cols(), "rows of different lengths");
        let share = self.axis.share_in(Q8::BLOCK, ctx.tokens, rows.cols(), ctx.ith, ctx.nth);
        for t in share.tokens {
            let outputs = Outputs {
                q8: Some(rows.q8(t)),
                ..Outputs::default()
            };
            // SAFETY: the row is inside `out`, and these columns of it belong to this worker.
            unsafe { source::write_row(ctx, &Source::Rows(self.x), t, 0..0, share.cols.clone(), outputs) };
        }
    }
}
