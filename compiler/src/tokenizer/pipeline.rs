//! The parts of `tokenizer.json` around the model: normaliser, pre-tokenizer, decoder, template.
//!
//! Each is a tree of small steps. The trees that are supported are recognised as sequences of steps; anything else is a
//! problem that names the step.

use ck_runtime::tokenizer::format::{Normalizer, PreTokenizer, Prefix};
use serde_json::Value;

use super::pre::PATTERNS;
use super::problem::TokenizerProblem;
use super::vocabulary::Vocabulary;

/// What the steps amount to.
pub(super) struct Pipeline {
    pub byte_level: bool,
    pub pre_tokenizer: PreTokenizer,
    pub normalizer: Normalizer,
    pub prefix: Prefix,
    pub strip_leading_space: bool,
}

/// A tokenizer whose pieces are whole texts has no pre-tokenizer.
impl Default for Pipeline {
    fn default() -> Self {
        Self {
            byte_level: false,
            pre_tokenizer: PreTokenizer::Whole,
            normalizer: Normalizer::Identity,
            prefix: Prefix::Never,
            strip_leading_space: false,
        }
    }
}

/// Deepest nesting of sequences; real files have one level.
const MAX_NESTING: usize = 8;

/// The steps of a tree, sequences taken apart, each with its place.
fn steps<'v>(value: &'v Value, place: &str, list: &str, depth: usize, out: &mut Vec<(String, &'v Value)>) {
    if value.is_null() {
        return;
    }
    match value.get(list).and_then(Value::as_array) {
        Some(parts) if kind(value) == "Sequence" && depth < MAX_NESTING => {
            for (number, part) in parts.iter().enumerate() {
                steps(part, &format!("{place}.{list}[{number}]"), list, depth + 1, out);
            }
        }
        _ => out.push((place.to_owned(), value)),
    }
}

fn kind(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn text<'v>(step: &'v Value, key: &str) -> &'v str {
    step.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn switch(step: &Value, key: &str, default: bool) -> bool {
    step.get(key).and_then(Value::as_bool).unwrap_or(default)
}

/// The pattern of a `Split` or `Replace`: its variant and text.
fn pattern(step: &Value) -> (&str, &str) {
    let pattern = step
        .get("pattern")
        .and_then(Value::as_object)
        .and_then(|pattern| pattern.iter().next());
    pattern.map_or(("", ""), |(variant, text)| {
        (variant.as_str(), text.as_str().unwrap_or_default())
    })
}

fn unsupported(place: &str, step: &Value, hint: &str) -> TokenizerProblem {
    let shown: String = step.to_string().chars().take(240).collect();
    TokenizerProblem::new(format!("tokenizer.json: {place}"), format!("not supported: {shown}")).hint(hint)
}

pub(super) fn read(
    normalizer: &Value,
    pre_tokenizer: &Value,
    decoder: &Value,
    problems: &mut Vec<TokenizerProblem>,
) -> Pipeline {
    let mut pipeline = Pipeline::default();
    read_normalizer(normalizer, &mut pipeline, problems);
    read_pre_tokenizer(pre_tokenizer, &mut pipeline, problems);
    read_decoder(decoder, &mut pipeline, problems);
    if pipeline.byte_level && pipeline.normalizer == Normalizer::EscapeSpaces {
        let message = "replacing spaces before a ByteLevel pre-tokenizer is not supported";
        problems.push(TokenizerProblem::new("tokenizer.json: normalizer", message));
    }
    pipeline
}

fn read_normalizer(value: &Value, pipeline: &mut Pipeline, problems: &mut Vec<TokenizerProblem>) {
    const HINT: &str = "supported: none, NFC, or Prepend \"▁\" with Replace \" \" by \"▁\"";
    let mut parts = Vec::new();
    steps(value, "normalizer", "normalizers", 0, &mut parts);
    let is_replace =
        |step: &Value| kind(step) == "Replace" && pattern(step) == ("String", " ") && text(step, "content") == "▁";
    for (number, (place, step)) in parts.iter().enumerate() {
        let is_last = number + 1 == parts.len();
        match kind(step) {
            "NFC" if parts.len() == 1 => pipeline.normalizer = Normalizer::Nfc,
            "Prepend" if text(step, "prepend") == "▁" && !is_last => pipeline.prefix = Prefix::Always,
            "Replace" if is_replace(step) && is_last => pipeline.normalizer = Normalizer::EscapeSpaces,
            _ => problems.push(unsupported(place, step, HINT)),
        }
    }
}

fn read_pre_tokenizer(value: &Value, pipeline: &mut Pipeline, problems: &mut Vec<TokenizerProblem>) {
    const HINT: &str = "supported: ByteLevel, Split by the regular expression of GPT-2, Llama 3 or Qwen2 before ByteLevel, \
         Digits before ByteLevel, Metaspace without split";
    let mut parts = Vec::new();
    steps(value, "pre_tokenizer", "pretokenizers", 0, &mut parts);
    let mut split = None;
    for (place, step) in &parts {
        let problem = match kind(step) {
            "Split" if pipeline.normalizer == Normalizer::EscapeSpaces && pattern(step) == ("String", " ") => {
                // No space is left to split at.
                None
            }
            "Split" if text(step, "behavior") == "Isolated" && !switch(step, "invert", false) && split.is_none() => {
                let known = PATTERNS.iter().find(|(regex, _)| pattern(step) == ("Regex", regex));
                split = known.map(|&(_, kind)| kind);
                known.is_none().then_some(HINT)
            }
            "Digits" if switch(step, "individual_digits", false) && split.is_none() => {
                split = Some(PreTokenizer::DigitsGpt2);
                None
            }
            "ByteLevel" if !pipeline.byte_level => {
                pipeline.byte_level = true;
                byte_level(step, split, pipeline)
            }
            "Metaspace" if parts.len() == 1 && pipeline.normalizer == Normalizer::Identity => metaspace(step, pipeline),
            _ => Some(HINT),
        };
        problems.extend(problem.map(|hint| unsupported(place, step, hint)));
    }
    if split.is_some() && !pipeline.byte_level {
        problems.push(TokenizerProblem::new("tokenizer.json: pre_tokenizer", "a split without ByteLevel").hint(HINT));
    }
}

/// Combines a `ByteLevel` step with the split before it.
fn byte_level(step: &Value, split: Option<PreTokenizer>, pipeline: &mut Pipeline) -> Option<&'static str> {
    let (prefix, regex) = (switch(step, "add_prefix_space", true), switch(step, "use_regex", true));
    pipeline.pre_tokenizer = match (split, regex) {
        (None, true) => PreTokenizer::Gpt2,
        (None, false) => PreTokenizer::Whole,
        (Some(PreTokenizer::DigitsGpt2), true) => PreTokenizer::DigitsGpt2,
        (Some(kind), false) if kind != PreTokenizer::DigitsGpt2 => kind,
        _ => return Some("supported: use_regex without a split or after Digits, and no use_regex after another split"),
    };
    if prefix && split.is_some() {
        return Some("add_prefix_space is not supported after a split");
    }
    if prefix {
        pipeline.prefix = Prefix::Missing;
    }
    None
}

fn metaspace(step: &Value, pipeline: &mut Pipeline) -> Option<&'static str> {
    // Files of old versions have `add_prefix_space` in place of `prepend_scheme`.
    let scheme = match (text(step, "prepend_scheme"), switch(step, "add_prefix_space", true)) {
        ("", true) => "always",
        ("", false) => "never",
        (scheme, _) => scheme,
    };
    pipeline.prefix = match scheme {
        "always" => Prefix::Missing,
        "first" => Prefix::MissingFirst,
        "never" => Prefix::Never,
        _ => return Some("supported: prepend_scheme always, first, never"),
    };
    pipeline.normalizer = Normalizer::EscapeSpaces;
    let supported = text(step, "replacement") == "▁" && !switch(step, "split", true);
    (!supported).then_some("supported: replacement \"▁\" and split false")
}

fn read_decoder(value: &Value, pipeline: &mut Pipeline, problems: &mut Vec<TokenizerProblem>) {
    const HINT: &str =
        "supported: ByteLevel, Metaspace, or Replace \"▁\" by \" \", ByteFallback, Fuse, Strip of one space";
    let mut parts = Vec::new();
    steps(value, "decoder", "decoders", 0, &mut parts);
    for (place, step) in parts {
        let supported = match kind(step) {
            "ByteLevel" => pipeline.byte_level,
            "ByteFallback" | "Fuse" => true,
            "Replace" => pattern(step) == ("String", "▁") && text(step, "content") == " ",
            "Metaspace" => {
                pipeline.strip_leading_space |= text(step, "prepend_scheme") != "never";
                text(step, "replacement") == "▁"
            }
            "Strip" => {
                let count = |key: &str| step.get(key).and_then(Value::as_u64);
                pipeline.strip_leading_space |= count("start") == Some(1);
                text(step, "content") == " " && matches!(count("start"), Some(0 | 1)) && count("stop") == Some(0)
            }
            _ => false,
        };
        if !supported {
            problems.push(unsupported(&place, step, HINT));
        }
    }
}

/// What a post-processor adds around a single text.
pub(super) fn template(value: &Value, vocabulary: &mut Vocabulary, problems: &mut Vec<TokenizerProblem>) {
    const HINT: &str = "supported: ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing";
    let mut parts = Vec::new();
    steps(value, "post_processor", "processors", 0, &mut parts);
    for (place, step) in parts {
        let added = match kind(step) {
            "ByteLevel" => Some((Vec::new(), Vec::new())),
            "TemplateProcessing" => single(step),
            "BertProcessing" | "RobertaProcessing" => pair_id(step, "cls").zip(pair_id(step, "sep")),
            _ => None,
        };
        match added {
            // A later step wraps what an earlier one made.
            Some((before, after)) => {
                vocabulary.before.splice(..0, before);
                vocabulary.after.extend(after);
            }
            None => problems.push(unsupported(&place, step, HINT)),
        }
    }
}

/// `"cls": ["<s>", 0]`
fn pair_id(step: &Value, key: &str) -> Option<Vec<u32>> {
    let id = step.get(key)?.as_array()?.get(1)?.as_u64()?;
    Some(vec![u32::try_from(id).ok()?])
}

/// The ids before and after the text in `single`.
fn single(step: &Value) -> Option<(Vec<u32>, Vec<u32>)> {
    let (mut before, mut after, mut seen) = (Vec::new(), Vec::new(), false);
    for part in step.get("single")?.as_array()? {
        if part.get("Sequence").is_some() {
            if std::mem::replace(&mut seen, true) {
                return None;
            }
            continue;
        }
        let name = text(part.get("SpecialToken")?, "id");
        for id in step.get("special_tokens")?.get(name)?.get("ids")?.as_array()? {
            let id = u32::try_from(id.as_u64()?).ok()?;
            if seen { after.push(id) } else { before.push(id) }
        }
    }
    seen.then_some((before, after))
}
