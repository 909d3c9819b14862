//! `q5_1`: 32 weights `d * q + m`, `q` five bits. ggml's block: `d`, `m` (f16), a word (bit `k` is the fifth bit of column
//! `k`), then 16 bytes as of `q4_0`.

use super::{Affine, Block, Encode, Fives, Format, encode, values};
use crate::dtype::DType;

pub(super) const FORMAT: Format = Format::of::<Q5_1>();

pub enum Q5_1 {}

impl Block for Q5_1 {
    const DTYPE: DType = DType::Q5_1;
    type Values = Fives;
    type Scales = Affine;
    const HALVES: &'static [(usize, f32)] = &[(0, 1.0 / 9.23), (2, -15.5 / 9.23)];
    const ENCODE: Option<Encode> = Some(encode_row);

    fn values(block: &[u8], _: usize) -> [u8; 32] {
        values::with_fifths(values::half_blocks(&block[8..]), &block[4..])
    }
}

/// ggml's `quantize_row_q5_1_ref`.
fn encode_row(row: &[f32], out: &mut [u8]) {
    for (xs, block) in row.as_chunks().0.iter().zip(out.chunks_exact_mut(24)) {
        let (d, m, q) = encode::affine(xs, 31);
        encode::put_half(&mut block[..2], d);
        encode::put_half(&mut block[2..4], m);
        encode::put_fifths(&mut block[4..8], &q);
        encode::put_nibbles(&mut block[8..], &q);
    }
}
