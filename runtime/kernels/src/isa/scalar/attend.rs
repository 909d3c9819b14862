//! Attention, one query and one position at a time.

use crate::isa::{Attend, visible};
use crate::math;
use crate::quant::half;

/// Elements of the largest head.
const MAX_HEAD: usize = 256;

/// See [`Attend`].
///
/// # Safety
/// - `q` and `out` are valid for `tokens` rows of `heads * head_dim` floats at their strides; they are the same or
///   disjoint.
/// - `k` and `v` are valid and written up to position `pos + tokens - 1`, in whole tiles of 16 positions for `k`.
pub unsafe fn attend(a: &Attend) {
    assert!(a.head_dim <= MAX_HEAD, "a head has at most 256 elements");
    for row in 0..a.tokens * a.heads {
        let (t, head) = (row / a.heads, row % a.heads * a.head_dim);
        let mut query = [0.0f32; MAX_HEAD];
        let mut sums = [0.0f32; MAX_HEAD];
        for d in 0..a.head_dim {
            // SAFETY: `t < tokens`, `d < head_dim`.
            query[d] = unsafe { *a.q.add(t * a.q_stride + head + d) };
        }
        let mut max = f32::NEG_INFINITY;
        let mut total = 0.0f32;
        for position in visible(a.pos + t, a.window) {
            let mut dot = 0.0f32;
            for d in 0..a.head_dim {
                let at = (position / 16 * a.head_dim + d) * 16 + position % 16;
                // SAFETY: `position` is at most the query's, whose key is in the cache.
                dot += query[d] * unsafe { load(a.k, at, a.half) };
            }
            let mut score = dot * a.scale;
            if a.softcap > 0.0 {
                score = a.softcap * math::tanh(score / a.softcap);
            }
            if score > max {
                let shrink = math::exp(max - score);
                total *= shrink;
                for sum in &mut sums[..a.head_dim] {
                    *sum *= shrink;
                }
                max = score;
            }
            let weight = math::exp(score - max);
            total += weight;
            for d in 0..a.head_dim {
                // SAFETY: as above, for the value.
                sums[d] += weight * unsafe { load(a.v, position * a.head_dim + d, a.half) };
            }
        }
        for d in 0..a.head_dim {
            // SAFETY: `t < tokens`, `d < head_dim`; the query of this row has been read.
            unsafe { *a.out.add(t * a.out_stride + head + d) = sums[d] / total };
        }
    }
}

/// Element `i` of a cache.
///
/// # Safety
/// The element is inside the cache.
unsafe fn load(base: *const u8, i: usize, half: bool) -> f32 {
    // SAFETY: the caller's contract; a cache starts on a cache line.
    unsafe {
        if half {
            half::f16_to_f32(*base.cast::<u16>().add(i))
        } else {
            *base.cast::<f32>().add(i)
        }
    }
}
