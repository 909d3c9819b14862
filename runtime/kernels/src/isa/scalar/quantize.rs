//! Activations to [`crate::dtype::ActType::Q8`].

use crate::quant::round_i8;

/// One Q8 row of `n` floats.
///
/// A block with a NaN gets the scale NaN and one with an infinity the scale infinity, so that a matmul's result is NaN
/// as it would be without quantisation. Blocks whose scale would not be a normal number are zero.
///
/// # Safety
/// `n` is a multiple of 32, `x` is valid for reads of `n` floats, `out` for writes of `n + n / 4` bytes and aligned to
/// 4; they do not overlap.
pub unsafe fn quantize_row(x: *const f32, n: usize, out: *mut u8) {
    debug_assert!(n.is_multiple_of(32));
    // SAFETY: the caller vouches for all three ranges; `n` bytes keep the alignment of 4.
    let (x, bytes, scales, sums) = unsafe {
        (
            core::slice::from_raw_parts(x, n),
            core::slice::from_raw_parts_mut(out.cast::<i8>(), n),
            core::slice::from_raw_parts_mut(out.add(n).cast::<f32>(), n / 32),
            core::slice::from_raw_parts_mut(out.add(n + n / 8).cast::<i32>(), n / 32),
        )
    };
    for (b, (xs, qs)) in x
        .as_chunks::<32>()
        .0
        .iter()
        .zip(bytes.as_chunks_mut::<32>().0)
        .enumerate()
    {
        let (scale, inverse) = scale(xs);
        for (x, q) in xs.iter().zip(qs.iter_mut()) {
            *q = if inverse == 0.0 { 0 } else { round_i8(x * inverse) };
        }
        scales[b] = scale;
        sums[b] = qs.iter().map(|q| i32::from(*q)).sum();
    }
}

/// The scale of a block and what to multiply with; the latter is zero if the bytes are to be zero.
fn scale(xs: &[f32; 32]) -> (f32, f32) {
    let mut max = 0.0;
    for x in xs.map(f32::abs) {
        if x.is_nan() {
            return (f32::NAN, 0.0);
        }
        if x > max {
            max = x;
        }
    }
    scale_of_max(max)
}

/// The same from the largest magnitude.
pub fn scale_of_max(max: f32) -> (f32, f32) {
    let scale = max / 127.0;
    if scale.is_normal() {
        (scale, 1.0 / scale)
    } else if scale.is_finite() {
        (0.0, 0.0)
    } else {
        (scale, 0.0)
    }
}
