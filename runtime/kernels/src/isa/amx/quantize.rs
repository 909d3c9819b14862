//! Activations for tiles: a Q8 row that holds bf16.
//!
//! The bytes of a block are its 32 columns as bf16: a row of a tile. Nothing asks for the scale and the sum of a block:
//! they are zero.

use core::arch::x86_64::*;

use crate::dtype::Q8;

/// See [`crate::isa::Isa::quantize_row`].
///
/// # Safety
/// As there, and the CPU has this tier's features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub unsafe fn quantize_row(x: *const f32, n: usize, out: *mut u8) {
    let row = Q8 { cols: n };
    // SAFETY: the blocks, and the rest of a row.
    unsafe {
        round_row(x, n, out);
        out.add(row.scales()).write_bytes(0, row.bytes() - row.scales());
    }
}

/// See [`crate::isa::Rounded::row`].
///
/// # Safety
/// As there, and the CPU has this tier's features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")]
pub unsafe fn round_row(x: *const f32, n: usize, out: *mut u8) {
    debug_assert!(n.is_multiple_of(Q8::BLOCK));
    for b in 0..n / Q8::BLOCK {
        // SAFETY: 32 floats of `x`, as many bf16.
        unsafe {
            let half = |i: usize| _mm512_loadu_ps(x.add(Q8::BLOCK * b + i * Q8::BLOCK / 2));
            let both: __m512i = core::mem::transmute(_mm512_cvtne2ps_pbh(half(1), half(0)));
            _mm512_storeu_si512(out.add(Q8::BLOCK_BYTES * b).cast(), both);
        }
    }
}

/// See [`crate::isa::Isa::dequantize_row`].
///
/// # Safety
/// As there.
pub unsafe fn dequantize_row(q8: *const u8, n: usize, out: *mut f32) {
    for i in 0..n {
        // SAFETY: a bf16 of the row, a float of `out`.
        unsafe {
            let bits = q8.cast::<u16>().add(i).read_unaligned();
            *out.add(i) = f32::from_bits(u32::from(bits) << 16);
        }
    }
}
