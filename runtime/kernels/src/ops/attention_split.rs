//! Attention of one token with its context divided as well as its heads.

use core::ops::Range;

use super::{Attention, Ctx, Kernel, Workspace};
use crate::isa::chunks::{CHUNK, Chunk, Merge, part_floats, visible, visible_chunks};
use crate::partition::{Axis, split};

/// Bytes of workspace of an [`AttentionSplit`]: a part a head and chunk that one token sees. Nothing if it sees one chunk
/// only: there is nothing to divide then.
pub const fn split_workspace(heads: usize, head_dim: usize, context: usize, window: usize) -> usize {
    let chunks = most_chunks(context, window);
    if chunks < 2 {
        return 0;
    }
    heads * chunks * part_floats(head_dim) * size_of::<f32>()
}

/// The most chunks that one token sees.
const fn most_chunks(context: usize, window: usize) -> usize {
    let (all, seen) = (context.div_ceil(CHUNK), window.saturating_add(CHUNK - 2) / CHUNK + 1);
    if all < seen { all } else { seen }
}

/// [`Attention`] whose calls of one token are divided by pieces, a head and a chunk of positions each, where the number
/// of workers does not divide that of key/value heads: else each has as much to do anyhow. What the pieces gave is put
/// together in a second half.
///
/// The arithmetic is that of [`Attention`]: the same bits, whoever computes what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionSplit {
    /// The attention; its axis is `Heads`. Its output and its queries lie apart.
    pub attention: Attention,
    /// [`split_workspace`] bytes.
    pub workspace: Workspace,
}

impl AttentionSplit {
    /// The chunks that the call's token sees, if they are divided.
    fn chunks(&self, ctx: &Ctx<'_>) -> Option<Range<usize>> {
        let a = &self.attention;
        let chunks = visible_chunks(ctx.pos, a.window);
        let even = a.cache.kv_heads.is_multiple_of(ctx.nth);
        (ctx.tokens == 1 && !even && chunks.len() > 1).then_some(chunks)
    }

    /// Floats of a head's parts.
    fn stride(&self) -> usize {
        let cache = &self.attention.cache;
        most_chunks(cache.context, self.attention.window) * part_floats(cache.head_dim)
    }

    /// The parts of a head.
    fn parts(&self, ctx: &Ctx<'_>, head: usize) -> *mut f32 {
        let a = &self.attention;
        let bytes = split_workspace(a.heads, a.cache.head_dim, a.cache.context, a.window);
        assert!(head < a.heads && bytes <= self.workspace.bytes, "workspace too small");
        let all = ctx.at(self.workspace.offset, bytes).cast::<f32>();
        // SAFETY: as many parts a head as there are chunks, and this is one of the heads.
        unsafe { all.add(head * self.stride()) }
    }

    /// This worker's pieces of `chunks`. In their order, the heads that share keys and values follow each other chunk by
    /// chunk; a piece belongs to whoever's share of all positions its middle is in.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn pieces(&self, ctx: &Ctx<'_>, chunks: Range<usize>) {
        let a = &self.attention;
        let (group, seen) = (a.group(), visible(ctx.pos, a.window));
        let share = split(a.heads * seen.len(), 1, ctx.ith, ctx.nth);
        let mut before = 0;
        for first in (0..a.heads).step_by(group) {
            for index in chunks.clone() {
                let n = seen.end.min((index + 1) * CHUNK) - seen.start.max(index * CHUNK);
                let below = |end: usize| end.saturating_sub(before + n / 2).div_ceil(n).min(group);
                let own = below(share.start)..below(share.end);
                before += group * n;
                if own.is_empty() {
                    continue;
                }
                let heads = first + own.start..first + own.end;
                let at = (index - chunks.start) * part_floats(a.cache.head_dim);
                let chunk = Chunk {
                    index,
                    // SAFETY: `parts` has room for all chunks.
                    out: unsafe { self.parts(ctx, heads.start).add(at) },
                    stride: self.stride(),
                };
                // SAFETY: the caller's contract; a piece belongs to one worker.
                unsafe { a.part(ctx, heads, 0..1, Some(chunk)) };
            }
        }
    }
}

impl Kernel for AttentionSplit {
    fn axis(&self) -> Axis {
        self.attention.axis
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        // SAFETY: the caller's contract.
        unsafe {
            match self.chunks(ctx) {
                Some(chunks) => self.pieces(ctx, chunks),
                None => self.attention.run(ctx),
            }
        }
    }

    fn halves(&self, ctx: &Ctx<'_>) -> bool {
        self.chunks(ctx).is_some()
    }

    unsafe fn run_second(&self, ctx: &Ctx<'_>) {
        let Some(chunks) = self.chunks(ctx) else { return };
        let a = &self.attention;
        for head in split(a.heads, 1, ctx.ith, ctx.nth) {
            let merge = Merge {
                at: self.parts(ctx, head),
                parts: chunks.len(),
                head_dim: a.cache.head_dim,
                out: a.out_of(ctx, head),
            };
            // SAFETY: every worker is through the first half, which wrote these parts; the head's result is this worker's.
            unsafe { (ctx.isa.merge)(&merge) };
        }
    }
}
