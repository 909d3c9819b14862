//! The ceiling of the matrix unit.

use super::tiles::{GROUPS, ROW, Square, Tile, Unit};

/// Tiles of columns of a product.
const TILES: usize = 16;

/// Multiplies and adds bf16 in tiles that stay in the L1 cache: operations, two per multiply-add.
///
/// # Safety
/// The CPU has this tier's features.
pub unsafe fn tiles<U: Unit>(rounds: usize) -> u64 {
    let (x, w) = (Tile::ZERO, [Tile::ZERO; TILES]);
    let mut sums = [Tile::ZERO; GROUPS];
    let rounds = rounds / 16 / TILES;
    // SAFETY: the tiles are there; one is the activations of every token, as many bytes as a token has in all tiles.
    unsafe {
        U::begin();
        for _ in 0..rounds {
            let sums = core::hint::black_box(&mut sums).as_mut_ptr();
            U::multiply(&Square {
                x: (&raw const x).cast(),
                next_x: (&raw const x).cast(),
                x_stride: 0,
                w: w.as_ptr(),
                w_stride: 0,
                tiles: TILES,
                from: core::ptr::null(),
                next_from: sums,
                sums: sums.cast(),
                sums_stride: ROW,
                sums_group: size_of::<Tile>(),
                raw: core::ptr::null(),
                raw_end: core::ptr::null(),
                made: core::ptr::null_mut(),
            });
        }
        U::end();
    }
    (rounds * TILES * 4 * 2 * 16 * 16 * 32) as u64
}
