//! What 256-bit vectors can do at best.

use core::arch::x86_64::*;
use core::hint::black_box;

/// Independent sums: more than the latency of an instruction times those that start in a cycle.
const SUMS: usize = 12;

/// See [`crate::isa::Peak::float`].
#[target_feature(enable = "avx2,fma")]
pub unsafe fn float(rounds: usize) -> u64 {
    let (a, b) = (_mm256_set1_ps(black_box(1.0)), _mm256_set1_ps(black_box(1e-9)));
    let mut sums = [_mm256_setzero_ps(); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm256_fmadd_ps(a, *sum, b);
        }
    }
    black_box(sums);
    (rounds * SUMS * 8 * 2) as u64
}

/// See [`crate::isa::Peak::int8`].
#[target_feature(enable = "avx2")]
pub unsafe fn int8(rounds: usize) -> u64 {
    let b = _mm256_set1_epi8(black_box(1));
    let mut sums = [_mm256_setzero_si256(); SUMS];
    for _ in 0..rounds {
        // Opaque, or the product would be the same in every round.
        let a = black_box(b);
        for sum in &mut sums {
            *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(a, *sum));
        }
    }
    black_box(sums);
    (rounds * SUMS * 32 * 2) as u64
}

/// See [`crate::isa::Peak::read`].
#[target_feature(enable = "avx2")]
pub unsafe fn read(at: *const u8, bytes: usize, streams: usize, ahead: usize) -> u64 {
    let part = bytes / streams / 64 * 64;
    let mut all = [_mm256_setzero_si256(); 2];
    for line in (0..part).step_by(64) {
        for stream in 0..streams {
            let from = at.wrapping_add(stream * part + line);
            _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(ahead).cast());
            for (i, all) in all.iter_mut().enumerate() {
                // SAFETY: `streams` times `part` bytes are there.
                *all = _mm256_xor_si256(*all, unsafe { _mm256_loadu_si256(from.cast::<__m256i>().add(i)) });
            }
        }
    }
    black_box(all);
    (part * streams) as u64
}
