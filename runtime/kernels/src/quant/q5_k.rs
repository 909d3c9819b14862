//! `q5_k`: 256 weights in 8 sub-blocks of 32, `(d * sc) * q - (dmin * m)`, `q` five bits, `sc` and `m` six bits each.
//! ggml's block: `d`, `dmin` (f16), 12 bytes of `sc` and `m`, 32 bytes (bit `j` of byte `i` is the fifth bit of column
//! `32 j + i`), then 128 bytes as of `q4_k`.

use super::{Block, Fives, Format, SubAffine, values};
use crate::dtype::DType;

pub(super) const FORMAT: Format = Format::of::<Q5K>();

pub enum Q5K {}

impl Block for Q5K {
    const DTYPE: DType = DType::Q5K;
    type Values = Fives;
    type Scales = SubAffine;
    const HALVES: &'static [(usize, f32)] = &[(0, 1.0 / 527.0), (2, 15.5 / 527.0)];
    const BYTES: usize = 4;

    fn values(block: &[u8], j: usize) -> [u8; 32] {
        let low = values::quarter_blocks(&block[48..], j);
        core::array::from_fn(|i| low[i] | (block[16 + i] >> j & 1) << 4)
    }
}
