//! The algorithms that the SIMD tiers share, over sixteen lanes of f32: one register or two.
//!
//! Everything is `inline(always)` into an entry point with the tier's target features ([`entry_points`]); compiled for
//! itself it would not know the features.

pub(super) mod attend;
pub(super) mod elementwise;
pub(super) mod norm;
pub(super) mod part;

use crate::math::coefficients::*;

/// Lanes of a [`Pack`].
pub(super) const LANES: usize = 16;

/// Sixteen f32.
///
/// # Safety
/// Every method needs the target features of its implementation; pointers need not be aligned, and are valid for
/// [`LANES`] elements, or for `n` of them.
pub(super) trait Pack: Copy {
    /// `x` in all lanes.
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    /// The first `n` lanes, `n <= LANES`; the others are 0.
    unsafe fn load_first(p: *const f32, n: usize) -> Self;
    unsafe fn load_half(p: *const u16) -> Self;
    /// Asks for the cache line at `p`, if the instruction set can; nothing need be there.
    unsafe fn prefetch(p: *const u8);
    unsafe fn store(self, p: *mut f32);
    unsafe fn store_first(self, p: *mut f32, n: usize);
    /// Rounds to nearest even.
    unsafe fn store_half(self, p: *mut u16);
    unsafe fn add(self, o: Self) -> Self;
    unsafe fn sub(self, o: Self) -> Self;
    unsafe fn mul(self, o: Self) -> Self;
    unsafe fn div(self, o: Self) -> Self;
    /// `self * a + b`, rounded once.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// `o` where either is NaN.
    unsafe fn max(self, o: Self) -> Self;
    /// `o` where either is NaN.
    unsafe fn min(self, o: Self) -> Self;
    /// To the nearest integer, ties to even.
    unsafe fn round(self) -> Self;
    /// `self * 2^n`, for integers `n` in -150..=128, rounded once.
    unsafe fn scale2(self, n: Self) -> Self;
    unsafe fn abs(self) -> Self;
    unsafe fn copysign(self, sign: Self) -> Self;
    /// `a` where `self < o`, else `b`.
    unsafe fn select_less(self, o: Self, a: Self, b: Self) -> Self;
    unsafe fn sum(self) -> f32;
    unsafe fn largest(self) -> f32;
}

/// `0, 1, .. 15`.
static INDEX: [f32; LANES] = [
    0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
];

/// `x` in the lanes `lo..hi`, `other` elsewhere.
///
/// # Safety
/// As [`Pack`].
#[inline(always)]
unsafe fn keep<P: Pack>(x: P, lo: usize, hi: usize, other: P) -> P {
    // SAFETY: the caller's contract.
    unsafe {
        let index = P::load(INDEX.as_ptr());
        let below = index.select_less(P::splat(hi as f32), x, other);
        index.select_less(P::splat(lo as f32), other, below)
    }
}

/// The first `n` halves at `p`, widened.
///
/// # Safety
/// As [`Pack`].
#[inline(always)]
unsafe fn load_half_first<P: Pack>(p: *const u16, n: usize) -> P {
    let mut halves = [0u16; LANES];
    // SAFETY: the caller's contract; `n <= LANES`.
    unsafe {
        p.copy_to_nonoverlapping(halves.as_mut_ptr(), n);
        P::load_half(halves.as_ptr())
    }
}

/// See [`crate::math::exp`].
///
/// # Safety
/// As [`Pack`].
#[inline(always)]
unsafe fn exp<P: Pack>(x: P) -> P {
    // SAFETY: the caller's contract.
    unsafe {
        let x = P::splat(EXP_HI).min(P::splat(EXP_LO).max(x));
        let n = x.mul(P::splat(core::f32::consts::LOG2_E)).round();
        let r = n.fma(P::splat(-LN2_LO), n.fma(P::splat(-LN2_HI), x));
        let mut p = P::splat(EXP[0]);
        for c in &EXP[1..] {
            p = p.fma(r, P::splat(*c));
        }
        p.fma(r.mul(r), r).add(P::splat(1.0)).scale2(n)
    }
}

/// See [`crate::math::tanh`].
///
/// # Safety
/// As [`Pack`].
#[inline(always)]
unsafe fn tanh<P: Pack>(x: P) -> P {
    // SAFETY: the caller's contract.
    unsafe {
        let a = x.abs();
        let z = x.mul(x);
        let mut p = P::splat(TANH[0]);
        for c in &TANH[1..] {
            p = p.fma(z, P::splat(*c));
        }
        let small = p.mul(z).fma(x, x);
        let one = P::splat(1.0);
        let large = one.sub(P::splat(2.0).div(exp(a.add(a)).add(one))).copysign(x);
        a.select_less(P::splat(TANH_SMALL), small, large)
    }
}

/// The primitives of a tier, compiled with its features. `$pack` implements [`Pack`]; the lists say how many queries,
/// tiles of keys and packs of a value fit its registers at once: with several queries, and with one.
macro_rules! entry_points {
    ($pack:ty, $features:literal, shared: [$keys:literal, $dims:literal], single: [$keys1:literal, $dims1:literal]) => {
        /// See [`Isa::sum_squares`].
        #[target_feature(enable = $features)]
        unsafe fn sum_squares(x: *const f32, n: usize) -> f32 {
            // SAFETY: the features are on; the rest is the caller's contract.
            unsafe { vector::norm::sum_squares::<$pack>(x, n) }
        }

        /// See [`Isa::scale_row`].
        #[target_feature(enable = $features)]
        unsafe fn scale_row(x: *const f32, factor: f32, weight: *const f32, n: usize, out: *mut f32) {
            // SAFETY: the features are on; the rest is the caller's contract.
            unsafe { vector::norm::scale_row::<$pack>(x, factor, weight, n, out) }
        }

        /// See [`Isa::add_row`].
        #[target_feature(enable = $features)]
        unsafe fn add_row(a: *const f32, b: *const f32, n: usize, out: *mut f32) {
            // SAFETY: the features are on; the rest is the caller's contract.
            unsafe { vector::elementwise::add_row::<$pack>(a, b, n, out) }
        }

        /// See [`Isa::glu_row`].
        #[target_feature(enable = $features)]
        unsafe fn glu_row(kind: Gate, gate: *const f32, up: *const f32, n: usize, out: *mut f32) {
            // SAFETY: the features are on; the rest is the caller's contract.
            unsafe { vector::elementwise::glu_row::<$pack>(kind, gate, up, n, out) }
        }

        /// See [`Isa::to_f16`].
        #[target_feature(enable = $features)]
        unsafe fn to_f16(x: *const f32, n: usize, out: *mut u16) {
            // SAFETY: the features are on; the rest is the caller's contract.
            unsafe { vector::elementwise::to_f16::<$pack>(x, n, out) }
        }

        /// See [`Attend`].
        unsafe fn attend(a: &Attend) {
            // SAFETY: the caller's contract.
            unsafe { vector::attend::attend(a, if a.half { pass::<true> } else { pass::<false> }) }
        }

        /// See [`vector::attend::pass`].
        #[target_feature(enable = $features)]
        unsafe fn pass<const HALF: bool>(a: &Attend, states: &mut [core::mem::MaybeUninit<vector::attend::State>]) {
            // SAFETY: the features are on; the rest is the caller's contract.
            unsafe { vector::attend::pass::<$pack, HALF, $keys, $dims, $keys1, $dims1>(a, states) }
        }

        /// See [`Merge`].
        #[target_feature(enable = $features)]
        unsafe fn merge(m: &Merge) {
            // SAFETY: the features are on; the rest is the caller's contract.
            unsafe { vector::part::merge::<$pack>(m) }
        }
    };
}
pub(super) use entry_points;
