//! What the integers of a block are scaled with: one type each way, without values. The arithmetic of each tier is with
//! its matmuls.

use crate::dtype::GROUP;

/// A way to scale.
pub trait Scales {
    /// Halves of a block.
    const HALVES: usize;
    /// Bytes of scales of a block.
    const BYTES: usize = 0;
    /// Bytes of a packed block's header.
    const HEADER: usize = GROUP * (2 * Self::HALVES + Self::BYTES);

    /// What the integers of 32 columns stand for, the `j`th of a block; in ggml's order of operations.
    fn weights(j: usize, half: impl Fn(usize) -> f32, byte: impl Fn(usize) -> u8, q: &[u8; 32]) -> [f32; 32];
}

/// `d * (q - BIAS)`.
pub enum Centred<const BIAS: i32> {}

impl<const BIAS: i32> Scales for Centred<BIAS> {
    const HALVES: usize = 1;

    fn weights(_: usize, half: impl Fn(usize) -> f32, _: impl Fn(usize) -> u8, q: &[u8; 32]) -> [f32; 32] {
        let d = half(0);
        q.map(|q| d * (i32::from(q) - BIAS) as f32)
    }
}

/// `d * q + m`.
pub enum Affine {}

impl Scales for Affine {
    const HALVES: usize = 2;

    fn weights(_: usize, half: impl Fn(usize) -> f32, _: impl Fn(usize) -> u8, q: &[u8; 32]) -> [f32; 32] {
        let (d, m) = (half(0), half(1));
        q.map(|q| d * f32::from(q) + m)
    }
}

/// `(d * sc) * q - (dmin * m)`, `sc` and `m` six bits for each 32 columns, in twelve bytes (see [`scale_min`]).
pub enum SubAffine {}

impl Scales for SubAffine {
    const HALVES: usize = 2;
    const BYTES: usize = 12;

    fn weights(j: usize, half: impl Fn(usize) -> f32, byte: impl Fn(usize) -> u8, q: &[u8; 32]) -> [f32; 32] {
        let (sc, m) = scale_min(j, byte);
        let (d, m) = (half(0) * f32::from(sc), half(1) * f32::from(m));
        q.map(|q| d * f32::from(q) - m)
    }
}

/// `(d * sc) * (q - BIAS)`, `sc` a signed byte for each 16 columns.
pub enum SubCentred<const BIAS: i32> {}

impl<const BIAS: i32> Scales for SubCentred<BIAS> {
    const HALVES: usize = 1;
    const BYTES: usize = 16;

    fn weights(j: usize, half: impl Fn(usize) -> f32, byte: impl Fn(usize) -> u8, q: &[u8; 32]) -> [f32; 32] {
        let d = [0, 1].map(|h| half(0) * f32::from(byte(2 * j + h) as i8));
        core::array::from_fn(|i| d[i / 16] * (i32::from(q[i]) - BIAS) as f32)
    }
}

/// Scale and minimum of sub-block `j` out of the 12 bytes (ggml's `get_scale_min_k4`): the first four of each are the
/// lower six bits of bytes `j` and `j + 4`; the others have their lower four bits in byte `j + 4` and their upper two
/// in the upper two bits of the former.
pub(crate) fn scale_min(j: usize, byte: impl Fn(usize) -> u8) -> (u8, u8) {
    if j < 4 {
        (byte(j) & 63, byte(j + 4) & 63)
    } else {
        let low = byte(j + 4);
        (low & 15 | byte(j - 4) >> 6 << 4, low >> 4 | byte(j) >> 6 << 4)
    }
}
