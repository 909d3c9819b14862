//! Sizes as people write them: `49152`, `12MiB`, `1.5 GB`.

use std::fmt;

/// A text that is not a size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeError(String);

impl fmt::Display for SizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a size: write bytes, or a number with KiB, MiB, GiB, TiB, kB, MB, GB or TB",
            self.0
        )
    }
}

impl std::error::Error for SizeError {}

/// Suffixes and their bytes. Exact spelling, since `mb` and `MB` differ by who reads them.
const UNITS: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Reads a size in bytes. A fraction must come out as a whole number of bytes.
///
/// # Errors
/// [`SizeError`] when it is not a size or does not fit.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    read(text).ok_or_else(|| SizeError(text.to_owned()))
}

fn read(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_'))
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let &(_, scale) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if !whole.starts_with(|c: char| c.is_ascii_digit()) || !fraction.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (whole, fraction) = (whole.replace('_', ""), fraction.trim_end_matches('0'));
    let bytes = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    if fraction.is_empty() {
        return Some(bytes);
    }
    let parts = fraction.parse::<u128>().ok()?.checked_mul(scale.into())?;
    let denominator = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    (parts % denominator == 0).then_some(())?;
    bytes.checked_add(u64::try_from(parts / denominator).ok()?)
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn reads_sizes() {
        let cases = [
            ("0", 0),
            ("49_152", 49_152),
            ("12MiB", 12 << 20),
            (" 12 MiB ", 12 << 20),
            ("1.5 GiB", 3 << 29),
            ("0.5KiB", 512),
            ("80 MB", 80_000_000),
            ("7B", 7),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_size() {
        for text in [
            "",
            "MiB",
            "-1",
            "1.",
            ".5MiB",
            "1.5",
            "1 mib",
            "1e3",
            "0x10",
            "99999999999999999999",
            "17000000 TiB",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
