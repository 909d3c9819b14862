//! Attention at any depth.

use ck_kernels::dtype::{ActType, GROUP};
use ck_kernels::ops::{Attention, AttentionSplit, Cache, Slot, Workspace, split_workspace};
use ck_kernels::partition::Axis;

use super::{Bench, Speed};
use crate::error::Error;
use crate::pool::Seat;

/// Attention of a program, and where in the sequence it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attend {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads: `heads` is a multiple.
    pub kv_heads: usize,
    /// Elements of a head, at most 256.
    pub head_dim: usize,
    /// Tokens before those of the call.
    pub depth: usize,
    /// Tokens of the call.
    pub tokens: usize,
}

impl Bench {
    /// The speed of `a` over an f16 cache; `None` if the memory is too small for it.
    ///
    /// One call follows the other with caches that lie behind each other, as the layers' do.
    ///
    /// # Errors
    /// [`Error::Panicked`]: heads that are not shared evenly, or too long.
    pub fn attention(&mut self, a: &Attend) -> Result<Option<Speed>, Error> {
        let positions = a.depth + a.tokens;
        let rows = Slot {
            offset: 0,
            cols: a.heads * a.head_dim,
            act: ActType::F32,
        };
        let context = positions.next_multiple_of(GROUP);
        let out = Slot {
            offset: a.tokens * rows.stride(),
            ..rows
        };
        let workspace = Workspace {
            offset: 2 * out.offset,
            bytes: split_workspace(a.heads, a.head_dim, context, usize::MAX),
        };
        let end = workspace.offset + workspace.bytes;
        let cache = Cache {
            k: 0,
            v: 0,
            kv_heads: a.kv_heads,
            head_dim: a.head_dim,
            context,
            act: ActType::F16,
        };
        let half = cache.half_bytes();
        let most = self.memory.len().saturating_sub(end) / (2 * half).max(1);
        if most == 0 || positions == 0 {
            return Ok(None);
        }
        // What a query sees: all before the call, and half of the call's tokens.
        let ops = 4 * a.heads * a.head_dim * (a.tokens * a.depth + a.tokens * (a.tokens + 1) / 2);
        let layers = most.min(1 + (4 << 30) / ops.max(1));
        let place = self.place();
        let job = |seat: &Seat<'_>| {
            // SAFETY: `median` holds the bench for as long as the job runs, and nothing else uses its memory.
            let w = unsafe { place.worker(seat, a.tokens, a.depth) };
            for layer in 0..layers {
                let k = end + layer * 2 * half;
                let attention = Attention {
                    q: rows,
                    cache: Cache {
                        k,
                        v: k + half,
                        ..cache
                    },
                    heads: a.heads,
                    out,
                    scale: 1.0 / (a.head_dim as f32).sqrt(),
                    softcap: 0.0,
                    window: usize::MAX,
                    axis: Axis::Heads,
                };
                w.run(AttentionSplit { attention, workspace });
                w.barrier();
            }
        };
        self.speed(layers, 2 * half, ops, &job).map(Some)
    }
}
