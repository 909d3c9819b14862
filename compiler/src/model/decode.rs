//! From the tree to types: every mistake is reported, and what can be read is read.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::codes;
use super::sink::{Sink, Span};
use super::tree::{Key, Node, Value};
use crate::diag::Diagnostic;

/// A type of the language.
pub trait Decode: Sized {
    /// Reads a value, or says what is wrong with it.
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self>;

    /// The value of a key that is not there, or `None` where that is a mistake.
    fn absent() -> Option<Self> {
        None
    }

    /// Reads a key of a mapping that stands at `record`.
    fn decode_key(record: &Fields<'_>, key: &'static str, sink: &mut Sink) -> Option<Self> {
        match record.get(key) {
            Some(node) => Self::decode(node, sink),
            None => Self::absent().or_else(|| {
                record.report_missing(key, sink);
                None
            }),
        }
    }
}

/// A type that is a mapping with fixed keys.
pub trait Record: Sized {
    /// The keys.
    const KEYS: &'static [&'static str];

    /// Reads the keys; unknown ones are not looked at.
    fn from_fields(fields: &Fields<'_>, sink: &mut Sink) -> Option<Self>;
}

/// The entries of one mapping.
pub struct Fields<'a> {
    entries: &'a [(Key, Node)],
    /// Where to point when a key is missing.
    pub span: Span,
    /// What the mapping is, for messages.
    pub what: String,
}

impl<'a> Fields<'a> {
    /// The entries of a node that must be a mapping.
    pub fn of(node: &'a Node, what: impl Into<String>, sink: &mut Sink) -> Option<Fields<'a>> {
        match &node.value {
            Value::Map(entries) => Some(Fields {
                entries,
                span: node.span.clone(),
                what: what.into(),
            }),
            _ => {
                wrong_type(node, "a mapping", sink);
                None
            }
        }
    }

    /// The same entries under another name.
    #[must_use]
    pub fn named(&self, what: impl Into<String>) -> Fields<'a> {
        Fields {
            entries: self.entries,
            span: self.span.clone(),
            what: what.into(),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        self.entries.iter().find(|(k, _)| k.name == key).map(|(_, node)| node)
    }

    /// Reports keys other than `known`.
    pub fn reject_unknown<'k>(&self, known: impl Iterator<Item = &'k str> + Clone, sink: &mut Sink) {
        for (key, _) in self.entries {
            if !known.clone().any(|k| k == key.name) {
                let help = sink.suggest(&key.name, known.clone());
                let message = format!("unknown key `{}` in {}", key.name, self.what);
                sink.push(
                    Diagnostic::new(codes::UNKNOWN_KEY, message)
                        .at(key.span.clone(), "not a key here")
                        .help(help),
                );
            }
        }
    }

    fn report_missing(&self, key: &str, sink: &mut Sink) {
        // One code may be missing several keys at one place: the place is the key's absence, so each is said.
        let place = self
            .entries
            .first()
            .map_or_else(|| self.span.clone(), |(k, _)| k.span.clone());
        sink.push_always(
            Diagnostic::new(codes::MISSING_KEY, format!("{} needs the key `{key}`", self.what))
                .at(place, format!("`{key}` is missing here")),
        );
    }
}

/// Reports a value of the wrong kind.
pub fn wrong_type(node: &Node, expected: &str, sink: &mut Sink) {
    let message = format!("expected {expected}, found {}", node.value.kind());
    sink.error(codes::WRONG_TYPE, message, &node.span, format!("expected {expected}"));
}

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Span,
}

impl<T: Decode> Decode for Spanned<T> {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        Some(Spanned {
            value: T::decode(node, sink)?,
            span: node.span.clone(),
        })
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl Decode for String {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            Value::Str(text) => Some(text.clone()),
            _ => {
                wrong_type(node, "text", sink);
                None
            }
        }
    }
}

impl Decode for bool {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            Value::Bool(value) => Some(*value),
            _ => {
                wrong_type(node, "`true` or `false`", sink);
                None
            }
        }
    }
}

impl<T: Decode> Decode for Option<T> {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        T::decode(node, sink).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: Decode> Decode for Box<T> {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        T::decode(node, sink).map(Box::new)
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let Value::Seq(items) = &node.value else {
            wrong_type(node, "a list", sink);
            return None;
        };
        // Every item is looked at before the list is given up.
        let items: Vec<Option<T>> = items.iter().map(|item| T::decode(item, sink)).collect();
        items.into_iter().collect()
    }
}

/// A value that may have been unreadable, which has been said: reading goes on around it.
#[derive(Clone, Debug)]
pub struct Lenient<T>(pub Option<T>);

impl<T: Decode> Decode for Lenient<T> {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        Some(Lenient(T::decode(node, sink)))
    }

    fn decode_key(record: &Fields<'_>, key: &'static str, sink: &mut Sink) -> Option<Self> {
        Some(Lenient(T::decode_key(record, key, sink)))
    }
}

impl<T: JsonSchema> JsonSchema for Lenient<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A mapping from names of the user's choice. Unreadable values are left out.
#[derive(Clone, Debug)]
pub struct Named<T>(pub Vec<(Key, T)>);

impl<T: Decode> Decode for Named<T> {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            wrong_type(node, "a mapping", sink);
            return None;
        };
        let entries = entries
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), T::decode(value, sink)?)));
        Some(Named(entries.collect()))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "type": "object", "additionalProperties": value })
    }
}

/// Declares a mapping with fixed keys: the type, its schema, its reader. A key's name is the field's.
macro_rules! record {
    ($(#[$meta:meta])* $vis:vis struct $name:ident as $what:literal {
        $($(#[$field_meta:meta])* $field:ident : $type:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        $vis struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $crate::model::decode::Record for $name {
            const KEYS: &'static [&'static str] = &[$($crate::model::decode::key_name(stringify!($field))),*];

            fn from_fields(
                fields: &$crate::model::decode::Fields<'_>,
                sink: &mut $crate::model::sink::Sink,
            ) -> Option<Self> {
                let _ = (fields, &sink);
                $(let $field = <$type as $crate::model::decode::Decode>::decode_key(
                    fields,
                    $crate::model::decode::key_name(stringify!($field)),
                    sink,
                );)*
                Some($name { $($field: $field?,)* })
            }
        }

        impl $crate::model::decode::Decode for $name {
            fn decode(
                node: &$crate::model::tree::Node,
                sink: &mut $crate::model::sink::Sink,
            ) -> Option<Self> {
                use $crate::model::decode::Record;
                let fields = $crate::model::decode::Fields::of(node, $what, sink)?;
                fields.reject_unknown(Self::KEYS.iter().copied(), sink);
                Self::from_fields(&fields, sink)
            }
        }
    };
}
pub(crate) use record;

/// The key of a field: its name without the `r#` of a raw identifier.
pub const fn key_name(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// Declares a choice of words: the type, its schema, its reader.
macro_rules! choice {
    ($(#[$meta:meta])* $vis:vis enum $name:ident as $what:literal {
        $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema)]
        $vis enum $name {
            $($(#[$variant_meta])* #[schemars(rename = $word)] $variant,)*
        }

        impl $crate::model::decode::Decode for $name {
            fn decode(
                node: &$crate::model::tree::Node,
                sink: &mut $crate::model::sink::Sink,
            ) -> Option<Self> {
                let words = [$(($word, $name::$variant)),*];
                $crate::model::decode::decode_word(node, $what, &words, sink)
            }
        }
    };
}
pub(crate) use choice;

/// Reads one of a few words.
pub fn decode_word<T: Copy>(node: &Node, what: &str, words: &[(&str, T)], sink: &mut Sink) -> Option<T> {
    let Value::Str(text) = &node.value else {
        let all: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        wrong_type(node, &all.join(" or "), sink);
        return None;
    };
    let found = words.iter().find(|(word, _)| word == text).map(|&(_, value)| value);
    if found.is_none() {
        let help = sink.suggest(text, words.iter().map(|&(word, _)| word));
        sink.push(
            Diagnostic::new(codes::UNKNOWN_WORD, format!("`{text}` is not {what}"))
                .at(node.span.clone(), format!("not {what}"))
                .help(help),
        );
    }
    found
}
