//! The meaning of [`Matmul`] with float weights.

use core::slice;

use super::matmul_quant::each;
use crate::isa::Matmul;
use crate::quant::Float;

/// Weights of that type.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`].
pub unsafe fn matmul<F: Float>(m: &Matmul) {
    // SAFETY: float weights come with rows of `k` floats.
    let row = |x: *const u8| unsafe { slice::from_raw_parts(x.cast::<f32>(), m.k) };
    // SAFETY: passed on.
    unsafe {
        each(m, F::DTYPE, row, |group, x, sums| {
            for (k, x) in x.iter().enumerate() {
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum += F::weight(group, k, r, m.k) * x;
                }
            }
        });
    }
}
