//! Activations to Q8 rows: the bytes of [`crate::isa::scalar::quantize`], faster.

use core::arch::x86_64::*;

use crate::dtype::{PLANES, plane_bytes};
use crate::isa::scalar::quantize::scale_of_max;

/// See [`crate::isa::scalar::quantize::quantize_row`].
///
/// # Safety
/// As there, and the CPU has this tier's features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub unsafe fn quantize_row(x: *const f32, n: usize, out: *mut u8) {
    debug_assert!(n.is_multiple_of(32));
    for b in 0..n / 32 {
        // SAFETY: 32 floats of `x`.
        let (mut lo, mut hi) = unsafe { (_mm512_loadu_ps(x.add(32 * b)), _mm512_loadu_ps(x.add(32 * b + 16))) };
        for plane in 0..PLANES {
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(lo, hi) != 0;
            let max = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(lo), _mm512_abs_ps(hi)));
            let (scale, inverse) = if nan { (f32::NAN, 0.0) } else { scale_of_max(max) };
            let mut whole = [_mm512_setzero_si512(); 2];
            if inverse != 0.0 {
                let inverse = _mm512_set1_ps(inverse);
                whole = [round(_mm512_mul_ps(lo, inverse)), round(_mm512_mul_ps(hi, inverse))];
            }
            let bytes = _mm256_set_m128i(_mm512_cvtepi32_epi8(whole[1]), _mm512_cvtepi32_epi8(whole[0]));
            let factor = _mm512_set1_ps(scale);
            lo = _mm512_sub_ps(lo, _mm512_mul_ps(factor, _mm512_cvtepi32_ps(whole[0])));
            hi = _mm512_sub_ps(hi, _mm512_mul_ps(factor, _mm512_cvtepi32_ps(whole[1])));
            let ones = _mm256_set1_epi8(1);
            let sums = _mm256_dpbusd_epi32(_mm256_setzero_si256(), ones, bytes);
            let sum = _mm512_reduce_add_epi32(_mm512_zextsi256_si512(sums));
            // SAFETY: in a plane, behind `n` bytes, are `n / 32` scales and as many sums.
            unsafe {
                let out = out.add(plane * plane_bytes(n));
                _mm256_storeu_si256(out.add(32 * b).cast(), bytes);
                out.add(n + 4 * b).cast::<f32>().write(scale);
                out.add(n + n / 8 + 4 * b).cast::<i32>().write(sum);
            }
        }
    }
}

/// To the nearest integer, halves away from zero; the fraction is exact, as adding a half would not be.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn round(x: __m512) -> __m512i {
    let whole = _mm512_cvttps_epi32(x);
    let fraction = _mm512_sub_ps(x, _mm512_cvtepi32_ps(whole));
    let half = _mm512_set1_ps(0.5);
    let up = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(fraction, half);
    let down = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(fraction, _mm512_set1_ps(-0.5));
    let one = _mm512_set1_epi32(1);
    let whole = _mm512_mask_add_epi32(whole, up, whole, one);
    _mm512_mask_sub_epi32(whole, down, whole, one)
}
