//! Activations to Q8 rows: the bytes of [`crate::isa::scalar::quantize`], faster.

use core::arch::x86_64::*;

use crate::dtype::Q8;
use crate::isa::scalar::quantize::scale_of_max;

/// See [`crate::isa::scalar::quantize::quantize_row`].
///
/// # Safety
/// As there, and the CPU has this tier's features.
#[target_feature(enable = "avx2")]
pub unsafe fn quantize_row(x: *const f32, n: usize, out: *mut u8) {
    debug_assert!(n.is_multiple_of(Q8::BLOCK));
    let row = Q8 { cols: n };
    let absolute = _mm256_castsi256_ps(_mm256_set1_epi32(i32::MAX));
    for b in 0..row.blocks() {
        // SAFETY: 32 floats of `x`.
        let xs: [__m256; 4] = core::array::from_fn(|v| unsafe { _mm256_loadu_ps(x.add(32 * b + 8 * v)) });
        let mut max = _mm256_setzero_ps();
        let mut nan = _mm256_setzero_ps();
        for x in xs {
            max = _mm256_max_ps(max, _mm256_and_ps(x, absolute));
            nan = _mm256_or_ps(nan, _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
        }
        let (scale, inverse) = if _mm256_movemask_ps(nan) != 0 {
            (f32::NAN, 0.0)
        } else {
            scale_of_max(reduce_max(max))
        };
        let mut whole = [_mm256_setzero_si256(); 4];
        if inverse != 0.0 {
            let inverse = _mm256_set1_ps(inverse);
            whole = xs.map(|x| round(_mm256_mul_ps(x, inverse)));
        }
        // No whole number is half way between two multiples of an odd one: the product need not be exact.
        let part = _mm256_set1_ps(1.0 / Q8::STEP as f32);
        let high = whole.map(|q| _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(q), part)));
        let step = _mm256_set1_epi32(Q8::STEP);
        let low = core::array::from_fn(|v| _mm256_sub_epi32(whole[v], _mm256_mullo_epi32(high[v], step)));
        let sums = _mm256_add_epi32(
            _mm256_add_epi32(whole[0], whole[1]),
            _mm256_add_epi32(whole[2], whole[3]),
        );
        // SAFETY: the parts of a row.
        unsafe {
            let bytes = out.add(Q8::BLOCK_BYTES * b);
            _mm256_storeu_si256(bytes.cast(), narrow(high));
            _mm256_storeu_si256(bytes.add(Q8::BLOCK).cast(), narrow(low));
            out.add(row.scales() + 4 * b).cast::<f32>().write(scale);
            out.add(row.sums() + 4 * b).cast::<i32>().write(sum(sums));
        }
    }
}

/// To bytes, which they fit.
#[inline]
#[target_feature(enable = "avx2")]
fn narrow(q: [__m256i; 4]) -> __m256i {
    let words = [_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3])];
    // Packing works within 128-bit lanes: put the quads of bytes back in order.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_permutevar8x32_epi32(_mm256_packs_epi16(words[0], words[1]), order)
}

#[inline]
#[target_feature(enable = "avx2")]
fn reduce_max(x: __m256) -> f32 {
    let x = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    _mm_cvtss_f32(_mm_max_ps(x, _mm_movehdup_ps(x)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum(x: __m256i) -> i32 {
    let x = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
    let x = _mm_add_epi32(x, _mm_shuffle_epi32::<0b01_00_11_10>(x));
    _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32::<0b10_11_00_01>(x)))
}

/// To the nearest integer, halves away from zero; the fraction is exact, as adding a half would not be.
#[inline]
#[target_feature(enable = "avx2")]
fn round(x: __m256) -> __m256i {
    let whole = _mm256_cvttps_epi32(x);
    let fraction = _mm256_sub_ps(x, _mm256_cvtepi32_ps(whole));
    let up = _mm256_cmp_ps::<_CMP_GE_OQ>(fraction, _mm256_set1_ps(0.5));
    let down = _mm256_cmp_ps::<_CMP_LE_OQ>(fraction, _mm256_set1_ps(-0.5));
    // A mask that holds is -1.
    let whole = _mm256_sub_epi32(whole, _mm256_castps_si256(up));
    _mm256_add_epi32(whole, _mm256_castps_si256(down))
}
