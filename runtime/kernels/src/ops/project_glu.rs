//! The two projections of a gated MLP together with its activation.

use super::project::{Inputs, Tile, Workspace};
use super::rows::Rows;
use super::{Ctx, Gate, Kernel, Slot, Source, Vector, Weight, source};
use crate::dtype::{ActType, GROUP, Q8};
use crate::partition::{Axis, Share, common_multiple};

/// Tokens of a tile.
const TILE_TOKENS: usize = 256;
/// Columns of a tile.
const TILE_COLS: usize = 128;

/// `out = kind(gate x) * (up x)`, tile by tile: neither product exists as a tensor, and if the result is wanted
/// quantised, neither does the result as floats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProjectGlu {
    /// Where the input rows come from.
    pub source: Source,
    /// The gate's matrix.
    pub gate: Weight,
    /// Added to the gate's product.
    pub gate_bias: Option<Vector>,
    /// The other matrix, of the same shape.
    pub up: Weight,
    /// Added to the other product.
    pub up_bias: Option<Vector>,
    /// The gate function.
    pub kind: Gate,
    /// f32 or Q8 rows.
    pub out: Slot,
    /// [`super::project_workspace`] bytes.
    pub workspace: Workspace,
    /// `Tokens`, `Columns` or `Serial`; columns are cut as [`ProjectGlu::share`] says.
    pub axis: Axis,
}

impl ProjectGlu {
    /// What worker `ith` of `nth` computes of the output: columns are cut at whole groups of rows, and at whole blocks
    /// where they are quantised.
    pub const fn share(&self, tokens: usize, ith: usize, nth: usize) -> Share {
        let unit = match self.out.act {
            ActType::Q8 => common_multiple(GROUP, Q8::BLOCK),
            ActType::U32 | ActType::F32 | ActType::F16 => GROUP,
        };
        self.axis.share_in(unit, tokens, self.gate.rows, ith, nth)
    }
}

impl Kernel for ProjectGlu {
    fn axis(&self) -> Axis {
        self.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        assert!(self.gate.rows == self.up.rows, "gate and up differ in rows");
        let Share { tokens, cols } = self.share(ctx.tokens, ctx.ith, ctx.nth);
        let weights = [self.gate, self.up].into_iter();
        // SAFETY: the caller's contract.
        let inputs = unsafe { Inputs::prepare(ctx, &self.source, weights, &self.workspace, self.axis, tokens.clone()) };
        let quantised = self.out.act == ActType::Q8;
        let out = Rows::of(
            ctx,
            &self.out,
            ctx.tokens,
            if quantised { ActType::Q8 } else { ActType::F32 },
        );
        // Outputs of a projection that wait for the other.
        let [mut gates, mut ups] = [const { Tile::<TILE_TOKENS, TILE_COLS>::new() }; 2];
        for c0 in cols.clone().step_by(TILE_COLS) {
            let c1 = (c0 + TILE_COLS).min(cols.end);
            let n = c1 - c0;
            for t0 in tokens.clone().step_by(TILE_TOKENS) {
                let t1 = (t0 + TILE_TOKENS).min(tokens.end);
                // SAFETY: the tiles have room for as many rows and columns.
                unsafe {
                    inputs.matmul(ctx, &self.gate, t0..t1, c0..c1, gates.at(0, 0, n), TILE_COLS);
                    inputs.matmul(ctx, &self.up, t0..t1, c0..c1, ups.at(0, 0, n), TILE_COLS);
                }
                for t in t0..t1 {
                    let [gate, up] = [&mut gates, &mut ups].map(|tile| tile.at(t - t0, 0, n));
                    // SAFETY: both have `n` elements, and so have the biases; these columns of `out` belong to this
                    // worker.
                    unsafe {
                        for (bias, row) in [(&self.gate_bias, gate), (&self.up_bias, up)] {
                            if let Some(bias) = bias {
                                (ctx.isa.add_row)(row, bias.at(ctx, c0, n), n, row);
                            }
                        }
                        let to = if quantised { gate } else { out.at(t, c0, n) };
                        (ctx.isa.glu_row)(self.kind, gate, up, n, to);
                        if quantised {
                            source::quantize(ctx, gate, c0..c1, &out.q8(t));
                        }
                    }
                }
            }
        }
    }
}
