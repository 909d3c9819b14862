//! What a query finds in some positions, and the sum of two such parts: the same steps in the same order, whether they come
//! one after the other or from different workers.
//!
//! A part is [`part_floats`] floats: what its weights are relative to, in the first of a cache line; its weights so far, a
//! sum a lane; weighted values, in whole packs.
//!
//! [`part_floats`]: crate::isa::chunks::part_floats

use core::mem::MaybeUninit;

use super::{LANES, Pack, exp};
use crate::isa::chunks::{MAX_HEAD, Merge, PART_VALUES, PART_WEIGHTS, part_floats};

/// A place for a part.
#[repr(align(64))]
pub(super) struct Part([MaybeUninit<f32>; part_floats(MAX_HEAD)]);

impl Part {
    /// Without anything in it.
    #[inline(always)]
    pub fn uninit() -> Part {
        Part([MaybeUninit::uninit(); part_floats(MAX_HEAD)])
    }

    #[inline(always)]
    pub fn at(&self) -> *const f32 {
        self.0.as_ptr().cast()
    }

    #[inline(always)]
    pub fn at_mut(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

/// A part without positions.
///
/// # Safety
/// As [`Pack`]; there is room for a part of `n` elements.
#[inline(always)]
pub(super) unsafe fn begin<P: Pack>(part: *mut f32, n: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        *part = f32::NEG_INFINITY;
        for i in sums(n) {
            P::splat(0.0).store(part.add(i));
        }
    }
}

/// The part `from`, also at `to`.
///
/// # Safety
/// As [`Pack`]; both have room for a part of `n` elements.
#[inline(always)]
pub(super) unsafe fn copy<P: Pack>(to: *mut f32, from: *const f32, n: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        *to = *from;
        for i in sums(n) {
            P::load(from.add(i)).store(to.add(i));
        }
    }
}

/// Adds the part `from`, of later positions, to `to`. Both have some.
///
/// # Safety
/// As [`copy`].
#[inline(always)]
pub(super) unsafe fn join<P: Pack>(to: *mut f32, from: *const f32, n: usize) {
    // SAFETY: the caller's contract.
    unsafe {
        let (old, new) = (*to, *from);
        let (one, less) = (P::splat(1.0), exp(P::splat(-(old - new).abs())));
        let (keep, take) = if new > old { (less, one) } else { (one, less) };
        for i in sums(n) {
            let kept = P::load(to.add(i)).mul(keep);
            P::load(from.add(i)).fma(take, kept).store(to.add(i));
        }
        *to = if new > old { new } else { old };
    }
}

/// `out`, the weighted mean of a part's `n` elements.
///
/// # Safety
/// As [`Pack`]; there is a part of `n` elements, and `out` is valid for as many floats.
#[inline(always)]
pub(super) unsafe fn divide<P: Pack>(part: *const f32, n: usize, out: *mut f32) {
    // SAFETY: the caller's contract.
    unsafe {
        let total = P::splat(P::load(part.add(PART_WEIGHTS)).sum());
        for d in (0..n).step_by(LANES) {
            let y = P::load(part.add(PART_VALUES + d)).div(total);
            y.store_first(out.add(d), (n - d).min(LANES));
        }
    }
}

/// Where the packs of a part are that are sums: its weights, then its values.
#[inline(always)]
fn sums(n: usize) -> impl Iterator<Item = usize> {
    (PART_WEIGHTS..PART_VALUES + n).step_by(LANES)
}

/// See [`Merge`].
///
/// # Safety
/// As [`Pack`], and as [`crate::isa::scalar::attend::merge`].
#[inline(always)]
pub(in crate::isa) unsafe fn merge<P: Pack>(m: &Merge) {
    // SAFETY: the caller's contract.
    unsafe {
        for part in 1..m.parts {
            join::<P>(m.at, m.at.add(part * part_floats(m.head_dim)), m.head_dim);
        }
        divide::<P>(m.at, m.head_dim, m.out);
    }
}
