//! `bf16`: the upper half of an IEEE single.
//!
//! Packed: `[k/2][16][2]`, two neighbours of a row side by side: a 32-bit lane holds the even one in its lower and the
//! odd one in its upper half (widening is a shift or a mask), which is also the operand order of the bf16 dot products
//! and tiles. If `k` is odd, the last column is `[16]`.

use super::float::unpack_row;
use super::{Float, Format, Rows, blocks, half};
use crate::dtype::{DType, GROUP};

/// The type, for kernels.
pub struct BF16;

impl Float for BF16 {
    const DTYPE: DType = DType::BF16;

    fn weight(group: &[u8], k: usize, r: usize, cols: usize) -> f32 {
        let alone = k + 1 == cols && cols % 2 == 1;
        let at = if alone {
            k * GROUP + r
        } else {
            k / 2 * 2 * GROUP + 2 * r + k % 2
        };
        let all: &[[u8; 2]] = group.as_chunks().0;
        half::bf16_to_f32(u16::from_le_bytes(all[at]))
    }
}

pub(super) const FORMAT: Format = Format {
    dtype: DType::BF16,
    halves: &[],
    decode_row,
    encode_row: Some(encode_row),
    pack_group,
    unpack_row: unpack_row::<BF16>,
};

fn decode_row(row: &[u8], out: &mut [f32]) {
    for (b, [x]) in blocks(row, out) {
        *x = half::bf16_to_f32(u16::from_le_bytes(*b));
    }
}

fn encode_row(row: &[f32], out: &mut [u8]) {
    for (x, b) in row.iter().zip(out.as_chunks_mut().0) {
        *b = half::f32_to_bf16(*x).to_le_bytes();
    }
}

fn pack_group(rows: &Rows<'_>, out: &mut [u8]) {
    out.fill(0);
    let (pairs, last) = out.as_chunks_mut::<{ 4 * GROUP }>();
    for (p, column) in pairs.iter_mut().enumerate() {
        for (r, xs) in rows.blocks::<4>(p) {
            column[4 * r..4 * r + 4].copy_from_slice(xs);
        }
    }
    if !last.is_empty() {
        for (r, x) in rows.blocks::<2>(2 * pairs.len()) {
            last[2 * r..2 * r + 2].copy_from_slice(x);
        }
    }
}
