//! The regular expressions of the pre-tokenizers, as matchers written by hand.
//!
//! Each matcher returns the length in bytes of the match at the beginning of a non-empty text. The expressions cover every
//! character, so that words follow each other without gaps. The texts of the expressions are in [`PreTokenizer`].

use super::format::{PreTokenizer, class};
use super::unicode::Classes;

/// Cuts text into words.
#[derive(Clone, Copy, Debug)]
pub(super) struct Splitter<'a> {
    pub classes: Classes<'a>,
    pub kind: PreTokenizer,
}

const OTHER: u8 = class::LETTER | class::NUMBER | class::SPACE;

fn is_newline(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

impl Splitter<'_> {
    /// Calls `visit` with each word in turn, until it fails.
    pub(super) fn words<E>(self, text: &str, mut visit: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        if self.kind != PreTokenizer::DigitsGpt2 {
            return self.words_of_piece(text, &mut visit);
        }
        let mut rest = text;
        while !rest.is_empty() {
            let piece = rest.find(|c| self.classes.is(c, class::NUMBER)).unwrap_or(rest.len());
            self.words_of_piece(&rest[..piece], &mut visit)?;
            let digit = self.run(&rest[piece..], class::NUMBER, 1);
            if digit > 0 {
                visit(&rest[piece..piece + digit])?;
            }
            rest = &rest[piece + digit..];
        }
        Ok(())
    }

    fn words_of_piece<E>(self, text: &str, visit: &mut impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let len = match self.kind {
                PreTokenizer::Whole => rest.len(),
                PreTokenizer::Gpt2 | PreTokenizer::DigitsGpt2 => self.gpt2(rest),
                PreTokenizer::Llama3 => self.llama3(rest, 3),
                PreTokenizer::Qwen2 => self.llama3(rest, 1),
            };
            // The expressions match at least one character; a damaged table of classes must not stop the loop.
            let (word, tail) = rest.split_at(len.max(first.len_utf8()));
            visit(word)?;
            rest = tail;
        }
        Ok(())
    }

    /// Bytes of the longest prefix whose characters all have one of `bits`; at most `limit` characters.
    fn run(self, text: &str, bits: u8, limit: usize) -> usize {
        text.chars()
            .take(limit)
            .take_while(|&c| self.classes.is(c, bits))
            .map(char::len_utf8)
            .sum()
    }

    /// Bytes of the longest prefix of characters that are neither letters, numbers nor white space.
    fn others(self, text: &str) -> usize {
        text.chars()
            .take_while(|&c| !self.classes.is(c, OTHER))
            .map(char::len_utf8)
            .sum()
    }

    /// `\s+(?!\S)|\s+`: white space without its last character when something follows it.
    fn spaces(self, text: &str) -> usize {
        let run = self.run(text, class::SPACE, usize::MAX);
        let last = text[..run].chars().next_back().map_or(0, char::len_utf8);
        if run == text.len() || run == last {
            run
        } else {
            run - last
        }
    }

    fn gpt2(self, text: &str) -> usize {
        if let Some(len) = contraction(text, false) {
            return len;
        }
        let space = usize::from(text.starts_with(' '));
        let rest = &text[space..];
        for bits in [class::LETTER, class::NUMBER] {
            let run = self.run(rest, bits, usize::MAX);
            if run > 0 {
                return space + run;
            }
        }
        match self.others(rest) {
            0 => self.spaces(text),
            run => space + run,
        }
    }

    fn llama3(self, text: &str, digits: usize) -> usize {
        if let Some(len) = contraction(text, true) {
            return len;
        }
        let Some(first) = text.chars().next() else { return 0 };
        let bits = self.classes.get(first);
        // [^\r\n\p{L}\p{N}]?\p{L}+
        let lead = if is_newline(first) || bits & (class::LETTER | class::NUMBER) != 0 {
            0
        } else {
            first.len_utf8()
        };
        let letters = self.run(&text[lead..], class::LETTER, usize::MAX);
        if letters > 0 {
            return lead + letters;
        }
        // \p{N}{1,3}
        if bits & class::NUMBER != 0 {
            return self.run(text, class::NUMBER, digits);
        }
        //  ?[^\s\p{L}\p{N}]+[\r\n]*
        let space = usize::from(first == ' ');
        let others = self.others(&text[space..]);
        if others > 0 {
            let end = space + others;
            return end + text[end..].bytes().take_while(|&b| is_newline(char::from(b))).count();
        }
        // \s*[\r\n]+ ends with the last newline of the white space.
        let run = self.run(text, class::SPACE, usize::MAX);
        match text[..run].rfind(is_newline) {
            Some(newline) => newline + 1,
            None => self.spaces(text),
        }
    }
}

/// `'s|'t|'re|'ve|'m|'ll|'d`; ignoring case, U+017F (long s) is an s as well: the only character beyond ASCII that folds to
/// one of these letters.
fn contraction(text: &str, ignore_case: bool) -> Option<usize> {
    let rest = text.strip_prefix('\'')?;
    let fold = |c: char| match c {
        'ſ' if ignore_case => 's',
        _ if ignore_case => c.to_ascii_lowercase(),
        _ => c,
    };
    let mut chars = rest.chars();
    let first = chars.next()?;
    let second = chars.next();
    match (fold(first), second.map(fold)) {
        ('s' | 't' | 'm' | 'd', _) => Some(1 + first.len_utf8()),
        ('r' | 'v', Some('e')) | ('l', Some('l')) => Some(3),
        _ => None,
    }
}
