//! Ids back to text, one at a time.

use super::error::UnknownId;
use super::{Tokenizer, format};

/// Turns ids into text as they come. A character whose bytes are spread over several tokens appears with its last byte; bytes
/// that cannot become a character appear as U+FFFD, one for each maximal invalid sequence (as `String::from_utf8_lossy`).
///
/// ```text
/// for id in ids { decoder.push(&tokenizer, id, &mut text)?; }
/// decoder.finish(&mut text);
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Bytes of a character that is not complete.
    pending: [u8; 4],
    pending_len: usize,
    skip_special: bool,
    at_start: bool,
}

impl Decoder {
    /// A decoder at the beginning of a text. With `skip_special`, control tokens give no text.
    pub fn new(skip_special: bool) -> Self {
        Self {
            pending: [0; 4],
            pending_len: 0,
            skip_special,
            at_start: true,
        }
    }

    /// A decoder for the continuation of a text: a leading space is part of it.
    pub fn continuing(skip_special: bool) -> Self {
        Self {
            at_start: false,
            ..Self::new(skip_special)
        }
    }

    /// Appends the text that `id` completes; it may be empty.
    ///
    /// # Errors
    /// The id is outside of the vocabulary; the decoder is unchanged.
    pub fn push(&mut self, tokenizer: &Tokenizer<'_>, id: u32, out: &mut String) -> Result<(), UnknownId> {
        let mut bytes = tokenizer.token_bytes(id)?;
        if self.skip_special && tokenizer.is_special(id) {
            return Ok(());
        }
        if self.at_start && !bytes.is_empty() {
            self.at_start = false;
            if tokenizer.has_flag(format::flag::STRIP_LEADING_SPACE) {
                bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
            }
        }
        self.push_bytes(bytes, out);
        Ok(())
    }

    fn push_bytes(&mut self, mut bytes: &[u8], out: &mut String) {
        while self.pending_len > 0 {
            let Some((&byte, rest)) = bytes.split_first() else {
                return;
            };
            self.pending[self.pending_len] = byte;
            match std::str::from_utf8(&self.pending[..=self.pending_len]) {
                Ok(text) => {
                    out.push_str(text);
                    (self.pending_len, bytes) = (0, rest);
                }
                Err(error) if error.error_len().is_none() => {
                    self.pending_len += 1;
                    bytes = rest;
                }
                // The byte does not continue the character; it is looked at again by itself.
                Err(_) => {
                    out.push(char::REPLACEMENT_CHARACTER);
                    self.pending_len = 0;
                }
            }
        }
        let mut chunks = bytes.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            out.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let incomplete = || std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if chunks.peek().is_none() && incomplete() {
                self.pending[..invalid.len()].copy_from_slice(invalid);
                self.pending_len = invalid.len();
            } else if !invalid.is_empty() {
                out.push(char::REPLACEMENT_CHARACTER);
            }
        }
    }

    /// Ends the text: an incomplete character becomes U+FFFD. The decoder is at the beginning again.
    pub fn finish(&mut self, out: &mut String) {
        if self.pending_len > 0 {
            out.push(char::REPLACEMENT_CHARACTER);
        }
        *self = Self::new(self.skip_special);
    }
}
