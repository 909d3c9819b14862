//! Formats with blocks: what one is made of, and everything that follows from that.
//!
//! A packed block of 16 rows is a header and a slab for every 32 columns. The header has, for each half of ggml's block,
//! 16 of them, then for each byte of scales 16 of them. The slabs are [`Values`].

use super::{Format, Rows, Scales, Values, half_at};
use crate::dtype::{DType, GROUP};

/// Quantises one row.
pub type Encode = fn(&[f32], &mut [u8]);

/// A format with blocks. Implemented once, in the format's file; the kernels of every tier are made of it.
pub trait Block {
    /// The type this is.
    const DTYPE: DType;
    /// How its integers are packed.
    type Values: Values;
    /// How they are scaled.
    type Scales: Scales;
    /// Where the f16 of ggml's block are, in the order in which [`Block::Scales`] numbers them; and what each is in a
    /// block of random bytes whose weights have mean 0 and variance 1.
    const HALVES: &'static [(usize, f32)];
    /// Where the bytes of scales of ggml's block begin, if there are any.
    const BYTES: usize = 0;
    /// ggml's reference encoder.
    const ENCODE: Option<Encode> = None;

    /// The integers of columns `32 j..32 j + 32` of ggml's block.
    fn values(block: &[u8], j: usize) -> [u8; 32];
}

impl Format {
    /// The format of a kind of block.
    pub(super) const fn of<B: Block>() -> Format {
        assert!(B::HALVES.len() == <B::Scales>::HALVES, "halves as the scales want them");
        let (slabs, bytes) = (B::DTYPE.block_len() / 32, B::DTYPE.block_bytes());
        assert!(
            <B::Scales>::HEADER + slabs * <B::Values>::SLAB == bytes * GROUP,
            "packing takes no more bytes and no less"
        );
        Format {
            dtype: B::DTYPE,
            halves: B::HALVES,
            decode_row: decode_row::<B>,
            encode_row: B::ENCODE,
            pack_group: pack_group::<B>,
            unpack_row: unpack_row::<B>,
        }
    }
}

fn decode_row<B: Block>(row: &[u8], out: &mut [f32]) {
    let blocks = row.chunks_exact(B::DTYPE.block_bytes());
    for (block, xs) in blocks.zip(out.chunks_exact_mut(B::DTYPE.block_len())) {
        for (j, xs) in xs.as_chunks_mut().0.iter_mut().enumerate() {
            let half = |i: usize| half_at(block, B::HALVES[i].0);
            *xs = B::Scales::weights(j, half, |i| block[B::BYTES + i], &B::values(block, j));
        }
    }
}

fn pack_group<B: Block>(rows: &Rows<'_>, out: &mut [u8]) {
    out.fill(0);
    let bytes = B::DTYPE.block_bytes();
    for (b, packed) in out.chunks_exact_mut(bytes * GROUP).enumerate() {
        let (header, slabs) = packed.split_at_mut(B::Scales::HEADER);
        let (halves, scales) = header.split_at_mut(2 * GROUP * B::HALVES.len());
        for (r, block) in rows.blocks_of(bytes, b) {
            for (to, (at, _)) in halves.as_chunks_mut::<{ 2 * GROUP }>().0.iter_mut().zip(B::HALVES) {
                to[2 * r..2 * r + 2].copy_from_slice(&block[*at..at + 2]);
            }
            for (to, byte) in scales.as_chunks_mut::<GROUP>().0.iter_mut().zip(&block[B::BYTES..]) {
                to[r] = *byte;
            }
            for (j, slab) in slabs.chunks_exact_mut(B::Values::SLAB).enumerate() {
                B::Values::put(slab, r, &B::values(block, j));
            }
        }
    }
}

fn unpack_row<B: Block>(group: &[u8], row: usize, out: &mut [f32]) {
    let blocks = group.chunks_exact(B::DTYPE.block_bytes() * GROUP);
    for (packed, xs) in blocks.zip(out.chunks_exact_mut(B::DTYPE.block_len())) {
        let (header, slabs) = packed.split_at(B::Scales::HEADER);
        let half = |i| header_half(header, i, row);
        let byte = |i| header_byte::<B>(header, i, row);
        let slabs = slabs.chunks_exact(B::Values::SLAB);
        for (j, (xs, slab)) in xs.as_chunks_mut().0.iter_mut().zip(slabs).enumerate() {
            *xs = B::Scales::weights(j, half, byte, &B::Values::get(slab, row));
        }
    }
}

/// Half `i` of a row of a packed block.
pub(crate) fn header_half(header: &[u8], i: usize, row: usize) -> f32 {
    half_at(header, 2 * (i * GROUP + row))
}

/// Scale byte `i` of a row of a packed block.
pub(crate) fn header_byte<B: Block>(header: &[u8], i: usize, row: usize) -> u8 {
    header[2 * GROUP * B::HALVES.len() + i * GROUP + row]
}
