//! Activations to [`crate::dtype::ActType::Q8`].

use crate::dtype::{PLANES, plane_bytes};
use crate::quant::round_i8;

/// One Q8 row of `n` floats.
///
/// A block with a NaN gets the scale NaN and one with an infinity the scale infinity, so that a matmul's result is NaN
/// as it would be without quantisation. Blocks whose scale would not be a normal number are zero.
///
/// # Safety
/// `n` is a multiple of 32, `x` is valid for reads of `n` floats, `out` for writes of [`PLANES`] times
/// [`plane_bytes`]`(n)` bytes and aligned to 4; they do not overlap.
pub unsafe fn quantize_row(x: *const f32, n: usize, out: *mut u8) {
    debug_assert!(n.is_multiple_of(32));
    // SAFETY: the caller vouches for the floats.
    let blocks = unsafe { core::slice::from_raw_parts(x, n) }.as_chunks::<32>().0;
    for (b, block) in blocks.iter().enumerate() {
        let mut rest = *block;
        for plane in 0..PLANES {
            let (scale, inverse) = scale(&rest);
            let bytes = rest.map(|x| if inverse == 0.0 { 0 } else { round_i8(x * inverse) });
            for (x, q) in rest.iter_mut().zip(bytes) {
                *x -= scale * f32::from(q);
            }
            // SAFETY: in a plane, behind `n` bytes, are `n / 32` scales and as many sums; `n` bytes, and a plane, keep
            // the alignment of 4.
            unsafe {
                let out = out.add(plane * plane_bytes(n));
                out.add(32 * b).cast::<[i8; 32]>().write(bytes);
                out.add(n + 4 * b).cast::<f32>().write(scale);
                let sum = bytes.iter().map(|q| i32::from(*q)).sum();
                out.add(n + n / 8 + 4 * b).cast::<i32>().write(sum);
            }
        }
    }
}

/// What a Q8 row of `n` columns stands for: the sum over its planes.
///
/// # Safety
/// `q8` is such a row, `out` valid for writes of `n` floats.
pub unsafe fn dequantize_row(q8: *const u8, n: usize, out: *mut f32) {
    for i in 0..n {
        let plane = |p: usize| {
            // SAFETY: a byte and a scale of plane `p`.
            unsafe {
                let at = q8.add(p * plane_bytes(n));
                let scale = at.add(n + i / 32 * 4).cast::<f32>().read_unaligned();
                scale * f32::from(at.add(i).cast::<i8>().read())
            }
        };
        // SAFETY: the caller vouches for the floats.
        unsafe { out.add(i).write((0..PLANES).map(plane).sum()) };
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
