//! Causal attention over the KV cache.

use core::ops::Range;

use super::rows::Rows;
use super::{Cache, Ctx, Kernel, Slot};
use crate::dtype::ActType;
use crate::isa::Attend;
use crate::isa::chunks::Chunk;
use crate::partition::{Axis, balanced, split};

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
    /// `Heads` (of several tokens: see [`balanced`]), `Tokens` or `Serial`.
    pub axis: Axis,
}

impl Attention {
    /// Attention of `heads`, which share a key/value head, for `tokens`; if there is a chunk, what it gives of that.
    ///
    /// # Safety
    /// As [`Kernel::run`]; the part belongs to this worker. The chunk is as [`Attend`] wants it.
    pub(super) unsafe fn part(&self, ctx: &Ctx<'_>, heads: Range<usize>, tokens: Range<usize>, chunk: Option<Chunk>) {
        if tokens.is_empty() || heads.is_empty() {
            return;
        }
        let cache = &self.cache;
        let n = cache.head_dim;
        assert!(ctx.pos + tokens.end <= cache.context, "position outside the cache");
        let kv_head = heads.start / self.group();
        let q = Rows::f32(ctx, &self.q, ctx.tokens);
        let out = Rows::f32(ctx, &self.out, ctx.tokens);
        let attend = Attend {
            q: q.at(tokens.start, heads.start * n, heads.len() * n),
            q_stride: q.floats(),
            out: out.at(tokens.start, heads.start * n, heads.len() * n),
            out_stride: out.floats(),
            k: cache.head(ctx, cache.k, kv_head),
            v: cache.head(ctx, cache.v, kv_head),
            half: cache.act == ActType::F16,
            head_dim: n,
            heads: heads.len(),
            tokens: tokens.len(),
            pos: ctx.pos + tokens.start,
            scale: self.scale,
            softcap: self.softcap,
            window: self.window,
            chunk,
        };
        // SAFETY: rows and heads were checked to be in the arena; positions up to the last query's are in the cache.
        unsafe { (ctx.isa.attend)(&attend) };
    }

    /// Where the result of a head of the first token goes.
    pub(super) fn out_of(&self, ctx: &Ctx<'_>, head: usize) -> *mut f32 {
        let n = self.cache.head_dim;
        Rows::f32(ctx, &self.out, ctx.tokens).at(0, head * n, n)
    }

    /// Query heads that share a key/value head.
    pub(super) fn group(&self) -> usize {
        assert!(
            self.heads > 0 && self.heads.is_multiple_of(self.cache.kv_heads),
            "heads are shared evenly"
        );
        self.heads / self.cache.kv_heads
    }

    /// Attention of all heads for `tokens`.
    ///
    /// # Safety
    /// As [`Kernel::run`]; the tokens belong to this worker.
    pub(super) unsafe fn tokens(&self, ctx: &Ctx<'_>, tokens: Range<usize>) {
        let group = self.group();
        for head in (0..self.heads).step_by(group) {
            // SAFETY: the caller's contract.
            unsafe { self.part(ctx, head..head + group, tokens.clone(), None) };
        }
    }

    /// This worker's share of the heads of one token.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn heads(&self, ctx: &Ctx<'_>) {
        let group = self.group();
        let mut share = split(self.heads, 1, ctx.ith, ctx.nth);
        while !share.is_empty() {
            let next = share.end.min(share.start / group * group + group);
            // SAFETY: the caller's contract; the shares of the workers are disjoint.
            unsafe { self.part(ctx, share.start..next, 0..ctx.tokens, None) };
            share.start = next;
        }
    }

    /// This worker's share of several tokens.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    pub(super) unsafe fn balanced(&self, ctx: &Ctx<'_>) {
        let group = self.group();
        for (kv_head, tokens) in balanced(self.cache.kv_heads, ctx.tokens, ctx.ith, ctx.nth) {
            // SAFETY: the caller's contract; the shares of the workers are disjoint.
            unsafe { self.part(ctx, kv_head * group..(kv_head + 1) * group, tokens, None) };
        }
    }
}

impl Kernel for Attention {
    fn axis(&self) -> Axis {
        self.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        assert!(
            !matches!(self.axis, Axis::Columns { .. }),
            "attention is divided by heads or tokens"
        );
        // SAFETY: the caller's contract.
        unsafe {
            match self.axis {
                Axis::Heads if ctx.tokens == 1 => self.heads(ctx),
                Axis::Heads => self.balanced(ctx),
                axis => self.tokens(ctx, axis.share(ctx.tokens, 0, ctx.ith, ctx.nth).tokens),
            }
        }
    }
}
