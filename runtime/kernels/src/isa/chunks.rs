//! Attention in chunks of positions: what a query finds in each, whoever looks at it, is put together in their order.
//!
//! The length of a chunk is part of every result, as the order of any sum is, and so the same for all tiers, programs and
//! numbers of workers.

use core::ops::Range;

use super::Attend;
use crate::dtype::GROUP;

/// Positions of a chunk; chunks start at multiples of it.
pub const CHUNK: usize = 1024;

/// Elements of the largest head.
pub const MAX_HEAD: usize = 256;

/// A chunk of the cache, and where each query's part goes.
#[derive(Clone, Copy)]
pub struct Chunk {
    /// The chunk of positions from `index * CHUNK`. Every query of the call sees some of it.
    pub index: usize,
    /// The first head's part of the first token: see [`Merge`].
    pub out: *mut f32,
    /// Floats from one head's part to the next; heads follow each other token by token.
    pub stride: usize,
}

/// Puts the parts of one query together, [`part_floats`] floats each.
pub struct Merge {
    /// The part of the first chunk that the query sees; the others follow. The first is where their sum is made.
    pub at: *mut f32,
    /// Chunks, at least one.
    pub parts: usize,
    /// Elements of a head, at most [`MAX_HEAD`].
    pub head_dim: usize,
    /// The result: `head_dim` floats.
    pub out: *mut f32,
}

/// Where a part's weights are, [`GROUP`] sums of them; before them is what they are relative to.
pub(super) const PART_WEIGHTS: usize = GROUP;
/// Where a part's weighted values are.
pub(super) const PART_VALUES: usize = 2 * GROUP;

/// Floats of a query's part of a chunk, in whole cache lines.
pub const fn part_floats(head_dim: usize) -> usize {
    PART_VALUES + head_dim.next_multiple_of(GROUP)
}

/// The positions that the query at `position` sees: itself and those before it, `window` at most.
pub const fn visible(position: usize, window: usize) -> Range<usize> {
    position.saturating_sub(window.saturating_sub(1))..position + 1
}

/// The chunks that the query at `position` sees something of.
pub const fn visible_chunks(position: usize, window: usize) -> Range<usize> {
    let seen = visible(position, window);
    seen.start / CHUNK..(seen.end - 1) / CHUNK + 1
}

impl Attend {
    /// What the call looks at of the positions that the query of token `token` sees.
    pub(super) fn seen(&self, token: usize) -> Range<usize> {
        let seen = visible(self.pos + token, self.window);
        match &self.chunk {
            None => seen,
            Some(chunk) => seen.start.max(chunk.index * CHUNK)..seen.end.min((chunk.index + 1) * CHUNK),
        }
    }
}
