//! Elementwise rows.

use super::{LANES, Pack, exp};
use crate::math::coefficients::{GELU_CUBIC, GELU_SCALE};
use crate::ops::Gate;

/// # Safety
/// As [`Pack`], for `n` elements.
#[inline(always)]
pub(in crate::isa) unsafe fn add_row<P: Pack>(a: *const f32, b: *const f32, n: usize, out: *mut f32) {
    // SAFETY: every access is inside the `n` elements.
    unsafe {
        let whole = n / LANES * LANES;
        for i in (0..whole).step_by(LANES) {
            P::load(a.add(i)).add(P::load(b.add(i))).store(out.add(i));
        }
        let tail = n - whole;
        if tail > 0 {
            let y = P::load_first(a.add(whole), tail).add(P::load_first(b.add(whole), tail));
            y.store_first(out.add(whole), tail);
        }
    }
}

/// `x * sigmoid(x)`.
///
/// # Safety
/// As [`Pack`].
#[inline(always)]
unsafe fn silu<P: Pack>(x: P) -> P {
    // SAFETY: the caller's contract.
    unsafe { x.div(exp(P::splat(0.0).sub(x)).add(P::splat(1.0))) }
}

/// See [`crate::math::gelu_tanh`].
///
/// # Safety
/// As [`Pack`].
#[inline(always)]
unsafe fn gelu_tanh<P: Pack>(x: P) -> P {
    // SAFETY: the caller's contract.
    unsafe {
        let cubic = P::splat(GELU_CUBIC).mul(x).mul(x).fma(x, x);
        let u = cubic.mul(P::splat(-2.0 * GELU_SCALE));
        x.div(exp(u).add(P::splat(1.0)))
    }
}

/// # Safety
/// As [`Pack`], for `n` elements.
#[inline(always)]
pub(in crate::isa) unsafe fn glu_row<P: Pack>(kind: Gate, gate: *const f32, up: *const f32, n: usize, out: *mut f32) {
    // SAFETY: every access is inside the `n` elements.
    unsafe {
        for i in (0..n).step_by(LANES) {
            let m = (n - i).min(LANES);
            let g = P::load_first(gate.add(i), m);
            let u = P::load_first(up.add(i), m);
            let y = match kind {
                Gate::Silu => silu(g),
                Gate::GeluTanh => gelu_tanh(g),
            };
            y.mul(u).store_first(out.add(i), m);
        }
    }
}

/// # Safety
/// As [`Pack`], for `n` elements.
#[inline(always)]
pub(in crate::isa) unsafe fn to_f16<P: Pack>(x: *const f32, n: usize, out: *mut u16) {
    // SAFETY: every access is inside the `n` elements.
    unsafe {
        let whole = n / LANES * LANES;
        for i in (0..whole).step_by(LANES) {
            P::load(x.add(i)).store_half(out.add(i));
        }
        let tail = n - whole;
        if tail > 0 {
            let mut halves = [0u16; LANES];
            P::load_first(x.add(whole), tail).store_half(halves.as_mut_ptr());
            halves.as_ptr().copy_to_nonoverlapping(out.add(whole), tail);
        }
    }
}
