//! Matmuls with float weights: sixteen rows in two vectors, one accumulator an output.

use core::arch::x86_64::*;
use core::marker::PhantomData;

use super::{load, store, tail_masks};
use crate::dtype::{DType, GROUP};
use crate::isa::Matmul;
use crate::isa::blocking::{self, Floats, Kernel, Panel};
use crate::quant::{Float, bf16::BF16, f16::F16, f32::F32};

/// Bytes ahead of the weights in use. Far, and only to L2: hardware reads on from there, and L1 has few misses to give.
const AHEAD: usize = 4096;

/// A column of sixteen rows.
type Column = [__m256; 2];

/// How the columns of a group become vectors of f32.
trait Columns: Float {
    /// The columns `k` and `k + 1`, `k` even.
    ///
    /// # Safety
    /// They are there.
    unsafe fn two(group: *const u8, k: usize) -> [Column; 2];

    /// The last column, `k`, `k` even.
    ///
    /// # Safety
    /// It is there.
    unsafe fn last(group: *const u8, k: usize) -> Column;
}

/// The arithmetic of a float type.
struct Weights<C>(PhantomData<C>);

impl<C: Columns> Kernel for Weights<C> {
    const DTYPE: DType = C::DTYPE;
    type Stage = Floats;

    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn panel<const T: usize>(p: &Panel, x: &Floats) {
        // SAFETY: passed on.
        unsafe { panel::<C, T>(p, x) }
    }
}

/// Weights of that type.
///
/// # Safety
/// See [`crate::isa::Isa::matmul`]; the CPU has this tier's features.
#[expect(private_bounds, reason = "how the tier does it is its own affair")]
pub unsafe fn matmul<C: Columns>(m: &Matmul) {
    // SAFETY: passed on.
    unsafe { blocking::matmul::<Weights<C>>(m) }
}

impl Columns for F32 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn two(group: *const u8, k: usize) -> [Column; 2] {
        // SAFETY: passed on.
        unsafe { [Self::last(group, k), Self::last(group, k + 1)] }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn last(group: *const u8, k: usize) -> Column {
        // SAFETY: a column is 16 floats.
        [0, 8].map(|r| unsafe { _mm256_loadu_ps(group.cast::<f32>().add(k * GROUP + r)) })
    }
}

impl Columns for F16 {
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn two(group: *const u8, k: usize) -> [Column; 2] {
        // SAFETY: passed on.
        unsafe { [Self::last(group, k), Self::last(group, k + 1)] }
    }

    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn last(group: *const u8, k: usize) -> Column {
        // SAFETY: a column is 16 halves.
        [0, 16].map(|r| unsafe { _mm256_cvtph_ps(_mm_loadu_si128(group.add(k * 2 * GROUP + r).cast())) })
    }
}

impl Columns for BF16 {
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn two(group: *const u8, k: usize) -> [Column; 2] {
        let mask = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
        // SAFETY: two columns are 16 pairs.
        let pairs = [0, 32].map(|r| unsafe { _mm256_loadu_si256(group.add(k * 2 * GROUP + r).cast()) });
        [
            pairs.map(|p| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(p))),
            pairs.map(|p| _mm256_castsi256_ps(_mm256_and_si256(p, mask))),
        ]
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn last(group: *const u8, k: usize) -> Column {
        [0, 16].map(|r| {
            // SAFETY: a column is 16 halves.
            let halves = unsafe { _mm_loadu_si128(group.add(k * 2 * GROUP + r).cast()) };
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
        })
    }
}

/// Four tokens at once at most: their sums, two vectors each, leave room for a column. Fewer tokens take more groups,
/// whose sums hide each other's latency.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
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
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<C: Columns, const G: usize, const T: usize, const N: usize>(p: &Panel, g: usize, t0: usize, x: &Floats) {
    let w: [*const u8; G] = core::array::from_fn(|i| p.w.wrapping_add((g + i) * p.group_bytes));
    let out = |i: usize, t: usize| p.out.wrapping_add((t0 + t) * p.out_stride + (g + i) * GROUP);
    let mut acc = [[[_mm256_setzero_ps(); 2]; N]; G];
    if !p.first {
        for i in 0..G {
            let masks = tail_masks(p.rows - (g + i) * GROUP);
            for t in 0..N {
                // SAFETY: the masks keep to the panel's rows.
                acc[i][t] = unsafe { load(out(i, t), masks) };
            }
        }
    }
    let column_bytes = C::DTYPE.block_bytes() * GROUP;
    for k in (0..p.cols & !1).step_by(2) {
        // Behind the end of these groups come the next `G`, not what lies there.
        let ahead = k * column_bytes + AHEAD;
        let ahead = if ahead < p.cols * column_bytes {
            ahead
        } else {
            ahead + (G - 1) * p.group_bytes
        };
        for i in 0..G {
            for line in 0..2 * column_bytes / 64 {
                _mm_prefetch::<_MM_HINT_T1>(w[i].wrapping_add(ahead + line * 64).cast());
            }
            // SAFETY: columns `k` and `k + 1` are in the chunk and in the stage.
            unsafe {
                let columns = C::two(w[i], k);
                for j in 0..2 {
                    for t in 0..N {
                        let x = _mm256_set1_ps(*x.row::<T>(t0 + t).add(k + j));
                        for h in 0..2 {
                            acc[i][t][h] = _mm256_fmadd_ps(columns[j][h], x, acc[i][t][h]);
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
                    let x = _mm256_set1_ps(*x.row::<T>(t0 + t).add(k));
                    for h in 0..2 {
                        acc[i][t][h] = _mm256_fmadd_ps(column[h], x, acc[i][t][h]);
                    }
                }
            }
        }
    }
    for i in 0..G {
        let masks = tail_masks(p.rows - (g + i) * GROUP);
        for t in 0..N {
            // SAFETY: the masks keep to the panel's rows.
            unsafe { store(out(i, t), masks, acc[i][t]) };
        }
    }
}
