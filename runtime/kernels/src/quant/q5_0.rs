//! `q5_0`: 32 weights `d * (q - 16)`, `q` five bits. ggml's block: `d` (f16), a word (bit `k` is the fifth bit of column
//! `k`), then 16 bytes as of `q4_0`.

use super::{Block, Centred, Encode, Fives, Format, encode, values};
use crate::dtype::DType;

pub(super) const FORMAT: Format = Format::of::<Q5_0>();

pub enum Q5_0 {}

impl Block for Q5_0 {
    const DTYPE: DType = DType::Q5_0;
    type Values = Fives;
    type Scales = Centred<16>;
    const HALVES: &'static [(usize, f32)] = &[(0, 1.0 / 9.23)];
    const ENCODE: Option<Encode> = Some(encode_row);

    fn values(block: &[u8], _: usize) -> [u8; 32] {
        values::with_fifths(values::half_blocks(&block[6..]), &block[2..])
    }
}

/// ggml's `quantize_row_q5_0_ref`.
fn encode_row(row: &[f32], out: &mut [u8]) {
    for (xs, block) in row.as_chunks().0.iter().zip(out.chunks_exact_mut(22)) {
        let (d, q) = encode::centred(xs, 16);
        encode::put_half(&mut block[..2], d);
        encode::put_fifths(&mut block[2..6], &q);
        encode::put_nibbles(&mut block[6..], &q);
    }
}
