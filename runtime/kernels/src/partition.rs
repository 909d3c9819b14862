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
