//! Elementwise functions of rows of f32, in plain Rust.

use crate::math;

/// `y = max(x, 0)^2`.
pub fn relu2(x: f32) -> f32 {
    let positive = x.max(0.0);
    positive * positive
}

/// `y = cap * tanh(x / cap)`.
pub fn softcap(x: f32, cap: f32) -> f32 {
    cap * math::tanh(x / cap)
}

/// Applies `function` to every element.
pub fn map(x: &mut [f32], function: impl Fn(f32) -> f32) {
    for v in x {
        *v = function(*v);
    }
}

/// `out = function(gate) * up`.
///
/// # Panics
/// If the lengths differ.
pub fn gated(gate: &[f32], up: &[f32], out: &mut [f32], function: impl Fn(f32) -> f32) {
    assert!(
        gate.len() == up.len() && up.len() == out.len(),
        "rows of different lengths"
    );
    for ((y, g), u) in out.iter_mut().zip(gate).zip(up) {
        *y = function(*g) * u;
    }
}

/// Softmax of a row in place. A row of only `-inf` becomes NaN.
pub fn softmax(x: &mut [f32]) {
    let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for v in x.iter_mut() {
        *v = math::exp(*v - max);
        total += *v;
    }
    for v in x {
        *v /= total;
    }
}
