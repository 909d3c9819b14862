//! `q4_k`: 256 weights in 8 sub-blocks of 32, `(d * sc) * q - (dmin * m)`, `q` four bits, `sc` and `m` six bits each.
//! ggml's block: `d`, `dmin` (f16), 12 bytes of `sc` and `m`, 128 bytes; byte `32 c + j` holds columns `64 c + j` (low
//! nibble) and `64 c + 32 + j` (high nibble).
//!
//! Packed, per 256 columns: 16 `d` (f16), 16 `dmin` (f16), the 12 scale bytes as `[12][16]`, then eight slabs of
//! [`super::nibbles`].

use super::nibbles::SLAB;
use super::{Format, Rows, blocks, half_at, nibbles};
use crate::dtype::{DType, GROUP};

const BLOCK: usize = DType::Q4K.block_bytes();
const D: usize = 2 * GROUP;
const SCALES: usize = 2 * D;
const SLABS: usize = SCALES + 12 * GROUP;

pub(super) const FORMAT: Format = Format {
    dtype: DType::Q4K,
    decode_row,
    encode_row: None,
    pack_group,
    unpack_row,
};

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

fn values(block: &[u8; BLOCK], j: usize) -> [u8; 32] {
    core::array::from_fn(|i| block[16 + j / 2 * 32 + i] >> (j % 2 * 4) & 15)
}

fn scale(d: f32, dmin: f32, (sc, m): (u8, u8), q: [u8; 32], out: &mut [f32; 32]) {
    let (dl, ml) = (d * f32::from(sc), dmin * f32::from(m));
    for (x, q) in out.iter_mut().zip(q) {
        *x = dl * f32::from(q) - ml;
    }
}

fn decode_row(row: &[u8], out: &mut [f32]) {
    for (block, xs) in blocks::<BLOCK, 256>(row, out) {
        let (d, dmin) = (half_at(block, 0), half_at(block, 2));
        for (j, xs) in xs.as_chunks_mut().0.iter_mut().enumerate() {
            scale(d, dmin, scale_min(j, |i| block[4 + i]), values(block, j), xs);
        }
    }
}

fn pack_group(rows: &Rows<'_>, out: &mut [u8]) {
    out.fill(0);
    for (b, packed) in out.as_chunks_mut::<{ BLOCK * GROUP }>().0.iter_mut().enumerate() {
        for (r, block) in rows.blocks::<BLOCK>(b) {
            packed[2 * r..2 * r + 2].copy_from_slice(&block[..2]);
            packed[D + 2 * r..D + 2 * r + 2].copy_from_slice(&block[2..4]);
            for i in 0..12 {
                packed[SCALES + i * GROUP + r] = block[4 + i];
            }
            for (j, slab) in packed[SLABS..].as_chunks_mut::<SLAB>().0.iter_mut().enumerate() {
                nibbles::put(slab, r, &values(block, j));
            }
        }
    }
}

fn unpack_row(group: &[u8], row: usize, out: &mut [f32]) {
    for (packed, xs) in blocks::<{ BLOCK * GROUP }, 256>(group, out) {
        let (d, dmin) = (half_at(packed, 2 * row), half_at(packed, D + 2 * row));
        for (j, xs) in xs.as_chunks_mut().0.iter_mut().enumerate() {
            let sc = scale_min(j, |i| packed[SCALES + i * GROUP + row]);
            let slab = &packed[SLABS + j * SLAB..][..SLAB];
            scale(d, dmin, sc, nibbles::get(slab, row), xs);
        }
    }
}
