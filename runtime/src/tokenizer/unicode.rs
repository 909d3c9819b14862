//! Properties of characters and normalisation form C, from the tables of the blob.

use super::format::{CLASS_BLOCK, class};
use super::table::{PairTable, Words};

/// Two-stage table of [`class`] bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Classes<'a> {
    index: &'a [u8],
    blocks: &'a [u8],
}

impl<'a> Classes<'a> {
    /// `None` when the sizes are not those of a table over all code points.
    pub(super) fn new(index: &'a [u8], blocks: &'a [u8]) -> Option<Self> {
        let fits = index.len() == 0x11_0000 / CLASS_BLOCK * 2 && blocks.len().is_multiple_of(CLASS_BLOCK);
        fits.then_some(Self { index, blocks })
    }

    /// Bits of a character; none for a block outside of the table.
    #[inline]
    pub(super) fn get(self, c: char) -> u8 {
        let c = c as usize;
        let at = c / CLASS_BLOCK * 2;
        let Some(&[low, high]) = self.index.get(at..at + 2) else {
            return 0;
        };
        let block = usize::from(u16::from_le_bytes([low, high]));
        self.blocks
            .get(block * CLASS_BLOCK + c % CLASS_BLOCK)
            .copied()
            .unwrap_or(0)
    }

    /// Whether the character has one of the bits.
    #[inline]
    pub(super) fn is(self, c: char, bits: u8) -> bool {
        self.get(c) & bits != 0
    }
}

/// Tables of Unicode normalisation form C (UAX #15).
#[derive(Clone, Copy, Debug)]
pub(super) struct Nfc<'a> {
    pub classes: Classes<'a>,
    pub combining: PairTable<'a>,
    pub decompositions: PairTable<'a>,
    pub decomposition_chars: Words<'a>,
    pub compositions: PairTable<'a>,
}

/// Hangul syllables are composed by arithmetic (The Unicode Standard, 3.12).
mod hangul {
    pub const L_BASE: u32 = 0x1100;
    pub const V_BASE: u32 = 0x1161;
    pub const T_BASE: u32 = 0x11A7;
    pub const S_BASE: u32 = 0xAC00;
    pub const L_COUNT: u32 = 19;
    pub const V_COUNT: u32 = 21;
    pub const T_COUNT: u32 = 28;

    /// L + V, or LV + T.
    pub fn compose(first: u32, second: u32) -> Option<u32> {
        let (l, v) = (first.wrapping_sub(L_BASE), second.wrapping_sub(V_BASE));
        if l < L_COUNT && v < V_COUNT {
            return Some(S_BASE + (l * V_COUNT + v) * T_COUNT);
        }
        let (s, t) = (first.wrapping_sub(S_BASE), second.wrapping_sub(T_BASE));
        let is_lv = s < L_COUNT * V_COUNT * T_COUNT && s.is_multiple_of(T_COUNT);
        (is_lv && (1..T_COUNT).contains(&t)).then(|| first + t)
    }
}

/// A decomposed character with its place: sorting by the whole word is the canonical ordering, stable among equal classes.
/// Bits: combining class 8, position 32, code point 24.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark(u64);

impl Mark {
    fn new(class: u32, position: usize, c: u32) -> Self {
        Self((u64::from(class & 0xFF) << 56) | ((position as u64 & 0xFFFF_FFFF) << 24) | u64::from(c & 0xFF_FFFF))
    }

    fn class(self) -> u32 {
        (self.0 >> 56) as u32
    }

    fn c(self) -> u32 {
        (self.0 & 0xFF_FFFF) as u32
    }

    fn with_c(self, c: u32) -> Self {
        Self((self.0 & !0xFF_FFFF) | u64::from(c & 0xFF_FFFF))
    }
}

impl Nfc<'_> {
    /// Whether normalising cannot change the text: every character is NFC-stable by itself.
    pub(super) fn is_stable(&self, text: &str) -> bool {
        text.is_ascii() || !text.chars().any(|c| self.classes.is(c, class::NFC_UNSTABLE))
    }

    /// Appends the normalised text to `out`. `marks` is working space.
    ///
    /// Text is cut before every stable character: such a character neither moves nor combines with what precedes it, so
    /// that the segments normalise independently. A segment without an unstable character is copied.
    pub(super) fn normalize(&self, text: &str, marks: &mut Vec<Mark>, out: &mut String) {
        let mut copied = 0;
        let mut previous = 0;
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if !self.classes.is(c, class::NFC_UNSTABLE) {
                previous = at;
                continue;
            }
            out.push_str(&text[copied..previous]);
            marks.clear();
            for c in text[previous..at].chars().chain([c]) {
                self.decompose(c, marks);
            }
            while let Some((_, c)) = chars.next_if(|&(_, c)| self.classes.is(c, class::NFC_UNSTABLE)) {
                self.decompose(c, marks);
            }
            self.reorder_and_compose(marks);
            out.extend(marks.iter().filter_map(|mark| char::from_u32(mark.c())));
            copied = chars.peek().map_or(text.len(), |&(next, _)| next);
            previous = copied;
        }
        out.push_str(&text[copied..]);
    }

    fn decompose(&self, c: char, marks: &mut Vec<Mark>) {
        let mut push = |c: u32| {
            let class = self.combining.get(0, c).map_or(0, |(class, _)| class);
            marks.push(Mark::new(class, marks.len(), c));
        };
        // A decomposition has at most four characters (stability policy); a damaged table must not ask for more.
        match self.decompositions.get(0, c as u32) {
            Some((first, len)) => {
                let range = (first as usize)..(first as usize).saturating_add(len.min(4) as usize);
                range
                    .filter_map(|at| self.decomposition_chars.get(at))
                    .for_each(&mut push);
            }
            None => push(c as u32),
        }
    }

    /// Canonical ordering and canonical composition (UAX #15, D109 and D117), in place.
    fn reorder_and_compose(&self, marks: &mut Vec<Mark>) {
        for run in marks.chunk_by_mut(|a, b| a.class() != 0 && b.class() != 0) {
            run.sort_unstable();
        }
        let mut kept = 0;
        let mut starter = None;
        let mut last_class = None;
        for at in 0..marks.len() {
            let mark = marks[at];
            if let Some(starter) = starter
                && last_class.is_none_or(|last| last < mark.class())
                && let Some(composite) = self.compose(marks[starter], mark)
            {
                marks[starter] = composite;
                continue;
            }
            if mark.class() == 0 {
                starter = Some(kept);
                last_class = None;
            } else {
                last_class = Some(mark.class());
            }
            marks[kept] = mark;
            kept += 1;
        }
        marks.truncate(kept);
    }

    fn compose(&self, starter: Mark, mark: Mark) -> Option<Mark> {
        let (first, second) = (starter.c(), mark.c());
        let table = || self.compositions.get(first, second).map(|(composite, _)| composite);
        hangul::compose(first, second)
            .or_else(table)
            .map(|composite| starter.with_c(composite))
    }
}
