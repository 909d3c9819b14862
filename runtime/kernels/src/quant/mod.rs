//! Weight formats: one file each, and one line in the registry of [`crate::dtype`].
//!
//! A weight matrix exists in two forms. *Rows*: each output's weights in ggml's block format, as files hold them.
//! *Packed*: groups of [`GROUP`] rows interleaved for the matmuls of [`crate::isa`]; a float format's file says how, the
//! others are put together of [`Values`] and [`Scales`] (see [`block`]). Both forms take the same number of bytes;
//! packing moves and re-bases values and never rounds.

pub(crate) mod bf16;
pub(crate) mod block;
mod encode;
pub(crate) mod f16;
pub(crate) mod f32;
mod float;
pub mod half;
pub(crate) mod q4_0;
pub(crate) mod q4_1;
pub(crate) mod q4_k;
pub(crate) mod q5_0;
pub(crate) mod q5_1;
pub(crate) mod q5_k;
pub(crate) mod q6_k;
pub(crate) mod q8_0;
mod scales;
mod values;

pub use block::{Block, Encode};
pub use float::Float;
pub(crate) use scales::scale_min;
pub use scales::{Affine, Centred, Scales, SubAffine, SubCentred};
pub use values::{Bytes, Fives, Nibbles, Sixes, Values};

use crate::dtype::{DType, GROUP, registry};

/// What can be done with the bytes of a format. Bytes of any value are meaningful: nothing here fails on contents.
pub struct Format {
    dtype: DType,
    halves: &'static [(usize, f32)],
    decode_row: fn(&[u8], &mut [f32]),
    encode_row: Option<Encode>,
    pack_group: fn(&Rows<'_>, &mut [u8]),
    unpack_row: fn(&[u8], usize, &mut [f32]),
}

macro_rules! formats {
    ($($dtype:ident $name:ident $kind:ident $id:literal $block:tt $about:literal;)*) => { [$($name::FORMAT),*] };
}

/// By [`DType`].
pub static FORMATS: [Format; DType::ALL.len()] = registry!(formats);

/// The format of a type.
pub fn format(dtype: DType) -> &'static Format {
    &FORMATS[dtype as usize]
}

impl Format {
    /// The type this is the format of.
    pub const fn dtype(&self) -> DType {
        self.dtype
    }

    /// The values of one row. Bit for bit what ggml's reference (`gguf.quants.dequantize`) gives.
    ///
    /// # Panics
    /// If `row` is not as long as `out.len()` weights take.
    pub fn decode_row(&self, row: &[u8], out: &mut [f32]) {
        self.check(row.len(), 1, out.len());
        (self.decode_row)(row, out);
    }

    /// Whether [`Format::encode_row`] writes anything.
    pub const fn can_encode(&self) -> bool {
        self.encode_row.is_some()
    }

    /// Turns blocks of random bytes into weights of mean 0 and about the standard deviation `sigma`: sets their f16.
    /// Does nothing to a format without blocks.
    pub fn tame(&self, row: &mut [u8], sigma: f32) {
        for block in row.chunks_exact_mut(self.dtype.block_bytes()) {
            for (at, unit) in self.halves {
                encode::put_half(&mut block[*at..at + 2], sigma * unit);
            }
        }
    }

    /// Where the f16 of a block are.
    pub fn halves(&self) -> impl Iterator<Item = usize> {
        self.halves.iter().map(|(at, _)| *at)
    }

    /// Quantises or rounds one row, exactly as ggml's reference does, into `out`; `false`, and nothing written, for
    /// formats that can only be read.
    ///
    /// # Panics
    /// If `out` is not as long as `row.len()` weights take.
    #[must_use]
    pub fn encode_row(&self, row: &[f32], out: &mut [u8]) -> bool {
        self.check(out.len(), 1, row.len());
        let Some(encode) = self.encode_row else { return false };
        encode(row, out);
        true
    }

    /// Packs at most [`GROUP`] rows of `k` weights that follow each other in `rows`; missing rows become zeros.
    /// `out` is `GROUP * row_bytes(k)` bytes.
    ///
    /// # Panics
    /// If a length is not as described.
    pub fn pack_group(&self, rows: &[u8], k: usize, out: &mut [u8]) {
        self.check(out.len(), GROUP, k);
        let row_bytes = self.dtype.row_bytes(k);
        assert!(
            rows.len() <= out.len() && (row_bytes == 0 || rows.len().is_multiple_of(row_bytes)),
            "{} bytes are not at most {GROUP} rows of {k} {}",
            rows.len(),
            self.dtype.name(),
        );
        (self.pack_group)(&Rows { bytes: rows, row_bytes }, out);
    }

    /// The values of row `row` of a packed group; the same bits as [`Format::decode_row`] gives for that row.
    ///
    /// # Panics
    /// If `group` is not as long as a group of rows of `out.len()` weights, or `row` is not one of its rows.
    pub fn unpack_row(&self, group: &[u8], row: usize, out: &mut [f32]) {
        self.check(group.len(), GROUP, out.len());
        assert!(row < GROUP, "row {row} of a group of {GROUP}");
        (self.unpack_row)(group, row, out);
    }

    fn check(&self, bytes: usize, rows: usize, k: usize) {
        assert!(
            k.is_multiple_of(self.dtype.block_len()) && bytes == rows * self.dtype.row_bytes(k),
            "{bytes} bytes are not {rows} rows of {k} {}",
            self.dtype.name(),
        );
    }
}

/// At most [`GROUP`] rows, to be packed.
struct Rows<'a> {
    bytes: &'a [u8],
    row_bytes: usize,
}

impl<'a> Rows<'a> {
    /// Block `b`, of `N` bytes, of every row that is there, with the row's number.
    fn blocks<const N: usize>(&self, b: usize) -> impl Iterator<Item = (usize, &'a [u8; N])> {
        let (bytes, row_bytes) = (self.bytes, self.row_bytes);
        (0..GROUP).map_while(move |r| {
            let block = bytes.get(r * row_bytes..)?.get(b * N..)?.first_chunk()?;
            Some((r, block))
        })
    }

    /// The same of `n` bytes.
    fn blocks_of(&self, n: usize, b: usize) -> impl Iterator<Item = (usize, &'a [u8])> {
        self.bytes
            .chunks_exact(self.row_bytes.max(1))
            .map(move |row| &row[b * n..(b + 1) * n])
            .enumerate()
    }
}

/// Pairs the blocks of a row with their values.
fn blocks<'a, const BYTES: usize, const LEN: usize>(
    row: &'a [u8],
    out: &'a mut [f32],
) -> impl Iterator<Item = (&'a [u8; BYTES], &'a mut [f32; LEN])> {
    row.as_chunks().0.iter().zip(out.as_chunks_mut().0)
}

/// The half at byte `at`.
fn half_at(bytes: &[u8], at: usize) -> f32 {
    half::f16_to_f32(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// Rounds to the nearest integer, halves away from zero (C's `roundf`), saturating; NaN becomes 0.
pub(crate) fn round_i8(v: f32) -> i8 {
    let magnitude = if v < 0.0 { -v } else { v };
    let whole = magnitude as u32;
    // Exact: `whole` is at most `magnitude` and above 2^23 the fraction is zero.
    let up = magnitude - whole as f32 >= 0.5;
    let rounded = i64::from(whole) + i64::from(up);
    let signed = if v < 0.0 { -rounded } else { rounded };
    signed.clamp(-128, 127) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_in_the_order_of_the_types() {
        for (i, d) in DType::ALL.into_iter().enumerate() {
            assert_eq!(FORMATS[i].dtype(), d);
            assert_eq!(d as usize, i);
        }
    }

    #[test]
    fn rounding_is_half_away_from_zero() {
        for (v, want) in [
            (0.5, 1),
            (-0.5, -1),
            (0.499_999_97, 0),
            (2.5, 3),
            (-126.5, -127),
            (1e30, 127),
            (f32::NEG_INFINITY, -128),
            (f32::NAN, 0),
        ] {
            assert_eq!(round_i8(v), want, "{v}");
        }
    }
}
