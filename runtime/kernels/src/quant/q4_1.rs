//! `q4_1`: 32 weights `d * q + m`, `q` four bits. ggml's block: `d`, `m` (f16), then 16 bytes as of `q4_0`.

use super::{Affine, Block, Encode, Format, Nibbles, encode, values};
use crate::dtype::DType;

pub(super) const FORMAT: Format = Format::of::<Q4_1>();

pub enum Q4_1 {}

impl Block for Q4_1 {
    const DTYPE: DType = DType::Q4_1;
    type Values = Nibbles;
    type Scales = Affine;
    const HALVES: &'static [(usize, f32)] = &[(0, 1.0 / 4.61), (2, -7.5 / 4.61)];
    const ENCODE: Option<Encode> = Some(encode_row);

    fn values(block: &[u8], _: usize) -> [u8; 32] {
        values::half_blocks(&block[4..])
    }
}

/// ggml's `quantize_row_q4_1_ref`.
fn encode_row(row: &[f32], out: &mut [u8]) {
    for (xs, block) in row.as_chunks().0.iter().zip(out.chunks_exact_mut(20)) {
        let (d, m, q) = encode::affine(xs, 15);
        encode::put_half(&mut block[..2], d);
        encode::put_half(&mut block[2..4], m);
        encode::put_nibbles(&mut block[4..], &q);
    }
}
