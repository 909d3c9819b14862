//! RMS norm: the statistic and the scaling.

/// Sum of squares, by four accumulators.
///
/// # Safety
/// `x` is valid for `n` reads.
pub unsafe fn sum_squares(x: *const f32, n: usize) -> f32 {
    // SAFETY: the caller's contract.
    let x = unsafe { core::slice::from_raw_parts(x, n) };
    let mut sums = [0.0f32; 4];
    let chunks = x.chunks_exact(4);
    let tail = chunks.remainder();
    for four in chunks {
        for (sum, v) in sums.iter_mut().zip(four) {
            *sum += v * v;
        }
    }
    for (sum, v) in sums.iter_mut().zip(tail) {
        *sum += v * v;
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// `out = x * factor * weight`.
///
/// # Safety
/// `x` and `weight` are valid for `n` reads, `out` for `n` writes; `out` may be `x`, and overlaps nothing else.
pub unsafe fn scale_row(x: *const f32, factor: f32, weight: *const f32, n: usize, out: *mut f32) {
    for i in 0..n {
        // SAFETY: `i < n`, and the caller's contract.
        unsafe { *out.add(i) = *x.add(i) * factor * *weight.add(i) };
    }
}
