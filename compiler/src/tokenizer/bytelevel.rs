//! GPT-2's alphabet: every byte as a printable character.

/// The character of a byte: itself when it is printable Latin-1, else the next free one from U+0100 on.
pub(super) fn char_of_byte(byte: u8) -> char {
    match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
        _ => {
            let before = (0..byte)
                .filter(|b| !matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF))
                .count();
            char::from_u32(0x100 + before as u32).expect("at most 68 characters from U+0100")
        }
    }
}

/// The alphabet, both ways.
pub(super) struct Alphabet([char; 256]);

impl Alphabet {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|byte| char_of_byte(byte as u8)))
    }

    /// The bytes that a token's text stands for; `None` when a character is not of the alphabet.
    pub(super) fn decode(&self, text: &str) -> Option<Vec<u8>> {
        text.chars().map(|c| self.byte_of_char(c)).collect()
    }

    fn byte_of_char(&self, c: char) -> Option<u8> {
        let printable = u8::try_from(c).ok().filter(|&byte| self.0[usize::from(byte)] == c);
        let moved = || (0..=255u8).find(|&byte| self.0[usize::from(byte)] == c);
        if (c as u32) < 0x100 {
            printable
        } else if (c as u32) < 0x144 {
            moved()
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_gpt2s() {
        for (byte, c) in [
            (b' ', 'Ġ'),
            (b'\n', 'Ċ'),
            (b'\t', 'ĉ'),
            (b'a', 'a'),
            (0x7F, 'ġ'),
            (0xAD, 'Ń'),
            (0xFF, 'ÿ'),
        ] {
            assert_eq!(char_of_byte(byte), c);
        }
        let alphabet = Alphabet::new();
        for byte in 0..=255u8 {
            assert_eq!(alphabet.decode(&char_of_byte(byte).to_string()), Some(vec![byte]));
        }
        assert_eq!(alphabet.decode("▁"), None);
        assert_eq!(alphabet.decode("a b"), None);
    }
}
