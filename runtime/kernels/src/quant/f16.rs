//! `f16`: IEEE half. Packed: `[k][16]`, so that one load converts to one vector of sixteen rows.

use super::float::unpack_row;
use super::{Float, Format, Rows, blocks, half};
use crate::dtype::{DType, GROUP};

/// The type, for kernels.
pub struct F16;

impl Float for F16 {
    const DTYPE: DType = DType::F16;

    fn weight(group: &[u8], k: usize, r: usize, _: usize) -> f32 {
        let column: &[[u8; 2]] = group.as_chunks().0;
        half::f16_to_f32(u16::from_le_bytes(column[k * GROUP + r]))
    }
}

pub(super) const FORMAT: Format = Format {
    dtype: DType::F16,
    halves: &[],
    decode_row,
    encode_row: Some(encode_row),
    pack_group,
    unpack_row: unpack_row::<F16>,
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
