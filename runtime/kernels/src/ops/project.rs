//! Projections: matmuls with what fusion puts in front of them and behind them.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::attention::Attention;
use super::cache::MAX_HEAD;
use super::rows::Rows;
use super::source::{self, Outputs};
use super::{Ctx, Kernel, MAX_WORKERS, Part, Sink, Source, Weight};
use crate::dtype::{ActType, DType, GROUP, Q8};
use crate::isa::{Matmul, Rounded};
use crate::partition::{Axis, Share, common_multiple};

/// A kernel's private bytes in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// Byte offset in the arena.
    pub offset: usize,
    /// Bytes.
    pub bytes: usize,
}

/// Bytes of workspace for input rows of `k` elements, `tokens` of them at most, prepared as `float` rows, as `quantised`
/// rows or as both.
///
/// By tokens, each worker prepares its own rows and there is one of each; by columns, every worker needs every row and
/// prepares them for itself.
///
/// Only what is prepared counts: a [`Source::Rows`] in the form that the weights read takes nothing.
pub const fn project_workspace(k: usize, float: bool, quantised: bool, tokens: usize, axis: Axis) -> usize {
    let workers = match axis {
        Axis::Columns { .. } => MAX_WORKERS,
        Axis::Tokens { .. } | Axis::Heads | Axis::Serial => 1,
    };
    let mut row = 0;
    if float {
        row += ActType::F32.row_bytes(k);
    }
    if quantised {
        row += ActType::Q8.row_bytes(k);
    }
    workers * tokens * row
}

/// The input rows, in the forms that the weights read.
pub(super) struct Inputs {
    float: Option<Rows>,
    quantised: Option<Rows>,
    /// In place of rows made here, where all that reads them multiplies bf16: where the first is, and which one that is.
    bf16: Option<(Rounded, *mut u8, usize)>,
}

impl Inputs {
    /// Prepares rows `tokens` of `source`, for this worker, for `weights`.
    ///
    /// # Safety
    /// As [`Kernel::run`]; the workspace is [`project_workspace`] bytes or more.
    pub(super) unsafe fn prepare(
        ctx: &Ctx<'_>,
        source: &Source,
        weights: impl Iterator<Item = Weight>,
        workspace: &Workspace,
        axis: Axis,
        tokens: Range<usize>,
    ) -> Inputs {
        let (mut float, mut quantised) = (false, false);
        let mut rounded = ctx.isa.rounded.filter(|_| source.cols().is_multiple_of(Q8::BLOCK));
        for weight in weights {
            assert!(weight.cols == source.cols(), "weights and input rows differ in length");
            quantised |= weight.dtype.quantised();
            float |= !weight.dtype.quantised();
            if !weight.dtype.quantised() && weight.dtype != DType::BF16 {
                rounded = None;
            }
        }
        let mut inputs = Inputs {
            float: None,
            quantised: None,
            bf16: None,
        };
        let mut outputs = [
            (ActType::F32, float, &mut inputs.float),
            (ActType::Q8, quantised, &mut inputs.quantised),
        ];
        // Rows that are there already.
        if let Source::Rows(slot) = source {
            for (act, wanted, rows) in &mut outputs {
                if *wanted && slot.act == *act {
                    **rows = Some(Rows::of(ctx, slot, ctx.tokens, *act));
                    *wanted = false;
                }
            }
        }
        // By columns, worker by worker; else one place for all.
        let (places, place) = match axis {
            Axis::Columns { .. } => (ctx.nth, ctx.ith),
            Axis::Tokens { .. } | Axis::Heads | Axis::Serial => (1, 0),
        };
        let mut used = 0;
        let mut made = [None; 2];
        for (i, (act, wanted, rows)) in outputs.into_iter().enumerate() {
            if wanted {
                let one = ctx.tokens * act.row_bytes(source.cols());
                assert!(used + places * one <= workspace.bytes, "workspace too small");
                let at = workspace.offset + used + place * one;
                made[i] = Some(Rows::at_offset(ctx, at, ctx.tokens, source.cols(), act));
                *rows = made[i];
                used += places * one;
            }
        }
        if made.iter().any(Option::is_some) {
            let k = source.cols();
            let own = match axis {
                Axis::Columns { .. } => Axis::Columns { granule: GROUP }.share(0, k, ctx.ith, ctx.nth).cols,
                Axis::Tokens { .. } | Axis::Heads | Axis::Serial => 0..k,
            };
            let stride = Rounded::stride(k);
            if let Some(rounded) = rounded.filter(|_| !tokens.is_empty()) {
                // Either form's place has room for rows of bf16, dense from this worker's first row on.
                let [floats, quants] = [made[0].take(), made[1].take()];
                let place = floats.or(quants).expect("rows are made");
                assert!(stride <= place.stride(), "a row of bf16 takes the place of another");
                inputs.bf16 = Some((rounded, place.row(tokens.start), tokens.start));
                inputs.float = inputs.float.filter(|_| floats.is_none());
                inputs.quantised = inputs.quantised.filter(|_| quants.is_none());
            }
            for t in tokens {
                let out = Outputs {
                    f32: made[0].map(|rows| rows.at(t, 0, k)),
                    q8: made[1].map(|rows| rows.q8(t)),
                    // SAFETY: as many rows of f32 have room here.
                    bf16: inputs
                        .bf16
                        .map(|(rounded, base, first)| (rounded, unsafe { base.add((t - first) * stride) })),
                };
                // SAFETY: the rows are this worker's, in the workspace, and have `k` elements.
                unsafe { source::write_row(ctx, source, t, own.clone(), 0..k, out) };
            }
        }
        inputs
    }

    /// `out[t][r] = dot(x[t], w[r])` for `tokens` and rows `rows` of `weight`; `rows` starts at a whole group.
    ///
    /// # Safety
    /// The rows `tokens` have been prepared; `out` is valid for `tokens.len()` rows of `rows.len()` floats at
    /// `out_stride`.
    pub(super) unsafe fn matmul(
        &self,
        ctx: &Ctx<'_>,
        weight: &Weight,
        tokens: Range<usize>,
        rows: Range<usize>,
        out: *mut f32,
        out_stride: usize,
    ) {
        let mut way = ctx.isa.matmul_of(weight.dtype, tokens.len(), ctx.choices);
        let ready = if weight.dtype.quantised() {
            &self.quantised
        } else {
            &self.float
        };
        let (x, x_stride) = match (ready, &self.bf16) {
            (Some(rows), _) => (rows.row(tokens.start).cast_const(), rows.stride()),
            (None, Some((rounded, base, first))) => {
                if weight.dtype == DType::BF16 {
                    way = rounded.matmul;
                }
                let stride = Rounded::stride(weight.cols);
                // SAFETY: these rows have been prepared.
                (
                    unsafe { base.add((tokens.start - first) * stride) }.cast_const(),
                    stride,
                )
            }
            (None, None) => panic!("inputs were prepared for these weights"),
        };
        let matmul = Matmul {
            w: weight.rows_at(ctx, rows.start, rows.len()),
            k: weight.cols,
            rows: rows.len(),
            x,
            x_stride,
            tokens: tokens.len(),
            out,
            out_stride,
        };
        // SAFETY: weights and inputs were checked to be in the arena; the caller vouches for `out`.
        unsafe { way(&matmul) };
    }
}

/// Products on their way to somewhere else, on the stack: `TOKENS` rows of `COLS` floats.
#[repr(align(64))]
pub(super) struct Tile<const TOKENS: usize, const COLS: usize>([[MaybeUninit<f32>; COLS]; TOKENS]);

impl<const TOKENS: usize, const COLS: usize> Tile<TOKENS, COLS> {
    /// Nothing yet.
    pub(super) const fn new() -> Self {
        Self([[MaybeUninit::uninit(); COLS]; TOKENS])
    }

    /// Column `col` of row `t`; at least `n` columns follow, then the other rows.
    pub(super) fn at(&mut self, t: usize, col: usize, n: usize) -> *mut f32 {
        assert!(t < TOKENS && col + n <= COLS, "outside the tile");
        self.0.as_mut_ptr().cast::<f32>().wrapping_add(t * COLS + col)
    }
}

/// Tokens of a tile on its way into the cache.
const TILE_TOKENS: usize = 256;
/// Its columns: a head, which may start in the middle of a group of rows.
const TILE_COLS: usize = MAX_HEAD + GROUP;

impl Part {
    /// What worker `ith` of `nth` computes of this part's outputs: columns are cut at whole groups of rows, and at
    /// whole heads where heads are rotated.
    pub const fn share(&self, axis: Axis, tokens: usize, ith: usize, nth: usize) -> Share {
        let unit = match self.sink {
            Sink::Store(_) | Sink::Values { .. } => GROUP,
            Sink::Rope { rope, .. } | Sink::RopeKeys { rope, .. } => common_multiple(GROUP, rope.head_dim),
        };
        axis.share_in(unit, tokens, self.weight.rows, ith, nth)
    }

    /// Computes this worker's share.
    ///
    /// # Safety
    /// As [`Kernel::run`]; `inputs` were prepared for the same axis.
    unsafe fn run(&self, ctx: &Ctx<'_>, inputs: &Inputs, axis: Axis) {
        let Share { tokens, cols } = self.share(axis, ctx.tokens, ctx.ith, ctx.nth);
        if tokens.is_empty() || cols.is_empty() {
            return;
        }
        match &self.sink {
            Sink::Store(out) | Sink::Rope { out, .. } => {
                let out = Rows::f32(ctx, out, ctx.tokens);
                let (first, n) = (cols.start, cols.len());
                let to = out.at(tokens.start, first, n);
                // SAFETY: these rows and columns of `out` belong to this worker.
                unsafe { inputs.matmul(ctx, &self.weight, tokens.clone(), cols.clone(), to, out.floats()) };
                for t in tokens {
                    // SAFETY: as above.
                    unsafe {
                        self.add_bias(ctx, first, n, out.at(t, first, n));
                        if let Sink::Rope { rope, .. } = &self.sink {
                            rope.rotate_row(ctx, &out, t, cols.clone());
                        }
                    }
                }
            }
            // SAFETY: the caller's contract.
            Sink::RopeKeys { cache, .. } => unsafe { self.cache_tiles(ctx, inputs, tokens, cols, cache.head_dim) },
            // SAFETY: the caller's contract.
            Sink::Values { .. } => unsafe { self.cache_tiles(ctx, inputs, tokens, cols, MAX_HEAD) },
        }
    }

    /// Adds the bias of columns `first..first + n` to the row at `out`.
    ///
    /// # Safety
    /// `out` is valid for `n` reads and writes.
    unsafe fn add_bias(&self, ctx: &Ctx<'_>, first: usize, n: usize, out: *mut f32) {
        if let Some(bias) = &self.bias {
            // SAFETY: the bias has these elements, and so has the row.
            unsafe { (ctx.isa.add_row)(out, bias.at(ctx, first, n), n, out) };
        }
    }

    /// Computes `step` columns of a few tokens at a time on the stack, and stores them in the cache.
    ///
    /// # Safety
    /// As [`Kernel::run`]; the outputs `cols` of `tokens` belong to this worker.
    unsafe fn cache_tiles(
        &self,
        ctx: &Ctx<'_>,
        inputs: &Inputs,
        tokens: Range<usize>,
        cols: Range<usize>,
        step: usize,
    ) {
        assert!(step <= MAX_HEAD, "a head has at most 256 elements");
        let mut tile = Tile::<TILE_TOKENS, TILE_COLS>::new();
        for lo in cols.clone().step_by(step) {
            let hi = (lo + step).min(cols.end);
            let group = lo / GROUP * GROUP;
            for t0 in tokens.clone().step_by(TILE_TOKENS) {
                let t1 = (t0 + TILE_TOKENS).min(tokens.end);
                let out = tile.at(0, 0, hi - group);
                // SAFETY: the tile has room for these tokens, and for a step that starts inside a group.
                unsafe { inputs.matmul(ctx, &self.weight, t0..t1, group..hi, out, TILE_COLS) };
                for t in t0..t1 {
                    let row = tile.at(t - t0, lo - group, hi - lo);
                    // SAFETY: the row has `hi - lo` elements, which have been computed; their place in the cache belongs
                    // to this worker.
                    unsafe {
                        self.add_bias(ctx, lo, hi - lo, row);
                        self.put(ctx, t, lo, core::slice::from_raw_parts_mut(row, hi - lo));
                    }
                }
            }
        }
    }

    /// Stores columns `lo..` of token `t` in the cache.
    ///
    /// # Safety
    /// Their place in the cache belongs to this worker.
    unsafe fn put(&self, ctx: &Ctx<'_>, t: usize, lo: usize, row: &mut [f32]) {
        let position = ctx.pos + t;
        match &self.sink {
            Sink::RopeKeys { rope, cache } => {
                assert!(
                    rope.head_dim == cache.head_dim && row.len() == cache.head_dim,
                    "a head is rotated whole"
                );
                // SAFETY: the row is one head.
                unsafe {
                    rope.rotate_head(ctx, position, row.as_mut_ptr());
                    cache.put_key(ctx, lo / cache.head_dim, position, 0, row.len(), row.as_ptr());
                }
            }
            Sink::Values { cache } => cache.heads_of(lo..lo + row.len(), |head, first, n, col| {
                let x = row[col - lo..][..n].as_ptr();
                // SAFETY: `x` has `n` elements.
                unsafe { cache.put_value(ctx, head, position, first, n, x) };
            }),
            Sink::Store(_) | Sink::Rope { .. } => unreachable!("not a sink in the cache"),
        }
    }
}

/// Some projections of the same input rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Project<'a> {
    /// Where the input rows come from.
    pub source: Source,
    /// The matrices.
    pub parts: &'a [Part],
    /// [`project_workspace`] bytes.
    pub workspace: Workspace,
    /// `Tokens`, `Columns` or `Serial`; columns are cut as [`Part::share`] says.
    pub axis: Axis,
}

impl Kernel for Project<'_> {
    fn axis(&self) -> Axis {
        self.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        let tokens = self.axis.share(ctx.tokens, 0, ctx.ith, ctx.nth).tokens;
        let weights = self.parts.iter().map(|part| part.weight);
        // SAFETY: the caller's contract.
        unsafe {
            let inputs = Inputs::prepare(ctx, &self.source, weights, &self.workspace, self.axis, tokens);
            for part in self.parts {
                part.run(ctx, &inputs, self.axis);
            }
        }
    }
}

/// Attention and the projection behind it. Attention is divided so that each worker has as much to do as any other, by
/// heads and tokens; the projection, a second half, by tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionProject {
    /// The attention. Its output is intermediate: give it the slot of `q`, which is overwritten. Its axis is `Heads`.
    pub attention: Attention,
    /// The projection of the attention's output.
    pub part: Part,
    /// [`project_workspace`] bytes for rows of `heads * head_dim`: nothing for float weights.
    pub workspace: Workspace,
    /// `Tokens` or `Serial`.
    pub axis: Axis,
}

impl AttentionProject {
    /// The projection of this worker's tokens.
    ///
    /// # Safety
    /// As [`Kernel::run`]; the attention of these tokens is done.
    unsafe fn project(&self, ctx: &Ctx<'_>) {
        let tokens = self.axis.share(ctx.tokens, 0, ctx.ith, ctx.nth).tokens;
        let source = Source::Rows(self.attention.out);
        let weights = core::iter::once(self.part.weight);
        // SAFETY: the caller's contract; this worker owns whole tokens.
        unsafe {
            let inputs = Inputs::prepare(ctx, &source, weights, &self.workspace, self.axis, tokens);
            self.part.run(ctx, &inputs, self.axis);
        }
    }
}

impl Kernel for AttentionProject {
    fn axis(&self) -> Axis {
        self.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        assert!(
            matches!(self.axis, Axis::Tokens { .. } | Axis::Serial),
            "attention is projected token by token"
        );
        // SAFETY: the caller's contract.
        unsafe {
            if self.halves(ctx) {
                self.attention.balanced(ctx);
            } else {
                let tokens = self.axis.share(ctx.tokens, 0, ctx.ith, ctx.nth).tokens;
                self.attention.tokens(ctx, tokens);
                self.project(ctx);
            }
        }
    }

    fn halves(&self, ctx: &Ctx<'_>) -> bool {
        ctx.nth > 1 && self.axis != Axis::Serial
    }

    unsafe fn run_second(&self, ctx: &Ctx<'_>) {
        // SAFETY: every worker is through the first half, which is the attention of all tokens.
        unsafe { self.project(ctx) };
    }
}
