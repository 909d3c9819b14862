//! Added tokens: texts that are cut out before anything else looks at the text.

use super::format::{MAX_ADDED_BYTES, added, class};
use super::table::Words;
use super::unicode::Classes;

/// Added tokens sorted by their text.
#[derive(Clone, Copy, Debug)]
pub(super) struct AddedTokens<'a> {
    records: Words<'a>,
    bytes: &'a [u8],
    /// Bit `b` is set when some token starts with byte `b`.
    first_bytes: [u64; 4],
}

/// One match in a text: the span to cut out, and the token it becomes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Match {
    pub start: usize,
    pub end: usize,
    pub id: u32,
}

const RECORD_WORDS: usize = 4;

impl<'a> AddedTokens<'a> {
    /// `None` when a record points outside of `bytes`, is empty or is too long; the id otherwise is checked by the caller.
    pub(super) fn new(records: Words<'a>, bytes: &'a [u8]) -> Option<Self> {
        let mut tokens = Self {
            records,
            bytes,
            first_bytes: [0; 4],
        };
        if !records.len().is_multiple_of(RECORD_WORDS) {
            return None;
        }
        for at in 0..tokens.len() {
            let text = tokens.text(at);
            let first = *text.first()?;
            if text.len() > MAX_ADDED_BYTES {
                return None;
            }
            tokens.first_bytes[usize::from(first / 64)] |= 1 << (first % 64);
        }
        Some(tokens)
    }

    pub(super) fn len(&self) -> usize {
        self.records.len() / RECORD_WORDS
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len()).filter_map(|at| self.word(at, 2))
    }

    fn word(&self, at: usize, word: usize) -> Option<u32> {
        self.records.get(at * RECORD_WORDS + word)
    }

    fn text(&self, at: usize) -> &'a [u8] {
        let span = || {
            let first = self.word(at, 0)? as usize;
            self.bytes.get(first..first.checked_add(self.word(at, 1)? as usize)?)
        };
        span().unwrap_or(&[])
    }

    /// The token with exactly this text.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        let (number, len) = self.longest_prefix(text)?;
        if len == text.len() { self.word(number, 2) } else { None }
    }

    /// The longest token that `text` begins with: its number and length.
    ///
    /// The tokens that share a prefix are neighbours; each further byte narrows their range by binary search.
    fn longest_prefix(&self, text: &[u8]) -> Option<(usize, usize)> {
        let mut range = 0..self.len();
        let mut longest = None;
        for (depth, &byte) in text.iter().enumerate() {
            let bound = |above: bool| {
                let (mut low, mut high) = (range.start, range.end);
                while low < high {
                    let middle = low + (high - low) / 2;
                    let left = match self.text(middle).get(depth) {
                        None => true,
                        Some(&b) => b < byte || (above && b == byte),
                    };
                    if left { low = middle + 1 } else { high = middle }
                }
                low
            };
            range = bound(false)..bound(true);
            if range.is_empty() {
                break;
            }
            if self.text(range.start).len() == depth + 1 {
                longest = Some((range.start, depth + 1));
            }
        }
        longest
    }

    /// The first match at or after `from`, leftmost and longest. Spaces before `from` belong to an earlier match.
    ///
    /// As in Hugging Face tokenizers, a match that is turned down (special tokens not wanted, not a single word) still hides
    /// shorter matches inside of it.
    pub(super) fn next_match(&self, text: &str, from: usize, special: bool, classes: Classes<'_>) -> Option<Match> {
        if self.records.len() == 0 {
            return None;
        }
        let bytes = text.as_bytes();
        let mut at = from;
        while at < bytes.len() {
            let byte = bytes[at];
            if self.first_bytes[usize::from(byte / 64)] & (1 << (byte % 64)) == 0 {
                at += 1;
                continue;
            }
            let Some((number, len)) = self.longest_prefix(&bytes[at..]) else {
                at += 1;
                continue;
            };
            let (start, end) = (at, at + len);
            at = end;
            // The text of a damaged record may begin or end inside of a character.
            let (Some(before), Some(after)) = (text.get(from..start), text.get(end..)) else {
                continue;
            };
            let (Some(id), Some(bits)) = (self.word(number, 2), self.word(number, 3)) else {
                continue;
            };
            if bits & added::SPECIAL != 0 && !special {
                continue;
            }
            let word = |c: Option<char>| c.is_some_and(|c| classes.is(c, class::WORD));
            let alone = || !word(text[..start].chars().next_back()) && !word(after.chars().next());
            if bits & added::SINGLE_WORD != 0 && !alone() {
                continue;
            }
            let space = |c: char| classes.is(c, class::SPACE);
            let start = if bits & added::LSTRIP != 0 {
                from + before.trim_end_matches(space).len()
            } else {
                start
            };
            let end = if bits & added::RSTRIP != 0 {
                text.len() - after.trim_start_matches(space).len()
            } else {
                end
            };
            return Some(Match { start, end, id });
        }
        None
    }
}
