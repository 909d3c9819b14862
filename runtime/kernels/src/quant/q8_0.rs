//! `q8_0`: 32 weights `d * q`, `q` a signed byte. ggml's block: `d` (f16), `q[32]`.
//!
//! Packed are `q + 128`: the 8-bit dot products want the weights as their unsigned operand.

use super::{Block, Bytes, Centred, Encode, Format, encode, round_i8};
use crate::dtype::DType;

pub(super) const FORMAT: Format = Format::of::<Q8_0>();

pub enum Q8_0 {}

impl Block for Q8_0 {
    const DTYPE: DType = DType::Q8_0;
    type Values = Bytes;
    type Scales = Centred<128>;
    const HALVES: &'static [(usize, f32)] = &[(0, 1.0 / 73.9)];
    const ENCODE: Option<Encode> = Some(encode_row);

    fn values(block: &[u8], _: usize) -> [u8; 32] {
        core::array::from_fn(|k| block[2 + k] ^ 128)
    }
}

/// ggml's `quantize_row_q8_0_ref`.
fn encode_row(row: &[f32], out: &mut [u8]) {
    for (xs, block) in row.as_chunks::<32>().0.iter().zip(out.chunks_exact_mut(34)) {
        let d = xs.iter().fold(0.0, |m: f32, x| m.max(x.abs())) / 127.0;
        let id = if d == 0.0 { 0.0 } else { 1.0 / d };
        encode::put_half(&mut block[..2], d);
        for (x, q) in xs.iter().zip(&mut block[2..]) {
            *q = round_i8(x * id) as u8;
        }
    }
}
