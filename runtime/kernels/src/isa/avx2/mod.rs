//! `avx2`.

use super::Isa;
use super::scalar::{attend, elementwise, matmul, norm, quantize};

/// The table.
pub static AVX2: Isa = Isa {
    name: "avx2",
    matmul: [
        matmul::f32,
        matmul::f16,
        matmul::bf16,
        matmul::q8_0,
        matmul::q4_0,
        matmul::q4_k,
        matmul::q6_k,
    ],
    quantize_row: quantize::quantize_row,
    rmsnorm_row: norm::rmsnorm_row,
    add_row: elementwise::add_row,
    glu_row: elementwise::glu_row,
    attend: attend::attend,
    to_f16: elementwise::to_f16,
};
