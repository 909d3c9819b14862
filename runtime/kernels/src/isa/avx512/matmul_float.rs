//! Matmuls with float weights: sixteen rows a vector, one accumulator an output.

use core::arch::x86_64::*;
use core::marker::PhantomData;

use super::tail_mask;
use crate::dtype::{DType, GROUP};
use crate::isa::Matmul;
use crate::isa::blocking::{self, Floats, Kernel, Panel};
use crate::quant::{Float, bf16::BF16, f16::F16, f32::F32};

/// Bytes ahead of the weights in use: far enough to cover memory's latency, near enough to stay in L1 until then.
const AHEAD: usize = 3072;

/// How the columns of a group become vectors of f32.
trait Columns: Float {
    /// The columns `k` and `k + 1`, `k` even.
    ///
    /// # Safety
    /// They are there.
    unsafe fn two(group: *const u8, k: usize) -> [__m512; 2];

    /// The last column, `k`, `k` even.
    ///
    /// # Safety
    /// It is there.
    unsafe fn last(group: *const u8, k: usize) -> __m512;
}

/// The arithmetic of a float type.
struct Weights<C>(PhantomData<C>);

impl<C: Columns> Kernel for Weights<C> {
    const DTYPE: DType = C::DTYPE;
    type Stage = Floats;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma,f16c")]
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
    #[target_feature(enable = "avx512f")]
    unsafe fn two(group: *const u8, k: usize) -> [__m512; 2] {
        // SAFETY: passed on.
        unsafe { [Self::last(group, k), Self::last(group, k + 1)] }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn last(group: *const u8, k: usize) -> __m512 {
        // SAFETY: a column is 16 floats.
        unsafe { _mm512_loadu_ps(group.cast::<f32>().add(k * GROUP)) }
    }
}

impl Columns for F16 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn two(group: *const u8, k: usize) -> [__m512; 2] {
        // SAFETY: passed on.
        unsafe { [Self::last(group, k), Self::last(group, k + 1)] }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn last(group: *const u8, k: usize) -> __m512 {
        // SAFETY: a column is 16 halves.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(group.add(k * 2 * GROUP).cast())) }
    }
}

impl Columns for BF16 {
    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn two(group: *const u8, k: usize) -> [__m512; 2] {
        // SAFETY: two columns are 16 pairs.
        let pairs = unsafe { _mm512_loadu_si512(group.add(k * 2 * GROUP).cast()) };
        let odd = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32.cast_signed()));
        [
            _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)),
            _mm512_castsi512_ps(odd),
        ]
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn last(group: *const u8, k: usize) -> __m512 {
        // SAFETY: a column is 16 halves.
        let halves = unsafe { _mm256_loadu_si256(group.add(k * 2 * GROUP).cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))
    }
}

/// Several groups at once: they share each broadcast of an activation, and their sums hide each other's latency.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma,f16c")]
unsafe fn panel<C: Columns, const T: usize>(p: &Panel, x: &Floats) {
    let groups = p.rows.div_ceil(GROUP);
    let mut g = 0;
    // SAFETY: the groups are in the panel.
    unsafe {
        // One token waits for memory: more than two streams of it are slower than two.
        if T == 2 {
            while g + 4 <= groups {
                tile::<C, 4, T>(p, g, x);
                g += 4;
            }
        }
        while g + 2 <= groups {
            tile::<C, 2, T>(p, g, x);
            g += 2;
        }
        if g < groups {
            tile::<C, 1, T>(p, g, x);
        }
    }
}

/// Groups `g..g + G` with all tokens of the stage.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma,f16c")]
unsafe fn tile<C: Columns, const G: usize, const T: usize>(p: &Panel, g: usize, x: &Floats) {
    let w: [*const u8; G] = core::array::from_fn(|i| p.w.wrapping_add((g + i) * p.group_bytes));
    let masks: [__mmask16; G] = core::array::from_fn(|i| tail_mask(p.rows - (g + i) * GROUP));
    let out = |i: usize, t: usize| p.out.wrapping_add(t * p.out_stride + (g + i) * GROUP);
    let mut acc = [[_mm512_setzero_ps(); T]; G];
    if !p.first {
        for i in 0..G {
            for t in 0..T {
                // SAFETY: the mask keeps to the panel's rows.
                acc[i][t] = unsafe { _mm512_maskz_loadu_ps(masks[i], out(i, t)) };
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
        for w in w {
            for line in 0..2 * column_bytes / 64 {
                _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(ahead + line * 64).cast());
            }
        }
        // SAFETY: columns `k` and `k + 1` are in the chunk.
        let columns: [[__m512; 2]; G] = core::array::from_fn(|i| unsafe { C::two(w[i], k) });
        for t in 0..T {
            for j in 0..2 {
                // SAFETY: the same columns are in the stage.
                let x = unsafe { _mm512_set1_ps(*x.row::<T>(t).add(k + j)) };
                for i in 0..G {
                    acc[i][t] = _mm512_fmadd_ps(columns[i][j], x, acc[i][t]);
                }
            }
        }
    }
    if p.cols % 2 == 1 {
        let k = p.cols - 1;
        for t in 0..T {
            // SAFETY: column `k` is in the chunk and in the stage.
            unsafe {
                let x = _mm512_set1_ps(*x.row::<T>(t).add(k));
                for i in 0..G {
                    acc[i][t] = _mm512_fmadd_ps(C::last(w[i], k), x, acc[i][t]);
                }
            }
        }
    }
    for i in 0..G {
        for t in 0..T {
            // SAFETY: the mask keeps to the panel's rows.
            unsafe { _mm512_mask_storeu_ps(out(i, t), masks[i], acc[i][t]) };
        }
    }
}
