//! Norms of one row, in plain Rust.

use crate::math;

/// `out = x / sqrt(mean(x^2) + eps) * (offset + weight)`; `offset` is 1 for models that store weights around zero
/// (Gemma), else 0.
///
/// # Panics
/// If the lengths differ.
pub fn rmsnorm(x: &[f32], weight: &[f32], offset: f32, eps: f32, out: &mut [f32]) {
    assert!(
        x.len() == weight.len() && x.len() == out.len(),
        "rows of different lengths"
    );
    let squares: f32 = x.iter().map(|v| v * v).sum();
    let factor = 1.0 / math::sqrt(squares / x.len() as f32 + eps);
    for ((y, v), w) in out.iter_mut().zip(x).zip(weight) {
        *y = v * factor * (offset + w);
    }
}

/// `out = (x - mean) / sqrt(variance + eps) * weight + bias`, the variance being that of the population.
///
/// # Panics
/// If the lengths differ.
pub fn layernorm(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let n = x.len();
    assert!(
        n == weight.len() && n == bias.len() && n == out.len(),
        "rows of different lengths"
    );
    let mean = x.iter().sum::<f32>() / n as f32;
    let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n as f32;
    let factor = 1.0 / math::sqrt(variance + eps);
    for (i, y) in out.iter_mut().enumerate() {
        *y = (x[i] - mean) * factor * weight[i] + bias[i];
    }
}
