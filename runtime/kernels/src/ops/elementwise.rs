//! Residual addition and the gated activation.

use super::rows::Rows;
use super::{Ctx, Gate, Kernel, Slot};
use crate::partition::Axis;

/// `out = a + b`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Add {
    /// f32 rows.
    pub a: Slot,
    /// f32 rows.
    pub b: Slot,
    /// f32 rows; may be the slot of `a` or `b`.
    pub out: Slot,
    /// `Tokens`, `Columns` or `Serial`.
    pub axis: Axis,
}

impl Kernel for Add {
    fn axis(&self) -> Axis {
        self.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        let [a, b, out] = [&self.a, &self.b, &self.out].map(|slot| Rows::f32(ctx, slot, ctx.tokens));
        let share = self.axis.share(ctx.tokens, out.cols(), ctx.ith, ctx.nth);
        let (col, n) = (share.cols.start, share.cols.len());
        for t in share.tokens {
            // SAFETY: all three rows have these columns, which belong to this worker.
            unsafe { (ctx.isa.add_row)(a.at(t, col, n), b.at(t, col, n), n, out.at(t, col, n)) };
        }
    }
}

/// `out = kind(gate) * up`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Glu {
    /// f32 rows.
    pub gate: Slot,
    /// f32 rows.
    pub up: Slot,
    /// The gate function.
    pub kind: Gate,
    /// f32 rows; may be the slot of `gate` or `up`.
    pub out: Slot,
    /// `Tokens`, `Columns` or `Serial`.
    pub axis: Axis,
}

impl Kernel for Glu {
    fn axis(&self) -> Axis {
        self.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        let [gate, up, out] = [&self.gate, &self.up, &self.out].map(|slot| Rows::f32(ctx, slot, ctx.tokens));
        let share = self.axis.share(ctx.tokens, out.cols(), ctx.ith, ctx.nth);
        let (col, n) = (share.cols.start, share.cols.len());
        for t in share.tokens {
            let (gate, up) = (gate.at(t, col, n), up.at(t, col, n));
            // SAFETY: all three rows have these columns, which belong to this worker.
            unsafe { (ctx.isa.glu_row)(self.kind, gate, up, n, out.at(t, col, n)) };
        }
    }
}
