//! The ceiling of the matrix unit.

use super::tiles::{SIDE, Square, Tile, Unit};

/// Tiles of columns of a product.
const TILES: usize = 16;

/// Multiplies and adds bf16 in tiles that stay in the L1 cache: operations, two per multiply-add.
///
/// # Safety
/// The CPU has this tier's features.
pub unsafe fn tiles<U: Unit>(rounds: usize) -> u64 {
    #[repr(align(64))]
    struct Zeros([f32; SIDE * SIDE]);

    let (x, w) = (Tile::ZERO, [Tile::ZERO; TILES]);
    let mut sums = Zeros([0.0; SIDE * SIDE]);
    let rounds = rounds / 16 / TILES;
    // SAFETY: the tiles are there; one is the activations of every token, as many bytes as a token has in all tiles.
    unsafe {
        U::begin();
        for _ in 0..rounds {
            U::multiply(&Square {
                x: (&raw const x).cast(),
                x_stride: 0,
                w: [w.as_ptr(); 2],
                tiles: TILES,
                from: core::ptr::null(),
                from_stride: 0,
                sums: core::hint::black_box(&mut sums).0.as_mut_ptr(),
                sums_stride: size_of::<[f32; SIDE]>(),
                raw: core::ptr::null(),
                made: core::ptr::null_mut(),
                makes: 0,
            });
        }
        U::end();
    }
    (rounds * TILES * 4 * 2 * 16 * 16 * 32) as u64
}
