//! Text to ids: added tokens, normalisation, words, merges.

use super::Tokenizer;
use super::added::AddedTokens;
use super::bpe::Word;
use super::error::EncodeError;
use super::format::{CHAR_SYMBOL, Model, NONE, Normalizer, Prefix, flag, token};
use super::unicode::Mark;

/// What to add and what to look for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Put the ids before and after the text that the tokenizer's own rule asks for (BOS, EOS).
    pub add_special: bool,
    /// Recognise control tokens written out in the text (`<|eot_id|>`). Leave it off for text from outside.
    pub parse_special: bool,
}

/// Working space of [`Tokenizer::encode`], kept between calls. It grows when a text asks for more and never shrinks.
#[derive(Debug, Default)]
pub struct Scratch {
    word: Word,
    normalized: String,
    prefixed: String,
    marks: Vec<Mark>,
}

impl Scratch {
    /// Enough for any text of `text_len` bytes with any tokenizer: encoding such a text does not allocate.
    ///
    /// A normalised text has at most three times the bytes (U+1D160 under NFC, a space escaped as U+2581), and the worst
    /// text is a single word whose every byte is a symbol. The memory is reserved, not touched.
    pub fn with_capacity(text_len: usize) -> Self {
        let normalized = 3 * (text_len + 1);
        Self {
            word: Word::with_capacity(normalized),
            normalized: String::with_capacity(normalized),
            prefixed: String::with_capacity(normalized + 3),
            marks: Vec::with_capacity(text_len + 4),
        }
    }

    /// Merge candidates looked at since creation: the work done, for tests of its growth.
    pub fn merge_steps(&self) -> u64 {
        self.word.steps
    }
}

/// The caller's buffer; counts on when it is full.
struct Output<'o> {
    ids: &'o mut [u32],
    len: usize,
}

impl Output<'_> {
    #[inline]
    fn push(&mut self, id: u32) {
        if let Some(slot) = self.ids.get_mut(self.len) {
            *slot = id;
        }
        self.len += 1;
    }
}

/// Longest text: three times its bytes still fit a 32-bit position.
const TEXT_LIMIT: usize = (u32::MAX / 4) as usize;

impl Tokenizer<'_> {
    /// Encodes `text` into `out` and returns the number of ids. Nothing is allocated when `scratch` was made for this
    /// length. [`Tokenizer::max_ids`] gives a sufficient length for `out`.
    ///
    /// # Errors
    /// `out` is too small (the error says what is needed), the text has 1 GiB or more, or a character has no token.
    pub fn encode(
        &self,
        text: &str,
        options: EncodeOptions,
        scratch: &mut Scratch,
        out: &mut [u32],
    ) -> Result<usize, EncodeError> {
        if text.len() > TEXT_LIMIT {
            return Err(EncodeError::TextTooLong {
                bytes: text.len(),
                limit: TEXT_LIMIT,
            });
        }
        let capacity = out.len();
        let mut encoder = Encoder {
            tokenizer: self,
            options,
            scratch,
            out: Output { ids: out, len: 0 },
        };
        if options.add_special {
            self.before.iter().for_each(|id| encoder.out.push(id));
        }
        encoder.text(text)?;
        if options.add_special {
            self.after.iter().for_each(|id| encoder.out.push(id));
        }
        let needed = encoder.out.len;
        if needed > capacity {
            return Err(EncodeError::OutputTooSmall { capacity, needed });
        }
        Ok(needed)
    }

    /// Encodes into a new vector.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], without the buffer.
    pub fn encode_to_vec(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>, EncodeError> {
        let mut scratch = Scratch::default();
        let mut ids = vec![0; text.len() / 2 + 16];
        loop {
            match self.encode(text, options, &mut scratch, &mut ids) {
                Ok(len) => {
                    ids.truncate(len);
                    return Ok(ids);
                }
                Err(EncodeError::OutputTooSmall { needed, .. }) => ids.resize(needed, 0),
                Err(error) => return Err(error),
            }
        }
    }

    /// An upper bound for the ids of a text of `text_len` bytes.
    pub fn max_ids(&self, text_len: usize) -> usize {
        3 * (text_len + 1) + self.before.len() + self.after.len()
    }
}

struct Encoder<'e> {
    tokenizer: &'e Tokenizer<'e>,
    options: EncodeOptions,
    scratch: &'e mut Scratch,
    out: Output<'e>,
}

/// A stretch between added tokens, or one of them.
enum Piece<'t> {
    /// Text, and whether it stands at the very beginning.
    Text(&'t str, bool),
    Token(u32),
}

impl Encoder<'_> {
    /// Cuts a text at added tokens. Stretches of text are not empty.
    fn split<'t>(
        &mut self,
        tokens: AddedTokens<'_>,
        text: &'t str,
        mut visit: impl FnMut(&mut Self, Piece<'t>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut from = 0;
        let classes = self.tokenizer.splitter.classes;
        while let Some(found) = tokens.next_match(text, from, self.options.parse_special, classes) {
            if from < found.start {
                visit(self, Piece::Text(&text[from..found.start], from == 0))?;
            }
            visit(self, Piece::Token(found.id))?;
            from = found.end;
        }
        if from < text.len() {
            visit(self, Piece::Text(&text[from..], from == 0))?;
        }
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), EncodeError> {
        self.split(self.tokenizer.added_raw, text, |encoder, piece| match piece {
            Piece::Token(id) => {
                encoder.out.push(id);
                Ok(())
            }
            Piece::Text(text, first) => {
                // The buffer is taken out so that the encoder stays usable while the text borrows it.
                let mut buffer = std::mem::take(&mut encoder.scratch.normalized);
                let normalized = encoder.normalize(text, &mut buffer);
                let result = encoder.normalized(normalized, first);
                encoder.scratch.normalized = buffer;
                result
            }
        })
    }

    fn normalize<'t>(&mut self, text: &'t str, buffer: &'t mut String) -> &'t str {
        let tokenizer = self.tokenizer;
        match tokenizer.normalizer {
            Normalizer::Identity => return text,
            Normalizer::Nfc if tokenizer.nfc.is_stable(text) => return text,
            Normalizer::Nfc => {
                buffer.clear();
                tokenizer.nfc.normalize(text, &mut self.scratch.marks, buffer);
            }
            Normalizer::EscapeSpaces => {
                buffer.clear();
                if tokenizer.prefix == Prefix::Always {
                    buffer.push('▁');
                }
                escape_spaces(text, buffer);
            }
        }
        buffer
    }

    fn normalized(&mut self, text: &str, first: bool) -> Result<(), EncodeError> {
        self.split(self.tokenizer.added_normalized, text, |encoder, piece| match piece {
            Piece::Token(id) => {
                encoder.out.push(id);
                Ok(())
            }
            Piece::Text(text, at_start) => {
                let tokenizer = encoder.tokenizer;
                let space = if tokenizer.model == Model::CharBpe { '▁' } else { ' ' };
                let missing = match tokenizer.prefix {
                    Prefix::Never => false,
                    // Escaping has put it there already.
                    Prefix::Always => tokenizer.normalizer != Normalizer::EscapeSpaces,
                    Prefix::Missing => !text.starts_with(space),
                    Prefix::MissingFirst => first && at_start && !text.starts_with(space),
                };
                if !missing {
                    return encoder.piece(text);
                }
                let mut buffer = std::mem::take(&mut encoder.scratch.prefixed);
                buffer.clear();
                buffer.push(space);
                buffer.push_str(text);
                let result = encoder.piece(&buffer);
                encoder.scratch.prefixed = buffer;
                result
            }
        })
    }

    fn piece(&mut self, text: &str) -> Result<(), EncodeError> {
        match self.tokenizer.model {
            Model::ByteBpe => self.tokenizer.splitter.words(text, |word| {
                self.byte_word(word);
                Ok(())
            }),
            Model::CharBpe => self.char_words(text),
        }
    }

    fn byte_word(&mut self, text: &str) {
        let tokenizer = self.tokenizer;
        let is_word = |id: u32| {
            tokenizer.token(id) == Some(text.as_bytes()) && tokenizer.token_flags(id) & token::WHOLE_WORD != 0
        };
        if let Some(id) = tokenizer.words.find(text.as_bytes(), is_word) {
            return self.out.push(id);
        }
        let word = &mut self.scratch.word;
        word.clear();
        text.bytes().for_each(|byte| word.push(tokenizer.byte_token(byte)));
        word.merge(tokenizer.merges);
        word.ids().for_each(|id| self.out.push(id));
    }

    /// Merges never cross a cut before a space when the vocabulary says so; short words are quicker than one long one.
    fn char_words(&mut self, text: &str) -> Result<(), EncodeError> {
        let cut = self.tokenizer.has_flag(flag::CUT_BEFORE_SPACES);
        let mut after_unk = false;
        let mut rest = text;
        while !rest.is_empty() {
            let spaces = rest.len() - rest.trim_start_matches('▁').len();
            let word = if cut {
                rest[spaces..].find('▁').map_or(rest.len(), |at| spaces + at)
            } else {
                rest.len()
            };
            self.char_word(&rest[..word], &mut after_unk)?;
            rest = &rest[word..];
        }
        Ok(())
    }

    fn char_word(&mut self, text: &str, after_unk: &mut bool) -> Result<(), EncodeError> {
        let tokenizer = self.tokenizer;
        let word = &mut self.scratch.word;
        word.clear();
        for c in text.chars() {
            let known = tokenizer
                .chars
                .get(0, c as u32)
                .map(|(_, id)| id)
                .filter(|&id| id < tokenizer.vocab_len);
            word.push(known.unwrap_or(CHAR_SYMBOL | c as u32));
        }
        word.merge(tokenizer.merges);
        for id in word.ids() {
            let follows_unk = std::mem::replace(after_unk, false);
            let Some(c) = unknown_char(id) else {
                self.out.push(id);
                continue;
            };
            let mut utf8 = [0; 4];
            let bytes = c.encode_utf8(&mut utf8).bytes();
            if bytes.clone().all(|byte| tokenizer.byte_token(byte) != NONE) {
                bytes.for_each(|byte| self.out.push(tokenizer.byte_token(byte)));
                continue;
            }
            let Some(unk) = tokenizer.unk() else {
                return Err(EncodeError::NoToken { character: c });
            };
            if !(follows_unk && tokenizer.has_flag(flag::FUSE_UNK)) {
                self.out.push(unk);
            }
            *after_unk = true;
        }
        Ok(())
    }
}

/// The character of a symbol that is not a token.
fn unknown_char(symbol: u32) -> Option<char> {
    if symbol & CHAR_SYMBOL == 0 {
        None
    } else {
        char::from_u32(symbol & !CHAR_SYMBOL)
    }
}

fn escape_spaces(text: &str, out: &mut String) {
    for (number, part) in text.split(' ').enumerate() {
        if number > 0 {
            out.push('▁');
        }
        out.push_str(part);
    }
}
