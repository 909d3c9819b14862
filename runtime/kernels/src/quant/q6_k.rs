//! `q6_k`: 256 weights in 16 sub-blocks of 16, `(d * sc) * (q - 32)`, `q` six bits, `sc` a signed byte.
//! ggml's block: 128 bytes of lower nibbles, 64 bytes of upper bit pairs, 16 `sc`, `d` (f16). In each half of 128
//! columns, `j` in `0..64` of its nibble bytes holds columns `j` (low) and `64 + j` (high); `j` in `0..32` of its bit
//! pair bytes holds columns `j`, `32 + j`, `64 + j`, `96 + j`, lowest pair first.
//!
//! Packed, per 256 columns: 16 `d` (f16), `sc` as `[16][16]`, then per sub-block of 16 columns three 64-byte vectors
//! `[row][i]`, `i` in `0..4`: lower nibbles of columns `i` (low) and `4 + i` (high), lower nibbles of columns `8 + i`
//! and `12 + i`, upper bit pairs of columns `i`, `4 + i`, `8 + i`, `12 + i`, lowest pair first.

use super::{Format, Rows, blocks, half_at};
use crate::dtype::{DType, GROUP};

const BLOCK: usize = DType::Q6K.block_bytes();
const SCALES: usize = 2 * GROUP;
const SUBS: usize = SCALES + 16 * GROUP;
const VECTOR: usize = 4 * GROUP;
const SUB: usize = 3 * VECTOR;

pub(super) const FORMAT: Format = Format {
    dtype: DType::Q6K,
    decode_row,
    encode_row: None,
    pack_group,
    unpack_row,
};

/// Column `k` of ggml's block, `0..64`.
fn value(block: &[u8; BLOCK], k: usize) -> u8 {
    let (half, k) = (k / 128, k % 128);
    let low = block[half * 64 + k % 64] >> (k / 64 * 4) & 15;
    let high = block[128 + half * 32 + k % 32] >> (k / 32 * 2) & 3;
    low | high << 4
}

fn scale(d: f32, sc: u8, q: [u8; 16], out: &mut [f32; 16]) {
    let dl = d * f32::from(sc as i8);
    for (x, q) in out.iter_mut().zip(q) {
        *x = dl * f32::from(q as i8 - 32);
    }
}

fn decode_row(row: &[u8], out: &mut [f32]) {
    for (block, xs) in blocks::<BLOCK, 256>(row, out) {
        let d = half_at(block, 208);
        for (j, xs) in xs.as_chunks_mut().0.iter_mut().enumerate() {
            let q = core::array::from_fn(|i| value(block, 16 * j + i));
            scale(d, block[192 + j], q, xs);
        }
    }
}

fn pack_group(rows: &Rows<'_>, out: &mut [u8]) {
    out.fill(0);
    for (b, packed) in out.as_chunks_mut::<{ BLOCK * GROUP }>().0.iter_mut().enumerate() {
        for (r, block) in rows.blocks::<BLOCK>(b) {
            packed[2 * r..2 * r + 2].copy_from_slice(&block[208..]);
            for (j, sub) in packed[SUBS..].as_chunks_mut::<SUB>().0.iter_mut().enumerate() {
                for i in 0..4 {
                    let q: [u8; 4] = core::array::from_fn(|quad| value(block, 16 * j + 4 * quad + i));
                    let at = 4 * r + i;
                    sub[at] = q[0] & 15 | q[1] << 4;
                    sub[VECTOR + at] = q[2] & 15 | q[3] << 4;
                    sub[2 * VECTOR + at] = q[0] >> 4 | q[1] >> 4 << 2 | q[2] >> 4 << 4 | q[3] >> 4 << 6;
                }
            }
            for (j, sc) in block[192..208].iter().enumerate() {
                packed[SCALES + j * GROUP + r] = *sc;
            }
        }
    }
}

fn unpack_row(group: &[u8], row: usize, out: &mut [f32]) {
    for (packed, xs) in blocks::<{ BLOCK * GROUP }, 256>(group, out) {
        let d = half_at(packed, 2 * row);
        for (j, xs) in xs.as_chunks_mut().0.iter_mut().enumerate() {
            let sub = &packed[SUBS + j * SUB..][..SUB];
            let q = core::array::from_fn(|k| {
                let (quad, at) = (k / 4, 4 * row + k % 4);
                let low = sub[quad / 2 * VECTOR + at] >> (quad % 2 * 4) & 15;
                let high = sub[2 * VECTOR + at] >> (quad * 2) & 3;
                low | high << 4
            });
            scale(d, packed[SCALES + j * GROUP + row], q, xs);
        }
    }
}
