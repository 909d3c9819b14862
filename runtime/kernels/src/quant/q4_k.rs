//! `q4_k`: 256 weights in 8 sub-blocks of 32, `(d * sc) * q - (dmin * m)`, `q` four bits, `sc` and `m` six bits each.
//! ggml's block: `d`, `dmin` (f16), 12 bytes of `sc` and `m`, 128 bytes; byte `32 c + i` holds columns `64 c + i` (low
//! nibble) and `64 c + 32 + i` (high nibble).

use super::{Block, Format, Nibbles, SubAffine, values};
use crate::dtype::DType;

pub(super) const FORMAT: Format = Format::of::<Q4K>();

pub enum Q4K {}

impl Block for Q4K {
    const DTYPE: DType = DType::Q4K;
    type Values = Nibbles;
    type Scales = SubAffine;
    const HALVES: &'static [(usize, f32)] = &[(0, 1.0 / 258.0), (2, 7.5 / 258.0)];
    const BYTES: usize = 4;

    fn values(block: &[u8], j: usize) -> [u8; 32] {
        values::quarter_blocks(&block[16..], j)
    }
}
