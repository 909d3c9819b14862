//! Names before anything has a meaning: well formed, and each for one thing.

use std::collections::BTreeMap;

use super::codes;
use super::constants::Names;
use super::decode::Spanned;
use super::sink::{Sink, Span};
use super::syntax::{Document, Item};
use crate::diag::Diagnostic;
use crate::report::REGIONS;

/// The longest name, in bytes.
const MAX_LEN: usize = 64;

/// Rust's keywords that a crate's name could be, the names that the emitted crate uses, and those of cargo's build folders.
const RESERVED: [&str; 50] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "ck-kernels",
    "ck-runtime",
    "ckc",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "final",
    "fn",
    "for",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "try",
];

/// Checks the model's name: it becomes a package's and a crate's.
pub fn check_model_name(name: &Spanned<String>, sink: &mut Sink) {
    let text = name.value.as_str();
    let start = text.starts_with(|c: char| c.is_ascii_lowercase());
    let letters = text
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
    let hyphened = text.replace('_', "-");
    let problem = if !start || !letters || text.len() > MAX_LEN {
        "not a name of a crate"
    } else if RESERVED.contains(&hyphened.as_str()) {
        "a reserved name"
    } else {
        return;
    };
    sink.push(
        Diagnostic::new(
            codes::MODEL_NAME,
            format!("`{text}` cannot be a model's name: {problem}"),
        )
        .at(name.span.clone(), problem)
        .help("at most 64 lower-case letters, digits, `-` and `_`, a letter first"),
    );
}

/// Checks the names of sections, ops, repeats, carried tensors and indices.
pub fn check(document: &Document, names: &Names, sink: &mut Sink) {
    let mut visible: Vec<BTreeMap<String, Span>> = vec![BTreeMap::new()];
    if let Some(inputs) = &document.inputs.0 {
        for (key, _) in &inputs.value.0 {
            declare(&key.name, &key.span, &mut visible, sink);
        }
    }
    let mut sections = vec![BTreeMap::new()];
    for section in document
        .sections
        .0
        .iter()
        .flat_map(|s| &s.value)
        .filter_map(|s| s.0.as_ref())
    {
        if let Some(name) = &section.section.0 {
            declare(&name.value, &name.span, &mut sections, sink);
        }
        if let Some(items) = &section.ops.0 {
            check_items(&items.value, &mut visible, names, sink);
        }
    }
}

fn check_items(items: &[Item], visible: &mut Vec<BTreeMap<String, Span>>, names: &Names, sink: &mut Sink) {
    for item in items {
        match item {
            Item::Unreadable => {}
            Item::Op(op) => {
                if let Some(name) = &op.name {
                    declare(&name.value, &name.span, visible, sink);
                }
            }
            Item::Repeat(repeat) => {
                if let Some(name) = &repeat.repeat.0 {
                    declare(&name.value, &name.span, visible, sink);
                }
                visible.push(BTreeMap::new());
                if let Some(index) = &repeat.index.0 {
                    declare(&index.value, &index.span, visible, sink);
                    if let Some(constant) = names.constant_span(&index.value) {
                        report_twice(&index.value, &index.span, constant, sink);
                    }
                }
                let carried = repeat.carry.as_ref().and_then(|carry| carry.0.as_ref());
                for (key, _) in carried.map_or(&[][..], |named| &named.0) {
                    declare(&key.name, &key.span, visible, sink);
                }
                if let Some(items) = &repeat.ops.0 {
                    check_items(&items.value, visible, names, sink);
                }
                visible.pop();
            }
        }
    }
}

/// Checks the names of memories: regions of the report, beside those that ckc names.
pub fn check_memories<'a>(names: impl Iterator<Item = &'a Spanned<String>>, sink: &mut Sink) {
    let mut visible = [BTreeMap::new()];
    for name in names {
        declare(&name.value, &name.span, &mut visible, sink);
        if REGIONS.contains(&name.value.as_str()) {
            sink.push(
                Diagnostic::new(
                    codes::BAD_NAME,
                    format!("`{}` cannot be a memory's name: it is a region's", name.value),
                )
                .at(name.span.clone(), "a region's name")
                .help(format!("regions are {}", REGIONS.join(", "))),
            );
        }
    }
}

fn declare(name: &str, span: &Span, visible: &mut [BTreeMap<String, Span>], sink: &mut Sink) {
    let start = name.starts_with(|c: char| c.is_ascii_lowercase());
    let letters = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !start || !letters || name.len() > MAX_LEN {
        sink.push(
            Diagnostic::new(codes::BAD_NAME, format!("`{name}` is not a name"))
                .at(span.clone(), "not a name")
                .help("at most 64 lower-case letters, digits and `_`, a letter first"),
        );
    }
    if let Some(first) = visible.iter().find_map(|scope| scope.get(name)) {
        report_twice(name, span, first, sink);
    } else if let Some(scope) = visible.last_mut() {
        scope.insert(name.to_string(), span.clone());
    }
}

fn report_twice(name: &str, span: &Span, first: &Span, sink: &mut Sink) {
    sink.push(
        Diagnostic::new(codes::DUPLICATE_NAME, format!("the name `{name}` is taken"))
            .at(span.clone(), "the second one")
            .at(first.clone(), "the first one"),
    );
}
