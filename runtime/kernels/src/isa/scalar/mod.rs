//! Plain Rust: always there, and the meaning of every primitive.

pub mod attend;
pub mod elementwise;
pub mod matmul;
pub mod norm;
pub mod quantize;

use super::Isa;

/// The table.
pub static SCALAR: Isa = Isa {
    name: "scalar",
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
    sum_squares: norm::sum_squares,
    scale_row: norm::scale_row,
    add_row: elementwise::add_row,
    glu_row: elementwise::glu_row,
    attend: attend::attend,
    to_f16: elementwise::to_f16,
};
