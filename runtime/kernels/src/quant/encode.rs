//! How ggml's reference encoders find scales and integers of 32 weights.

use super::{half, values};

/// Scale and integers, the weights being `scale * (q - half)`: the weight of largest magnitude, with its sign, becomes
/// `-half`, and `2 * half` would be one too many.
pub(super) fn centred(xs: &[f32; 32], half: u8) -> (f32, [u8; 32]) {
    let max = xs.iter().fold(0.0, |m: f32, x| if m.abs() < x.abs() { *x } else { m });
    let d = max / -f32::from(half);
    let id = if d == 0.0 { 0.0 } else { 1.0 / d };
    (
        d,
        xs.map(|x| ((x * id + (f32::from(half) + 0.5)) as u8).min(2 * half - 1)),
    )
}

/// Scale, minimum and integers up to `most`, the weights being `scale * q + minimum`.
pub(super) fn affine(xs: &[f32; 32], most: u8) -> (f32, f32, [u8; 32]) {
    let max = xs.iter().fold(f32::NEG_INFINITY, |m, x| m.max(*x));
    let min = xs.iter().fold(f32::INFINITY, |m, x| m.min(*x));
    let d = (max - min) / f32::from(most);
    let id = if d == 0.0 { 0.0 } else { 1.0 / d };
    (d, min, xs.map(|x| (((x - min) * id + 0.5) as u8).min(most)))
}

/// Puts `x` as an f16.
pub(super) fn put_half(to: &mut [u8], x: f32) {
    to.copy_from_slice(&half::f32_to_f16(x).to_le_bytes());
}

/// Puts the lower four bits, so that [`values::half_blocks`] reads them.
pub(super) fn put_nibbles(to: &mut [u8], q: &[u8; 32]) {
    for (i, byte) in to.iter_mut().enumerate() {
        *byte = q[i] & 15 | q[i + 16] << 4;
    }
    debug_assert!(values::half_blocks(to).iter().zip(q).all(|(got, q)| *got == q & 15));
}

/// Puts the fifth bits: bit `k` of a little-endian word is column `k`'s.
pub(super) fn put_fifths(to: &mut [u8], q: &[u8; 32]) {
    for (byte, eight) in to.iter_mut().zip(q.as_chunks::<8>().0) {
        *byte = eight.iter().rev().fold(0, |bits, q| bits << 1 | q >> 4 & 1);
    }
}
