//! `q4_0`: 32 weights `d * (q - 8)`, `q` four bits. ggml's block: `d` (f16), then 16 bytes; byte `i` holds columns `i`
//! (low nibble) and `i + 16` (high nibble).

use super::{Block, Centred, Encode, Format, Nibbles, encode, values};
use crate::dtype::DType;

pub(super) const FORMAT: Format = Format::of::<Q4_0>();

pub enum Q4_0 {}

impl Block for Q4_0 {
    const DTYPE: DType = DType::Q4_0;
    type Values = Nibbles;
    type Scales = Centred<8>;
    const HALVES: &'static [(usize, f32)] = &[(0, 1.0 / 4.61)];
    const ENCODE: Option<Encode> = Some(encode_row);

    fn values(block: &[u8], _: usize) -> [u8; 32] {
        values::half_blocks(&block[2..])
    }
}

/// ggml's `quantize_row_q4_0_ref`.
fn encode_row(row: &[f32], out: &mut [u8]) {
    for (xs, block) in row.as_chunks().0.iter().zip(out.chunks_exact_mut(18)) {
        let (d, q) = encode::centred(xs, 8);
        encode::put_half(&mut block[..2], d);
        encode::put_nibbles(&mut block[2..], &q);
    }
}
