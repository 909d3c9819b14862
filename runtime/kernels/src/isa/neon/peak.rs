//! What 128-bit vectors can do at best.

use core::arch::aarch64::*;
use core::hint::black_box;

use super::matmul_quant::Dot;

/// Independent sums: at least the latency of an instruction times those that start in a cycle.
const SUMS: usize = 16;

/// See [`crate::isa::Peak::float`].
#[target_feature(enable = "neon")]
pub unsafe fn float(rounds: usize) -> u64 {
    let (a, b) = (vdupq_n_f32(black_box(1.0)), vdupq_n_f32(black_box(1e-9)));
    let mut sums = [vdupq_n_f32(0.0); SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = vfmaq_f32(*sum, a, b);
        }
    }
    black_box(sums);
    (rounds * SUMS * 4 * 2) as u64
}

/// See [`crate::isa::Peak::int8`].
#[target_feature(enable = "neon")]
pub unsafe fn int8<D: Dot>(rounds: usize) -> u64 {
    let b = vdupq_n_s8(black_box(1));
    let mut sums = [vdupq_n_s32(0); SUMS];
    for _ in 0..rounds {
        // Opaque, or the product would be the same in every round.
        let a = black_box(b);
        for sum in &mut sums {
            // SAFETY: the CPU has the tier's features.
            *sum = unsafe { D::dot::<0>(*sum, a, b) };
        }
    }
    black_box(sums);
    (rounds * SUMS * 16 * 2) as u64
}

/// See [`crate::isa::Peak::read`].
#[target_feature(enable = "neon")]
pub unsafe fn read(at: *const u8, bytes: usize, streams: usize, ahead: usize) -> u64 {
    let part = bytes / streams / 64 * 64;
    let mut all = [vdupq_n_u8(0); 4];
    for line in (0..part).step_by(64) {
        for stream in 0..streams {
            let from = at.wrapping_add(stream * part + line);
            // SAFETY: a hint, which reads nothing.
            unsafe {
                core::arch::asm!(
                    "prfm pldl1keep, [{}]",
                    in(reg) from.wrapping_add(ahead),
                    options(readonly, nostack, preserves_flags)
                );
            }
            for (i, all) in all.iter_mut().enumerate() {
                // SAFETY: `streams` times `part` bytes are there.
                *all = veorq_u8(*all, unsafe { vld1q_u8(from.add(16 * i)) });
            }
        }
    }
    black_box(all);
    (part * streams) as u64
}
