//! 512-bit vectors: AVX-512 F, BW, VL, DQ and VNNI.

use core::arch::x86_64::__mmask16;

use super::chunks::Merge;
use super::vector::{self, entry_points};
use super::{Attend, Isa, Peak, matmuls, matmuls_of_words};
use crate::dtype::{GROUP, registry};
use crate::ops::Gate;

pub(super) mod matmul_float;
pub(super) mod matmul_quant;
mod matmul_words;
mod pack;
mod peak;
mod quantize;

entry_points!(pack::Zmm, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c", shared: [4, 4], single: [4, 8]);

/// The table.
pub static AVX512: Isa = TABLE;

/// Its functions.
pub(super) const TABLE: Isa = Isa {
    name: "avx512",
    few: None,
    matmul: registry!(matmuls),
    many: Some(registry!(matmuls_of_words)),
    rounded: None,
    quantize_row: quantize::quantize_row,
    dequantize_row: super::scalar::quantize::dequantize_row,
    sum_squares,
    scale_row,
    add_row,
    glu_row,
    attend,
    merge,
    to_f16,
    peak: Peak {
        float: peak::float,
        int8: peak::int8,
        tiles: None,
        read: peak::read,
    },
};

/// The lanes of a group that has `rows` rows left.
#[inline]
pub(super) fn tail_mask(rows: usize) -> __mmask16 {
    if rows >= GROUP { !0 } else { (1 << rows) - 1 }
}
