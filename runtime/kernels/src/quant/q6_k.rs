//! `q6_k`: 256 weights in 16 sub-blocks of 16, `(d * sc) * (q - 32)`, `q` six bits, `sc` a signed byte.
//! ggml's block: 128 bytes of lower nibbles, 64 bytes of upper bit pairs, 16 `sc`, `d` (f16). In each half of 128
//! columns, `i` in `0..64` of its nibble bytes holds columns `i` (low) and `64 + i` (high); `i` in `0..32` of its bit
//! pair bytes holds columns `i`, `32 + i`, `64 + i`, `96 + i`, lowest pair first.

use super::{Block, Format, Sixes, SubCentred};
use crate::dtype::DType;

pub(super) const FORMAT: Format = Format::of::<Q6K>();

pub enum Q6K {}

impl Block for Q6K {
    const DTYPE: DType = DType::Q6K;
    type Values = Sixes;
    type Scales = SubCentred<32>;
    const HALVES: &'static [(usize, f32)] = &[(208, 1.0 / 1365.0)];
    const BYTES: usize = 192;

    fn values(block: &[u8], j: usize) -> [u8; 32] {
        let (half, j) = (j / 4, j % 4);
        core::array::from_fn(|i| {
            let low = block[half * 64 + j % 2 * 32 + i] >> (j / 2 * 4) & 15;
            let high = block[128 + half * 32 + i] >> (j * 2) & 3;
            low | high << 4
        })
    }
}
