//! Tables read in place: arrays of words and open-addressing hash tables with linear probing.

use super::format::NONE;

/// An array of little-endian `u32`s.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Words<'a>(pub &'a [u8]);

impl<'a> Words<'a> {
    pub(super) fn len(self) -> usize {
        self.0.len() / 4
    }

    #[inline]
    pub(super) fn get(self, index: usize) -> Option<u32> {
        let at = index.checked_mul(4)?;
        let bytes = self.0.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    pub(super) fn iter(self) -> impl Iterator<Item = u32> + 'a {
        self.0
            .chunks_exact(4)
            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }
}

/// Bytes in front of a hash table's entries: capacity, longest probe, two unused words.
pub const TABLE_HEAD: usize = 16;

/// Hash of a pair of words; the tables of the blob are built with it.
#[inline]
pub fn hash_pair(first: u32, second: u32) -> u32 {
    let x = ((u64::from(first) << 32) | u64::from(second)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 32) as u32
}

/// Hash of a byte string; the tables of the blob are built with it.
#[inline]
pub fn hash_bytes(bytes: &[u8]) -> u32 {
    let mut hash = (bytes.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut chunks = bytes.chunks_exact(8);
    let mut mix = |word: u64| {
        hash = (hash ^ word).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        hash ^= hash >> 29;
    };
    for chunk in &mut chunks {
        mix(chunk.iter().rev().fold(0, |word, &byte| (word << 8) | u64::from(byte)));
    }
    mix(chunks
        .remainder()
        .iter()
        .rev()
        .fold(0, |word, &byte| (word << 8) | u64::from(byte)));
    (hash.wrapping_mul(0x94D0_49BB_1331_11EB) >> 32) as u32
}

/// Head of a hash table: its entries of `N` words, `capacity` of them, a power of two.
#[derive(Clone, Copy, Debug)]
struct Slots<'a, const N: usize> {
    entries: &'a [u8],
    mask: usize,
    longest_probe: usize,
}

impl<'a, const N: usize> Slots<'a, N> {
    fn new(section: &'a [u8]) -> Option<Self> {
        if section.is_empty() {
            return Some(Self {
                entries: &[],
                mask: 0,
                longest_probe: 0,
            });
        }
        let head = Words(section.get(..TABLE_HEAD)?);
        let (capacity, longest_probe) = (head.get(0)? as usize, head.get(1)? as usize);
        let entries = &section[TABLE_HEAD..];
        let fits = capacity.is_power_of_two()
            && capacity.checked_mul(4 * N) == Some(entries.len())
            && longest_probe <= capacity;
        fits.then(|| Self {
            entries,
            mask: capacity - 1,
            longest_probe,
        })
    }

    /// Entries from the hash's own slot on, as many as the longest probe.
    #[inline]
    fn probe(self, hash: u32) -> impl Iterator<Item = [u32; N]> {
        (0..self.longest_probe).map_while(move |step| {
            let at = ((hash as usize).wrapping_add(step) & self.mask) * (4 * N);
            let bytes = self.entries.get(at..at + 4 * N)?;
            let mut entry = [0; N];
            for (word, bytes) in entry.iter_mut().zip(bytes.chunks_exact(4)) {
                *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            Some(entry)
        })
    }
}

/// Pairs of words to pairs of words. Entry: first, second, value, value; an empty slot has [`NONE`] as its first word.
#[derive(Clone, Copy, Debug)]
pub struct PairTable<'a>(Slots<'a, 4>);

impl<'a> PairTable<'a> {
    /// A table over a section; an empty section is an empty table. `None` when the head does not fit the length.
    pub(super) fn new(section: &'a [u8]) -> Option<Self> {
        Slots::new(section).map(Self)
    }

    /// The two values of a key.
    #[inline]
    pub(super) fn get(&self, first: u32, second: u32) -> Option<(u32, u32)> {
        for [a, b, x, y] in self.0.probe(hash_pair(first, second)) {
            if a == first && b == second {
                return Some((x, y));
            }
            if a == NONE {
                break;
            }
        }
        None
    }
}

/// Byte strings to ids. Entry: hash, id; an empty slot has [`NONE`] as its id. The strings are the tokens' own bytes.
#[derive(Clone, Copy, Debug)]
pub struct WordTable<'a>(Slots<'a, 2>);

impl<'a> WordTable<'a> {
    /// A table over a section; an empty section is an empty table. `None` when the head does not fit the length.
    pub(super) fn new(section: &'a [u8]) -> Option<Self> {
        Slots::new(section).map(Self)
    }

    /// The first id with this hash that `is_word` accepts.
    #[inline]
    pub(super) fn find(&self, word: &[u8], is_word: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = hash_bytes(word);
        for [tag, id] in self.0.probe(hash) {
            if id == NONE {
                break;
            }
            if tag == hash && is_word(id) {
                return Some(id);
            }
        }
        None
    }
}
