//! What the compiler makes of plain loops.

use core::hint::black_box;

/// Sums side by side: a few vectors of whatever the target has.
const SUMS: usize = 64;

/// See [`crate::isa::Peak::float`].
pub unsafe fn float(rounds: usize) -> u64 {
    let (a, b) = (black_box(1.0_f32), black_box(1e-9_f32));
    let mut sums = [0.0_f32; SUMS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = a * *sum + b;
        }
    }
    black_box(sums);
    (rounds * SUMS * 2) as u64
}

/// See [`crate::isa::Peak::int8`].
pub unsafe fn int8(rounds: usize) -> u64 {
    let mut sums = [0_i32; SUMS];
    for _ in 0..rounds {
        let a = i32::from(black_box(1_i8));
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = sum.wrapping_add(a * i as i32);
        }
    }
    black_box(sums);
    (rounds * SUMS * 2) as u64
}

/// See [`crate::isa::Peak::read`].
pub unsafe fn read(at: *const u8, bytes: usize, streams: usize, _: usize) -> u64 {
    let part = bytes / streams / 64 * 64;
    let mut all = [0_u64; 8];
    for line in (0..part).step_by(64) {
        for stream in 0..streams {
            // SAFETY: `streams` times `part` bytes are there.
            let line = unsafe { at.add(stream * part + line).cast::<[u64; 8]>().read_unaligned() };
            for (all, word) in all.iter_mut().zip(line) {
                *all ^= word;
            }
        }
    }
    black_box(all);
    (part * streams) as u64
}
