//! The matrix unit: AMX tiles of bf16, for calls with many tokens; everything else is AVX-512's.
//!
//! A product of two tiles takes 16 tokens and 16 rows of weights through 32 columns at once. What it multiplies is bf16:
//! activations are rounded to it, and so are quantised weights once they are scaled; sums are f32.
//!
//! A tile has no use for one token: entries with few of them run on [`Isa::few`].

use super::Isa;
use super::avx512::{self, AVX512};
use crate::dtype::registry;
use tiles::{Emulated, Hardware, Unit};

mod bf16;
mod matmul;
mod peak;
mod quantised;
mod quantize;
mod tiles;

/// The table.
pub static AMX: Isa = table::<Hardware>();

/// The same with the tile instructions emulated, to the bit: for tests on machines without them.
pub static AMX_EMULATED: Isa = table::<Emulated>();

/// A matrix unit's matmuls by [`crate::dtype::DType`], for `registry!`. What is more exact than bf16 stays
/// so.
macro_rules! matmuls {
    (@ F32 $name:ident) => { avx512::matmul_float::matmul::<crate::quant::f32::F32> };
    (@ F16 $name:ident) => { avx512::matmul_float::matmul::<crate::quant::f16::F16> };
    (@ BF16 $name:ident) => { matmul::matmul::<U, bf16::Packed<bf16::Rounded>> };
    (@ $dtype:ident $name:ident) => { matmul::matmul::<U, quantised::Blocks<crate::quant::$name::$dtype>> };
    ($($dtype:ident $name:ident $kind:ident $id:literal $block:tt $about:literal;)*) => {
        [$(matmuls!(@ $dtype $name)),*]
    };
}

const fn table<U: Unit>() -> Isa {
    Isa {
        name: U::NAME,
        few: Some(&AVX512),
        matmul: registry!(matmuls),
        many: None,
        rounded: Some(super::Rounded {
            row: quantize::round_row,
            matmul: matmul::matmul::<U, bf16::Packed<quantised::Ready>>,
        }),
        quantize_row: quantize::quantize_row,
        dequantize_row: quantize::dequantize_row,
        peak: crate::isa::Peak {
            tiles: Some(peak::tiles::<U>),
            ..avx512::TABLE.peak
        },
        ..avx512::TABLE
    }
}
