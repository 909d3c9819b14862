//! 128-bit vectors of AArch64: NEON, which every such CPU has; [`dotprod`] adds dot products of bytes.

use core::arch::aarch64::*;

use super::chunks::Merge;
use super::vector::{self, entry_points};
use super::{Attend, Isa, Peak, matmuls};
use crate::dtype::{GROUP, registry};
use crate::ops::Gate;

pub mod dotprod;
mod matmul_float;
mod matmul_quant;
mod pack;
mod peak;
mod quantize;

entry_points!(pack::Quads, "neon", shared: [1, 1], single: [4, 4]);

/// The table.
pub static NEON: Isa = Isa {
    name: "neon",
    few: None,
    matmul: registry!(matmuls),
    many: None,
    rounded: None,
    quantize_row: quantize::quantize_row,
    dequantize_row: super::scalar::quantize::dequantize_row,
    sum_squares,
    scale_row,
    add_row,
    glu_row,
    attend,
    merge,
    to_f16,
    peak: Peak {
        float: peak::float,
        int8: peak::int8::<matmul_quant::Widening>,
        tiles: None,
        read: peak::read,
    },
};

/// Sixteen f32: four vectors.
type Quad = [float32x4_t; 4];

/// The first `n` of sixteen floats; the others are zero.
///
/// # Safety
/// The floats are there.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn load(from: *const f32, n: usize) -> Quad {
    // SAFETY: all sixteen are there, or those that are go to a place for sixteen.
    unsafe {
        if n >= GROUP {
            return core::array::from_fn(|i| vld1q_f32(from.add(4 * i)));
        }
        let mut all = [0.0; GROUP];
        from.copy_to_nonoverlapping(all.as_mut_ptr(), n);
        core::array::from_fn(|i| vld1q_f32(all.as_ptr().add(4 * i)))
    }
}

/// Puts the first `n` of sixteen floats.
///
/// # Safety
/// There is room for them.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn store(to: *mut f32, n: usize, quad: Quad) {
    // SAFETY: there is room for all sixteen, or for those that are copied.
    unsafe {
        if n >= GROUP {
            for (i, four) in quad.into_iter().enumerate() {
                vst1q_f32(to.add(4 * i), four);
            }
            return;
        }
        let mut all = [0.0; GROUP];
        for (i, four) in quad.into_iter().enumerate() {
            vst1q_f32(all.as_mut_ptr().add(4 * i), four);
        }
        to.copy_from_nonoverlapping(all.as_ptr(), n);
    }
}

/// Four halves as f32.
///
/// # Safety
/// They are there.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn halves(at: *const u16) -> float32x4_t {
    // SAFETY: passed on.
    unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(at))) }
}
