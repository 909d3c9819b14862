//! The matrix unit: AMX tiles of bf16, for calls with many tokens; everything else is AVX-512's.
//!
//! A product of two tiles takes 16 tokens and 16 rows of weights through 32 columns at once. Quantised weights meet it as
//! whole numbers, which bf16 holds exactly up to 256, and each block's sums are scaled afterwards, so the only rounding
//! beside f32's is that of the activations. Weights of bf16 meet activations in two parts, of which the second holds
//! what the first rounded away.
//!
//! A tile has no use for one token: entries with few of them run on [`Isa::few`].

use super::Isa;
use super::avx512::{self, AVX512};
use crate::dtype::registry;
use tiles::{Emulated, Hardware, Unit};

mod matmul_bf16;
mod matmul_quant;
mod pairs;
mod peak;
mod quantize;
mod tiles;

/// The table.
pub static AMX: Isa = table::<Hardware>();

/// The same with the tile instructions emulated, to the bit: for tests on machines without them.
pub static AMX_EMULATED: Isa = table::<Emulated>();

/// A matrix unit's matmuls by [`crate::dtype::DType`], for `registry!`. F16 has no exact place in bf16, F32 none at all.
macro_rules! matmuls {
    (@ F32 $name:ident) => { avx512::matmul_float::f32 };
    (@ F16 $name:ident) => { avx512::matmul_float::f16 };
    (@ BF16 $name:ident) => { matmul_bf16::matmul::<U> };
    (@ $dtype:ident $name:ident) => { matmul_quant::matmul::<U, crate::quant::$name::$dtype> };
    ($($dtype:ident $name:ident $kind:ident $id:literal $block:tt $about:literal;)*) => {
        [$(matmuls!(@ $dtype $name)),*]
    };
}

const fn table<U: Unit>() -> Isa {
    Isa {
        name: U::NAME,
        few: Some(&AVX512),
        matmul: registry!(matmuls),
        quantize_row: quantize::quantize_row,
        dequantize_row: quantize::dequantize_row,
        peak: crate::isa::Peak {
            tiles: Some(peak::tiles::<U>),
            ..avx512::TABLE.peak
        },
        ..avx512::TABLE
    }
}
