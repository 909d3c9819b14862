//! RMS norm: the statistic and the scaling.

use super::{LANES, Pack};

/// # Safety
/// As [`Pack`], for `n` elements.
#[inline(always)]
pub(in crate::isa) unsafe fn sum_squares<P: Pack>(x: *const f32, n: usize) -> f32 {
    // SAFETY: every load is inside the `n` elements.
    unsafe {
        let mut sums = [P::splat(0.0); 4];
        let mut i = 0;
        while i + 4 * LANES <= n {
            for (j, sum) in sums.iter_mut().enumerate() {
                let v = P::load(x.add(i + j * LANES));
                *sum = v.fma(v, *sum);
            }
            i += 4 * LANES;
        }
        while i < n {
            let v = P::load_first(x.add(i), (n - i).min(LANES));
            sums[0] = v.fma(v, sums[0]);
            i += LANES;
        }
        sums[0].add(sums[1]).add(sums[2].add(sums[3])).sum()
    }
}

/// # Safety
/// As [`Pack`], for `n` elements.
#[inline(always)]
pub(in crate::isa) unsafe fn scale_row<P: Pack>(
    x: *const f32,
    factor: f32,
    weight: *const f32,
    n: usize,
    out: *mut f32,
) {
    // SAFETY: every access is inside the `n` elements.
    unsafe {
        let factor = P::splat(factor);
        let whole = n / LANES * LANES;
        for i in (0..whole).step_by(LANES) {
            let y = P::load(x.add(i)).mul(factor).mul(P::load(weight.add(i)));
            y.store(out.add(i));
        }
        let tail = n - whole;
        if tail > 0 {
            let w = P::load_first(weight.add(whole), tail);
            let y = P::load_first(x.add(whole), tail).mul(factor).mul(w);
            y.store_first(out.add(whole), tail);
        }
    }
}
