//! The ceiling of the matrix unit.

use super::tiles::{BATCH, Tile, Unit};

/// Multiplies and adds bf16 in tiles that stay in the L1 cache: operations, two per multiply-add.
///
/// # Safety
/// The CPU has this tier's features.
pub unsafe fn tiles<U: Unit>(rounds: usize) -> u64 {
    let (a, b) = ([Tile::ZERO; BATCH], [Tile::ZERO; BATCH]);
    let mut c = [Tile::ZERO; BATCH];
    let rounds = rounds / 16;
    // SAFETY: the tiles are there.
    unsafe {
        U::begin();
        for _ in 0..rounds {
            U::products::<1>(a.as_ptr(), b.as_ptr(), core::hint::black_box(&mut c).as_mut_ptr());
        }
        U::end();
    }
    (rounds * BATCH * 2 * 16 * 16 * 32) as u64
}
