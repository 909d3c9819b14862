//! Arguments, read by a table of flags.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write};
use std::str::FromStr;

use super::Failure;

/// A flag of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    /// With its dashes.
    pub name: &'static str,
    /// What its value is called; `None` for a switch.
    pub value: Option<&'static str>,
    /// One line of help.
    pub about: &'static str,
}

impl Flag {
    pub(super) const fn value(name: &'static str, value: &'static str, about: &'static str) -> Flag {
        Flag {
            name,
            value: Some(value),
            about,
        }
    }

    pub(super) const fn switch(name: &'static str, about: &'static str) -> Flag {
        Flag {
            name,
            value: None,
            about,
        }
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)?;
        self.value.map_or(Ok(()), |value| write!(f, " {value}"))
    }
}

/// A command's arguments, each known and given at most once.
#[derive(Debug, Default)]
pub(super) struct Args {
    flags: Vec<(&'static str, OsString)>,
    plain: Vec<OsString>,
}

impl Args {
    /// Reads `raw` by `flags`. At most `plain` arguments may stand alone; after `--` all do.
    pub(super) fn read(raw: impl IntoIterator<Item = OsString>, flags: &[Flag], plain: usize) -> Result<Args, Failure> {
        let mut args = Args::default();
        let mut raw = raw.into_iter();
        let mut only_plain = false;
        while let Some(arg) = raw.next() {
            let text = arg.to_string_lossy();
            if only_plain || !text.starts_with('-') || text == "-" {
                args.plain.push(arg);
            } else if text == "--" {
                only_plain = true;
            } else {
                let (name, joined) = match text.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (&*text, None),
                };
                let flag = flags.iter().find(|flag| flag.name == name).ok_or_else(|| {
                    let near = nearest(name, flags.iter().map(|flag| flag.name));
                    Failure::usage(format!("unknown flag `{name}`{}", hint(near)))
                })?;
                if args.has(flag.name) {
                    return Err(Failure::usage(format!("`{name}` is given twice")));
                }
                let value = match (flag.value, joined) {
                    (None, None) => OsString::new(),
                    (None, Some(_)) => return Err(Failure::usage(format!("`{name}` takes no value"))),
                    (Some(_), Some(value)) => match arg.to_str() {
                        Some(_) => value.into(),
                        // The lossy copy must not be taken for the value.
                        None => return Err(Failure::usage(format!("`{name}=...` is not UTF-8; write `{name} ...`"))),
                    },
                    (Some(what), None) => raw
                        .next()
                        .filter(|next| !flags.iter().any(|flag| next.as_os_str() == flag.name))
                        .ok_or_else(|| Failure::usage(format!("`{name}` needs a value: {name} {what}")))?,
                };
                args.flags.push((flag.name, value));
            }
        }
        if let Some(extra) = args.plain.get(plain) {
            return Err(Failure::usage(format!(
                "unexpected argument `{}`",
                extra.to_string_lossy()
            )));
        }
        Ok(args)
    }

    /// Whether a flag was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// A flag's value as it came.
    pub(super) fn raw(&self, name: &str) -> Option<&OsStr> {
        self.flags
            .iter()
            .find(|(flag, _)| *flag == name)
            .map(|(_, value)| value.as_os_str())
    }

    /// A flag's value as text.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        self.raw(name).map(|value| utf8(name, value)).transpose()
    }

    /// A flag's value as a number.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let number = text.parse().map_err(|_| {
            let kind = if text.parse::<f64>().is_ok() {
                "out of range or not whole"
            } else {
                "not a number"
            };
            Failure::usage(format!("`{name} {text}`: {kind}"))
        })?;
        Ok(Some(number))
    }

    /// A flag's value as a list of numbers, `1,2,3`.
    pub(super) fn numbers<T: FromStr>(&self, name: &str) -> Result<Option<Vec<T>>, Failure> {
        self.text(name)?.map(|text| numbers(name, text)).transpose()
    }

    /// The argument that stands alone.
    pub(super) fn plain(&self, what: &str) -> Result<Option<&str>, Failure> {
        self.plain.first().map(|value| utf8(what, value)).transpose()
    }
}

/// Reads `1,2,3`; `what` names it in errors.
pub(super) fn numbers<T: FromStr>(what: &str, text: &str) -> Result<Vec<T>, Failure> {
    let number = |item: &str| {
        let error = || Failure::usage(format!("{what}: `{item}` is not a number of a list such as 1,2,3"));
        item.trim().parse().map_err(|_| error())
    };
    text.split(',').map(number).collect()
}

fn utf8<'a>(what: &str, value: &'a OsStr) -> Result<&'a str, Failure> {
    value
        .to_str()
        .ok_or_else(|| Failure::usage(format!("{what}: `{}` is not UTF-8", value.to_string_lossy())))
}

/// `; did you mean ...?` or nothing.
pub(super) fn hint(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// The name that `given` is likely to be a slip of: at most a third of its letters differ.
pub(super) fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|name| (distance(given, name), name))
        .filter(|&(d, name)| d <= name.len().div_ceil(3))
        .min_by_key(|&(d, _)| d)
        .map(|(_, name)| name)
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// The flags as lines of help.
pub(super) fn help(flags: &[Flag]) -> String {
    let mut out = String::new();
    for flag in flags {
        // Writing to a string does not fail.
        let _ = writeln!(out, "  {:<24} {}", flag.to_string(), flag.about);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag::value("--temp", "F", ""),
        Flag::value("-n", "N", ""),
        Flag::value("--ids", "LIST", ""),
        Flag::switch("--json", ""),
    ];

    fn read(line: &[&str]) -> Result<Args, String> {
        Args::read(line.iter().map(Into::into), FLAGS, 1).map_err(|failure| failure.to_string())
    }

    #[test]
    fn values_come_after_a_space_or_an_equals_sign() {
        let args = read(&["--temp", "-1.5", "-n=7", "text", "--json", "--ids", "1, 2,3"]).unwrap();
        assert_eq!(args.number::<f32>("--temp").unwrap(), Some(-1.5));
        assert_eq!(args.number::<usize>("-n").unwrap(), Some(7));
        assert_eq!(args.numbers::<u32>("--ids").unwrap(), Some(vec![1, 2, 3]));
        assert_eq!(args.plain("TEXT").unwrap(), Some("text"));
        assert!(args.has("--json"));
        let args = read(&["--", "--json"]).unwrap();
        assert_eq!(args.plain("TEXT").unwrap(), Some("--json"));
        assert!(!args.has("--json"));
    }

    #[test]
    fn every_mistake_is_named() {
        let cases: &[(&[&str], &str)] = &[
            (&["--tmep", "1"], "unknown flag `--tmep`; did you mean `--temp`?"),
            (&["--frobnicate"], "unknown flag `--frobnicate`"),
            (&["--temp"], "`--temp` needs a value: --temp F"),
            (&["--temp", "--json"], "`--temp` needs a value: --temp F"),
            (&["--json=1"], "`--json` takes no value"),
            (&["-n", "1", "-n", "2"], "`-n` is given twice"),
            (&["a", "b"], "unexpected argument `b`"),
        ];
        for (line, message) in cases {
            assert_eq!(read(line).unwrap_err(), *message, "{line:?}");
        }
    }

    #[test]
    fn values_that_are_no_numbers_are_named() {
        let args = read(&["-n", "1.5", "--temp", "warm", "--ids", "1,,2"]).unwrap();
        let text = |failure: Failure| failure.to_string();
        assert_eq!(
            args.number::<usize>("-n").map_err(text).unwrap_err(),
            "`-n 1.5`: out of range or not whole"
        );
        assert_eq!(
            args.number::<f32>("--temp").map_err(text).unwrap_err(),
            "`--temp warm`: not a number"
        );
        assert!(args.numbers::<u32>("--ids").map_err(text).unwrap_err().contains("``"));
    }

    #[test]
    fn distances() {
        for (a, b, d) in [
            ("", "", 0),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("--temp", "--tmep", 2),
        ] {
            assert_eq!(distance(a, b), d, "{a} {b}");
            assert_eq!(distance(b, a), d, "{b} {a}");
        }
    }
}
