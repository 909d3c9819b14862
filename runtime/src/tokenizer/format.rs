//! The tokenizer blob: one byte string of little-endian tables that is read in place.
//!
//! ```text
//! magic [8] | header: u32 x HEADER_WORDS | (offset, length): u32 x 2 x SECTIONS | sections, 16-byte aligned
//! ```
//!
//! Offsets count from the start of the blob. Nothing in it is parsed into other structures: the reader keeps slices and
//! every access is checked, so a damaged table gives wrong ids but never a fault.
//! The compiler writes the blob with the constants of this module, so that the two sides cannot disagree.

/// First eight bytes of a blob; the last one is the version of the format.
pub const MAGIC: [u8; 8] = *b"CKTOKEN\x01";

/// No id, no entry.
pub const NONE: u32 = u32::MAX;

/// Symbols from here on are characters without a token of their own: `CHAR_SYMBOL | code point`.
pub const CHAR_SYMBOL: u32 = 1 << 31;

/// Longest text of an added token, in bytes. It bounds the work of matching at one position of the text.
pub const MAX_ADDED_BYTES: usize = 4096;

/// Code points per block of the two-stage table of [`class`] bytes.
pub const CLASS_BLOCK: usize = 256;

/// Words of the header, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Bytes of the whole blob.
    TotalBytes,
    /// Number of ids.
    VocabLen,
    /// A [`Model`].
    Model,
    /// A [`PreTokenizer`].
    PreTokenizer,
    /// A [`Normalizer`].
    Normalizer,
    /// A [`Prefix`].
    Prefix,
    /// Bits of [`flag`].
    Flags,
    /// Id of the beginning-of-sequence token or [`NONE`].
    Bos,
    /// Id of the unknown token or [`NONE`].
    Unk,
}

/// Number of words in the header.
pub const HEADER_WORDS: usize = 9;

/// The tables, in the order of their (offset, length) pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// `u32[vocab + 1]`: token `i` is `TokenBytes[offset[i]..offset[i + 1]]`.
    TokenOffsets,
    /// What each token decodes to, concatenated.
    TokenBytes,
    /// `u8[vocab]` of [`token`] bits.
    TokenFlags,
    /// Hash table of token bytes to id, see [`super::table::WordTable`].
    Words,
    /// Hash table of (left, right) to (rank, merged), see [`super::table::PairTable`].
    Merges,
    /// `u32[256]`: byte to its token.
    Bytes,
    /// Hash table of (0, code point) to (0, token).
    Chars,
    /// Added tokens looked for in the raw text: `u32[4]` a token (offset, length, id, [`added`] bits), sorted by text.
    AddedRaw,
    /// Added tokens looked for in the normalised text; same records.
    AddedNormalized,
    /// Texts of the added tokens.
    AddedBytes,
    /// `u16[0x110000 / CLASS_BLOCK]`: block of each group of code points.
    ClassIndex,
    /// `u8[CLASS_BLOCK]` a block: [`class`] bits.
    ClassBlocks,
    /// Hash table of (0, code point) to (canonical combining class, 0); absent is 0.
    CombiningClass,
    /// Hash table of (0, code point) to (first word, number of words) in `DecompositionChars`; full canonical decompositions.
    Decompositions,
    /// `u32[..]` code points.
    DecompositionChars,
    /// Hash table of (first, second) to (composite, 0); primary composites, without Hangul.
    Compositions,
    /// `u32[..]`: ids that end a sequence.
    Eos,
    /// `u32[..]`: ids put before a text.
    Before,
    /// `u32[..]`: ids put after a text.
    After,
}

/// Number of sections.
pub const SECTIONS: usize = 19;

/// How a piece of text becomes ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Byte-level BPE (GPT-2): words are split by a [`PreTokenizer`], symbols start as bytes.
    ByteBpe,
    /// SentencePiece BPE: no words, symbols start as characters, unknown ones fall back to bytes.
    CharBpe,
}

/// How byte-level BPE cuts text into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreTokenizer {
    /// The whole piece is one word.
    Whole,
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Llama3,
    /// As `Llama3`, with `\p{N}` for numbers.
    Qwen2,
    /// Every `\p{N}` alone, then `Gpt2` on what lies between.
    DigitsGpt2,
}

/// What happens to text before it is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalizer {
    /// Nothing.
    Identity,
    /// Unicode normalisation form C.
    Nfc,
    /// A space becomes U+2581.
    EscapeSpaces,
}

/// Where a space (U+2581 after escaping) is put before text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// Nowhere.
    Never,
    /// Before every stretch of text between added tokens, always.
    Always,
    /// Before every stretch that does not begin with one.
    Missing,
    /// Before a stretch at the very beginning of the text that does not begin with one.
    MissingFirst,
}

/// Bits of [`Header::Flags`].
pub mod flag {
    /// Runs of unknown characters become one unknown token.
    pub const FUSE_UNK: u32 = 1;
    /// Decoding drops one space at the beginning of the text.
    pub const STRIP_LEADING_SPACE: u32 = 1 << 1;
    /// No merge makes a token with U+2581 after another character, so that text can be cut before such a U+2581
    /// (character BPE only).
    pub const CUT_BEFORE_SPACES: u32 = 1 << 2;
}

/// Bits of a token.
pub mod token {
    /// A control token: not text; left out by `skip_special`.
    pub const SPECIAL: u8 = 1;
    /// The whole-word table may answer with this token without running the merges.
    pub const WHOLE_WORD: u8 = 1 << 1;
}

/// Bits of an added token.
pub mod added {
    /// Only matched when special tokens are parsed.
    pub const SPECIAL: u32 = 1;
    /// Swallows white space before it.
    pub const LSTRIP: u32 = 1 << 1;
    /// Swallows white space after it.
    pub const RSTRIP: u32 = 1 << 2;
    /// Not matched next to a word character.
    pub const SINGLE_WORD: u32 = 1 << 3;
}

/// Bits of a code point.
pub mod class {
    /// `\p{L}`
    pub const LETTER: u8 = 1;
    /// `\p{N}`
    pub const NUMBER: u8 = 1 << 1;
    /// `\s`
    pub const SPACE: u8 = 1 << 2;
    /// `\w`
    pub const WORD: u8 = 1 << 3;
    /// NFC quick check is not "yes", or the combining class is not 0: the character may change or move.
    pub const NFC_UNSTABLE: u8 = 1 << 4;
}

/// A fieldless enum stored as a word.
macro_rules! words {
    ($($name:ident { $($variant:ident),+ $(,)? })+) => {$(
        impl $name {
            /// The variant with this number.
            pub fn from_word(word: u32) -> Option<Self> {
                const ALL: &[$name] = &[$($name::$variant),+];
                ALL.get(word as usize).copied()
            }

            /// The number of this variant.
            pub fn word(self) -> u32 {
                self as u32
            }
        }
    )+};
}

words! {
    Model { ByteBpe, CharBpe }
    PreTokenizer { Whole, Gpt2, Llama3, Qwen2, DigitsGpt2 }
    Normalizer { Identity, Nfc, EscapeSpaces }
    Prefix { Never, Always, Missing, MissingFirst }
}
