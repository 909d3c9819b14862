//! The vocabulary in GGUF metadata, `tokenizer.ggml.*`.

use std::collections::BTreeMap;

use ck_runtime::tokenizer::format::{Model, Normalizer};

use super::bytelevel::Alphabet;
use super::pre::{GGUF_PRE, gguf_names};
use super::problem::TokenizerProblem;
use super::spm::{self, Piece, PieceKind};
use super::vocabulary::{Added, MAX_TOKENS, Token, Vocabulary, added_bits};
use crate::source::gguf::{Array, Metadata, Value};

/// What `tokenizer.ggml.*` says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocab {
    /// `model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece BPE).
    pub model: String,
    /// `pre`: name of the pre-tokenizer.
    pub pre: Option<String>,
    /// `tokens`, in the order of their ids.
    pub tokens: Vec<Vec<u8>>,
    /// `scores`: one a token, for `llama`.
    pub scores: Vec<f32>,
    /// `token_type`: one a token; empty means all normal.
    pub token_types: Vec<i32>,
    /// `merges`: two tokens with a space between, for `gpt2`.
    pub merges: Vec<String>,
    /// `bos_token_id`
    pub bos: Option<u32>,
    /// `eos_token_id`
    pub eos: Option<u32>,
    /// `eot_token_id`: end of a turn.
    pub eot: Option<u32>,
    /// `eom_token_id`: end of a message.
    pub eom: Option<u32>,
    /// `unknown_token_id`
    pub unk: Option<u32>,
    /// `add_bos_token`
    pub add_bos: Option<bool>,
    /// `add_eos_token`
    pub add_eos: Option<bool>,
    /// `add_space_prefix`
    pub add_space_prefix: Option<bool>,
    /// `remove_extra_whitespaces`
    pub remove_extra_whitespaces: Option<bool>,
    /// Bytes of `precompiled_charsmap`.
    pub charsmap_bytes: usize,
}

/// Control tokens that end a turn, by their text: files made before `eot_token_id` existed do not say so otherwise.
const END_OF_TURN: [&str; 7] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
];

impl GgufVocab {
    /// Collects the keys of a file; `None` when it has no vocabulary.
    ///
    /// # Errors
    /// A key has a value of another type than the format's.
    pub fn from_metadata(metadata: &Metadata) -> Result<Option<Self>, Vec<TokenizerProblem>> {
        let mut reader = Reader {
            metadata,
            problems: Vec::new(),
        };
        let model = reader.string("model");
        let tokens = reader.strings("tokens");
        let model = match (model, tokens.is_empty()) {
            (None, true) => return Ok(None),
            (Some(model), true) if model == "none" || model == "no_vocab" => return Ok(None),
            (model, _) => model.unwrap_or_default(),
        };
        let merges = reader
            .strings("merges")
            .into_iter()
            .map(|merge| String::from_utf8_lossy(&merge).into_owned());
        let vocab = Self {
            model,
            pre: reader.string("pre"),
            tokens,
            merges: merges.collect(),
            scores: reader.scalars("scores", |value| value.as_f64().map(|score| score as f32)),
            token_types: reader.scalars("token_type", |value| match value {
                Value::Signed(n) => i32::try_from(*n).ok(),
                Value::Unsigned(n) => i32::try_from(*n).ok(),
                _ => None,
            }),
            bos: reader.id("bos_token_id"),
            eos: reader.id("eos_token_id"),
            eot: reader.id("eot_token_id"),
            eom: reader.id("eom_token_id"),
            unk: reader.id("unknown_token_id"),
            add_bos: reader.bool("add_bos_token"),
            add_eos: reader.bool("add_eos_token"),
            add_space_prefix: reader.bool("add_space_prefix"),
            remove_extra_whitespaces: reader.bool("remove_extra_whitespaces"),
            charsmap_bytes: metadata
                .array("tokenizer.ggml.precompiled_charsmap")
                .map_or(0, Array::len),
        };
        if reader.problems.is_empty() {
            Ok(Some(vocab))
        } else {
            Err(reader.problems)
        }
    }
}

struct Reader<'m> {
    metadata: &'m Metadata,
    problems: Vec<TokenizerProblem>,
}

impl Reader<'_> {
    /// The value of a key through `read`, or a problem when it is there and of another type.
    fn get<T>(&mut self, key: &str, expected: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let key = format!("tokenizer.ggml.{key}");
        let value = self.metadata.get(&key)?;
        let read = read(value);
        if read.is_none() {
            self.problems.push(TokenizerProblem::new(
                key,
                format!("expected {expected}, found {}", value.describe()),
            ));
        }
        read
    }

    fn string(&mut self, key: &str) -> Option<String> {
        self.get(key, "a string", |value| value.as_str().map(str::to_owned))
    }

    fn bool(&mut self, key: &str) -> Option<bool> {
        self.get(key, "a boolean", |value| {
            if let Value::Bool(on) = value { Some(*on) } else { None }
        })
    }

    /// Converters write the largest number for "none".
    fn id(&mut self, key: &str) -> Option<u32> {
        let id = self.get(key, "a token id", |value| {
            value.as_u64().and_then(|id| u32::try_from(id).ok())
        });
        id.filter(|&id| id != u32::MAX)
    }

    fn strings(&mut self, key: &str) -> Vec<Vec<u8>> {
        let strings = self.get(key, "an array of strings", |value| match value {
            Value::Array(Array::Strings(strings)) => Some(strings.iter().map(<[u8]>::to_vec).collect()),
            _ => None,
        });
        strings.unwrap_or_default()
    }

    fn scalars<T>(&mut self, key: &str, read: impl Fn(&Value) -> Option<T>) -> Vec<T> {
        let scalars = self.get(key, "an array of numbers", |value| match value {
            Value::Array(array @ Array::Scalars(_)) => array.scalars().map(|value| read(&value)).collect(),
            _ => None,
        });
        scalars.unwrap_or_default()
    }
}

/// The vocabulary, and what of the file it leaves out.
///
/// A file may hold the first tokens of a longer vocabulary with all of its merges and the ids of its special tokens.
/// Such a merge can never make a token, and such an id never comes out of the model, so they are left out.
pub(super) fn read(vocab: &GgufVocab) -> Result<(Vocabulary, Vec<TokenizerProblem>), Vec<TokenizerProblem>> {
    let mut left_out = Vec::new();
    let vocab = &within(vocab, &mut left_out);
    let mut problems = lengths(vocab);
    let kinds = kinds(vocab, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let (mut vocabulary, add_bos) = match vocab.model.as_str() {
        "gpt2" => byte_level(vocab, &kinds, &mut left_out)?,
        "llama" => (sentencepiece(vocab, &kinds)?, true),
        other => {
            let problem = TokenizerProblem::new("tokenizer.ggml.model", format!("{other:?} is not supported"));
            return Err(vec![
                problem.hint("supported: gpt2 (byte-level BPE), llama (SentencePiece BPE)"),
            ]);
        }
    };
    vocabulary.bos = vocab.bos;
    vocabulary.unk = vocab.unk.or(vocabulary.unk);
    let by_text = END_OF_TURN.iter().filter_map(|text| {
        let added = vocabulary.added.iter().find(|added| added.text == text.as_bytes())?;
        vocabulary.tokens.get(added.id as usize)?.special.then_some(added.id)
    });
    let mut eos: Vec<u32> = [vocab.eos, vocab.eot, vocab.eom]
        .into_iter()
        .flatten()
        .chain(by_text)
        .collect();
    let mut seen = Vec::new();
    eos.retain(|id| {
        !seen.contains(id) && {
            seen.push(*id);
            true
        }
    });
    vocabulary.eos = eos;
    let mut wanted = |name: &str, id: Option<u32>, add: bool, explicit: Option<bool>| {
        let on = explicit.unwrap_or(add);
        if explicit == Some(true) && id.is_none() {
            let key = format!("tokenizer.ggml.add_{name}_token");
            problems.push(TokenizerProblem::new(
                key,
                format!("it is true, but there is no {name}_token_id"),
            ));
        }
        id.filter(|_| on).into_iter().collect()
    };
    vocabulary.before = wanted("bos", vocab.bos, add_bos, vocab.add_bos);
    vocabulary.after = wanted("eos", vocab.eos, false, vocab.add_eos);
    if problems.is_empty() {
        Ok((vocabulary, left_out))
    } else {
        Err(problems)
    }
}

/// The file without special tokens that are no tokens.
fn within(vocab: &GgufVocab, left_out: &mut Vec<TokenizerProblem>) -> GgufVocab {
    let mut vocab = vocab.clone();
    let len = vocab.tokens.len();
    let ids = [
        ("bos", &mut vocab.bos),
        ("eos", &mut vocab.eos),
        ("eot", &mut vocab.eot),
        ("eom", &mut vocab.eom),
        ("unknown", &mut vocab.unk),
    ];
    for (name, id) in ids {
        if let Some(absent) = id.take_if(|id| *id as usize >= len) {
            left_out.push(TokenizerProblem::new(
                format!("tokenizer.ggml.{name}_token_id"),
                format!("left out: it is {absent}, and the vocabulary has {len} tokens"),
            ));
        }
    }
    vocab
}

/// Arrays that belong together have one length.
fn lengths(vocab: &GgufVocab) -> Vec<TokenizerProblem> {
    let tokens = vocab.tokens.len();
    let mut problems = Vec::new();
    if tokens > MAX_TOKENS {
        problems.push(TokenizerProblem::new(
            "tokenizer.ggml.tokens",
            format!("{tokens} tokens, the limit is {MAX_TOKENS}"),
        ));
    }
    let needs_scores = vocab.model == "llama";
    let arrays = [
        ("scores", vocab.scores.len(), !needs_scores),
        ("token_type", vocab.token_types.len(), true),
    ];
    for (key, len, may_be_absent) in arrays {
        if len != tokens && !(len == 0 && may_be_absent) {
            let message = format!("{len} values for {tokens} tokens");
            problems.push(TokenizerProblem::new(format!("tokenizer.ggml.{key}"), message));
        }
    }
    problems
}

fn kinds(vocab: &GgufVocab, problems: &mut Vec<TokenizerProblem>) -> Vec<PieceKind> {
    let mut kinds = vec![PieceKind::Normal; vocab.tokens.len()];
    for (id, (kind, &number)) in kinds.iter_mut().zip(&vocab.token_types).enumerate() {
        match PieceKind::from_number(i64::from(number)) {
            Some(found) => *kind = found,
            None => {
                let message = format!("token {id} has type {number}; types are 1 to 6");
                problems.push(TokenizerProblem::new("tokenizer.ggml.token_type", message));
                return kinds;
            }
        }
    }
    kinds
}

fn sentencepiece(vocab: &GgufVocab, kinds: &[PieceKind]) -> Result<Vocabulary, Vec<TokenizerProblem>> {
    let unsupported = [
        ("precompiled_charsmap", vocab.charsmap_bytes > 0),
        ("remove_extra_whitespaces", vocab.remove_extra_whitespaces == Some(true)),
    ];
    let problems: Vec<_> = unsupported
        .into_iter()
        .filter(|&(_, found)| found)
        .map(|(key, _)| TokenizerProblem::new(format!("tokenizer.ggml.{key}"), "not supported"))
        .collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let pieces = vocab.tokens.iter().zip(&vocab.scores).zip(kinds);
    let pieces: Vec<_> = pieces
        .map(|((text, &score), &kind)| Piece { text, score, kind })
        .collect();
    spm::vocabulary(&pieces, vocab.add_space_prefix.unwrap_or(true), "tokenizer.ggml.tokens")
}

/// The vocabulary, and whether BOS is put before a text when the file does not say.
fn byte_level(
    vocab: &GgufVocab,
    kinds: &[PieceKind],
    left_out: &mut Vec<TokenizerProblem>,
) -> Result<(Vocabulary, bool), Vec<TokenizerProblem>> {
    let place = "tokenizer.ggml.pre";
    let hint = || format!("supported: {}", gguf_names());
    let problem = match &vocab.pre {
        None => TokenizerProblem::new(place, "missing; the way text is cut into words is not known"),
        Some(name) => TokenizerProblem::new(place, format!("{name:?} is not supported")),
    };
    let known = GGUF_PRE.iter().find(|pre| vocab.pre.as_deref() == Some(pre.name));
    let pre = known.ok_or_else(|| vec![problem.hint(hint())])?;

    let mut vocabulary = Vocabulary {
        pre_tokenizer: pre.pre_tokenizer,
        normalizer: if pre.nfc { Normalizer::Nfc } else { Normalizer::Identity },
        ignore_merges: pre.ignore_merges,
        ..Vocabulary::new(Model::ByteBpe)
    };
    let alphabet = Alphabet::new();
    let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
    for (id, (text, kind)) in vocab.tokens.iter().zip(kinds).enumerate() {
        let id = id as u32;
        let utf8 = std::str::from_utf8(text).ok();
        let special = matches!(kind, PieceKind::Control | PieceKind::Unknown);
        let mut token = Token {
            bytes: text.clone(),
            special,
            word: false,
        };
        if special || *kind == PieceKind::UserDefined {
            let bits = added_bits(special, false, false, false);
            vocabulary.added.push(Added {
                text: text.clone(),
                id,
                bits,
                normalized: false,
            });
        } else if let Some(bytes) = utf8.and_then(|text| alphabet.decode(text)) {
            token = Token {
                bytes,
                special,
                word: true,
            };
        }
        if let ([byte], true) = (&token.bytes[..], token.word) {
            vocabulary.bytes[usize::from(*byte)].get_or_insert(id);
        }
        if let Some(text) = utf8 {
            ids.entry(text).or_insert(id);
        }
        vocabulary.tokens.push(token);
    }
    const MERGES: &str = "tokenizer.ggml.merges";
    let mut problems = Vec::new();
    let mut dead = Vec::new();
    for (rank, merge) in vocab.merges.iter().enumerate() {
        let Some((left, right)) = merge.split_once(' ') else {
            let message = format!("merge {rank}, {merge:.60?}, is not two tokens with a space between");
            problems.push(TokenizerProblem::new(MERGES, message));
            if problems.len() == 8 {
                break;
            }
            continue;
        };
        let [left_id, right_id, merged] = [left, right, &format!("{left}{right}")].map(|text| ids.get(text).copied());
        match (left_id, right_id, merged) {
            // Of equal pairs the first counts, as in llama.cpp.
            (Some(left), Some(right), Some(merged)) => {
                vocabulary.merges.entry((left, right)).or_insert((rank as u32, merged));
            }
            _ => dead.push((rank, merge)),
        }
    }
    if let Some((rank, merge)) = dead.first() {
        let message = format!(
            "left out: {} of {} merges, the first is {rank}, {merge:.60?}: not two tokens whose concatenation is a token",
            dead.len(),
            vocab.merges.len()
        );
        let problem = TokenizerProblem::new(MERGES, message);
        if dead.len() == vocab.merges.len() {
            problems.push(problem.hint("merges and tokens are of two different vocabularies"));
        } else {
            left_out.push(problem);
        }
    }
    if problems.is_empty() {
        Ok((vocabulary, pre.add_bos))
    } else {
        Err(problems)
    }
}
