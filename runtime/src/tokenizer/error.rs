//! What can go wrong with a tokenizer blob and with encoding.

use std::fmt;

/// A blob that is not a tokenizer, or a damaged one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The first bytes are not those of a tokenizer of this version.
    NotATokenizer,
    /// The blob is shorter or longer than it says.
    Length {
        /// Bytes given.
        found: usize,
        /// Bytes the header asks for.
        expected: usize,
    },
    /// A word of the header has no meaning.
    Header {
        /// Which word.
        field: &'static str,
        /// What stands there.
        value: u32,
    },
    /// A table lies outside of the blob or has a wrong size.
    Section {
        /// Which table.
        section: &'static str,
    },
    /// An id is not below the size of the vocabulary.
    Id {
        /// Where it stands.
        section: &'static str,
        /// The id.
        id: u32,
    },
}

impl fmt::Display for TokenizerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotATokenizer => f.write_str("not a tokenizer of this version; compile the model again"),
            Self::Length { found, expected } => {
                write!(f, "the tokenizer has {found} bytes where its header says {expected}")
            }
            Self::Header { field, value } => write!(f, "the tokenizer's header has {value} as its {field}"),
            Self::Section { section } => write!(f, "the tokenizer's table `{section}` does not fit"),
            Self::Id { section, id } => write!(
                f,
                "the tokenizer's table `{section}` has id {id}, outside the vocabulary"
            ),
        }
    }
}

impl std::error::Error for TokenizerError {}

/// Why a text was not encoded or an id not decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The caller's buffer is too small; nothing in it is to be used.
    OutputTooSmall {
        /// Ids the buffer holds.
        capacity: usize,
        /// Ids of this text.
        needed: usize,
    },
    /// Positions in a text are 32-bit.
    TextTooLong {
        /// Bytes of the text.
        bytes: usize,
        /// Most bytes of a text.
        limit: usize,
    },
    /// A character that the vocabulary cannot express: no token, no bytes, no unknown token.
    NoToken {
        /// The character.
        character: char,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutputTooSmall { capacity, needed } => {
                write!(f, "the text has {needed} tokens, the buffer holds {capacity}")
            }
            Self::TextTooLong { bytes, limit } => write!(f, "the text has {bytes} bytes, the limit is {limit}"),
            Self::NoToken { character } => {
                write!(
                    f,
                    "no token for {character:?} (U+{:04X}), and the vocabulary has no fallback",
                    *character as u32
                )
            }
        }
    }
}

impl std::error::Error for EncodeError {}

/// An id outside of the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownId {
    /// The id.
    pub id: u32,
    /// Number of ids in the vocabulary.
    pub vocab_len: usize,
}

impl fmt::Display for UnknownId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "token id {} is outside the vocabulary of {}",
            self.id, self.vocab_len
        )
    }
}

impl std::error::Error for UnknownId {}
