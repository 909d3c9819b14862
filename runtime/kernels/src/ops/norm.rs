//! RMS norms: alone, behind a residual addition, behind an embedding.

use super::rows::Rows;
use super::source::{self, Outputs};
use super::{Ctx, Kernel, Norm, Slot, Source, Weight};
use crate::partition::Axis;

/// This worker's share of `source`'s rows, into `out` and into the source's residual.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn run(ctx: &Ctx<'_>, source: &Source, out: &Slot, axis: Axis) {
    let rows = Rows::f32(ctx, out, ctx.tokens);
    let share = axis.share(ctx.tokens, source.cols(), ctx.ith, ctx.nth);
    for t in share.tokens {
        let outputs = Outputs {
            f32: Some(rows.at(t, 0, source.cols())),
            ..Outputs::default()
        };
        // SAFETY: the row is inside `out`; this worker owns these columns of it and of the residual.
        unsafe { source::write_row(ctx, source, t, share.cols.clone(), share.cols.clone(), outputs) };
    }
}

/// `out = norm(x)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsNorm {
    /// f32 rows.
    pub x: Slot,
    /// The norm.
    pub norm: Norm,
    /// f32 rows. The slot of `x` only if whole rows belong to a worker.
    pub out: Slot,
    /// `Tokens`, `Columns` (each worker computes the statistic for itself) or `Serial`.
    pub axis: Axis,
}

impl Kernel for RmsNorm {
    fn axis(&self) -> Axis {
        self.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        let source = Source::Norm {
            x: self.x,
            norm: self.norm,
        };
        // SAFETY: the caller's contract.
        unsafe { run(ctx, &source, &self.out, self.axis) };
    }
}

/// `sum = x + delta`; `out = norm(sum)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AddNorm {
    /// f32 rows.
    pub x: Slot,
    /// f32 rows.
    pub delta: Slot,
    /// f32 rows. The slot of `x` or `delta` only if whole rows belong to a worker.
    pub sum: Slot,
    /// The norm.
    pub norm: Norm,
    /// f32 rows. The slot of an input only if whole rows belong to a worker; never that of `sum`.
    pub out: Slot,
    /// `Tokens`, `Columns` (each worker computes the statistic for itself) or `Serial`.
    pub axis: Axis,
}

impl Kernel for AddNorm {
    fn axis(&self) -> Axis {
        self.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        let source = Source::AddNorm {
            x: self.x,
            delta: self.delta,
            sum: self.sum,
            norm: self.norm,
        };
        // SAFETY: the caller's contract.
        unsafe { run(ctx, &source, &self.out, self.axis) };
    }
}

/// `out = embedding rows of ids`; `normed = norm(out)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmbedNorm {
    /// Token ids.
    pub ids: Slot,
    /// The embedding matrix, one row per id.
    pub table: Weight,
    /// The embedded rows, f32.
    pub out: Slot,
    /// The norm.
    pub norm: Norm,
    /// The normed rows, f32.
    pub normed: Slot,
    /// `Tokens`, `Columns` (each worker computes the statistic for itself) or `Serial`.
    pub axis: Axis,
}

impl Kernel for EmbedNorm {
    fn axis(&self) -> Axis {
        self.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        let source = Source::EmbedNorm {
            ids: self.ids,
            table: self.table,
            out: self.out,
            norm: self.norm,
        };
        // SAFETY: the caller's contract.
        unsafe { run(ctx, &source, &self.normed, self.axis) };
    }
}
