//! 256-bit vectors: AVX2, FMA and F16C.

use core::arch::x86_64::*;

use super::chunks::Merge;
use super::vector::{self, entry_points};
use super::{Attend, Isa, Peak, matmuls, matmuls_of_words};
use crate::dtype::registry;
use crate::ops::Gate;

mod matmul_float;
mod matmul_quant;
mod matmul_words;
mod pack;
mod peak;
mod quantize;

entry_points!(pack::Ymm2, "avx2,fma,f16c", shared: [1, 1], single: [4, 4]);

/// The table.
pub static AVX2: Isa = Isa {
    name: "avx2",
    few: None,
    matmul: registry!(matmuls),
    many: Some(registry!(matmuls_of_words)),
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
        int8: peak::int8,
        tiles: None,
        read: peak::read,
    },
};

/// The lanes of both halves of a group that has `rows` rows left.
#[inline]
#[target_feature(enable = "avx2")]
fn tail_masks(rows: usize) -> [__m256i; 2] {
    let rows = _mm256_set1_epi32(rows.min(16) as i32);
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    [
        _mm256_cmpgt_epi32(rows, lanes),
        _mm256_cmpgt_epi32(rows, _mm256_add_epi32(lanes, _mm256_set1_epi32(8))),
    ]
}

/// A group's sums so far; zero outside the masks.
///
/// # Safety
/// The lanes in the masks are there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(out: *const f32, masks: [__m256i; 2]) -> [__m256; 2] {
    // SAFETY: passed on.
    unsafe {
        [
            _mm256_maskload_ps(out, masks[0]),
            _mm256_maskload_ps(out.wrapping_add(8), masks[1]),
        ]
    }
}

/// Puts a group's sums.
///
/// # Safety
/// The lanes in the masks are there.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn store(out: *mut f32, masks: [__m256i; 2], sums: [__m256; 2]) {
    // SAFETY: passed on.
    unsafe {
        _mm256_maskstore_ps(out, masks[0], sums[0]);
        _mm256_maskstore_ps(out.wrapping_add(8), masks[1], sums[1]);
    }
}
