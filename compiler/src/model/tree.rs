//! YAML as a tree whose every node knows its place.
//!
//! Types are read from this tree and not by serde straight from the text: serde stops at the first mistake.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_yaml::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};

use super::codes;
use super::sink::{Sink, Span};

/// The largest model description, in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Its place in the file.
    pub span: Span,
    /// Where a string's characters start, if they stand in the file as they are (no escapes, no folding).
    pub text_start: Option<usize>,
}

/// A YAML value.
#[derive(Clone, Debug)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// Another finite number.
    Float(f64),
    /// `.nan`, `.inf`, `-.inf`, or a number beyond all finite ones.
    NotFinite(f64),
    /// Anything else in one piece.
    Str(String),
    /// A sequence.
    Seq(Vec<Node>),
    /// A mapping, in the order written; keys are unique.
    Map(Vec<(Key, Node)>),
}

/// A mapping's key.
#[derive(Clone, Debug)]
pub struct Key {
    /// The text.
    pub name: String,
    /// Its place.
    pub span: Span,
}

impl Value {
    /// What kind it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a float",
            Value::NotFinite(_) => "a number that is not finite",
            Value::Str(_) => "text",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Reads a document. Duplicate keys are reported and the first one stands; any other syntax error leaves no tree.
pub fn parse(text: &str, sink: &mut Sink) -> Option<Node> {
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, more than {MAX_BYTES}", text.len());
        sink.error(codes::UNREADABLE, message, &(0..0), "");
        return None;
    }
    let spanned = match read(text, DuplicateKeyPolicy::Error) {
        Err(error) if is_duplicate(&error) => {
            report(&error, text, sink);
            read(text, DuplicateKeyPolicy::FirstWins)
        }
        other => other,
    };
    match spanned {
        Ok(spanned) => Some(node(spanned, text)),
        Err(error) => {
            report(&error, text, sink);
            None
        }
    }
}

fn read(text: &str, duplicate_keys: DuplicateKeyPolicy) -> Result<serde_yaml::Spanned<Raw>, serde_yaml::Error> {
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_depth: 64,
            max_documents: 1,
            max_nodes: 200_000,
            max_events: 500_000,
        },
        alias_limits: serde_yaml::alias_limits! { max_total_replayed_events: 100_000 },
        duplicate_keys: duplicate_keys,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    serde_yaml::from_str_with_options(text, options)
}

fn is_duplicate(error: &serde_yaml::Error) -> bool {
    matches!(error.without_snippet(), serde_yaml::Error::DuplicateMappingKey { .. })
}

fn report(error: &serde_yaml::Error, text: &str, sink: &mut Sink) {
    let error = error.without_snippet();
    let span = error.location().map_or(0..0, |location| span_of(&location, text));
    match error {
        serde_yaml::Error::DuplicateMappingKey { key, .. } => {
            let message = match key {
                Some(key) => format!("the key `{key}` stands twice in one mapping"),
                None => "a key stands twice in one mapping".to_string(),
            };
            sink.error(codes::DUPLICATE_KEY, message, &span, "the second one");
        }
        error => {
            let message = error.render();
            // The place is said by the label.
            let message = message.lines().next().unwrap_or_default();
            let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
            sink.error(codes::SYNTAX, format!("not a YAML document: {message}"), &span, "here");
        }
    }
}

/// The place as bytes, cut to the text and to character boundaries.
fn span_of(location: &serde_yaml::Location, text: &str) -> Span {
    let span = location.span();
    let start = match span.byte_offset().and_then(|o| usize::try_from(o).ok()) {
        Some(start) if start > 0 || location.line() <= 1 => start,
        _ => offset_of(text, location.line(), location.column()),
    };
    let len = span.byte_len().and_then(|l| usize::try_from(l).ok()).unwrap_or(0);
    let start = text.floor_char_boundary(start.min(text.len()));
    let end = text.floor_char_boundary(start.saturating_add(len).min(text.len()));
    start..end
}

/// The byte at a line and column, both from 1.
fn offset_of(text: &str, line: u64, column: u64) -> usize {
    let line = usize::try_from(line.max(1)).unwrap_or(usize::MAX);
    let column = usize::try_from(column.max(1)).unwrap_or(usize::MAX);
    let before: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = text.split_inclusive('\n').nth(line - 1).unwrap_or_default();
    before + rest.char_indices().nth(column - 1).map_or(rest.len(), |(at, _)| at)
}

fn node(spanned: serde_yaml::Spanned<Raw>, text: &str) -> Node {
    let mut span = span_of(&spanned.referenced, text);
    let value = match spanned.value {
        Raw::Leaf(value) => value,
        Raw::Seq(items) => Value::Seq(items.into_iter().map(|item| node(item, text)).collect()),
        Raw::Map(entries) => {
            let key = |key: serde_yaml::Spanned<String>| Key {
                span: span_of(&key.referenced, text),
                name: key.value,
            };
            Value::Map(entries.into_iter().map(|(k, v)| (key(k), node(v, text))).collect())
        }
    };
    // The reader gives collections the place of their first character only.
    let last = match &value {
        Value::Seq(items) => items.last().map(|item| item.span.end),
        Value::Map(entries) => entries.last().map(|(key, value)| value.span.end.max(key.span.end)),
        _ => None,
    };
    if let Some(last) = last.filter(|&last| last > span.end) {
        span.end = last;
    }
    let text_start = match &value {
        Value::Str(string) => {
            let from = |skip: usize| {
                text.get(span.start + skip..)
                    .is_some_and(|rest| rest.starts_with(string.as_str()))
            };
            let quoted = text[span.start..].starts_with(['"', '\'']);
            let skip = usize::from(quoted);
            from(skip).then_some(span.start + skip)
        }
        _ => None,
    };
    Node {
        value,
        span,
        text_start,
    }
}

enum Raw {
    Leaf(Value),
    Seq(Vec<serde_yaml::Spanned<Raw>>),
    Map(Vec<(serde_yaml::Spanned<String>, serde_yaml::Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a YAML value")
            }

            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Leaf(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
                Ok(Raw::Leaf(Value::Bool(value)))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
                Ok(Raw::Leaf(Value::Int(value.into())))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
                Ok(Raw::Leaf(Value::Int(value.into())))
            }

            fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
                Ok(Raw::Leaf(Value::Int(value)))
            }

            fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Raw, E> {
                let value = i128::try_from(value).map_err(|_| E::custom("the number is too large"))?;
                Ok(Raw::Leaf(Value::Int(value)))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
                let value = if value.is_finite() {
                    Value::Float(value)
                } else {
                    Value::NotFinite(value)
                };
                Ok(Raw::Leaf(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
                Ok(Raw::Leaf(Value::Str(value.to_string())))
            }

            fn visit_string<E>(self, value: String) -> Result<Raw, E> {
                Ok(Raw::Leaf(Value::Str(value)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = access.next_element()? {
                    items.push(item);
                }
                Ok(Raw::Seq(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
                let mut entries: Vec<(serde_yaml::Spanned<String>, serde_yaml::Spanned<Raw>)> = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    entries.push(entry);
                }
                if entries.len() > MAX_BYTES {
                    return Err(A::Error::custom("too many keys"));
                }
                Ok(Raw::Map(entries))
            }
        }

        deserializer.deserialize_any(Any)
    }
}
