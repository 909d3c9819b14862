//! `q8_0`: 32 weights `d * q`, `q` a signed byte. ggml's block: `d` (f16), `q[32]`.
//!
//! Packed, per 32 columns: 16 scales (f16), then `[8][16][4]` bytes, four consecutive columns of a row side by side.
//! Bytes are `q + 128`: the 8-bit dot products want the weights as their unsigned operand.

use super::{Format, Rows, blocks, half, half_at, round_i8};
use crate::dtype::{DType, GROUP};

const BLOCK: usize = DType::Q8_0.block_bytes();
const SCALES: usize = 2 * GROUP;

pub(super) const FORMAT: Format = Format {
    dtype: DType::Q8_0,
    decode_row,
    encode_row: Some(encode_row),
    pack_group,
    unpack_row,
};

fn decode_row(row: &[u8], out: &mut [f32]) {
    for (block, xs) in blocks::<BLOCK, 32>(row, out) {
        let d = half_at(block, 0);
        for (x, q) in xs.iter_mut().zip(&block[2..]) {
            *x = f32::from(*q as i8) * d;
        }
    }
}

/// ggml's `quantize_row_q8_0_ref`.
fn encode_row(row: &[f32], out: &mut [u8]) {
    for (xs, block) in row.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<BLOCK>().0) {
        let d = xs.iter().fold(0.0, |m: f32, x| m.max(x.abs())) / 127.0;
        let id = if d == 0.0 { 0.0 } else { 1.0 / d };
        block[..2].copy_from_slice(&half::f32_to_f16(d).to_le_bytes());
        for (x, q) in xs.iter().zip(&mut block[2..]) {
            *q = round_i8(x * id) as u8;
        }
    }
}

fn pack_group(rows: &Rows<'_>, out: &mut [u8]) {
    for (b, packed) in out.as_chunks_mut::<{ BLOCK * GROUP }>().0.iter_mut().enumerate() {
        let (scales, bytes) = packed.split_at_mut(SCALES);
        scales.fill(0);
        bytes.fill(128);
        for (r, block) in rows.blocks::<BLOCK>(b) {
            scales[2 * r..2 * r + 2].copy_from_slice(&block[..2]);
            for (v, q) in block[2..].as_chunks::<4>().0.iter().enumerate() {
                let at = v * 4 * GROUP + 4 * r;
                bytes[at..at + 4].copy_from_slice(&q.map(|q| q ^ 128));
            }
        }
    }
}

fn unpack_row(group: &[u8], row: usize, out: &mut [f32]) {
    for (packed, xs) in blocks::<{ BLOCK * GROUP }, 32>(group, out) {
        let (scales, bytes) = packed.split_at(SCALES);
        let d = half_at(scales, 2 * row);
        for (v, xs) in xs.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            for (i, x) in xs.iter_mut().enumerate() {
                *x = f32::from((bytes[v * 4 * GROUP + 4 * row + i] ^ 128) as i8) * d;
            }
        }
    }
}
