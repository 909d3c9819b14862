//! Activations to Q8 rows: the bytes of [`crate::isa::scalar::quantize`], faster.

use core::arch::x86_64::*;

use crate::dtype::Q8;
use crate::isa::scalar::quantize::scale_of_max;

/// See [`crate::isa::scalar::quantize::quantize_row`].
///
/// # Safety
/// As there, and the CPU has this tier's features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub unsafe fn quantize_row(x: *const f32, n: usize, out: *mut u8) {
    debug_assert!(n.is_multiple_of(Q8::BLOCK));
    let row = Q8 { cols: n };
    for b in 0..row.blocks() {
        // SAFETY: 32 floats of `x`.
        let [lo, hi] = [0, 16].map(|i| unsafe { _mm512_loadu_ps(x.add(32 * b + i)) });
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(lo, hi) != 0;
        let max = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(lo), _mm512_abs_ps(hi)));
        let (scale, inverse) = if nan { (f32::NAN, 0.0) } else { scale_of_max(max) };
        let mut whole = [_mm512_setzero_si512(); 2];
        if inverse != 0.0 {
            let inverse = _mm512_set1_ps(inverse);
            whole = [round(_mm512_mul_ps(lo, inverse)), round(_mm512_mul_ps(hi, inverse))];
        }
        // No whole number is half way between two multiples of an odd one: the product need not be exact.
        let part = _mm512_set1_ps(1.0 / Q8::STEP as f32);
        let high = whole.map(|q| _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(q), part)));
        let step = _mm512_set1_epi32(Q8::STEP);
        let low = [0, 1].map(|i| _mm512_sub_epi32(whole[i], _mm512_mullo_epi32(high[i], step)));
        // SAFETY: the parts of a row.
        unsafe {
            for (i, part) in [high[0], high[1], low[0], low[1]].into_iter().enumerate() {
                _mm_storeu_si128(out.add(Q8::BLOCK_BYTES * b + 16 * i).cast(), _mm512_cvtepi32_epi8(part));
            }
            let sum = _mm512_reduce_add_epi32(_mm512_add_epi32(whole[0], whole[1]));
            out.add(row.scales() + 4 * b).cast::<f32>().write(scale);
            out.add(row.sums() + 4 * b).cast::<i32>().write(sum);
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
