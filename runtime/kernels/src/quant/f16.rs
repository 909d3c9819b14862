//! `f16`: IEEE half. Packed: `[k][16]`, so that one load converts to one vector of sixteen rows.

use super::{Format, Rows, blocks, half};
use crate::dtype::{DType, GROUP};

pub(super) const FORMAT: Format = Format {
    dtype: DType::F16,
    halves: &[],
    decode_row,
    encode_row: Some(encode_row),
    pack_group,
    unpack_row,
};

fn decode_row(row: &[u8], out: &mut [f32]) {
    for (b, [x]) in blocks(row, out) {
        *x = half::f16_to_f32(u16::from_le_bytes(*b));
    }
}

fn encode_row(row: &[f32], out: &mut [u8]) {
    for (x, b) in row.iter().zip(out.as_chunks_mut().0) {
        *b = half::f32_to_f16(*x).to_le_bytes();
    }
}

fn pack_group(rows: &Rows<'_>, out: &mut [u8]) {
    out.fill(0);
    for (k, column) in out.as_chunks_mut::<{ 2 * GROUP }>().0.iter_mut().enumerate() {
        for (r, x) in rows.blocks::<2>(k) {
            column[2 * r..2 * r + 2].copy_from_slice(x);
        }
    }
}

fn unpack_row(group: &[u8], row: usize, out: &mut [f32]) {
    for (column, [x]) in blocks::<{ 2 * GROUP }, 1>(group, out) {
        *x = half::f16_to_f32(u16::from_le_bytes(column.as_chunks().0[row]));
    }
}
