//! What every kind of tokenizer file is read into, and how that becomes a blob.

use std::collections::BTreeMap;

use ck_runtime::tokenizer::format::{
    Header, MAX_ADDED_BYTES, Model, NONE, Normalizer, PreTokenizer, Prefix, Section, added, flag, token,
};
use ck_runtime::tokenizer::{EncodeOptions, Scratch, Tokenizer};

use super::blob::{BlobWriter, pair_table, word_table, words};
use super::problem::TokenizerProblem;
use super::unicode;

/// Most tokens of a vocabulary; the largest known have 262,144.
pub(super) const MAX_TOKENS: usize = 1 << 22;

/// One id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Token {
    /// What it decodes to.
    pub bytes: Vec<u8>,
    /// A control token.
    pub special: bool,
    /// May come out of a word of text (byte-level BPE only).
    pub word: bool,
}

/// A text that is cut out before the model sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Added {
    pub text: Vec<u8>,
    pub id: u32,
    /// [`added`] bits.
    pub bits: u32,
    /// Looked for after normalisation; `text` is normalised then.
    pub normalized: bool,
}

/// (left, right) to (rank, merged).
pub(super) type Merges = BTreeMap<(u32, u32), (u32, u32)>;

/// A tokenizer, whatever file it came from.
#[derive(Clone, Debug)]
pub(super) struct Vocabulary {
    pub model: Model,
    pub pre_tokenizer: PreTokenizer,
    pub normalizer: Normalizer,
    pub prefix: Prefix,
    pub fuse_unk: bool,
    pub strip_leading_space: bool,
    /// A word that is a token is that token, whatever the merges say.
    pub ignore_merges: bool,
    pub tokens: Vec<Token>,
    pub merges: Merges,
    pub bytes: [Option<u32>; 256],
    pub chars: BTreeMap<char, u32>,
    pub added: Vec<Added>,
    pub bos: Option<u32>,
    pub unk: Option<u32>,
    pub eos: Vec<u32>,
    pub before: Vec<u32>,
    pub after: Vec<u32>,
}

impl Vocabulary {
    pub(super) fn new(model: Model) -> Self {
        Self {
            model,
            pre_tokenizer: PreTokenizer::Whole,
            normalizer: Normalizer::Identity,
            prefix: Prefix::Never,
            fuse_unk: false,
            strip_leading_space: false,
            ignore_merges: false,
            tokens: Vec::new(),
            merges: Merges::new(),
            bytes: [None; 256],
            chars: BTreeMap::new(),
            added: Vec::new(),
            bos: None,
            unk: None,
            eos: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
        }
    }

    /// Everything that would make the blob wrong, at once.
    fn problems(&self, place: &str) -> Vec<TokenizerProblem> {
        let mut problems = Vec::new();
        let mut problem = |message: String, hint: &str| {
            let problem = TokenizerProblem::new(place, message);
            problems.push(if hint.is_empty() { problem } else { problem.hint(hint) });
        };
        let len = self.tokens.len();
        if len == 0 {
            problem("the vocabulary is empty".into(), "");
        }
        if self.model == Model::ByteBpe {
            // Bytes that never occur in UTF-8 need no token.
            let in_utf8 = |byte: &usize| !matches!(byte, 0xC0 | 0xC1 | 0xF5..=0xFF);
            let absent: Vec<String> = (0..256)
                .filter(in_utf8)
                .filter(|&b| self.bytes[b].is_none())
                .map(|b| format!("0x{b:02X}"))
                .collect();
            if !absent.is_empty() {
                problem(
                    format!("no token for the byte(s) {}", absent.join(", ")),
                    "a byte-level vocabulary needs a token for every byte that occurs in UTF-8",
                );
            }
        }
        let singles = [("bos", self.bos), ("unk", self.unk)]
            .into_iter()
            .filter_map(|(name, id)| Some((name, id?)));
        let lists = [
            ("eos", &self.eos),
            ("template", &self.before),
            ("template", &self.after),
        ];
        let lists = lists
            .into_iter()
            .flat_map(|(name, ids)| ids.iter().map(move |&id| (name, id)));
        for (name, id) in singles.chain(lists) {
            if id as usize >= len {
                problem(
                    format!("the {name} token has id {id}, the vocabulary has {len} ids"),
                    "",
                );
            }
        }
        for added in &self.added {
            let text = String::from_utf8_lossy(&added.text);
            if added.id as usize >= len {
                problem(
                    format!("added token {text:?} has id {}, the vocabulary has {len} ids", added.id),
                    "",
                );
            }
            if added.text.len() > MAX_ADDED_BYTES {
                let (head, bytes) = (text.chars().take(32).collect::<String>(), added.text.len());
                problem(
                    format!("added token {head:?}... has {bytes} bytes, the limit is {MAX_ADDED_BYTES}"),
                    "",
                );
            }
        }
        problems
    }

    /// Lays the vocabulary out for the runtime.
    pub(super) fn into_blob(mut self, place: &str) -> Result<Vec<u8>, Vec<TokenizerProblem>> {
        let problems = self.problems(place);
        if !problems.is_empty() {
            return Err(problems);
        }
        self.added.retain(|added| !added.text.is_empty());
        let flags = self.token_flags(place)?;
        self.write(&flags)
            .map_err(|problem| vec![TokenizerProblem::new(place, problem)])
    }

    /// Marks the tokens that the runtime may answer with when a word is exactly their text.
    ///
    /// With `ignore_merges` these are all of them. Otherwise they are those that their own merges lead to, which is asked of
    /// the encoder itself.
    fn token_flags(&self, place: &str) -> Result<Vec<u8>, Vec<TokenizerProblem>> {
        let fail = |message: String| vec![TokenizerProblem::new(place, message)];
        let special = |token: &Token| if token.special { token::SPECIAL } else { 0 };
        let mut flags: Vec<u8> = self.tokens.iter().map(special).collect();
        if self.model != Model::ByteBpe {
            return Ok(flags);
        }
        if self.ignore_merges {
            let words = self.tokens.iter().zip(&mut flags).filter(|(token, _)| token.word);
            words.for_each(|(_, bits)| *bits |= token::WHOLE_WORD);
            return Ok(flags);
        }
        let bare = Self {
            pre_tokenizer: PreTokenizer::Whole,
            normalizer: Normalizer::Identity,
            prefix: Prefix::Never,
            added: Vec::new(),
            ..self.clone()
        };
        let blob = bare.write(&flags).map_err(fail)?;
        let encoder = Tokenizer::new(&blob).map_err(|error| fail(error.to_string()))?;
        let mut scratch = Scratch::default();
        let mut ids = [0; 1];
        for (id, (token, bits)) in self.tokens.iter().zip(&mut flags).enumerate() {
            let Some(text) = std::str::from_utf8(&token.bytes).ok().filter(|_| token.word) else {
                continue;
            };
            let len = encoder.encode(text, EncodeOptions::default(), &mut scratch, &mut ids);
            if len == Ok(1) && ids == [id as u32] {
                *bits |= token::WHOLE_WORD;
            }
        }
        Ok(flags)
    }

    fn write(&self, flags: &[u8]) -> Result<Vec<u8>, String> {
        let mut blob = BlobWriter::new();
        let bit = |on: bool, bit: u32| if on { bit } else { 0 };
        for (field, value) in [
            (Header::VocabLen, self.tokens.len() as u32),
            (Header::Model, self.model.word()),
            (Header::PreTokenizer, self.pre_tokenizer.word()),
            (Header::Normalizer, self.normalizer.word()),
            (Header::Prefix, self.prefix.word()),
            (
                Header::Flags,
                bit(self.fuse_unk, flag::FUSE_UNK)
                    | bit(self.strip_leading_space, flag::STRIP_LEADING_SPACE)
                    | bit(self.cuts_before_spaces(), flag::CUT_BEFORE_SPACES),
            ),
            (Header::Bos, self.bos.unwrap_or(NONE)),
            (Header::Unk, self.unk.unwrap_or(NONE)),
        ] {
            blob.set(field, value);
        }

        let bytes: Vec<u8> = self
            .tokens
            .iter()
            .flat_map(|token| token.bytes.iter().copied())
            .collect();
        let mut end = 0usize;
        let ends = self.tokens.iter().map(|token| {
            end += token.bytes.len();
            end as u32
        });
        blob.section(Section::TokenOffsets, words([0].into_iter().chain(ends)));
        blob.section(Section::TokenBytes, bytes);
        blob.section(Section::TokenFlags, flags.to_vec());
        let is_whole = |&(id, _): &(usize, &Token)| flags[id] & token::WHOLE_WORD != 0;
        let whole = self
            .tokens
            .iter()
            .enumerate()
            .filter(is_whole)
            .map(|(id, token)| (&token.bytes[..], id as u32));
        blob.section(Section::Words, word_table(&whole.collect::<Vec<_>>()));
        let merges = self
            .merges
            .iter()
            .map(|(&(left, right), &(rank, merged))| [left, right, rank, merged]);
        blob.section(Section::Merges, pair_table(&merges.collect::<Vec<_>>()));
        // Bytes that cannot occur still need an id in a byte-level vocabulary; any will do.
        let absent = if self.model == Model::ByteBpe { 0 } else { NONE };
        blob.section(Section::Bytes, words(self.bytes.iter().map(|id| id.unwrap_or(absent))));
        let chars = self.chars.iter().map(|(&c, &id)| [0, c as u32, 0, id]);
        blob.section(Section::Chars, pair_table(&chars.collect::<Vec<_>>()));
        self.write_added(&mut blob);

        blob.section(Section::ClassIndex, unicode::CLASSES.index.clone());
        blob.section(Section::ClassBlocks, unicode::CLASSES.blocks.clone());
        if self.normalizer == Normalizer::Nfc {
            let nfc = unicode::nfc();
            blob.section(Section::CombiningClass, pair_table(&nfc.combining));
            blob.section(Section::Decompositions, pair_table(&nfc.decompositions));
            blob.section(Section::DecompositionChars, words(nfc.decomposition_chars));
            blob.section(Section::Compositions, pair_table(&nfc.compositions));
        }
        blob.section(Section::Eos, words(self.eos.iter().copied()));
        blob.section(Section::Before, words(self.before.iter().copied()));
        blob.section(Section::After, words(self.after.iter().copied()));
        blob.finish()
    }

    /// Whether no merge makes a token with a space after another character.
    fn cuts_before_spaces(&self) -> bool {
        let space_inside = |id: u32| {
            let text = String::from_utf8_lossy(&self.tokens[id as usize].bytes);
            text.trim_start_matches([' ', '▁']).contains([' ', '▁'])
        };
        self.model == Model::CharBpe && !self.merges.values().any(|&(_, merged)| space_inside(merged))
    }

    fn write_added(&self, blob: &mut BlobWriter) {
        let mut texts = Vec::new();
        for (section, normalized) in [(Section::AddedRaw, false), (Section::AddedNormalized, true)] {
            // By text, the first of equals wins.
            let mut sorted: Vec<&Added> = self
                .added
                .iter()
                .filter(|added| added.normalized == normalized)
                .collect();
            sorted.sort_by(|a, b| a.text.cmp(&b.text));
            sorted.dedup_by(|a, b| a.text == b.text);
            let mut records = Vec::new();
            for added in sorted {
                records.extend([texts.len() as u32, added.text.len() as u32, added.id, added.bits]);
                texts.extend_from_slice(&added.text);
            }
            blob.section(section, words(records));
        }
        blob.section(Section::AddedBytes, texts);
    }
}

/// [`added`] bits from the four switches of an added token.
pub(super) fn added_bits(special: bool, lstrip: bool, rstrip: bool, single_word: bool) -> u32 {
    [
        (special, added::SPECIAL),
        (lstrip, added::LSTRIP),
        (rstrip, added::RSTRIP),
        (single_word, added::SINGLE_WORD),
    ]
    .into_iter()
    .filter_map(|(on, bit)| on.then_some(bit))
    .sum()
}
