//! Sixteen lanes in two registers.

use core::arch::x86_64::*;

use super::{load, store, tail_masks};
use crate::isa::vector::Pack;

#[derive(Clone, Copy)]
pub(super) struct Ymm2(__m256, __m256);

macro_rules! binary {
    ($($name:ident = $intrinsic:ident),*) => {$(
        #[inline(always)]
        unsafe fn $name(self, o: Self) -> Self {
            // SAFETY: AVX, by the trait's contract.
            unsafe { Self($intrinsic(self.0, o.0), $intrinsic(self.1, o.1)) }
        }
    )*};
}

/// `x * 2^n`, in two steps: `2^n` alone may overflow where the product does not, and subnormals must round once.
#[inline]
#[target_feature(enable = "avx2")]
fn scale2(x: __m256, n: __m256) -> __m256 {
    let n = _mm256_cvtps_epi32(n);
    let half = _mm256_srai_epi32::<1>(n);
    let power = |n| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))));
    _mm256_mul_ps(_mm256_mul_ps(x, power(half)), power(_mm256_sub_epi32(n, half)))
}

impl Pack for Ymm2 {
    binary!(
        add = _mm256_add_ps,
        sub = _mm256_sub_ps,
        mul = _mm256_mul_ps,
        div = _mm256_div_ps,
        max = _mm256_max_ps,
        min = _mm256_min_ps
    );

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: AVX, by the trait's contract.
        unsafe { Self(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
    }

    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        // SAFETY: the trait's contract; lanes outside the masks are not read.
        unsafe {
            let [a, b] = load(p, tail_masks(n));
            Self(a, b)
        }
    }

    #[inline(always)]
    unsafe fn load_half(p: *const u16) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let [a, b] = [p, p.add(8)].map(|p| _mm_loadu_si128(p.cast()));
            Self(_mm256_cvtph_ps(a), _mm256_cvtph_ps(b))
        }
    }

    #[inline(always)]
    unsafe fn prefetch(p: *const u8) {
        // SAFETY: a hint, which cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe {
            _mm256_storeu_ps(p, self.0);
            _mm256_storeu_ps(p.add(8), self.1);
        }
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        // SAFETY: the trait's contract; lanes outside the masks are not written.
        unsafe { store(p, tail_masks(n), [self.0, self.1]) }
    }

    #[inline(always)]
    unsafe fn store_half(self, p: *mut u16) {
        // SAFETY: the trait's contract.
        unsafe {
            _mm_storeu_si128(p.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0));
            _mm_storeu_si128(p.add(8).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.1));
        }
    }

    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: FMA, by the trait's contract.
        unsafe { Self(_mm256_fmadd_ps(self.0, a.0, b.0), _mm256_fmadd_ps(self.1, a.1, b.1)) }
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: AVX, by the trait's contract.
        unsafe { Self(_mm256_round_ps::<NEAREST>(self.0), _mm256_round_ps::<NEAREST>(self.1)) }
    }

    #[inline(always)]
    unsafe fn scale2(self, n: Self) -> Self {
        // SAFETY: AVX2, by the trait's contract.
        unsafe { Self(scale2(self.0, n.0), scale2(self.1, n.1)) }
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        // SAFETY: AVX, by the trait's contract.
        unsafe {
            let bit = _mm256_set1_ps(-0.0);
            Self(_mm256_andnot_ps(bit, self.0), _mm256_andnot_ps(bit, self.1))
        }
    }

    #[inline(always)]
    unsafe fn copysign(self, sign: Self) -> Self {
        // SAFETY: AVX, by the trait's contract.
        unsafe {
            let bit = _mm256_set1_ps(-0.0);
            let a = self.abs();
            Self(
                _mm256_or_ps(a.0, _mm256_and_ps(bit, sign.0)),
                _mm256_or_ps(a.1, _mm256_and_ps(bit, sign.1)),
            )
        }
    }

    #[inline(always)]
    unsafe fn select_less(self, o: Self, a: Self, b: Self) -> Self {
        // SAFETY: AVX, by the trait's contract.
        unsafe {
            Self(
                _mm256_blendv_ps(b.0, a.0, _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, o.0)),
                _mm256_blendv_ps(b.1, a.1, _mm256_cmp_ps::<_CMP_LT_OQ>(self.1, o.1)),
            )
        }
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: AVX, by the trait's contract.
        unsafe {
            let eight = _mm256_add_ps(self.0, self.1);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        // SAFETY: AVX, by the trait's contract.
        unsafe {
            let eight = _mm256_max_ps(self.0, self.1);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
}
