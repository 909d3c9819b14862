//! Text to ids and back through tables made at compile time.
//!
//! A tokenizer is a view of a blob ([`mod@format`]) that the compiler lays beside the weights: opening it looks at the headers of
//! its tables, not at their contents, so that a vocabulary of 128k tokens costs nothing before the first word. The contents
//! are not trusted: every access is checked, ids are compared with the size of the vocabulary where they are read, and a
//! damaged blob is an error or a tokenizer with wrong answers, never a fault.
//!
//! Supported: byte-level BPE (GPT-2, Llama 3, Qwen2, SmolLM pre-tokenizers) and SentencePiece BPE with byte fallback.
//! Encoding allocates nothing once its [`Scratch`] has grown, has no limit on words, and takes O(n log n) for any text.

mod added;
mod bpe;
mod decode;
mod encode;
mod error;
pub mod format;
mod pretokenize;
pub mod table;
mod unicode;

use added::AddedTokens;
use bpe::Merges;
pub use decode::Decoder;
pub use encode::{EncodeOptions, Scratch};
pub use error::{EncodeError, TokenizerError, UnknownId};
use format::{CHAR_SYMBOL, HEADER_WORDS, Header, MAGIC, Model, NONE, Normalizer, Prefix, SECTIONS, Section, token};
use pretokenize::Splitter;
use table::{PairTable, WordTable, Words};
use unicode::{Classes, Nfc};

/// A tokenizer read in place from a blob.
#[derive(Clone, Debug)]
pub struct Tokenizer<'a> {
    vocab_len: u32,
    model: Model,
    normalizer: Normalizer,
    prefix: Prefix,
    flags: u32,
    bos: u32,
    unk: u32,
    token_offsets: Words<'a>,
    token_bytes: &'a [u8],
    token_flags: &'a [u8],
    words: WordTable<'a>,
    merges: Merges<'a>,
    bytes: Words<'a>,
    chars: PairTable<'a>,
    added_raw: AddedTokens<'a>,
    added_normalized: AddedTokens<'a>,
    splitter: Splitter<'a>,
    nfc: Nfc<'a>,
    eos: Words<'a>,
    before: Words<'a>,
    after: Words<'a>,
}

/// Header and sections of a blob, not yet looked into.
struct Layout<'a> {
    blob: &'a [u8],
    header: Words<'a>,
    sections: Words<'a>,
}

impl<'a> Layout<'a> {
    fn new(blob: &'a [u8]) -> Result<Self, TokenizerError> {
        const HEADER_END: usize = MAGIC.len() + 4 * HEADER_WORDS;
        const SECTIONS_END: usize = HEADER_END + 8 * SECTIONS;
        if !blob.starts_with(&MAGIC) {
            return Err(TokenizerError::NotATokenizer);
        }
        let too_short = TokenizerError::Length {
            found: blob.len(),
            expected: SECTIONS_END,
        };
        let sections = Words(blob.get(HEADER_END..SECTIONS_END).ok_or(too_short)?);
        let header = Words(&blob[MAGIC.len()..HEADER_END]);
        let layout = Self { blob, header, sections };
        let expected = layout.word(Header::TotalBytes) as usize;
        if blob.len() != expected {
            return Err(TokenizerError::Length {
                found: blob.len(),
                expected,
            });
        }
        Ok(layout)
    }

    fn word(&self, field: Header) -> u32 {
        self.header.get(field as usize).unwrap_or(NONE)
    }

    fn variant<T>(&self, field: Header, name: &'static str, from: fn(u32) -> Option<T>) -> Result<T, TokenizerError> {
        let value = self.word(field);
        from(value).ok_or(TokenizerError::Header { field: name, value })
    }

    fn section(&self, section: Section, name: &'static str) -> Result<&'a [u8], TokenizerError> {
        let find = || {
            let offset = self.sections.get(2 * section as usize)? as usize;
            let len = self.sections.get(2 * section as usize + 1)? as usize;
            self.blob.get(offset..offset.checked_add(len)?)
        };
        find().ok_or(TokenizerError::Section { section: name })
    }

    /// A section through a constructor that says whether its size is right.
    fn table<T>(
        &self,
        section: Section,
        name: &'static str,
        new: impl FnOnce(&'a [u8]) -> Option<T>,
    ) -> Result<T, TokenizerError> {
        new(self.section(section, name)?).ok_or(TokenizerError::Section { section: name })
    }

    /// A short list of ids, each checked.
    fn ids(&self, section: Section, name: &'static str, vocab_len: u32) -> Result<Words<'a>, TokenizerError> {
        let ids = self.table(section, name, words)?;
        check_ids(name, ids.iter(), vocab_len)?;
        Ok(ids)
    }
}

fn words(section: &[u8]) -> Option<Words<'_>> {
    section.len().is_multiple_of(4).then_some(Words(section))
}

fn check_ids(section: &'static str, ids: impl IntoIterator<Item = u32>, limit: u32) -> Result<(), TokenizerError> {
    match ids.into_iter().find(|&id| id >= limit) {
        Some(id) => Err(TokenizerError::Id { section, id }),
        None => Ok(()),
    }
}

impl<'a> Tokenizer<'a> {
    /// Opens a blob. The cost does not depend on the size of the vocabulary.
    ///
    /// # Errors
    /// The blob is not a tokenizer of this version, is cut short, or its tables do not fit.
    pub fn new(blob: &'a [u8]) -> Result<Self, TokenizerError> {
        let layout = Layout::new(blob)?;
        let vocab_len = layout.word(Header::VocabLen);
        if vocab_len >= CHAR_SYMBOL {
            return Err(TokenizerError::Header {
                field: "vocabulary size",
                value: vocab_len,
            });
        }
        let rows = vocab_len as usize;
        let model = layout.variant(Header::Model, "model", Model::from_word)?;
        let kind = layout.variant(Header::PreTokenizer, "pre-tokenizer", format::PreTokenizer::from_word)?;
        let bytes = layout.table(Section::Bytes, "bytes", |s| words(s).filter(|w| w.len() == 256))?;
        // Byte-level BPE starts from bytes and has no other way out; with characters a byte may be missing.
        let absent = |id: &u32| model == Model::ByteBpe || *id != NONE;
        check_ids("bytes", bytes.iter().filter(absent), vocab_len)?;

        let added_bytes = layout.section(Section::AddedBytes, "added token texts")?;
        let added = |section, name| {
            let tokens = layout.table(section, name, |s| AddedTokens::new(words(s)?, added_bytes))?;
            check_ids(name, tokens.ids(), vocab_len)?;
            Ok(tokens)
        };
        let classes = Classes::new(
            layout.section(Section::ClassIndex, "character classes")?,
            layout.section(Section::ClassBlocks, "character classes")?,
        )
        .ok_or(TokenizerError::Section {
            section: "character classes",
        })?;
        let tokenizer = Self {
            vocab_len,
            model,
            normalizer: layout.variant(Header::Normalizer, "normalizer", Normalizer::from_word)?,
            prefix: layout.variant(Header::Prefix, "prefix", Prefix::from_word)?,
            flags: layout.word(Header::Flags),
            bos: layout.word(Header::Bos),
            unk: layout.word(Header::Unk),
            token_offsets: layout.table(Section::TokenOffsets, "token offsets", |s| {
                words(s).filter(|offsets| offsets.len() == rows + 1)
            })?,
            token_bytes: layout.section(Section::TokenBytes, "token bytes")?,
            token_flags: layout.table(Section::TokenFlags, "token flags", |s| (s.len() == rows).then_some(s))?,
            words: layout.table(Section::Words, "words", WordTable::new)?,
            merges: Merges {
                table: layout.table(Section::Merges, "merges", PairTable::new)?,
                limit: vocab_len,
            },
            bytes,
            chars: layout.table(Section::Chars, "characters", PairTable::new)?,
            added_raw: added(Section::AddedRaw, "added tokens")?,
            added_normalized: added(Section::AddedNormalized, "normalised added tokens")?,
            splitter: Splitter { classes, kind },
            nfc: Nfc {
                classes,
                combining: layout.table(Section::CombiningClass, "combining classes", PairTable::new)?,
                decompositions: layout.table(Section::Decompositions, "decompositions", PairTable::new)?,
                decomposition_chars: layout.table(Section::DecompositionChars, "decompositions", words)?,
                compositions: layout.table(Section::Compositions, "compositions", PairTable::new)?,
            },
            eos: layout.ids(Section::Eos, "end tokens", vocab_len)?,
            before: layout.ids(Section::Before, "ids before a text", vocab_len)?,
            after: layout.ids(Section::After, "ids after a text", vocab_len)?,
        };
        check_ids(
            "header",
            [tokenizer.bos, tokenizer.unk].into_iter().filter(|&id| id != NONE),
            vocab_len,
        )?;
        Ok(tokenizer)
    }

    /// Number of ids.
    pub fn vocab_len(&self) -> usize {
        self.vocab_len as usize
    }

    /// The beginning-of-sequence token. Whether `encode` puts it before a text is the tokenizer's own rule.
    pub fn bos(&self) -> Option<u32> {
        Some(self.bos).filter(|&id| id != NONE)
    }

    /// The token for what cannot be expressed otherwise.
    pub fn unk(&self) -> Option<u32> {
        Some(self.unk).filter(|&id| id != NONE)
    }

    /// Ids that end a generated text.
    pub fn eos_ids(&self) -> impl Iterator<Item = u32> + 'a {
        self.eos.iter()
    }

    /// Whether `id` ends a generated text.
    pub fn is_eos(&self, id: u32) -> bool {
        self.eos.iter().any(|eos| eos == id)
    }

    /// What a token decodes to: bytes that need not be UTF-8 by themselves.
    ///
    /// # Errors
    /// The id is outside of the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Result<&'a [u8], UnknownId> {
        if id >= self.vocab_len {
            return Err(UnknownId {
                id,
                vocab_len: self.vocab_len(),
            });
        }
        Ok(self.token(id).unwrap_or(&[]))
    }

    /// Whether a token is a control token.
    pub fn is_special(&self, id: u32) -> bool {
        self.token_flags(id) & token::SPECIAL != 0
    }

    /// The control token or added token with exactly this text, as chat templates name them.
    pub fn special_id(&self, text: &str) -> Option<u32> {
        let find = |tokens: &AddedTokens<'a>| tokens.find(text.as_bytes());
        find(&self.added_raw).or_else(|| find(&self.added_normalized))
    }

    /// Decodes a whole sequence.
    ///
    /// # Errors
    /// An id is outside of the vocabulary.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, UnknownId> {
        let mut decoder = Decoder::new(skip_special);
        let mut text = String::new();
        for &id in ids {
            decoder.push(self, id, &mut text)?;
        }
        decoder.finish(&mut text);
        Ok(text)
    }

    fn has_flag(&self, bit: u32) -> bool {
        self.flags & bit != 0
    }

    #[inline]
    fn token(&self, id: u32) -> Option<&'a [u8]> {
        let (start, end) = (
            self.token_offsets.get(id as usize)?,
            self.token_offsets.get(id as usize + 1)?,
        );
        self.token_bytes.get(start as usize..end as usize)
    }

    #[inline]
    fn token_flags(&self, id: u32) -> u8 {
        self.token_flags.get(id as usize).copied().unwrap_or(0)
    }

    /// Token of a byte; [`NONE`] only with [`Model::CharBpe`].
    #[inline]
    fn byte_token(&self, byte: u8) -> u32 {
        self.bytes.get(usize::from(byte)).unwrap_or(NONE)
    }
}
