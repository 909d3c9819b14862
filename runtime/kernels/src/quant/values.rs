//! How the integers of 32 columns of 16 rows are packed: one type each way, without values.
//!
//! A *quad* is four consecutive columns of a row, which the 8-bit dot products take in one lane of 32 bits. A slab is
//! made of 64-byte vectors `[row][i]`, `i` in `0..4`.

use crate::dtype::GROUP;

/// A 64-byte vector: 16 rows of a quad.
const VECTOR: usize = 4 * GROUP;

/// A way to pack.
pub trait Values {
    /// Bytes of 32 columns of 16 rows.
    const SLAB: usize;

    /// Puts a row's integers into a zeroed slab.
    fn put(slab: &mut [u8], row: usize, q: &[u8; 32]);

    /// A row's integers.
    fn get(slab: &[u8], row: usize) -> [u8; 32];
}

/// Where a column's quad is, counted in vectors.
fn at(vector: usize, row: usize, k: usize) -> usize {
    vector * VECTOR + row * 4 + k % 4
}

/// Eight bits: eight vectors, a quad each.
pub enum Bytes {}

impl Values for Bytes {
    const SLAB: usize = 8 * VECTOR;

    fn put(slab: &mut [u8], row: usize, q: &[u8; 32]) {
        for (k, q) in q.iter().enumerate() {
            slab[at(k / 4, row, k)] = *q;
        }
    }

    fn get(slab: &[u8], row: usize) -> [u8; 32] {
        core::array::from_fn(|k| slab[at(k / 4, row, k)])
    }
}

/// Four bits: four vectors, the `v`th with quads `2 v` (low nibbles) and `2 v + 1` (high): a mask gives the one, a shift
/// and a mask the other.
pub enum Nibbles {}

impl Values for Nibbles {
    const SLAB: usize = 4 * VECTOR;

    fn put(slab: &mut [u8], row: usize, q: &[u8; 32]) {
        for (k, q) in q.iter().enumerate() {
            slab[at(k / 8, row, k)] |= (q & 15) << (k / 4 % 2 * 4);
        }
    }

    fn get(slab: &[u8], row: usize) -> [u8; 32] {
        core::array::from_fn(|k| slab[at(k / 8, row, k)] >> (k / 4 % 2 * 4) & 15)
    }
}

/// Five bits: the lower four as [`Nibbles`], then a vector whose bit `v` is the upper bit of quad `v`.
pub enum Fives {}

impl Values for Fives {
    const SLAB: usize = Nibbles::SLAB + VECTOR;

    fn put(slab: &mut [u8], row: usize, q: &[u8; 32]) {
        Nibbles::put(slab, row, q);
        for (k, q) in q.iter().enumerate() {
            slab[at(4, row, k)] |= (q >> 4 & 1) << (k / 4);
        }
    }

    fn get(slab: &[u8], row: usize) -> [u8; 32] {
        let low = Nibbles::get(slab, row);
        core::array::from_fn(|k| low[k] | (slab[at(4, row, k)] >> (k / 4) & 1) << 4)
    }
}

/// Six bits: per 16 columns two vectors of the lower four as [`Nibbles`], then one of the upper bit pairs of their four
/// quads, the first quad's lowest.
pub enum Sixes {}

impl Values for Sixes {
    const SLAB: usize = 6 * VECTOR;

    fn put(slab: &mut [u8], row: usize, q: &[u8; 32]) {
        for (k, q) in q.iter().enumerate() {
            let (sub, quad) = (k / 16, k / 4 % 4);
            slab[at(3 * sub + quad / 2, row, k)] |= (q & 15) << (quad % 2 * 4);
            slab[at(3 * sub + 2, row, k)] |= (q >> 4 & 3) << (quad * 2);
        }
    }

    fn get(slab: &[u8], row: usize) -> [u8; 32] {
        core::array::from_fn(|k| {
            let (sub, quad) = (k / 16, k / 4 % 4);
            let low = slab[at(3 * sub + quad / 2, row, k)] >> (quad % 2 * 4) & 15;
            low | (slab[at(3 * sub + 2, row, k)] >> (quad * 2) & 3) << 4
        })
    }
}

/// The integers of ggml's blocks of 32 with four bits: byte `i` holds columns `i` (low nibble) and `i + 16` (high).
pub(super) fn half_blocks(bytes: &[u8]) -> [u8; 32] {
    core::array::from_fn(|k| bytes[k % 16] >> (k / 16 * 4) & 15)
}

/// The integers of columns `32 j..32 j + 32` of ggml's blocks of 256 with four bits: byte `32 c + i` holds columns
/// `64 c + i` (low nibble) and `64 c + 32 + i` (high).
pub(super) fn quarter_blocks(bytes: &[u8], j: usize) -> [u8; 32] {
    core::array::from_fn(|i| bytes[j / 2 * 32 + i] >> (j % 2 * 4) & 15)
}

/// With the fifth bits of ggml's blocks of 32: bit `k` of a little-endian word is column `k`'s.
pub(super) fn with_fifths(low: [u8; 32], word: &[u8]) -> [u8; 32] {
    core::array::from_fn(|k| low[k] | (word[k / 8] >> (k % 8) & 1) << 4)
}
