//! 512-bit vectors: AVX-512 F, BW, VL, DQ and VNNI.

use core::arch::x86_64::__mmask16;

use super::Isa;
use super::scalar::{attend, elementwise, norm};
use crate::dtype::GROUP;

mod matmul_float;
mod matmul_quant;
mod quantize;

/// The table.
pub static AVX512: Isa = Isa {
    name: "avx512",
    matmul: [
        matmul_float::f32,
        matmul_float::f16,
        matmul_float::bf16,
        matmul_quant::q8_0,
        matmul_quant::q4_0,
        matmul_quant::q4_k,
        matmul_quant::q6_k,
    ],
    quantize_row: quantize::quantize_row,
    sum_squares: norm::sum_squares,
    scale_row: norm::scale_row,
    add_row: elementwise::add_row,
    glu_row: elementwise::glu_row,
    attend: attend::attend,
    to_f16: elementwise::to_f16,
};

/// The lanes of a group that has `rows` rows left.
#[inline]
fn tail_mask(rows: usize) -> __mmask16 {
    if rows >= GROUP { !0 } else { (1 << rows) - 1 }
}
