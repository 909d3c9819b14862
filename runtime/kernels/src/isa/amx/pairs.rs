//! Whole numbers to tiles of bf16.
//!
//! A quad of a slab is four columns of sixteen rows, a byte each; a row of a tile is two. The first row of a quad has its
//! columns 0 and 2, the second 1 and 3: what masks and shifts give. [`super::quantize`] orders activations alike.

use core::arch::x86_64::*;

use super::tiles::Tile;
use crate::isa::avx512::matmul_quant::{Quads, Unpack};
use crate::quant::{Bytes, Fives, Nibbles, Sixes};

/// How the integers of a slab become bf16.
pub trait Pairs: Unpack {
    /// One divided by what the integers come multiplied with.
    const UNIT: f32 = 1.0;

    /// What is looked up.
    type Table: Copy;

    /// Loads the table, out of [`whole`].
    ///
    /// # Safety
    /// The CPU has the tier's features.
    unsafe fn table(whole: &[u16; 64]) -> Self::Table;

    /// Both rows of a tile that a quad makes.
    ///
    /// # Safety
    /// The CPU has the tier's features.
    unsafe fn rows(table: Self::Table, quad: __m512i) -> [__m512i; 2];
}

/// The bf16 of `i - bias`, which is exact.
pub const fn whole(bias: i32) -> [u16; 64] {
    let mut table = [0; 64];
    let mut i = 0;
    while i < table.len() {
        table[i] = (((i as i32 - bias) as f32).to_bits() >> 16) as u16;
        i += 1;
    }
    table
}

/// Columns 0 and 2 of a quad, and 1 and 3, as words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn words(quad: __m512i) -> [__m512i; 2] {
    let even = _mm512_and_si512(quad, _mm512_set1_epi16(0xff));
    [even, _mm512_srli_epi16::<8>(quad)]
}

/// Integers of at most five bits: one vector holds all there are.
macro_rules! five_bits {
    ($values:ident) => {
        impl Pairs for $values {
            type Table = __m512i;

            #[inline]
            #[target_feature(enable = "avx512f")]
            unsafe fn table(whole: &[u16; 64]) -> __m512i {
                // SAFETY: half of the table.
                unsafe { _mm512_loadu_si512(whole.as_ptr().cast()) }
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw")]
            unsafe fn rows(table: __m512i, quad: __m512i) -> [__m512i; 2] {
                let [even, odd] = words(quad);
                [
                    _mm512_permutexvar_epi16(even, table),
                    _mm512_permutexvar_epi16(odd, table),
                ]
            }
        }
    };
}
five_bits!(Nibbles);
five_bits!(Fives);

impl Pairs for Sixes {
    type Table = [__m512i; 2];

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn table(whole: &[u16; 64]) -> [__m512i; 2] {
        let table = whole.as_ptr();
        // SAFETY: both halves of the table.
        unsafe {
            [
                _mm512_loadu_si512(table.cast()),
                _mm512_loadu_si512(table.add(32).cast()),
            ]
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn rows([low, high]: [__m512i; 2], quad: __m512i) -> [__m512i; 2] {
        let [even, odd] = words(quad);
        [
            _mm512_permutex2var_epi16(low, even, high),
            _mm512_permutex2var_epi16(low, odd, high),
        ]
    }
}

/// Eight bits are too many to look up. They stand for `q - 128`, which has the bits of `q` but for the sign's. A byte at the top of a lane becomes a float times 2^24, whose upper half is the
/// bf16, exactly.
impl Pairs for Bytes {
    const UNIT: f32 = 1.0 / (1 << 24) as f32;

    type Table = ();

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn table(_: &[u16; 64]) {}

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn rows((): (), quad: __m512i) -> [__m512i; 2] {
        let quad = _mm512_xor_si512(quad, _mm512_set1_epi32(0x8080_8080_u32.cast_signed()));
        let top = _mm512_set1_epi32(0xff00_0000_u32.cast_signed());
        let float = |lane| _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_and_si512(lane, top)));
        let pair = |low, high| _mm512_or_si512(_mm512_srli_epi32::<16>(float(low)), float(high));
        [
            pair(_mm512_slli_epi32::<24>(quad), _mm512_slli_epi32::<8>(quad)),
            pair(_mm512_slli_epi32::<16>(quad), quad),
        ]
    }
}

/// A tile of a slab's 32 columns, or of one half of them, the other half zero.
///
/// # Safety
/// The CPU has the tier's features.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub unsafe fn fill<V: Pairs>(table: V::Table, quads: &Quads, half: Option<usize>, tile: &mut Tile) {
    let to = (&raw mut *tile).cast::<__m512i>();
    for (v, quad) in quads.iter().enumerate() {
        // SAFETY: the features are the caller's; a tile is sixteen vectors.
        unsafe {
            let rows = if half.is_none_or(|half| v / 4 == half) {
                V::rows(table, *quad)
            } else {
                [_mm512_setzero_si512(); 2]
            };
            _mm512_store_si512(to.add(2 * v), rows[0]);
            _mm512_store_si512(to.add(2 * v + 1), rows[1]);
        }
    }
}
