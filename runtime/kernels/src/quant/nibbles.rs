//! What the 4-bit formats share: 32 four-bit values of 16 rows in four 64-byte vectors.
//!
//! Byte `[v][row][i]` holds the values of columns `8v + i` (low nibble) and `8v + 4 + i` (high nibble), `i` in `0..4`:
//! masking one vector gives the bytes of two consecutive column quads, as the 8-bit dot products take them.

use crate::dtype::GROUP;

/// Bytes of a 32-column slab.
pub(super) const SLAB: usize = 16 * GROUP;

/// Puts a row's 32 values (each below 16) into a zeroed slab.
pub(super) fn put(slab: &mut [u8], row: usize, values: &[u8; 32]) {
    for (v, eight) in values.as_chunks::<8>().0.iter().enumerate() {
        for i in 0..4 {
            slab[v * 4 * GROUP + row * 4 + i] = eight[i] | eight[4 + i] << 4;
        }
    }
}

/// A row's 32 values.
pub(super) fn get(slab: &[u8], row: usize) -> [u8; 32] {
    core::array::from_fn(|k| {
        let byte = slab[k / 8 * 4 * GROUP + row * 4 + k % 4];
        byte >> (k % 8 / 4 * 4) & 15
    })
}
