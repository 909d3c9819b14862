//! Tables of characters: the classes of the pre-tokenizers' regular expressions, and normalisation form C.
//!
//! The classes come from the crate that Hugging Face's tokenizers match with, so that `\p{L}` means the same here and there.

use std::sync::LazyLock;

use ck_runtime::tokenizer::format::{CLASS_BLOCK, class};
use regex_syntax::hir::{Class, HirKind};
use unicode_normalization::{
    IsNormalized, char::canonical_combining_class, char::compose, char::decompose_canonical, is_nfc_quick,
};

/// Two-stage table of class bits.
pub(super) struct Classes {
    /// `u16` block numbers.
    pub index: Vec<u8>,
    /// Blocks of [`CLASS_BLOCK`] bytes.
    pub blocks: Vec<u8>,
}

pub(super) static CLASSES: LazyLock<Classes> = LazyLock::new(classes);

const CODE_POINTS: usize = 0x11_0000;

fn classes() -> Classes {
    let mut bits = vec![0u8; CODE_POINTS];
    let patterns = [
        (r"\p{L}", class::LETTER),
        (r"\p{N}", class::NUMBER),
        (r"\s", class::SPACE),
        (r"\w", class::WORD),
    ];
    for (pattern, bit) in patterns {
        let hir = regex_syntax::parse(pattern).expect("a constant pattern");
        let HirKind::Class(Class::Unicode(class)) = hir.kind() else {
            unreachable!("{pattern} is a class")
        };
        for range in class.ranges() {
            bits[range.start() as usize..=range.end() as usize]
                .iter_mut()
                .for_each(|bits| *bits |= bit);
        }
    }
    for c in '\0'..=char::MAX {
        let unstable = canonical_combining_class(c) != 0 || is_nfc_quick([c].into_iter()) != IsNormalized::Yes;
        if unstable {
            bits[c as usize] |= class::NFC_UNSTABLE;
        }
    }
    let mut blocks: Vec<&[u8]> = Vec::new();
    let mut index = Vec::new();
    for block in bits.chunks_exact(CLASS_BLOCK) {
        let number = blocks.iter().position(|known| *known == block).unwrap_or_else(|| {
            blocks.push(block);
            blocks.len() - 1
        });
        index.extend((number as u16).to_le_bytes());
    }
    Classes {
        index,
        blocks: blocks.concat(),
    }
}

/// Entries of the NFC tables; keys are unique.
pub(super) struct NfcTables {
    /// (0, code point, combining class, 0)
    pub combining: Vec<[u32; 4]>,
    /// (0, code point, first, length)
    pub decompositions: Vec<[u32; 4]>,
    pub decomposition_chars: Vec<u32>,
    /// (first, second, composite, 0)
    pub compositions: Vec<[u32; 4]>,
}

pub(super) fn nfc() -> NfcTables {
    let mut tables = NfcTables {
        combining: Vec::new(),
        decompositions: Vec::new(),
        decomposition_chars: Vec::new(),
        compositions: Vec::new(),
    };
    for c in '\0'..=char::MAX {
        match canonical_combining_class(c) {
            0 => {}
            class => tables.combining.push([0, c as u32, u32::from(class), 0]),
        }
        let mut parts = Vec::new();
        decompose_canonical(c, |part| parts.push(part));
        // Hangul is arithmetic in the runtime, both ways; a syllable is stable and only grows.
        let is_hangul = ('\u{AC00}'..='\u{D7A3}').contains(&c);
        if parts == [c] || is_hangul {
            continue;
        }
        let first = tables.decomposition_chars.len() as u32;
        tables.decompositions.push([0, c as u32, first, parts.len() as u32]);
        tables.decomposition_chars.extend(parts.iter().map(|&part| part as u32));
        // A primary composite is its last part added to the composite of the others.
        if let [first, middle @ .., last] = &parts[..]
            && let Some(base) = middle.iter().try_fold(*first, |base, &part| compose(base, part))
            && compose(base, *last) == Some(c)
        {
            tables.compositions.push([base as u32, *last as u32, c as u32, 0]);
        }
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pairs found through decompositions are all the pairs there are: every character that may follow (NFC quick check
    /// "maybe") is tried after every other.
    #[test]
    fn no_composition_is_missing() {
        let maybe = |c: &char| is_nfc_quick([*c].into_iter()) == IsNormalized::Maybe;
        let hangul = |c: u32| (0xAC00..=0xD7A3).contains(&c);
        let mut all = Vec::new();
        for second in ('\0'..=char::MAX).filter(maybe) {
            for first in '\0'..=char::MAX {
                if let Some(c) = compose(first, second).filter(|&c| !hangul(c as u32)) {
                    all.push([first as u32, second as u32, c as u32, 0]);
                }
            }
        }
        let mut found = nfc().compositions;
        all.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, all);
    }
}
