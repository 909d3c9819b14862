//! `bf16`: the upper half of an IEEE single.
//!
//! Packed: `[k/2][16][2]`, two neighbours of a row side by side: a 32-bit lane holds the even one in its lower and the
//! odd one in its upper half (widening is a shift or a mask), which is also the operand order of the bf16 dot products
//! and tiles. If `k` is odd, the last column is `[16]`.

use super::{Format, Rows, blocks, half};
use crate::dtype::{DType, GROUP};

pub(super) const FORMAT: Format = Format {
    dtype: DType::BF16,
    halves: &[],
    decode_row,
    encode_row: Some(encode_row),
    pack_group,
    unpack_row,
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

fn unpack_row(group: &[u8], row: usize, out: &mut [f32]) {
    let (pairs, last) = group.as_chunks::<{ 4 * GROUP }>();
    let (xs, x) = out.as_chunks_mut();
    for (column, [even, odd]) in pairs.iter().zip(xs) {
        let [a, b, c, d] = column.as_chunks().0[row];
        *even = half::bf16_to_f32(u16::from_le_bytes([a, b]));
        *odd = half::bf16_to_f32(u16::from_le_bytes([c, d]));
    }
    if let [x] = x {
        *x = half::bf16_to_f32(u16::from_le_bytes(last.as_chunks().0[row]));
    }
}
