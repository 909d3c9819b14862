//! The mathematics of the ops on plain rows. Sums in f64, one rounding to f32 where a tensor is written.
//!
//! Fused ops are made of the same functions as the ops they replace, so both give the same bits.

use ck_kernels::ops::{Gate, Pairing};

/// `x / sqrt(mean(x^2) + eps) * weight` for each row of `weight.len()` elements.
pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let cols = weight.len();
    let mut y = Vec::with_capacity(x.len());
    for row in x.chunks_exact(cols) {
        let squares: f64 = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let scale = 1.0 / (squares / cols as f64 + f64::from(eps)).sqrt();
        y.extend(
            row.iter()
                .zip(weight)
                .map(|(&v, &w)| (f64::from(v) * scale * f64::from(w)) as f32),
        );
    }
    y
}

/// Elementwise sum.
pub(super) fn add(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// `gate_fn(gate) * up`, elementwise.
pub(super) fn glu(kind: Gate, gate: &[f32], up: &[f32]) -> Vec<f32> {
    let gate_fn = match kind {
        Gate::Silu => silu,
        Gate::GeluTanh => gelu_tanh,
    };
    let product = |(&gate, &up): (&f32, &f32)| (gate_fn(f64::from(gate)) * f64::from(up)) as f32;
    gate.iter().zip(up).map(product).collect()
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// The tanh form of GELU (Hendrycks and Gimpel 2016, section 2).
fn gelu_tanh(x: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
    0.5 * x * (1.0 + inner.tanh())
}

/// Sum of products, in eight interleaved partial sums: the order is fixed and does not depend on the machine.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    lanes.iter().sum::<f64>() + tail
}

/// Rotates every head of each row: row `t` by its position `first + t` times `frequencies`.
pub(super) fn rope(x: &mut [f32], cols: usize, first: usize, head_dim: usize, pairing: Pairing, frequencies: &[f64]) {
    let half = frequencies.len();
    for (t, row) in x.chunks_exact_mut(cols).enumerate() {
        for (i, frequency) in frequencies.iter().enumerate() {
            let (sin, cos) = ((first + t) as f64 * frequency).sin_cos();
            let (a, b) = match pairing {
                Pairing::Halves => (i, i + half),
                Pairing::Interleaved => (2 * i, 2 * i + 1),
            };
            for head in row.chunks_exact_mut(head_dim) {
                let (x, y) = (f64::from(head[a]), f64::from(head[b]));
                head[a] = (x * cos - y * sin) as f32;
                head[b] = (y * cos + x * sin) as f32;
            }
        }
    }
}

/// What [`attend`] needs besides the rows.
pub(super) struct Heads {
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub scale: f32,
    pub softcap: f32,
    pub window: usize,
}

/// Causal attention of the queries at positions `first..` over keys and values `[position][kv_heads * head_dim]`.
/// Query head `h` reads key/value head `h / (heads / kv_heads)`.
pub(super) fn attend(q: &[f32], keys: &[f32], values: &[f32], first: usize, a: &Heads) -> Vec<f32> {
    let (cols, kv_cols) = (a.heads * a.head_dim, a.kv_heads * a.head_dim);
    let mut y = Vec::with_capacity(q.len());
    let mut scores: Vec<f64> = Vec::new();
    let mut sum = vec![0.0; a.head_dim];
    for (t, row) in q.chunks_exact(cols).enumerate() {
        let position = first + t;
        let oldest = if a.window == 0 {
            0
        } else {
            (position + 1).saturating_sub(a.window)
        };
        for (h, query) in row.chunks_exact(a.head_dim).enumerate() {
            let head = h / (a.heads / a.kv_heads) * a.head_dim;
            let query: Vec<f64> = query.iter().map(|&v| f64::from(v)).collect();
            scores.clear();
            for p in oldest..=position {
                let key = &keys[p * kv_cols + head..][..a.head_dim];
                let product: f64 = query.iter().zip(key).map(|(q, &k)| q * f64::from(k)).sum();
                scores.push(soft_cap(product * f64::from(a.scale), f64::from(a.softcap)));
            }
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut total = 0.0;
            sum.fill(0.0);
            for (p, score) in (oldest..).zip(&scores) {
                let weight = (score - max).exp();
                total += weight;
                let value = &values[p * kv_cols + head..][..a.head_dim];
                for (sum, &v) in sum.iter_mut().zip(value) {
                    *sum += weight * f64::from(v);
                }
            }
            y.extend(sum.iter().map(|sum| (sum / total) as f32));
        }
    }
    y
}

fn soft_cap(score: f64, cap: f64) -> f64 {
    if cap > 0.0 { cap * (score / cap).tanh() } else { score }
}
