//! `tokenize` and `detokenize`.

use std::path::Path;

use super::args::{Flag, numbers};
use super::{Call, Failure, WEIGHTS};
use crate::error::Error;
use crate::program::Program;
use crate::tokenizer::{EncodeOptions, Tokenizer};

pub(super) const TOKENIZE: &[Flag] = &[
    Flag::switch("--ids", "write ids (what it does anyway)"),
    Flag::value("--file", "F", "take the text from a file"),
    WEIGHTS,
];

pub(super) const DETOKENIZE: &[Flag] = &[WEIGHTS];

/// A user's own text: it may name control tokens, and the tokenizer's rule for begin and end applies.
const OWN_TEXT: EncodeOptions = EncodeOptions {
    add_special: true,
    parse_special: true,
};

pub(super) fn tokenize<P: Program>(call: &mut Call<'_>) -> Result<(), Failure> {
    let owned;
    let text = match (call.args.plain("TEXT")?, call.args.raw("--file")) {
        (Some(text), None) => text,
        (None, Some(path)) => {
            owned = read_text(Path::new(path))?;
            &owned
        }
        _ => return Err(Failure::usage("`tokenize` takes either TEXT or --file F")),
    };
    let tables = call.tokenizer::<P>()?;
    let ids: Vec<String> = encode(&open(&tables)?, text)?.iter().map(u32::to_string).collect();
    call.print(&(ids.join(",") + "\n"))
}

pub(super) fn detokenize<P: Program>(call: &mut Call<'_>) -> Result<(), Failure> {
    let list = call
        .args
        .plain("IDS")?
        .ok_or_else(|| Failure::usage("`detokenize` needs ids: 1,2,3"))?;
    let ids: Vec<u32> = numbers("IDS", list)?;
    let tables = call.tokenizer::<P>()?;
    let text = open(&tables)?.decode(&ids, false).map_err(tokenizer_error)?;
    call.print(&text)
}

/// A file's text.
pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path).map_err(|source| Error::Io {
        action: "read",
        path: path.into(),
        source,
    })?;
    String::from_utf8(bytes).map_err(|error| {
        Failure::run(format!(
            "{} is not UTF-8 (byte {})",
            path.display(),
            error.utf8_error().valid_up_to()
        ))
    })
}

pub(super) fn open(tables: &[u8]) -> Result<Tokenizer<'_>, Error> {
    Tokenizer::new(tables).map_err(tokenizer_error)
}

pub(super) fn encode(tokenizer: &Tokenizer<'_>, text: &str) -> Result<Vec<u32>, Error> {
    tokenizer.encode_to_vec(text, OWN_TEXT).map_err(tokenizer_error)
}

pub(super) fn tokenizer_error(error: impl std::error::Error) -> Error {
    Error::Tokenizer {
        what: error.to_string(),
    }
}
