//! Which worker does what: the one rule that plan, program and kernels share.

use core::ops::Range;

/// The part of `0..n` that worker `ith` of `nth` owns, in whole multiples of `granule` (the last part may be cut).
/// The parts of all workers cover `0..n` exactly once, in order.
pub const fn split(n: usize, granule: usize, ith: usize, nth: usize) -> Range<usize> {
    let units = n.div_ceil(granule);
    let lo = units * ith / nth * granule;
    let hi = units * (ith + 1) / nth * granule;
    let lo = if lo < n { lo } else { n };
    let hi = if hi < n { hi } else { n };
    lo..hi
}

/// The smallest multiple of both.
pub const fn common_multiple(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}

/// Tokens of a tile of [`balanced`], at most.
const TILE: usize = 64;

/// Key/value heads, each with the tokens that worker `ith` of `nth` attends with: all workers have as much to do, though
/// later tokens see more than earlier ones.
///
/// Each has as many whole heads as there are for all. What is left is cut into tiles of tokens, dealt out in order of
/// tokens, there and back, an even number to each worker. Every token of every head belongs to one worker.
pub fn balanced(kv_heads: usize, tokens: usize, ith: usize, nth: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let whole = kv_heads / nth * nth;
    let left = kv_heads - whole;
    let even = common_multiple(left, 2 * nth).checked_div(left).unwrap_or(1);
    let tiles = tokens.div_ceil(TILE).next_multiple_of(even);
    let tile = tokens.div_ceil(tiles);
    let own = split(whole, 1, ith, nth).map(move |head| (head, 0..tokens));
    let dealt = (0..left * tiles / nth).map(move |round| {
        let turn = if round % 2 == 0 { ith } else { nth - 1 - ith };
        let (at, head) = ((round * nth + turn) / left, (round * nth + turn) % left);
        (whole + head, tokens.min(at * tile)..tokens.min((at + 1) * tile))
    });
    own.chain(dealt).filter(|(_, tokens)| !tokens.is_empty())
}

/// How a step's work is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// By token (row of the activations), in multiples of the granule.
    Tokens {
        /// Tokens that stay together.
        granule: usize,
    },
    /// By output column, that is by row of the weight matrix, in multiples of the granule (16 columns are 64 bytes).
    Columns {
        /// Columns that stay together.
        granule: usize,
    },
    /// By attention head.
    Heads,
    /// All of it on worker 0.
    Serial,
}

/// One worker's part of a `[tokens, cols]` tensor: a rectangle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Rows.
    pub tokens: Range<usize>,
    /// Columns of those rows.
    pub cols: Range<usize>,
}

impl Axis {
    /// What worker `ith` of `nth` owns of a `[tokens, cols]` tensor.
    ///
    /// # Panics
    /// For [`Axis::Heads`], which only attention can be divided by.
    pub const fn share(self, tokens: usize, cols: usize, ith: usize, nth: usize) -> Share {
        self.share_in(1, tokens, cols, ith, nth)
    }

    /// [`Axis::share`], with columns cut at multiples of `unit` too.
    ///
    /// # Panics
    /// For [`Axis::Heads`], which only attention can be divided by.
    pub const fn share_in(self, unit: usize, tokens: usize, cols: usize, ith: usize, nth: usize) -> Share {
        match self {
            Axis::Tokens { granule } => Share {
                tokens: split(tokens, granule, ith, nth),
                cols: 0..cols,
            },
            Axis::Columns { granule } => Share {
                tokens: 0..tokens,
                cols: split(cols, common_multiple(granule, unit), ith, nth),
            },
            Axis::Serial => Share {
                tokens: 0..if ith == 0 { tokens } else { 0 },
                cols: 0..cols,
            },
            Axis::Heads => panic!("only attention is divided by heads"),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec;

    use super::*;

    const SHAPES: [(usize, usize); 9] = [
        (1, 512),
        (2, 512),
        (3, 512),
        (3, 128),
        (8, 512),
        (8, 7),
        (5, 1),
        (12, 300),
        (32, 65),
    ];

    #[test]
    fn every_token_of_every_head_is_somebodys() {
        for (heads, tokens) in SHAPES {
            for nth in 1..=64 {
                let mut done = vec![0; heads * tokens];
                for (head, tokens_of) in (0..nth).flat_map(|ith| balanced(heads, tokens, ith, nth)) {
                    tokens_of.for_each(|t| done[head * tokens + t] += 1);
                }
                assert!(
                    done.iter().all(|n| *n == 1),
                    "{heads} heads, {tokens} tokens, {nth} workers"
                );
            }
        }
    }

    /// Whether a prompt begins or goes on deep in the context.
    #[test]
    fn workers_see_as_many_positions() {
        for (heads, nth) in [(1, 2), (3, 2), (8, 2), (3, 4), (8, 6), (5, 8), (8, 16), (2, 64)] {
            for tokens in [512, 1024] {
                for pos in [0, 1536] {
                    let seen = |ith| -> usize {
                        let own = balanced(heads, tokens, ith, nth);
                        own.flat_map(|(_, tokens)| tokens).map(|t| pos + t + 1).sum()
                    };
                    let all: usize = (0..nth).map(seen).sum();
                    let most = (0..nth).map(seen).max().unwrap();
                    let over = (most * nth) as f64 / all as f64;
                    assert!(
                        over < 1.03,
                        "{heads} heads, {tokens} tokens from {pos}, {nth} workers: {over}"
                    );
                }
            }
        }
    }
}
