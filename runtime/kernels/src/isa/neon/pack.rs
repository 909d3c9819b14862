//! Sixteen lanes in four registers.

use core::arch::aarch64::*;
use core::array::from_fn;

use super::{Quad, halves, load, store};
use crate::isa::vector::{LANES, Pack};

#[derive(Clone, Copy)]
pub(super) struct Quads(Quad);

macro_rules! lanes {
    ($($name:ident = $intrinsic:ident($($o:ident)?);)*) => {$(
        #[inline(always)]
        unsafe fn $name(self$(, $o: Self)?) -> Self {
            // SAFETY: NEON, by the trait's contract.
            Self(from_fn(|i| unsafe { $intrinsic(self.0[i]$(, $o.0[i])?) }))
        }
    )*};
}

/// The larger; `b` where either is NaN, where the instruction for it would give NaN.
#[inline]
#[target_feature(enable = "neon")]
fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcgtq_f32(a, b), a, b)
}

/// The smaller, likewise.
#[inline]
#[target_feature(enable = "neon")]
fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcltq_f32(a, b), a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn copysign(x: float32x4_t, sign: float32x4_t) -> float32x4_t {
    vbslq_f32(vdupq_n_u32(1 << 31), sign, x)
}

/// `x * 2^n`, in two steps: `2^n` alone may overflow where the product does not, and subnormals must round once.
#[inline]
#[target_feature(enable = "neon")]
fn scale2(x: float32x4_t, n: float32x4_t) -> float32x4_t {
    let n = vcvtnq_s32_f32(n);
    let half = vshrq_n_s32::<1>(n);
    let power = |n| vreinterpretq_f32_s32(vshlq_n_s32::<23>(vaddq_s32(n, vdupq_n_s32(127))));
    vmulq_f32(vmulq_f32(x, power(half)), power(vsubq_s32(n, half)))
}

impl Pack for Quads {
    lanes! {
        add = vaddq_f32(o);
        sub = vsubq_f32(o);
        mul = vmulq_f32(o);
        div = vdivq_f32(o);
        max = max(o);
        min = min(o);
        round = vrndnq_f32();
        scale2 = scale2(o);
        abs = vabsq_f32();
        copysign = copysign(o);
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: NEON, by the trait's contract.
        Self([unsafe { vdupq_n_f32(x) }; 4])
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { load(p, LANES) })
    }

    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { load(p, n) })
    }

    #[inline(always)]
    unsafe fn load_half(p: *const u16) -> Self {
        // SAFETY: the trait's contract.
        Self(from_fn(|i| unsafe { halves(p.add(4 * i)) }))
    }

    #[inline(always)]
    unsafe fn prefetch(_p: *const u8) {}

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { store(p, LANES, self.0) }
    }

    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        // SAFETY: the trait's contract.
        unsafe { store(p, n, self.0) }
    }

    #[inline(always)]
    unsafe fn store_half(self, p: *mut u16) {
        for (i, four) in self.0.into_iter().enumerate() {
            // SAFETY: the trait's contract.
            unsafe { vst1_u16(p.add(4 * i), vreinterpret_u16_f16(vcvt_f16_f32(four))) };
        }
    }

    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        // SAFETY: NEON, by the trait's contract.
        Self(from_fn(|i| unsafe { vfmaq_f32(b.0[i], self.0[i], a.0[i]) }))
    }

    #[inline(always)]
    unsafe fn select_less(self, o: Self, a: Self, b: Self) -> Self {
        // SAFETY: NEON, by the trait's contract.
        Self(from_fn(|i| unsafe {
            vbslq_f32(vcltq_f32(self.0[i], o.0[i]), a.0[i], b.0[i])
        }))
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        let [a, b, c, d] = self.0;
        // SAFETY: NEON, by the trait's contract.
        unsafe {
            let four = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
            vaddv_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)))
        }
    }

    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        let [a, b, c, d] = self.0;
        // SAFETY: NEON, by the trait's contract.
        unsafe { vmaxvq_f32(vmaxq_f32(vmaxq_f32(a, c), vmaxq_f32(b, d))) }
    }
}
