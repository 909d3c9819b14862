//! Poison: what stands in bytes that hold no value.

use ck_kernels::dtype::{ActType, Q8};

use super::What;

/// In f32: a signalling NaN. Arithmetic makes a quiet NaN of it and keeps the other bits, so that a result says what it
/// was computed from.
pub const F32: u32 = 0x7FB4_A000;

/// In f16: a signalling NaN, the one that [`F32`] becomes when it is rounded, but for the quiet bit.
pub const F16: u16 = 0x7DA5;

/// In integers: no id of any vocabulary, no sum of 32 numbers of sixteen bits.
pub const WORD: u32 = 0xA5A5_A5A5;

/// What is wrong with an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    Unwritten,
    FromPoison,
    NotANumber,
}

/// An element that is wrong: the byte it starts at, and its bits.
pub(super) type Found = (usize, Bad, u32);

/// Byte `i` of poisoned memory. Scratch is poisoned as f32, which is what kernels keep there.
pub(super) fn byte(what: &What, i: usize) -> u8 {
    let float = F32.to_le_bytes()[i % 4];
    let element = |act, i| match act {
        ActType::F32 => float,
        ActType::F16 => F16.to_le_bytes()[i % 2],
        ActType::U32 | ActType::Q8 => WORD.to_le_bytes()[i % 4],
    };
    match what {
        What::Rows(slot, _) if slot.act == ActType::Q8 => {
            let row = Q8 { cols: slot.cols };
            let scale = (row.scales()..row.sums()).contains(&(i % slot.stride()));
            if scale { float } else { element(slot.act, i) }
        }
        What::Rows(slot, _) => element(slot.act, i),
        What::Keys(cache) | What::Values(cache) => element(cache.act, i),
        What::Scratch(..) | What::Fixed(..) => float,
    }
}

/// The first element of a row that is poison or not a number.
pub(super) fn look(act: ActType, cols: usize, row: &[u8]) -> Option<Found> {
    match act {
        ActType::F32 => singles(&row[..4 * cols], 0),
        ActType::F16 => halves(&row[..2 * cols], 0),
        ActType::U32 => words(&row[..4 * cols], 0),
        ActType::Q8 => {
            let q8 = Q8 { cols };
            let (scales, sums) = (q8.scales(), q8.sums());
            // Rounding makes the largest byte of a block 127: no block is all of one smaller byte.
            let mut blocks = row[..scales].chunks_exact(Q8::BLOCK_BYTES);
            let unwritten = blocks.position(|block| block.iter().all(|b| *b == WORD as u8));
            singles(&row[scales..sums], scales)
                .or_else(|| words(&row[sums..q8.bytes()], sums))
                .or_else(|| unwritten.map(|block| (block * Q8::BLOCK_BYTES, Bad::Unwritten, WORD)))
        }
    }
}

/// What is wrong with an f32 or, with 16 bits, an f16 element.
pub(super) fn element(act: ActType, bits: u32) -> Option<Bad> {
    let (poison, quiet, infinity) = match act {
        ActType::F16 => (u32::from(F16), 0x0200, 0x7C00),
        _ => (F32, 0x0040_0000, 0x7F80_0000),
    };
    let magnitude = bits & (infinity | quiet | (quiet - 1));
    if bits == poison {
        Some(Bad::Unwritten)
    } else if magnitude <= infinity {
        None
    } else if magnitude & (quiet - 1) == poison & (quiet - 1) {
        Some(Bad::FromPoison)
    } else {
        Some(Bad::NotANumber)
    }
}

fn singles(bytes: &[u8], start: usize) -> Option<Found> {
    let mut all = bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).enumerate();
    all.find_map(|(i, bits)| Some((start + 4 * i, element(ActType::F32, bits)?, bits)))
}

fn halves(bytes: &[u8], start: usize) -> Option<Found> {
    let mut all = bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).enumerate();
    all.find_map(|(i, bits)| Some((start + 2 * i, element(ActType::F16, bits.into())?, bits.into())))
}

fn words(bytes: &[u8], start: usize) -> Option<Found> {
    let mut all = bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b));
    let at = all.position(|bits| bits == WORD)?;
    Some((start + 4 * at, Bad::Unwritten, WORD))
}
