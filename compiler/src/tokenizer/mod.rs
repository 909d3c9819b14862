//! tokenizer.json and GGUF vocabularies to the runtime's flat tables.
//!
//! A file is read into one vocabulary whatever its kind, which is then laid out in the format of
//! [`ck_runtime::tokenizer::format`]. What the runtime cannot do exactly is a problem here, never an approximation there.
//! The bytes depend on the input alone.

mod blob;
mod bytelevel;
mod gguf;
mod hf;
mod pipeline;
mod pre;
mod problem;
mod sentencepiece;
mod spm;
mod unicode;
mod vocabulary;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;

pub use gguf::GgufVocab;
use hf::Companions;
pub use problem::TokenizerProblem;

/// Largest file that is read; the largest known `tokenizer.json` has 34 MB.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Compiles the tokenizer of a Hugging Face folder, or a `tokenizer.json` or `tokenizer.model` itself.
///
/// `tokenizer_config.json`, `generation_config.json` and `config.json` beside it name BOS and EOS and say whether they are
/// added. A folder with `tokenizer.model` alone is read by [`from_sentencepiece`].
///
/// # Errors
/// Everything that is wrong or not supported, at once as far as possible.
pub fn from_hf(path: &Path) -> Result<Vec<u8>, Vec<TokenizerProblem>> {
    if path.extension().is_some_and(|extension| extension == "model") {
        return from_sentencepiece(path);
    }
    let file = if path.is_dir() {
        path.join("tokenizer.json")
    } else {
        path.to_owned()
    };
    let model = path.join("tokenizer.model");
    if path.is_dir() && !file.exists() && model.exists() {
        return from_sentencepiece(&model);
    }
    let json = read(&file).map_err(|problem| vec![problem])?;
    hf::read(&json, &companions(&file)?)?.into_blob("tokenizer.json")
}

/// Compiles a SentencePiece BPE model, `tokenizer.model`. The files beside it count as in [`from_hf`]; without them BOS goes
/// before a text, as in Llama's own tokenizer.
///
/// # Errors
/// Everything that is wrong or not supported, at once as far as possible.
pub fn from_sentencepiece(path: &Path) -> Result<Vec<u8>, Vec<TokenizerProblem>> {
    const PLACE: &str = "tokenizer.model";
    let model = read(path).map_err(|problem| vec![problem])?;
    let mut problems = Vec::new();
    if path.with_file_name("added_tokens.json").exists() {
        let problem = TokenizerProblem::new("added_tokens.json", "not read together with tokenizer.model");
        problems.push(problem.hint("save the tokenizer as tokenizer.json"));
    }
    let mut vocabulary = sentencepiece::read(&model, PLACE)?;
    let companions = companions(path)?;
    let find = |vocabulary: &vocabulary::Vocabulary, text: &str| {
        let found = vocabulary.added.iter().find(|added| added.text == text.as_bytes());
        found.map(|added| added.id)
    };
    hf::apply_companions(&mut vocabulary, &companions, find, &mut problems);
    if problems.is_empty() {
        vocabulary.into_blob(PLACE)
    } else {
        Err(problems)
    }
}

/// A compiled tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// In the format of [`ck_runtime::tokenizer::format`].
    pub blob: Vec<u8>,
    /// What the files say that the tables do not hold because it can have no effect on the model's ids.
    pub left_out: Vec<TokenizerProblem>,
}

/// Compiles the vocabulary of a GGUF file: [`GgufVocab::from_metadata`] collects it.
///
/// # Errors
/// Everything that is wrong or not supported, at once as far as possible.
pub fn from_gguf(vocab: &GgufVocab) -> Result<Tables, Vec<TokenizerProblem>> {
    let (vocabulary, left_out) = gguf::read(vocab)?;
    let blob = vocabulary.into_blob("tokenizer.ggml.tokens")?;
    Ok(Tables { blob, left_out })
}

fn read(path: &Path) -> Result<Vec<u8>, TokenizerProblem> {
    let place = path
        .file_name()
        .map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy())
        .into_owned();
    let failed = |error: io::Error| TokenizerProblem::new(place.clone(), error.to_string());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(TokenizerProblem::new(
            place,
            format!("larger than {MAX_FILE_BYTES} bytes"),
        ));
    }
    Ok(bytes)
}

/// The files beside `tokenizer`; absent ones are null.
fn companions(tokenizer: &Path) -> Result<Companions, Vec<TokenizerProblem>> {
    let mut problems = Vec::new();
    let mut load = |name: &str| {
        let path = tokenizer.with_file_name(name);
        if !path.exists() {
            return Value::Null;
        }
        let parsed = read(&path).and_then(|bytes| {
            serde_json::from_slice(&bytes).map_err(|error| TokenizerProblem::new(name, error.to_string()))
        });
        parsed.unwrap_or_else(|problem| {
            problems.push(problem);
            Value::Null
        })
    };
    let companions = Companions {
        tokenizer_config: load("tokenizer_config.json"),
        generation_config: load("generation_config.json"),
        config: load("config.json"),
    };
    if problems.is_empty() {
        Ok(companions)
    } else {
        Err(problems)
    }
}
