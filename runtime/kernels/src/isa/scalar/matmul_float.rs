//! The meaning of [`Matmul`] with float weights.

use core::slice;

use super::matmul_quant::each;
use crate::dtype::{DType, GROUP};
use crate::isa::Matmul;
use crate::quant::half::{bf16_to_f32, f16_to_f32};

/// # Safety
/// As [`each`], for float weights; `weight` is the weight of a column and a row of a group.
unsafe fn floats(m: &Matmul, dtype: DType, weight: impl Fn(&[u8], usize, usize) -> f32) {
    // SAFETY: float weights come with rows of `k` floats.
    let row = |x: *const u8| unsafe { slice::from_raw_parts(x.cast::<f32>(), m.k) };
    // SAFETY: passed on.
    unsafe {
        each(m, dtype, row, |group, x, sums| {
            for (k, x) in x.iter().enumerate() {
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum += weight(group, k, r) * x;
                }
            }
        });
    }
}

fn u16_at(bytes: &[u8], i: usize) -> u16 {
    u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])
}

/// `f32` weights.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`].
pub unsafe fn f32(m: &Matmul) {
    let weight = |group: &[u8], k, r| {
        let column: &[[u8; 4]] = group.as_chunks().0;
        f32::from_le_bytes(column[k * GROUP + r])
    };
    // SAFETY: passed on.
    unsafe { floats(m, DType::F32, weight) }
}

/// `f16` weights.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`].
pub unsafe fn f16(m: &Matmul) {
    // SAFETY: passed on.
    unsafe { floats(m, DType::F16, |group, k, r| f16_to_f32(u16_at(group, k * GROUP + r))) }
}

/// `bf16` weights.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`].
pub unsafe fn bf16(m: &Matmul) {
    let weight = |group: &[u8], k, r| {
        let paired = k / 2 * 2 * GROUP + 2 * r + k % 2;
        let last = k * GROUP + r;
        bf16_to_f32(u16_at(group, if k == m.k - 1 && m.k % 2 == 1 { last } else { paired }))
    };
    // SAFETY: passed on.
    unsafe { floats(m, DType::BF16, weight) }
}
