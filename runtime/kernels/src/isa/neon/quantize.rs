//! Activations to Q8 rows: the bytes of [`crate::isa::scalar::quantize`], faster.

use core::arch::aarch64::*;

use crate::dtype::Q8;
use crate::isa::scalar::quantize::scale_of_max;

/// See [`crate::isa::scalar::quantize::quantize_row`].
///
/// # Safety
/// As there.
#[target_feature(enable = "neon")]
pub unsafe fn quantize_row(x: *const f32, n: usize, out: *mut u8) {
    debug_assert!(n.is_multiple_of(Q8::BLOCK));
    let row = Q8 { cols: n };
    for b in 0..row.blocks() {
        // SAFETY: 32 floats of `x`.
        let xs: [float32x4_t; 8] = core::array::from_fn(|v| unsafe { vld1q_f32(x.add(32 * b + 4 * v)) });
        // NaN if any of them is.
        let max = vmaxvq_f32(xs.iter().fold(vdupq_n_f32(0.0), |max, x| vmaxq_f32(max, vabsq_f32(*x))));
        let (scale, inverse) = if max.is_nan() {
            (f32::NAN, 0.0)
        } else {
            scale_of_max(max)
        };
        let mut whole = [vdupq_n_s32(0); 8];
        if inverse != 0.0 {
            // To the nearest integer, halves away from zero.
            whole = xs.map(|x| vcvtaq_s32_f32(vmulq_n_f32(x, inverse)));
        }
        // No whole number is half way between two multiples of an odd one: the product need not be exact.
        let high = whole.map(|q| vcvtnq_s32_f32(vmulq_n_f32(vcvtq_f32_s32(q), 1.0 / Q8::STEP as f32)));
        let low = core::array::from_fn(|v| vmlsq_n_s32(whole[v], high[v], Q8::STEP));
        let sum = vaddvq_s32(whole.into_iter().fold(vdupq_n_s32(0), |sum, q| vaddq_s32(sum, q)));
        // SAFETY: the parts of a row.
        unsafe {
            let bytes = out.add(Q8::BLOCK_BYTES * b).cast();
            store(bytes, high);
            store(bytes.add(Q8::BLOCK), low);
            out.add(row.scales() + 4 * b).cast::<f32>().write(scale);
            out.add(row.sums() + 4 * b).cast::<i32>().write(sum);
        }
    }
}

/// Puts 32 bytes, which the numbers fit.
///
/// # Safety
/// There is room for them.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn store(to: *mut i8, q: [int32x4_t; 8]) {
    let words = |i: usize| vcombine_s16(vmovn_s32(q[i]), vmovn_s32(q[i + 1]));
    for i in [0, 4] {
        // SAFETY: passed on.
        unsafe { vst1q_s8(to.add(4 * i), vcombine_s8(vmovn_s16(words(i)), vmovn_s16(words(i + 2)))) };
    }
}
