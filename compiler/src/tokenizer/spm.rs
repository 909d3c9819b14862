//! SentencePiece BPE from pieces and scores, as both GGUF and `tokenizer.model` have them.
//!
//! SentencePiece merges the neighbours whose concatenation is the piece with the highest score. The runtime merges pairs by
//! rank; every way to cut a piece in two becomes a pair, its rank the place of the piece's score. Equal scores have equal
//! ranks, and the leftmost goes first in both.

use std::collections::BTreeMap;

use ck_runtime::tokenizer::format::{CHAR_SYMBOL, Model, Normalizer, Prefix};

use super::problem::TokenizerProblem;
use super::vocabulary::{Added, MAX_TOKENS, Token, Vocabulary, added_bits};

/// Longest piece that takes part in merges. Cutting it in two in every way is quadratic; trained pieces have at most 16
/// characters.
const MAX_PIECE_BYTES: usize = 1024;

/// What a piece is for; the numbers are those of `sentencepiece_model.proto` and of GGUF's `token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PieceKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl PieceKind {
    pub(super) fn from_number(number: i64) -> Option<Self> {
        use PieceKind::{Byte, Control, Normal, Unknown, Unused, UserDefined};
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        [Normal, Unknown, Control, UserDefined, Unused, Byte]
            .get(index)
            .copied()
    }
}

/// One entry of the vocabulary.
#[derive(Clone, Debug)]
pub(super) struct Piece<'a> {
    /// With U+2581 for a space.
    pub text: &'a [u8],
    pub score: f32,
    pub kind: PieceKind,
}

/// The byte of `<0xNN>`.
pub(super) fn byte_piece(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_number = digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_number.then(|| u8::from_str_radix(digits, 16).ok())?
}

/// The vocabulary of pieces; `add_dummy_prefix` as in the model's normaliser.
pub(super) fn vocabulary(
    pieces: &[Piece<'_>],
    add_dummy_prefix: bool,
    place: &str,
) -> Result<Vocabulary, Vec<TokenizerProblem>> {
    if pieces.len() > MAX_TOKENS {
        let message = format!("{} pieces, the limit is {MAX_TOKENS}", pieces.len());
        return Err(vec![TokenizerProblem::new(place, message)]);
    }
    let mut problems = Vec::new();
    let mut vocabulary = Vocabulary {
        normalizer: Normalizer::EscapeSpaces,
        prefix: if add_dummy_prefix {
            Prefix::Always
        } else {
            Prefix::Never
        },
        strip_leading_space: add_dummy_prefix,
        fuse_unk: true,
        ..Vocabulary::new(Model::CharBpe)
    };
    let mut mergeable: BTreeMap<&str, u32> = BTreeMap::new();
    for (id, piece) in pieces.iter().enumerate() {
        let id = id as u32;
        let mut token = Token {
            bytes: piece.text.to_vec(),
            ..Token::default()
        };
        let Ok(text) = std::str::from_utf8(piece.text) else {
            // No text can contain it; it only decodes.
            vocabulary.tokens.push(token);
            continue;
        };
        match piece.kind {
            PieceKind::Normal | PieceKind::Unused => {
                token.bytes = text.replace('▁', " ").into_bytes();
                // SentencePiece refuses duplicates; GGUF writers may pad with them, and the first one counts.
                mergeable.entry(text).or_insert(id);
            }
            PieceKind::UserDefined => {
                token.bytes = text.replace('▁', " ").into_bytes();
                let text = text.replace(' ', "▁").into_bytes();
                vocabulary.added.push(Added {
                    text,
                    id,
                    bits: 0,
                    normalized: true,
                });
            }
            PieceKind::Control | PieceKind::Unknown => {
                token.special = true;
                let bits = added_bits(true, false, false, false);
                vocabulary.added.push(Added {
                    text: token.bytes.clone(),
                    id,
                    bits,
                    normalized: false,
                });
                if piece.kind == PieceKind::Unknown {
                    vocabulary.unk.get_or_insert(id);
                }
            }
            PieceKind::Byte => match byte_piece(text) {
                Some(byte) => {
                    token.bytes = vec![byte];
                    vocabulary.bytes[usize::from(byte)].get_or_insert(id);
                }
                None => problems.push(TokenizerProblem::new(
                    place,
                    format!("piece {id}, {text:?}, is of kind BYTE but not of the form <0xNN>"),
                )),
            },
        }
        vocabulary.tokens.push(token);
    }
    let ranks = ranks(pieces, place, &mut problems);
    for (&text, &id) in &mergeable {
        let mut chars = text.chars();
        if let (Some(only), None) = (chars.next(), chars.next()) {
            vocabulary.chars.insert(only, id);
        }
    }
    for (&text, &id) in &mergeable {
        let pairs = pairs(text, &mergeable);
        if pairs.is_empty() {
            continue;
        }
        let problem = |message: &str| TokenizerProblem::new(place, format!("piece {id}, {text:.40?}, {message}"));
        if text.len() > MAX_PIECE_BYTES {
            problems.push(problem(&format!(
                "has {} bytes, the limit is {MAX_PIECE_BYTES}",
                text.len()
            )));
        } else if pieces[id as usize].kind == PieceKind::Unused {
            problems.push(problem(
                "is UNUSED but can come out of merges; splitting it again is not supported",
            ));
        }
        for pair in pairs {
            vocabulary.merges.insert(pair, (ranks[id as usize], id));
        }
    }
    if problems.is_empty() {
        Ok(vocabulary)
    } else {
        Err(problems)
    }
}

/// Place of each piece's score, the highest first; equal scores share a place.
fn ranks(pieces: &[Piece<'_>], place: &str, problems: &mut Vec<TokenizerProblem>) -> Vec<u32> {
    if let Some(id) = pieces.iter().position(|piece| piece.score.is_nan()) {
        problems.push(TokenizerProblem::new(
            place,
            format!("the score of piece {id} is not a number"),
        ));
    }
    // Adding 0 makes -0 and 0 the same.
    let mut scores: Vec<f32> = pieces.iter().map(|piece| piece.score + 0.0).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    scores.dedup_by(|a, b| a.total_cmp(b).is_eq());
    let place_of = |score: f32| scores.partition_point(|other| other.total_cmp(&score).is_gt()) as u32;
    pieces.iter().map(|piece| place_of(piece.score + 0.0)).collect()
}

/// The pairs of symbols that make up a piece. A half is a piece, or a single character whether or not it is one.
fn pairs(text: &str, pieces: &BTreeMap<&str, u32>) -> Vec<(u32, u32)> {
    let symbol = |half: &str| {
        let mut chars = half.chars();
        let single = chars
            .next()
            .filter(|_| chars.next().is_none())
            .map(|c| CHAR_SYMBOL | c as u32);
        pieces.get(half).copied().or(single)
    };
    let cuts = text
        .char_indices()
        .skip(1)
        .map(|(at, _)| text.split_at(at))
        .take(MAX_PIECE_BYTES);
    cuts.filter_map(|(left, right)| Some((symbol(left)?, symbol(right)?)))
        .collect()
}
