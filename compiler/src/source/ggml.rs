//! ggml's tensor types: the ids GGUF files use.

use ck_kernels::dtype::DType;

use super::SourceType;

/// One type of ggml: id, name, block length and block bytes as in `ggml-common.h`.
struct Type(u32, &'static str, u64, u64);

/// Types that are known by size but cannot be read, and ids of types that were removed.
#[rustfmt::skip]
const UNSUPPORTED: &[Type] = &[
    Type(9, "Q8_1", 32, 36), Type(10, "Q2_K", 256, 84), Type(11, "Q3_K", 256, 110), Type(15, "Q8_K", 256, 292),
    Type(16, "IQ2_XXS", 256, 66), Type(17, "IQ2_XS", 256, 74), Type(18, "IQ3_XXS", 256, 98),
    Type(19, "IQ1_S", 256, 50), Type(20, "IQ4_NL", 32, 18), Type(21, "IQ3_S", 256, 110), Type(22, "IQ2_S", 256, 82),
    Type(23, "IQ4_XS", 256, 136), Type(24, "I8", 1, 1), Type(25, "I16", 1, 2), Type(26, "I32", 1, 4),
    Type(27, "I64", 1, 8), Type(28, "F64", 1, 8), Type(29, "IQ1_M", 256, 56), Type(34, "TQ1_0", 256, 54),
    Type(35, "TQ2_0", 256, 66), Type(39, "MXFP4", 32, 17),
];

/// A type and, where it is known, its block: elements, bytes.
pub(super) fn of_id(id: u32) -> (SourceType, Option<(u64, u64)>) {
    if let Some(dtype) = DType::ALL.into_iter().find(|dtype| dtype.ggml_id() == id) {
        return (
            SourceType::Known(dtype),
            Some((dtype.block_len() as u64, dtype.block_bytes() as u64)),
        );
    }
    match UNSUPPORTED.iter().find(|t| t.0 == id) {
        Some(&Type(_, name, len, bytes)) => (SourceType::Unsupported(name.to_owned()), Some((len, bytes))),
        None => (SourceType::Unsupported(format!("ggml type {id}")), None),
    }
}
