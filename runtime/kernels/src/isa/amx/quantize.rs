//! Activations for tiles: a Q8 row that holds bf16.
//!
//! The bytes of a block are its 32 columns as bf16: a row of a tile. Four columns are in the order 0, 2, 1, 3, see
//! [`super::pairs`]. The scale is their sum, and the sum is zero.

use core::arch::x86_64::*;

use crate::dtype::Q8;

/// See [`crate::isa::Isa::quantize_row`].
///
/// # Safety
/// As there, and the CPU has this tier's features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub unsafe fn quantize_row(x: *const f32, n: usize, out: *mut u8) {
    debug_assert!(n.is_multiple_of(Q8::BLOCK));
    let row = Q8 { cols: n };
    for b in 0..row.blocks() {
        let mut sum = _mm512_setzero_ps();
        for half in 0..2 {
            // SAFETY: 16 floats of `x`, half of a block's bytes.
            unsafe {
                let x = _mm512_loadu_ps(x.add(32 * b + 16 * half));
                let halves: __m256i = core::mem::transmute(_mm512_cvtneps_pbh(x));
                let rounded = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves));
                sum = _mm512_add_ps(sum, _mm512_castsi512_ps(rounded));
                _mm256_storeu_si256(out.add(Q8::BLOCK_BYTES * b + 32 * half).cast(), swap(halves));
            }
        }
        // SAFETY: the parts of a row.
        unsafe {
            out.add(row.scales() + 4 * b)
                .cast::<f32>()
                .write(_mm512_reduce_add_ps(sum));
            out.add(row.sums() + 4 * b).cast::<i32>().write(0);
        }
    }
}

/// Exchanges columns 1 and 2 of each four.
#[inline]
#[target_feature(enable = "avx2")]
fn swap(halves: __m256i) -> __m256i {
    const ORDER: i32 = 0b11_01_10_00;
    _mm256_shufflehi_epi16::<ORDER>(_mm256_shufflelo_epi16::<ORDER>(halves))
}

/// See [`crate::isa::Isa::dequantize_row`].
///
/// # Safety
/// As there.
pub unsafe fn dequantize_row(q8: *const u8, n: usize, out: *mut f32) {
    for i in 0..n {
        let place = i / 4 * 4 + [0, 2, 1, 3][i % 4];
        // SAFETY: a bf16 of the row, a float of `out`.
        unsafe {
            let bits = q8.cast::<u16>().add(place).read_unaligned();
            *out.add(i) = f32::from_bits(u32::from(bits) << 16);
        }
    }
}
