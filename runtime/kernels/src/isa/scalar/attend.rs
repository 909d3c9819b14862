//! Attention, one query and one position at a time.

use core::ops::Range;

use crate::isa::Attend;
use crate::isa::chunks::{CHUNK, MAX_HEAD, Merge, PART_VALUES, PART_WEIGHTS, part_floats};
use crate::math;
use crate::quant::half;

/// What a query finds in some positions.
#[derive(Clone, Copy)]
struct Part {
    /// Largest score.
    max: f32,
    /// Sum of the weights, relative to it.
    total: f32,
    /// Weighted values.
    sums: [f32; MAX_HEAD],
}

impl Part {
    const NONE: Part = Part {
        max: f32::NEG_INFINITY,
        total: 0.0,
        sums: [0.0; MAX_HEAD],
    };

    /// Adds what it finds in later positions.
    fn join(&mut self, later: &Part) {
        let top = self.max.max(later.max);
        let (old, new) = (math::exp(self.max - top), math::exp(later.max - top));
        for (sum, other) in self.sums.iter_mut().zip(&later.sums) {
            *sum = *sum * old + other * new;
        }
        (self.max, self.total) = (top, self.total * old + later.total * new);
    }

    /// Writes the mean of the values of a head of `n` elements.
    ///
    /// # Safety
    /// `out` is valid for writes of `n` floats.
    unsafe fn divide(&self, n: usize, out: *mut f32) {
        for (d, sum) in self.sums[..n].iter().enumerate() {
            // SAFETY: the caller's contract.
            unsafe { *out.add(d) = sum / self.total };
        }
    }

    /// Of a head of `n` elements, from memory; the other elements are 0.
    ///
    /// # Safety
    /// `at` is valid for reads of a part.
    unsafe fn load(at: *const f32, n: usize) -> Part {
        let mut part = Part::NONE;
        // SAFETY: the caller's contract.
        unsafe {
            (part.max, part.total) = (*at, *at.add(PART_WEIGHTS));
            part.sums.as_mut_ptr().copy_from_nonoverlapping(at.add(PART_VALUES), n);
        }
        part
    }

    /// The reverse of [`Part::load`]; the weights are all in the first of their sums.
    ///
    /// # Safety
    /// `at` is valid for writes of a part.
    unsafe fn store(&self, at: *mut f32, n: usize) {
        // SAFETY: the caller's contract.
        unsafe {
            (*at, *at.add(PART_WEIGHTS)) = (self.max, self.total);
            at.add(PART_VALUES).copy_from_nonoverlapping(self.sums.as_ptr(), n);
        }
    }
}

/// See [`Attend`].
///
/// # Safety
/// - `q` and `out` are valid for `tokens` rows of `heads * head_dim` floats at their strides; they are the same or
///   disjoint. If there is a chunk, its `out` is valid for a part a row instead.
/// - `k` and `v` are valid and written up to position `pos + tokens - 1`, in whole tiles of 16 positions for `k`.
pub unsafe fn attend(a: &Attend) {
    assert!(a.head_dim <= MAX_HEAD, "a head has at most 256 elements");
    for row in 0..a.tokens * a.heads {
        let (t, head) = (row / a.heads, row % a.heads * a.head_dim);
        let mut query = [0.0f32; MAX_HEAD];
        for d in 0..a.head_dim {
            // SAFETY: `t < tokens`, `d < head_dim`.
            query[d] = unsafe { *a.q.add(t * a.q_stride + head + d) };
        }
        let seen = a.seen(t);
        let of = |chunk: usize| seen.start.max(chunk * CHUNK)..seen.end.min((chunk + 1) * CHUNK);
        let (first, last) = (seen.start / CHUNK, (seen.end - 1) / CHUNK);
        // SAFETY: these positions are at most the query's, whose key is in the cache; `t < tokens`; the query of this row
        // has been read.
        unsafe {
            let mut found = find(a, &query, of(first));
            for chunk in first + 1..=last {
                found.join(&find(a, &query, of(chunk)));
            }
            match &a.chunk {
                Some(chunk) => found.store(chunk.out.add(row * chunk.stride), a.head_dim),
                None => found.divide(a.head_dim, a.out.add(t * a.out_stride + head)),
            }
        }
    }
}

/// What a query finds in `positions`, of one chunk.
///
/// # Safety
/// As [`attend`]; the positions are in the cache.
unsafe fn find(a: &Attend, query: &[f32; MAX_HEAD], positions: Range<usize>) -> Part {
    let mut found = Part::NONE;
    for position in positions {
        let mut dot = 0.0f32;
        for d in 0..a.head_dim {
            let at = (position / 16 * a.head_dim + d) * 16 + position % 16;
            // SAFETY: the caller's contract.
            dot += query[d] * unsafe { load(a.k, at, a.half) };
        }
        let mut score = dot * a.scale;
        if a.softcap > 0.0 {
            score = a.softcap * math::tanh(score / a.softcap);
        }
        if score > found.max {
            let shrink = math::exp(found.max - score);
            found.total *= shrink;
            for sum in &mut found.sums[..a.head_dim] {
                *sum *= shrink;
            }
            found.max = score;
        }
        let weight = math::exp(score - found.max);
        found.total += weight;
        for d in 0..a.head_dim {
            // SAFETY: as above, for the value.
            found.sums[d] += weight * unsafe { load(a.v, position * a.head_dim + d, a.half) };
        }
    }
    found
}

/// See [`Merge`].
///
/// # Safety
/// `at` is valid for reads and writes of the parts, `out` for writes of `head_dim` floats.
pub unsafe fn merge(m: &Merge) {
    assert!(m.head_dim <= MAX_HEAD, "a head has at most 256 elements");
    // SAFETY: the caller's contract.
    unsafe {
        let mut found = Part::load(m.at, m.head_dim);
        for part in 1..m.parts {
            found.join(&Part::load(m.at.add(part * part_floats(m.head_dim)), m.head_dim));
        }
        found.divide(m.head_dim, m.out);
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
