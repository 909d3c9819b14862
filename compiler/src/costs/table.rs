//! The table as YAML: read with every mistake said, written the same way each time, and its JSON Schema.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;

use ck_kernels::dtype::DType;
use ck_kernels::ops::MAX_WORKERS;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{Costs, NEEDED, Rate, Rates, Row, TIERS, kernels};
use crate::compile::Failure;
use crate::diag::Diagnostic;
use crate::model;
use crate::model::codes;
use crate::model::decode::{Decode, Lenient, Named, Spanned, decode_word, record, wrong_type};
use crate::model::sink::{Sink, Span};
use crate::model::tree::{self, Key, Node, Value};

/// The largest number of a table: a petabyte, or peta-operations, a second; an hour a barrier.
const MOST: f64 = 1e12;

/// A number above zero.
#[derive(Clone, Copy, Debug)]
struct Positive(f64);

impl Decode for Positive {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let number = match node.value {
            Value::Int(n) => n as f64,
            Value::Float(x) | Value::NotFinite(x) => x,
            _ => {
                wrong_type(node, "a number", sink);
                return None;
            }
        };
        if number > 0.0 && number <= MOST {
            return Some(Positive(number));
        }
        let message = format!("`{number}` is not above 0 and at most {MOST}");
        sink.push(
            Diagnostic::new(codes::OUT_OF_RANGE, message)
                .at(node.span.clone(), "out of range")
                .help("measure it with `ckc bench kernels --calibrate`"),
        );
        None
    }
}

impl JsonSchema for Positive {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Positive".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "exclusiveMinimum": 0, "maximum": MOST })
    }
}

/// Workers.
#[derive(Clone, Copy, Debug)]
struct Workers(usize);

impl Decode for Workers {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let Value::Int(n) = node.value else {
            wrong_type(node, "a whole number", sink);
            return None;
        };
        let workers = usize::try_from(n).ok().filter(|n| (1..=MAX_WORKERS).contains(n));
        if workers.is_none() {
            let message = format!("{n} workers: a program has 1 to {MAX_WORKERS}");
            sink.push(
                Diagnostic::new(codes::OUT_OF_RANGE, message)
                    .at(node.span.clone(), "out of range")
                    .help("write as many as the machine has cores"),
            );
        }
        workers.map(Workers)
    }
}

impl JsonSchema for Workers {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Workers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": MAX_WORKERS })
    }
}

/// The name of an instruction set.
#[derive(Clone, Copy, Debug)]
struct Tier(&'static str);

impl Decode for Tier {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        decode_word(node, "an instruction set", &TIERS.map(|tier| (tier, Tier(tier))), sink)
    }
}

impl JsonSchema for Tier {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Tier".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": TIERS })
    }
}

record! {
    /// What a kernel reaches, all workers together.
    struct RateEntry as "a rate" {
        /// Packed weights a second, in GB: read by the kernel for few tokens, unpacked by the one for many.
        gb_per_s: Lenient<Positive>,
        /// Operations a second, in 10^9, two a multiply-add.
        gop_per_s: Lenient<Positive>,
    }
}

record! {
    /// The kernels for a weight type.
    struct RowEntry as "the rates of a type" {
        /// For few tokens.
        few: Option<Lenient<Spanned<RateEntry>>>,
        /// For many tokens.
        many: Option<Lenient<Spanned<RateEntry>>>,
    }
}

record! {
    /// What kernels cost on a machine: `ckc bench kernels --calibrate` writes it, `--costs` reads it.
    struct Document as "the table of costs" {
        /// What machine it is, in words.
        machine: Lenient<Spanned<String>>,
        /// The instruction set that partitions are chosen and times predicted for.
        isa: Lenient<Spanned<Tier>>,
        /// Workers that the rates are those of.
        workers: Lenient<Workers>,
        /// Nanoseconds of a barrier.
        barrier_ns: Lenient<Positive>,
        /// Rates by instruction set and weight type. `avx2`, `avx512` and `amx` are always there.
        tiers: Lenient<Spanned<Named<Lenient<Spanned<Named<Lenient<Spanned<RowEntry>>>>>>>>,
    }
}

/// The JSON Schema (draft 2020-12) of a table. Ends with a newline.
pub fn schema() -> String {
    model::schema_of::<Document>()
}

/// The table of a file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(path: &Path) -> Result<Costs, Failure> {
    let source = model::read(path)?;
    let (costs, diagnostics) = parse(&source.name, &source.text);
    costs.ok_or(Failure {
        diagnostics,
        source: Some(source),
    })
}

/// The table of a text: there if, and only if, nothing is wrong with it.
pub(super) fn parse(name: &str, text: &str) -> (Option<Costs>, Vec<Diagnostic>) {
    let mut sink = Sink::new(name);
    let document = tree::parse(text, &mut sink).and_then(|node| Document::decode(&node, &mut sink));
    let costs = document.and_then(|document| costs(&document, &mut sink));
    let diagnostics = sink.finish();
    (costs.filter(|_| diagnostics.is_empty()), diagnostics)
}

fn costs(document: &Document, sink: &mut Sink) -> Option<Costs> {
    let named = document.tiers.0.as_ref();
    let isa = document.isa.0.as_ref();
    let mut tiers: Vec<(&'static str, Rates)> = Vec::new();
    for (key, entry) in named.map_or(&[][..], |named| &named.value.0) {
        let known = TIERS.into_iter().find(|tier| *tier == key.name);
        match (known, &entry.0) {
            (Some(tier), Some(types)) => tiers.push((tier, rates(tier, key, types, sink))),
            (Some(_), None) => {}
            (None, _) => unknown(key, "an instruction set", &TIERS, sink),
        }
    }
    let written = |tier: &str| named.is_none_or(|named| named.value.0.iter().any(|(key, _)| key.name == tier));
    for tier in NEEDED.into_iter().filter(|tier| !written(tier)) {
        missing(tier, "tiers", &named?.span, sink);
    }
    if let Some(isa) = isa.filter(|isa| !NEEDED.contains(&isa.value.0) && !written(isa.value.0)) {
        missing(isa.value.0, "tiers", &isa.span, sink);
    }
    tiers.sort_by_key(|(tier, _)| TIERS.iter().position(|name| name == tier));
    Some(Costs {
        machine: document.machine.0.as_ref()?.value.clone(),
        isa: isa?.value.0,
        workers: document.workers.0?.0,
        barrier_ns: document.barrier_ns.0?.0,
        tiers,
    })
}

/// The rows of a tier: one for each type it has a kernel for, with the rates of each kernel.
fn rates(tier: &'static str, key: &Key, types: &Spanned<Named<Lenient<Spanned<RowEntry>>>>, sink: &mut Sink) -> Rates {
    let mut rates = Rates::default();
    let names = DType::ALL.map(DType::name);
    for (key, entry) in &types.value.0 {
        let Some(dtype) = DType::from_name(&key.name) else {
            unknown(key, "a type of matrices", &names, sink);
            continue;
        };
        let Some(entry) = &entry.0 else { continue };
        let (has_few, has_many) = kernels(tier, dtype);
        let mut rate = |name: &str, has: bool, given: &Option<Lenient<Spanned<RateEntry>>>| match given {
            Some(Lenient(rate)) => {
                let rate = rate.as_ref()?;
                if !has {
                    let message = format!("`{tier}` has no kernel for {name} tokens and `{}`", dtype.name());
                    sink.push(
                        Diagnostic::new(codes::UNKNOWN_KEY, message)
                            .at(rate.span.clone(), "of no kernel")
                            .help(format!("leave `{name}` out")),
                    );
                }
                Some(Rate {
                    gb_per_s: rate.value.gb_per_s.0?.0,
                    gop_per_s: rate.value.gop_per_s.0?.0,
                })
            }
            None => {
                if has {
                    missing(name, &format!("{tier}.{}", dtype.name()), &key.span, sink);
                }
                None
            }
        };
        rates[dtype as usize] = Row {
            few: rate("few", has_few, &entry.value.few),
            many: rate("many", has_many, &entry.value.many),
        };
    }
    for dtype in DType::ALL {
        let written = types.value.0.iter().any(|(key, _)| key.name == dtype.name());
        if !written && kernels(tier, dtype) != (false, false) {
            missing(dtype.name(), tier, &key.span, sink);
        }
    }
    rates
}

fn unknown(key: &Key, what: &str, known: &[&str], sink: &mut Sink) {
    let help = sink.suggest(&key.name, known.iter().copied());
    sink.push(
        Diagnostic::new(codes::UNKNOWN_WORD, format!("`{}` is not {what}", key.name))
            .at(key.span.clone(), format!("not {what}"))
            .help(help),
    );
}

fn missing(key: &str, what: &str, span: &Span, sink: &mut Sink) {
    sink.push_always(
        Diagnostic::new(codes::MISSING_KEY, format!("`{what}` needs the key `{key}`"))
            .at(span.clone(), format!("`{key}` is missing here"))
            .help("`ckc bench kernels --calibrate` writes a complete table"),
    );
}

/// The table as [`read`] takes it: the same text for the same table.
pub fn write(costs: &Costs) -> String {
    let mut text = String::from(
        "# What kernels cost on a machine. `ckc bench kernels --calibrate` writes it, `--costs FILE` reads it; rates are\n\
         # those of all workers together. docs/performance.md says what is made of them.\n",
    );
    let _ = writeln!(text, "machine: {}", quoted(&costs.machine));
    let _ = writeln!(text, "isa: {}\nworkers: {}", costs.isa, costs.workers);
    let _ = writeln!(text, "barrier_ns: {}\ntiers:", costs.barrier_ns);
    for (tier, rates) in &costs.tiers {
        let _ = writeln!(text, "  {tier}:");
        for (dtype, row) in DType::ALL.into_iter().zip(rates) {
            let kinds = [("few", row.few), ("many", row.many)];
            let kinds: Vec<String> = kinds
                .into_iter()
                .filter_map(|(name, rate)| {
                    let Rate { gb_per_s, gop_per_s } = rate?;
                    Some(format!("{name}: {{gb_per_s: {gb_per_s}, gop_per_s: {gop_per_s}}}"))
                })
                .collect();
            if !kinds.is_empty() {
                let _ = writeln!(text, "    {}: {{{}}}", dtype.name(), kinds.join(", "));
            }
        }
    }
    text
}

/// As a YAML string, whatever is in it.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}
