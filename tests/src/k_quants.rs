//! Blocks of 256 as ggml's files have them, out of floats. Plain rounding: what a file maker does better only matters to
//! who reads the text.

use ck_kernels::dtype::DType;
use ck_kernels::quant::half::{f16_to_f32, f32_to_f16};

/// Rows of 256 weights each, as `dtype`.
///
/// # Panics
/// If that is none of `q4_k`, `q5_k`, `q6_k`.
pub fn k_quants(dtype: DType, weights: &[f32]) -> Vec<u8> {
    let (blocks, []) = weights.as_chunks::<256>() else {
        panic!("{} weights are not whole blocks", weights.len());
    };
    let encode = match dtype {
        DType::Q4K => |xs: &_| affine(xs, 15),
        DType::Q5K => |xs: &_| affine(xs, 31),
        DType::Q6K => six,
        other => panic!("{} has no blocks of 256", other.name()),
    };
    blocks.iter().flat_map(encode).collect()
}

/// The nearest f16, as bytes and as it reads.
fn half(x: f32) -> ([u8; 2], f32) {
    let bits = f32_to_f16(x);
    (bits.to_le_bytes(), f16_to_f32(bits))
}

/// `x / d`, rounded, in `0..=most`.
fn level(x: f32, d: f32, most: u8) -> u8 {
    if d > 0.0 {
        (x / d).round().clamp(0.0, most.into()) as u8
    } else {
        0
    }
}

/// `q4_k`, or `q5_k` if there are levels for it.
fn affine(xs: &[f32; 256], most: u8) -> Vec<u8> {
    let parts = xs.as_chunks::<32>().0;
    let lows: Vec<f32> = parts.iter().map(|xs| -xs.iter().copied().fold(0.0, f32::min)).collect();
    let highs = parts.iter().map(|xs| xs.iter().copied().fold(0.0, f32::max));
    let steps: Vec<f32> = highs
        .zip(&lows)
        .map(|(high, low)| (high + low) / f32::from(most))
        .collect();
    let most_of = |of: &[f32]| of.iter().copied().fold(0.0, f32::max);
    let (d_bytes, d) = half(most_of(&steps) / 63.0);
    let (m_bytes, dmin) = half(most_of(&lows) / 63.0);
    let sc: Vec<u8> = steps.iter().map(|step| level(*step, d, 63)).collect();
    let m: Vec<u8> = lows.iter().map(|low| level(*low, dmin, 63)).collect();
    let q: Vec<u8> = (0..256)
        .map(|i| {
            let (sc, m) = (f32::from(sc[i / 32]), f32::from(m[i / 32]));
            level(xs[i] + dmin * m, d * sc, most)
        })
        .collect();
    let mut block = [d_bytes, m_bytes].concat();
    block.extend((0..4).map(|j| sc[j] | sc[j + 4] >> 4 << 6));
    block.extend((0..4).map(|j| m[j] | m[j + 4] >> 4 << 6));
    block.extend((4..8).map(|j| sc[j] & 15 | m[j] << 4));
    if most > 15 {
        block.extend((0..32).map(|i| (0..8).fold(0, |bits, j| bits | (q[32 * j + i] >> 4) << j)));
    }
    block.extend((0..128).map(|i| {
        let low = i / 32 * 64 + i % 32;
        q[low] & 15 | q[low + 32] << 4
    }));
    block
}

/// `q6_k`.
fn six(xs: &[f32; 256]) -> Vec<u8> {
    let steps = xs
        .as_chunks::<16>()
        .0
        .iter()
        .map(|xs| xs.iter().fold(0.0, |m: f32, x| m.max(x.abs())) / 31.0);
    let steps: Vec<f32> = steps.collect();
    let (d_bytes, d) = half(steps.iter().copied().fold(0.0, f32::max) / 127.0);
    let sc: Vec<u8> = steps.iter().map(|step| level(*step, d, 127)).collect();
    let q: Vec<u8> = (0..256)
        .map(|i| {
            let step = d * f32::from(sc[i / 16]);
            level(xs[i] + 32.0 * step, step, 63)
        })
        .collect();
    let nibbles = (0..128).map(|i| {
        let low = i / 64 * 128 + i % 64;
        q[low] & 15 | q[low + 64] << 4
    });
    let pairs = (0..64).map(|i| {
        let first = i / 32 * 128 + i % 32;
        (0..4).fold(0, |bits, k| bits | (q[first + 32 * k] >> 4) << (2 * k))
    });
    nibbles.chain(pairs).chain(sc.iter().copied()).chain(d_bytes).collect()
}
