//! Elementwise rows.

use crate::math;
use crate::ops::Gate;
use crate::quant::half;

/// `out = a + b`.
///
/// # Safety
/// `a` and `b` are valid for `n` reads, `out` for `n` writes; `out` may be `a` or `b`, and overlaps nothing else.
pub unsafe fn add_row(a: *const f32, b: *const f32, n: usize, out: *mut f32) {
    for i in 0..n {
        // SAFETY: `i < n`, and the caller's contract.
        unsafe { *out.add(i) = *a.add(i) + *b.add(i) };
    }
}

/// `out = kind(gate) * up`.
///
/// # Safety
/// `gate` and `up` are valid for `n` reads, `out` for `n` writes; `out` may be `gate` or `up`, and overlaps nothing
/// else.
pub unsafe fn glu_row(kind: Gate, gate: *const f32, up: *const f32, n: usize, out: *mut f32) {
    let activation = match kind {
        Gate::Silu => math::silu,
        Gate::GeluTanh => math::gelu_tanh,
    };
    for i in 0..n {
        // SAFETY: `i < n`, and the caller's contract.
        unsafe { *out.add(i) = activation(*gate.add(i)) * *up.add(i) };
    }
}

/// Floats to IEEE halves, round to nearest even.
///
/// # Safety
/// `x` is valid for `n` reads, `out` for `n` writes; they do not overlap.
pub unsafe fn to_f16(x: *const f32, n: usize, out: *mut u16) {
    for i in 0..n {
        // SAFETY: `i < n`, and the caller's contract.
        unsafe { *out.add(i) = half::f32_to_f16(*x.add(i)) };
    }
}
