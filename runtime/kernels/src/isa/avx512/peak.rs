//! What 512-bit vectors can do at best.

use core::arch::x86_64::*;
use core::hint::black_box;

/// Independent sums: more than the latency of an instruction times those that start in a cycle.
const SUMS: usize = 16;

/// See [`crate::isa::Peak::float`].
#[target_feature(enable = "avx512f")]
pub unsafe fn float(rounds: usize) -> u64 {
    let (a, b) = (_mm512_set1_ps(black_box(1.0)), _mm512_set1_ps(black_box(1e-9)));
    let mut sums = [_mm512_setzero_ps(); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(a, *sum, b);
        }
    }
    black_box(sums);
    (rounds * SUMS * 16 * 2) as u64
}

/// See [`crate::isa::Peak::int8`].
#[target_feature(enable = "avx512f,avx512vnni")]
pub unsafe fn int8(rounds: usize) -> u64 {
    let (a, b) = (_mm512_set1_epi8(black_box(1)), _mm512_set1_epi8(black_box(1)));
    let mut sums = [_mm512_setzero_si512(); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    black_box(sums);
    (rounds * SUMS * 64 * 2) as u64
}

/// See [`crate::isa::Peak::read`].
#[target_feature(enable = "avx512f")]
pub unsafe fn read(at: *const u8, bytes: usize, streams: usize, ahead: usize) -> u64 {
    let part = bytes / streams / 64 * 64;
    let mut all = _mm512_setzero_si512();
    for line in (0..part).step_by(64) {
        for stream in 0..streams {
            let from = at.wrapping_add(stream * part + line);
            _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(ahead).cast());
            // SAFETY: `streams` times `part` bytes are there.
            all = _mm512_xor_si512(all, unsafe { _mm512_loadu_si512(from.cast()) });
        }
    }
    black_box(all);
    (part * streams) as u64
}
