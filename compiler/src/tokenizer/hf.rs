//! Hugging Face's `tokenizer.json` and the files beside it.

use std::collections::BTreeMap;

use ck_runtime::tokenizer::format::{Model, Normalizer, PreTokenizer, Prefix};
use serde::Deserialize;
use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

use super::bytelevel::Alphabet;
use super::pipeline::{self, Pipeline};
use super::problem::TokenizerProblem;
use super::spm::byte_piece;
use super::vocabulary::{Added, MAX_TOKENS, Token, Vocabulary, added_bits};

const PLACE: &str = "tokenizer.json";

/// Problems of one kind that are listed; a file that is wrong throughout has thousands.
const MOST_LISTED: usize = 8;

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: ModelFile,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct ModelFile {
    #[serde(default)]
    dropout: Option<f64>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    #[serde(default)]
    vocab: BTreeMap<String, u32>,
    #[serde(default)]
    merges: Vec<Merge>,
}

/// Both spellings of a merge.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Text(String),
}

impl Merge {
    fn halves(&self) -> Option<(&str, &str)> {
        match self {
            Self::Pair(left, right) => Some((left, right)),
            Self::Text(text) => text.split_once(' '),
        }
    }
}

/// The model's kind alone: other kinds have other fields, which would fail first with an unhelpful message.
#[derive(Deserialize)]
struct KindOnly {
    model: KindOfModel,
}

#[derive(Deserialize)]
struct KindOfModel {
    /// Absent in files of the first versions, which only had BPE.
    r#type: Option<String>,
}

/// The JSON files beside the tokenizer, as far as they are there.
#[derive(Clone, Debug, Default)]
pub(super) struct Companions {
    /// `tokenizer_config.json`
    pub tokenizer_config: Value,
    /// `generation_config.json`
    pub generation_config: Value,
    /// `config.json`
    pub config: Value,
}

pub(super) fn read(json: &[u8], companions: &Companions) -> Result<Vocabulary, Vec<TokenizerProblem>> {
    let damaged = |error: serde_json::Error| vec![TokenizerProblem::new(PLACE, error.to_string())];
    let kind: KindOnly = serde_json::from_slice(json).map_err(damaged)?;
    if let Some(kind) = kind.model.r#type.filter(|kind| kind != "BPE") {
        let problem = TokenizerProblem::new(format!("{PLACE}: model.type"), format!("{kind} is not supported"));
        return Err(vec![problem.hint("supported: BPE, byte-level or with byte fallback")]);
    }
    let file: File = serde_json::from_slice(json).map_err(damaged)?;

    let mut problems = Vec::new();
    let pipeline = pipeline::read(&file.normalizer, &file.pre_tokenizer, &file.decoder, &mut problems);
    let model = if pipeline.byte_level {
        Model::ByteBpe
    } else {
        Model::CharBpe
    };
    unsupported_options(&file.model, model, &mut problems);
    let mut vocabulary = Vocabulary {
        pre_tokenizer: pipeline.pre_tokenizer,
        normalizer: pipeline.normalizer,
        prefix: pipeline.prefix,
        strip_leading_space: pipeline.strip_leading_space,
        fuse_unk: file.model.fuse_unk,
        ignore_merges: file.model.ignore_merges,
        ..Vocabulary::new(model)
    };
    tokens(&file, &mut vocabulary, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    merges(&file.model, &mut vocabulary, &mut problems);
    added(&file, &pipeline, &mut vocabulary);
    pipeline::template(&file.post_processor, &mut vocabulary, &mut problems);
    if let Some(text) = &file.model.unk_token {
        vocabulary.unk = find(&vocabulary, &file.model.vocab, text);
        if vocabulary.unk.is_none() {
            problems.push(TokenizerProblem::new(
                format!("{PLACE}: model.unk_token"),
                format!("{text:?} is not a token"),
            ));
        }
    }
    let lookup = |vocabulary: &Vocabulary, text: &str| find(vocabulary, &file.model.vocab, text);
    apply_companions(&mut vocabulary, companions, lookup, &mut problems);
    if problems.is_empty() {
        Ok(vocabulary)
    } else {
        Err(problems)
    }
}

fn find(vocabulary: &Vocabulary, vocab: &BTreeMap<String, u32>, text: &str) -> Option<u32> {
    let added = vocabulary.tokens.iter().zip(0..).filter(|(token, _)| token.special);
    let added = added
        .filter(|(token, _)| token.bytes == text.as_bytes())
        .map(|(_, id)| id)
        .next();
    added.or_else(|| vocab.get(text).copied())
}

fn unsupported_options(model: &ModelFile, kind: Model, problems: &mut Vec<TokenizerProblem>) {
    let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let checks = [
        ("dropout", model.dropout.is_some_and(|p| p != 0.0)),
        ("continuing_subword_prefix", given(&model.continuing_subword_prefix)),
        ("end_of_word_suffix", given(&model.end_of_word_suffix)),
        // A piece is the whole text without a byte-level pre-tokenizer.
        ("ignore_merges", kind == Model::CharBpe && model.ignore_merges),
        ("byte_fallback", kind == Model::ByteBpe && model.byte_fallback),
    ];
    let found = checks.into_iter().filter(|&(_, found)| found);
    problems.extend(found.map(|(key, _)| TokenizerProblem::new(format!("{PLACE}: model.{key}"), "not supported here")));
}

/// Fills tokens, bytes and characters from the vocabulary and the added tokens.
fn tokens(file: &File, vocabulary: &mut Vocabulary, problems: &mut Vec<TokenizerProblem>) {
    let added_ids = file.added_tokens.iter().map(|added| added.id);
    let len = file
        .model
        .vocab
        .values()
        .copied()
        .chain(added_ids)
        .max()
        .map_or(0, |id| id as usize + 1);
    if len > MAX_TOKENS {
        let message = format!("the largest id is {}, the limit is {}", len - 1, MAX_TOKENS - 1);
        problems.push(TokenizerProblem::new(PLACE, message));
        return;
    }
    vocabulary.tokens = vec![Token::default(); len];
    let mut owner: Vec<Option<&str>> = vec![None; len];
    let alphabet = Alphabet::new();
    for (text, &id) in &file.model.vocab {
        if let Some(other) = owner[id as usize].replace(text)
            && problems.len() < MOST_LISTED
        {
            problems.push(TokenizerProblem::new(
                format!("{PLACE}: model.vocab"),
                format!("{other:.40?} and {text:.40?} both have id {id}"),
            ));
        }
        let raw = || Token {
            bytes: text.clone().into_bytes(),
            ..Token::default()
        };
        let token = match vocabulary.model {
            Model::ByteBpe => match alphabet.decode(text) {
                Some(bytes) => {
                    if let [byte] = bytes[..] {
                        vocabulary.bytes[usize::from(byte)] = Some(id);
                    }
                    Token {
                        bytes,
                        word: true,
                        ..Token::default()
                    }
                }
                None => raw(),
            },
            Model::CharBpe => {
                let mut chars = text.chars();
                if let (Some(only), None) = (chars.next(), chars.next()) {
                    vocabulary.chars.insert(only, id);
                }
                match byte_piece(text).filter(|_| file.model.byte_fallback) {
                    Some(byte) => {
                        vocabulary.bytes[usize::from(byte)] = Some(id);
                        Token {
                            bytes: vec![byte],
                            ..Token::default()
                        }
                    }
                    None => Token {
                        bytes: text.replace('▁', " ").into_bytes(),
                        ..Token::default()
                    },
                }
            }
        };
        vocabulary.tokens[id as usize] = token;
    }
    for added in &file.added_tokens {
        if let Some(other) = owner[added.id as usize].replace(&added.content)
            && other != added.content
            && problems.len() < MOST_LISTED
        {
            problems.push(TokenizerProblem::new(
                format!("{PLACE}: added_tokens"),
                format!(
                    "{:.40?} has id {}, which is that of {other:.40?}",
                    added.content, added.id
                ),
            ));
        }
        let token = &mut vocabulary.tokens[added.id as usize];
        token.bytes = added.content.clone().into_bytes();
        token.special = added.special;
        token.word &= !added.special;
    }
}

fn merges(model: &ModelFile, vocabulary: &mut Vocabulary, problems: &mut Vec<TokenizerProblem>) {
    let mut listed = 0;
    for (rank, merge) in model.merges.iter().enumerate() {
        let resolved = merge.halves().and_then(|(left, right)| {
            let merged = *model.vocab.get(&format!("{left}{right}"))?;
            Some(((*model.vocab.get(left)?, *model.vocab.get(right)?), merged))
        });
        match resolved {
            // Of equal pairs the last counts, as in Hugging Face's own reader.
            Some((pair, merged)) => _ = vocabulary.merges.insert(pair, (rank as u32, merged)),
            None => {
                let (left, right) = merge.halves().unwrap_or_default();
                problems.push(TokenizerProblem::new(
                    format!("{PLACE}: model.merges[{rank}]"),
                    format!("{left:.40?} and {right:.40?} are not two tokens whose concatenation is a token"),
                ));
                listed += 1;
            }
        }
        if listed == MOST_LISTED {
            break;
        }
    }
}

fn added(file: &File, pipeline: &Pipeline, vocabulary: &mut Vocabulary) {
    for token in &file.added_tokens {
        let normalized = token.normalized.unwrap_or(!token.special);
        let text = match vocabulary.normalizer {
            Normalizer::Nfc if normalized => token.content.nfc().collect(),
            // A normaliser prepends to the token's text as it does to any other; a pre-tokenizer comes later.
            Normalizer::EscapeSpaces if normalized => {
                let prefix = if pipeline.prefix == Prefix::Always { "▁" } else { "" };
                format!("{prefix}{}", token.content.replace(' ', "▁"))
            }
            _ => token.content.clone(),
        };
        vocabulary.added.push(Added {
            text: text.into_bytes(),
            id: token.id,
            bits: added_bits(token.special, token.lstrip, token.rstrip, token.single_word),
            normalized,
        });
    }
}

/// Tokenizers whose class puts BOS before a text by itself.
const LLAMA_CLASSES: [&str; 6] = [
    "LlamaTokenizer",
    "LlamaTokenizerFast",
    "CodeLlamaTokenizer",
    "CodeLlamaTokenizerFast",
    "GemmaTokenizer",
    "GemmaTokenizerFast",
];

/// BOS and EOS, and whether they are added, from the files beside the tokenizer.
///
/// The template of `tokenizer.json` decides what is added; `add_bos_token` and `add_eos_token` add to it, and for the classes
/// of Llama, which rebuild the template from them, they decide alone. Where neither says anything, BOS is added for
/// Llama 3's pre-tokenizer only.
pub(super) fn apply_companions(
    vocabulary: &mut Vocabulary,
    companions: &Companions,
    find: impl Fn(&Vocabulary, &str) -> Option<u32>,
    problems: &mut Vec<TokenizerProblem>,
) {
    let config = &companions.tokenizer_config;
    let mut named = |key: &str| {
        let value = config.get(key)?;
        let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
        let id = find(vocabulary, text);
        if id.is_none() {
            let place = format!("tokenizer_config.json: {key}");
            problems.push(TokenizerProblem::new(
                place,
                format!("{text:?} is not a token of the vocabulary"),
            ));
        }
        id
    };
    let (bos, eos) = (named("bos_token"), named("eos_token"));
    let in_config = |key: &str| -> Vec<u32> {
        let ids = |value: &Value| match value {
            Value::Array(ids) => ids.iter().filter_map(as_id).collect::<Vec<_>>(),
            value => as_id(value).into_iter().collect(),
        };
        let files = [&companions.generation_config, &companions.config];
        files
            .into_iter()
            .filter_map(|file| file.get(key))
            .flat_map(ids)
            .collect()
    };
    let says_nothing = config.get("bos_token").is_none();
    let fallback = || in_config("bos_token_id").first().copied().filter(|_| says_nothing);
    vocabulary.bos = bos.or(vocabulary.bos).or_else(fallback);
    for id in in_config("eos_token_id").into_iter().chain(eos) {
        if !vocabulary.eos.contains(&id) {
            vocabulary.eos.push(id);
        }
    }

    let switch = |key: &str| config.get(key).and_then(Value::as_bool);
    let class = config
        .get("tokenizer_class")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let rebuilds = LLAMA_CLASSES.contains(&class);
    // Files that say nothing at all: models with Llama 3's pre-tokenizer are trained with BOS, and llama.cpp has the
    // same default for them.
    let silent = vocabulary.before.is_empty() && vocabulary.after.is_empty();
    let trained_with_bos = silent && vocabulary.ignore_merges && vocabulary.pre_tokenizer == PreTokenizer::Llama3;
    let (bos, eos) = (vocabulary.bos, eos.or(vocabulary.eos.first().copied()));
    for (key, id, llama_default, list) in [
        ("add_bos_token", bos, true, &mut vocabulary.before),
        ("add_eos_token", eos, false, &mut vocabulary.after),
    ] {
        let by_class = rebuilds.then_some(llama_default);
        let by_training = (trained_with_bos && llama_default).then_some(true);
        let wanted = switch(key).or(by_class).or(by_training);
        match (wanted, id) {
            (Some(true), Some(id)) if !list.contains(&id) => list.push(id),
            (Some(false), Some(id)) if rebuilds => list.retain(|&other| other != id),
            _ => {}
        }
    }
}

fn as_id(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}
