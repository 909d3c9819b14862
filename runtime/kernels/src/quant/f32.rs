//! `f32`: IEEE single. Packed: `[k][16]`.

use super::float::unpack_row;
use super::{Float, Format, Rows, blocks};
use crate::dtype::{DType, GROUP};

/// The type, for kernels.
pub struct F32;

impl Float for F32 {
    const DTYPE: DType = DType::F32;

    fn weight(group: &[u8], k: usize, r: usize, _: usize) -> f32 {
        let column: &[[u8; 4]] = group.as_chunks().0;
        f32::from_le_bytes(column[k * GROUP + r])
    }
}

pub(super) const FORMAT: Format = Format {
    dtype: DType::F32,
    halves: &[],
    decode_row,
    encode_row: Some(encode_row),
    pack_group,
    unpack_row: unpack_row::<F32>,
};

fn decode_row(row: &[u8], out: &mut [f32]) {
    for (b, [x]) in blocks(row, out) {
        *x = f32::from_le_bytes(*b);
    }
}

fn encode_row(row: &[f32], out: &mut [u8]) {
    for (x, b) in row.iter().zip(out.as_chunks_mut().0) {
        *b = x.to_le_bytes();
    }
}

fn pack_group(rows: &Rows<'_>, out: &mut [u8]) {
    out.fill(0);
    for (k, column) in out.as_chunks_mut::<{ 4 * GROUP }>().0.iter_mut().enumerate() {
        for (r, x) in rows.blocks::<4>(k) {
            column[4 * r..4 * r + 4].copy_from_slice(x);
        }
    }
}
