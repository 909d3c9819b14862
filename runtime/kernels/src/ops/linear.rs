//! Linear maps of one row, in plain Rust, for both orders of a matrix.

/// `out = W x + b`, `W` stored `[out, in]`.
///
/// # Panics
/// If the lengths do not fit.
pub fn linear_out_in(x: &[f32], weight: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
    assert!(weight.len() == x.len() * out.len(), "matrix of another shape");
    for (o, y) in out.iter_mut().enumerate() {
        let row = &weight[o * x.len()..][..x.len()];
        *y = x.iter().zip(row).map(|(v, w)| v * w).sum();
    }
    add_bias(bias, out);
}

/// `out = x W + b`, `W` stored `[in, out]` (GPT-2's Conv1D).
///
/// # Panics
/// If the lengths do not fit.
pub fn linear_in_out(x: &[f32], weight: &[f32], bias: Option<&[f32]>, out: &mut [f32]) {
    assert!(weight.len() == x.len() * out.len(), "matrix of another shape");
    let n = out.len();
    out.fill(0.0);
    for (i, v) in x.iter().enumerate() {
        for (y, w) in out.iter_mut().zip(&weight[i * n..][..n]) {
            *y += v * w;
        }
    }
    add_bias(bias, out);
}

fn add_bias(bias: Option<&[f32]>, out: &mut [f32]) {
    if let Some(bias) = bias {
        assert!(bias.len() == out.len(), "bias of another length");
        for (y, b) in out.iter_mut().zip(bias) {
            *y += b;
        }
    }
}
