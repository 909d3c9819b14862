//! `layout.json`: writing and reading. Rows stand one to a line, so that a line diff shows which row changed.

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
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(message) => write!(f, "not a layout report: {message}"),
            Self::Schema(found) => write!(f, "schema is `{found}`, this version reads `{SCHEMA}`"),
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

/// Reads a report of our own; one from anywhere is [loaded](super::load()), that is checked, too.
///
/// # Errors
/// [`ReadError`]; never panics, whatever the text is.
pub fn from_json(text: &str) -> Result<Report, ReadError> {
    let mut report = parse(text)?;
    report.normalise();
    Ok(report)
}

/// Reads a report as it stands, rows in the order of the text.
pub(super) fn parse(text: &str) -> Result<Report, ReadError> {
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
    serde_json::from_str(text).map_err(|e| ReadError::Json(e.to_string()))
}
