//! Formats without blocks: every weight is a float.

use crate::dtype::DType;

/// A format without blocks. Implemented once, in the format's file; the kernels of every tier are made of it.
pub trait Float {
    /// The type this is.
    const DTYPE: DType;

    /// The weight in column `k` of row `r` of a packed group of `cols` columns.
    fn weight(group: &[u8], k: usize, r: usize, cols: usize) -> f32;
}

pub(super) fn unpack_row<F: Float>(group: &[u8], row: usize, out: &mut [f32]) {
    let cols = out.len();
    for (k, x) in out.iter_mut().enumerate() {
        *x = F::weight(group, k, row, cols);
    }
}
