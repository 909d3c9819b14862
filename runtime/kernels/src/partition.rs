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
