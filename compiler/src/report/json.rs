//! `layout.json`: writing and reading. Rows stand one to a line, so that a line diff shows which row changed.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::types::{Report, SCHEMA};

/// Why a text is not a layout report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// Not JSON, or not of the report's shape: message with line and column.
    Json(String),
    /// A report, but of another schema.
    Schema(String),
    /// The right shape with contents that contradict each other.
    Inconsistent(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(message) => write!(f, "not a layout report: {message}"),
            Self::Schema(found) => write!(f, "schema is `{found}`, this version reads `{SCHEMA}`"),
            Self::Inconsistent(message) => write!(f, "inconsistent layout report: {message}"),
        }
    }
}

impl std::error::Error for ReadError {}

/// The report as JSON: fixed key order, integers, sorted lists, a newline at the end.
pub fn to_json(report: &Report) -> String {
    let mut report = report.clone();
    report.normalise();
    let mut sections = vec![
        section("header", &pretty(&report.header)),
        section("totals", &pretty(&report.totals)),
        section("fusions", &rows(&report.fusions)),
        section("steps", &rows(&report.steps)),
        section("partitions", &rows(&report.partitions)),
        section("tensors", &rows(&report.tensors)),
        section("weights", &rows(&report.weights)),
    ];
    if !report.moves.is_empty() {
        sections.push(section("moves", &rows(&report.moves)));
    }
    format!("{{\n{}\n}}\n", sections.join(",\n"))
}

fn section(name: &str, body: &str) -> String {
    format!("  \"{name}\": {body}")
}

/// Plain structs with string keys: serialising them has no way to fail.
fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value)
        .unwrap_or_default()
        .replace('\n', "\n  ")
}

fn rows(rows: &[impl Serialize]) -> String {
    if rows.is_empty() {
        return "[]".to_owned();
    }
    let lines: Vec<String> = rows
        .iter()
        .map(|row| format!("    {}", serde_json::to_string(row).unwrap_or_default()))
        .collect();
    format!("[\n{}\n  ]", lines.join(",\n"))
}

/// Reads a report from anywhere.
///
/// # Errors
/// [`ReadError`]; never panics, whatever the text is.
pub fn from_json(text: &str) -> Result<Report, ReadError> {
    #[derive(Deserialize)]
    struct OnlySchema {
        header: OnlyName,
    }
    #[derive(Deserialize)]
    struct OnlyName {
        schema: String,
    }
    // Looked at first, so that another version's report is called that and not "unknown field".
    let peek: OnlySchema = serde_json::from_str(text).map_err(|e| ReadError::Json(e.to_string()))?;
    if peek.header.schema != SCHEMA {
        return Err(ReadError::Schema(peek.header.schema));
    }
    let mut report: Report = serde_json::from_str(text).map_err(|e| ReadError::Json(e.to_string()))?;
    check(&report).map_err(ReadError::Inconsistent)?;
    report.normalise();
    Ok(report)
}

/// What the other parts of this module rely on: unique names, and places inside the arena.
fn check(report: &Report) -> Result<(), String> {
    unique("region", report.totals.regions.iter().map(|r| (r.name.as_str(), "")))?;
    unique("entry", report.header.entries.iter().map(|e| (e.name.as_str(), "")))?;
    unique("step", report.steps.iter().map(|s| (s.id.as_str(), s.entry.as_str())))?;
    unique(
        "tensor",
        report.tensors.iter().map(|t| (t.id.as_str(), t.entry.as_str())),
    )?;
    unique("weight", report.weights.iter().map(|w| (w.name.as_str(), "")))?;
    let arena = report.totals.arena_bytes;
    let inside = |offset: u64, bytes: u64| offset.checked_add(bytes).is_some_and(|end| end <= arena);
    for region in &report.totals.regions {
        if !inside(region.offset, region.bytes) {
            return Err(format!("region `{}` ends outside the arena", region.name));
        }
    }
    for tensor in &report.tensors {
        if !inside(tensor.offset, tensor.bytes) {
            return Err(format!("tensor `{}` ends outside the arena", tensor.id));
        }
        if tensor.first > tensor.last {
            return Err(format!("tensor `{}` is dead before it is written", tensor.id));
        }
    }
    Ok(())
}

fn unique<'a>(what: &str, names: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(format!("two {what}s are called `{}`", name.0));
        }
    }
    Ok(())
}
