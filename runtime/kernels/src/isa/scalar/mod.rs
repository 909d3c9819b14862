//! Plain Rust: always there, and the meaning of every primitive.

pub mod attend;
pub mod elementwise;
pub mod matmul_float;
pub mod matmul_quant;
pub mod norm;
mod peak;
pub mod quantize;

use super::{Isa, Peak, matmuls};
use crate::dtype::registry;

/// The table.
pub static SCALAR: Isa = Isa {
    name: "scalar",
    few: None,
    matmul: registry!(matmuls),
    many: None,
    rounded: None,
    quantize_row: quantize::quantize_row,
    dequantize_row: quantize::dequantize_row,
    sum_squares: norm::sum_squares,
    scale_row: norm::scale_row,
    add_row: elementwise::add_row,
    glu_row: elementwise::glu_row,
    attend: attend::attend,
    merge: attend::merge,
    to_f16: elementwise::to_f16,
    peak: Peak {
        float: peak::float,
        int8: peak::int8,
        tiles: None,
        read: peak::read,
    },
};
