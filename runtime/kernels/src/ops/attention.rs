//! Causal attention over the KV cache.

use core::ops::Range;

use super::rows::Rows;
use super::{Cache, Ctx, Kernel, Slot};
use crate::dtype::ActType;
use crate::isa::Attend;
use crate::partition::{Axis, split};

/// Tokens of one piece of work under [`Axis::Heads`].
const TILE: usize = 64;

/// Attention of this call's tokens, whose keys and values are in the cache already.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Queries: f32 rows of `heads * head_dim`.
    pub q: Slot,
    /// The layer's cache.
    pub cache: Cache,
    /// Query heads, a multiple of the cache's; head `h` reads kv head `h / (heads / kv_heads)`.
    pub heads: usize,
    /// f32 rows as `q`; may be the slot of `q`.
    pub out: Slot,
    /// Score = scale * dot(q, k).
    pub scale: f32,
    /// If positive: score = softcap * tanh(score / softcap).
    pub softcap: f32,
    /// Positions a query sees, itself included; `usize::MAX` for all.
    pub window: usize,
    /// `Heads` (by head and tile of tokens), `Tokens` or `Serial`.
    pub axis: Axis,
}

impl Attention {
    /// Attention of head `head` for `tokens`.
    ///
    /// # Safety
    /// As [`Kernel::run`]; the part belongs to this worker.
    pub(super) unsafe fn part(&self, ctx: &Ctx<'_>, head: usize, tokens: Range<usize>) {
        if tokens.is_empty() {
            return;
        }
        let cache = &self.cache;
        let n = cache.head_dim;
        assert!(
            self.heads > 0 && self.heads.is_multiple_of(cache.kv_heads),
            "heads are shared evenly"
        );
        assert!(ctx.pos + tokens.end <= cache.context, "position outside the cache");
        let kv_head = head / (self.heads / cache.kv_heads);
        let q = Rows::f32(ctx, &self.q, ctx.tokens);
        let out = Rows::f32(ctx, &self.out, ctx.tokens);
        let attend = Attend {
            q: q.at(tokens.start, head * n, n),
            q_stride: q.floats(),
            out: out.at(tokens.start, head * n, n),
            out_stride: out.floats(),
            k: cache.head(ctx, cache.k, kv_head),
            v: cache.head(ctx, cache.v, kv_head),
            half: cache.act == ActType::F16,
            head_dim: n,
            tokens: tokens.len(),
            pos: ctx.pos + tokens.start,
            scale: self.scale,
            softcap: self.softcap,
            window: self.window,
        };
        // SAFETY: rows and heads were checked to be in the arena; positions up to the last query's are in the cache.
        unsafe { (ctx.isa.attend)(&attend) };
    }
}

impl Kernel for Attention {
    fn axis(&self) -> Axis {
        self.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        if self.axis == Axis::Heads {
            let tiles = ctx.tokens.div_ceil(TILE);
            for item in split(self.heads * tiles, 1, ctx.ith, ctx.nth) {
                let first = item % tiles * TILE;
                // SAFETY: the caller's contract; items are disjoint.
                unsafe { self.part(ctx, item / tiles, first..(first + TILE).min(ctx.tokens)) };
            }
            return;
        }
        assert!(
            !matches!(self.axis, Axis::Columns { .. }),
            "attention is divided by heads or tokens"
        );
        let share = self.axis.share(ctx.tokens, 0, ctx.ith, ctx.nth);
        for head in 0..self.heads {
            // SAFETY: the caller's contract; tokens are disjoint.
            unsafe { self.part(ctx, head, share.tokens.clone()) };
        }
    }
}
