//! Matmuls with float weights: sixteen rows in four vectors, one accumulator an output.

use core::arch::aarch64::*;
use core::marker::PhantomData;

use super::{Quad, halves, load, store};
use crate::dtype::{DType, GROUP};
use crate::isa::Matmul;
use crate::isa::blocking::{self, Floats, Kernel, Panel};
use crate::quant::{Float, bf16::BF16, f16::F16, f32::F32};

/// How the columns of a group become vectors of f32.
trait Columns: Float {
    /// The columns `k` and `k + 1`, `k` even.
    ///
    /// # Safety
    /// They are there.
    unsafe fn two(group: *const u8, k: usize) -> [Quad; 2];

    /// The last column, `k`, `k` even.
    ///
    /// # Safety
    /// It is there.
    unsafe fn last(group: *const u8, k: usize) -> Quad;
}

/// The arithmetic of a float type.
struct Weights<C>(PhantomData<C>);

impl<C: Columns> Kernel for Weights<C> {
    const DTYPE: DType = C::DTYPE;
    type Stage = Floats;

    #[target_feature(enable = "neon")]
    unsafe fn panel<const T: usize>(p: &Panel, x: &Floats) {
        // SAFETY: passed on.
        unsafe { panel::<C, T>(p, x) }
    }
}

/// Weights of that type.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`].
#[expect(private_bounds, reason = "how the tier does it is its own affair")]
pub unsafe fn matmul<C: Columns>(m: &Matmul) {
    // SAFETY: passed on.
    unsafe { blocking::matmul::<Weights<C>>(m) }
}

impl Columns for F32 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn two(group: *const u8, k: usize) -> [Quad; 2] {
        // SAFETY: passed on.
        unsafe { [Self::last(group, k), Self::last(group, k + 1)] }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn last(group: *const u8, k: usize) -> Quad {
        // SAFETY: a column is 16 floats.
        [0, 4, 8, 12].map(|r| unsafe { vld1q_f32(group.cast::<f32>().add(k * GROUP + r)) })
    }
}

impl Columns for F16 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn two(group: *const u8, k: usize) -> [Quad; 2] {
        // SAFETY: passed on.
        unsafe { [Self::last(group, k), Self::last(group, k + 1)] }
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn last(group: *const u8, k: usize) -> Quad {
        // SAFETY: a column is 16 halves.
        [0, 4, 8, 12].map(|r| unsafe { halves(group.cast::<u16>().add(k * GROUP + r)) })
    }
}

impl Columns for BF16 {
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn two(group: *const u8, k: usize) -> [Quad; 2] {
        // SAFETY: two columns are 16 pairs.
        let pairs = [0, 8, 16, 24].map(|r| unsafe { vld1q_u16(group.cast::<u16>().add(k * GROUP + r)) });
        let pairs = pairs.map(|p| vreinterpretq_u32_u16(p));
        [
            pairs.map(|p| vreinterpretq_f32_u32(vshlq_n_u32::<16>(p))),
            pairs.map(|p| vreinterpretq_f32_u32(vandq_u32(p, vdupq_n_u32(0xffff_0000)))),
        ]
    }

    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn last(group: *const u8, k: usize) -> Quad {
        [0, 4, 8, 12].map(|r| {
            // SAFETY: a column is 16 halves.
            let four = unsafe { vld1_u16(group.cast::<u16>().add(k * GROUP + r)) };
            vreinterpretq_f32_u32(vshll_n_u16::<16>(four))
        })
    }
}

/// Four tokens at once at most: their sums, four vectors each, leave room for two columns. Fewer tokens take more
/// groups, whose sums hide each other's latency.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn panel<C: Columns, const T: usize>(p: &Panel, x: &Floats) {
    let groups = p.rows.div_ceil(GROUP);
    let mut g = 0;
    // SAFETY: the groups are in the panel, the tokens in the stage.
    unsafe {
        if T <= 2 {
            while g + 2 <= groups {
                tile::<C, 2, T, T>(p, g, 0, x);
                g += 2;
            }
        }
        while g < groups {
            if T <= 4 {
                tile::<C, 1, T, T>(p, g, 0, x);
            } else {
                for t0 in (0..T).step_by(4) {
                    tile::<C, 1, T, 4>(p, g, t0, x);
                }
            }
            g += 1;
        }
    }
}

/// Groups `g..g + G` with `N` tokens from `t0` of the stage.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn tile<C: Columns, const G: usize, const T: usize, const N: usize>(p: &Panel, g: usize, t0: usize, x: &Floats) {
    let w: [*const u8; G] = core::array::from_fn(|i| p.w.wrapping_add((g + i) * p.group_bytes));
    let out = |i: usize, t: usize| p.out.wrapping_add((t0 + t) * p.out_stride + (g + i) * GROUP);
    let mut acc = [[[vdupq_n_f32(0.0); 4]; N]; G];
    if !p.first {
        for i in 0..G {
            for t in 0..N {
                // SAFETY: as many as the panel has rows left.
                acc[i][t] = unsafe { load(out(i, t), p.rows - (g + i) * GROUP) };
            }
        }
    }
    for k in (0..p.cols & !1).step_by(2) {
        for i in 0..G {
            // SAFETY: columns `k` and `k + 1` are in the chunk and in the stage.
            unsafe {
                let columns = C::two(w[i], k);
                for j in 0..2 {
                    for t in 0..N {
                        let x = *x.row::<T>(t0 + t).add(k + j);
                        for r in 0..4 {
                            acc[i][t][r] = vfmaq_n_f32(acc[i][t][r], columns[j][r], x);
                        }
                    }
                }
            }
        }
    }
    if p.cols % 2 == 1 {
        let k = p.cols - 1;
        for i in 0..G {
            for t in 0..N {
                // SAFETY: column `k` is in the chunk and in the stage.
                unsafe {
                    let column = C::last(w[i], k);
                    let x = *x.row::<T>(t0 + t).add(k);
                    for r in 0..4 {
                        acc[i][t][r] = vfmaq_n_f32(acc[i][t][r], column[r], x);
                    }
                }
            }
        }
    }
    for i in 0..G {
        for t in 0..N {
            // SAFETY: as many as the panel has rows left.
            unsafe { store(out(i, t), p.rows - (g + i) * GROUP, acc[i][t]) };
        }
    }
}
