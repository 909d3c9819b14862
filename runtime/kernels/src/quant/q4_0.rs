//! `q4_0`: 32 weights `d * (q - 8)`, `q` four bits. ggml's block: `d` (f16), then 16 bytes; byte `j` holds columns `j`
//! (low nibble) and `j + 16` (high nibble).
//!
//! Packed, per 32 columns: 16 scales (f16), then the slab of [`super::nibbles`].

use super::{Format, Rows, blocks, half, half_at, nibbles};
use crate::dtype::{DType, GROUP};

const BLOCK: usize = DType::Q4_0.block_bytes();
const SCALES: usize = 2 * GROUP;

pub(super) const FORMAT: Format = Format {
    dtype: DType::Q4_0,
    decode_row,
    encode_row: Some(encode_row),
    pack_group,
    unpack_row,
};

fn values(block: &[u8; BLOCK]) -> [u8; 32] {
    core::array::from_fn(|k| block[2 + k % 16] >> (k / 16 * 4) & 15)
}

fn scale(d: f32, q: [u8; 32], out: &mut [f32; 32]) {
    for (x, q) in out.iter_mut().zip(q) {
        *x = d * f32::from(q as i8 - 8);
    }
}

fn decode_row(row: &[u8], out: &mut [f32]) {
    for (block, xs) in blocks::<BLOCK, 32>(row, out) {
        scale(half_at(block, 0), values(block), xs);
    }
}

/// ggml's `quantize_row_q4_0_ref`: the value of largest magnitude, with its sign, becomes -8.
fn encode_row(row: &[f32], out: &mut [u8]) {
    for (xs, block) in row.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let max = xs.iter().fold(0.0, |m: f32, x| if m.abs() < x.abs() { *x } else { m });
        let d = max / -8.0;
        let id = if d == 0.0 { 0.0 } else { 1.0 / d };
        block[..2].copy_from_slice(&half::f32_to_f16(d).to_le_bytes());
        let q = xs.map(|x| ((x * id + 8.5) as u8).min(15));
        for (j, byte) in block[2..].iter_mut().enumerate() {
            *byte = q[j] | q[j + 16] << 4;
        }
    }
}

fn pack_group(rows: &Rows<'_>, out: &mut [u8]) {
    out.fill(0);
    for (b, packed) in out.as_chunks_mut::<{ BLOCK * GROUP }>().0.iter_mut().enumerate() {
        let (scales, slab) = packed.split_at_mut(SCALES);
        for (r, block) in rows.blocks::<BLOCK>(b) {
            scales[2 * r..2 * r + 2].copy_from_slice(&block[..2]);
            nibbles::put(slab, r, &values(block));
        }
    }
}

fn unpack_row(group: &[u8], row: usize, out: &mut [f32]) {
    for (packed, xs) in blocks::<{ BLOCK * GROUP }, 32>(group, out) {
        let (scales, slab) = packed.split_at(SCALES);
        scale(half_at(scales, 2 * row), nibbles::get(slab, row), xs);
    }
}
