//! Activations for tiles: a Q8 row that holds bf16.
//!
//! The bytes of a block of 32 columns, half of them in each plane, are as many bf16, of 16 columns a plane; the first
//! plane's scale is their sum. Four columns are in the order 0, 2, 1, 3, see [`super::pairs`]. The rest is zero.

use core::arch::x86_64::*;

use crate::dtype::{PLANES, plane_bytes};

const _: () = assert!(PLANES == 2, "a plane for each half of a block");

/// See [`crate::isa::Isa::quantize_row`].
///
/// # Safety
/// As there, and the CPU has this tier's features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub unsafe fn quantize_row(x: *const f32, n: usize, out: *mut u8) {
    debug_assert!(n.is_multiple_of(32));
    for b in 0..n / 32 {
        let mut sum = _mm512_setzero_ps();
        for half in 0..2 {
            // SAFETY: 16 floats of `x`, 32 bytes of a plane.
            unsafe {
                let x = _mm512_loadu_ps(x.add(32 * b + 16 * half));
                let halves: __m256i = core::mem::transmute(_mm512_cvtneps_pbh(x));
                let rounded = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves));
                sum = _mm512_add_ps(sum, _mm512_castsi512_ps(rounded));
                _mm256_storeu_si256(out.add(half * plane_bytes(n) + 32 * b).cast(), swap(halves));
            }
        }
        // SAFETY: in a plane, behind `n` bytes, are `n / 32` scales and as many sums.
        unsafe {
            for plane in 0..PLANES {
                let scale = if plane == 0 { _mm512_reduce_add_ps(sum) } else { 0.0 };
                let words = out.add(plane * plane_bytes(n) + n + 4 * b);
                words.cast::<f32>().write(scale);
                words.add(n / 8).cast::<i32>().write(0);
            }
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
        let (block, half, col) = (i / 32, i / 16 % 2, i % 16);
        let place = col / 4 * 4 + [0, 2, 1, 3][col % 4];
        // SAFETY: a bf16 of the row; its planes are whole words.
        unsafe {
            let bits = q8
                .add(half * plane_bytes(n) + 32 * block + 2 * place)
                .cast::<u16>()
                .read_unaligned();
            *out.add(i) = f32::from_bits(u32::from(bits) << 16);
        }
    }
}
