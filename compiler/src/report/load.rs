//! Reading a report from a file: something that a stranger may have written.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::codes;
use super::json::{ReadError, from_json};
use super::types::Report;
use crate::diag::Diagnostic;

/// Largest report that is read; one of a model with 126 layers has about 4 MB.
const MOST_BYTES: u64 = 64 << 20;

/// Reads a report.
///
/// # Errors
/// The file cannot be read, is too large, or is no report of this schema.
pub fn load(path: &Path) -> Result<Report, Vec<Diagnostic>> {
    let failed = |code, what: String| vec![Diagnostic::new(code, what).in_file(path.display().to_string())];
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|e| failed(codes::UNREADABLE, format!("cannot read the report: {e}")))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(failed(
            codes::UNREADABLE,
            format!("a report has at most {MOST_BYTES} bytes"),
        ));
    }
    let text = String::from_utf8(bytes);
    let text = text.map_err(|e| failed(codes::UNREADABLE, format!("not a layout report: not UTF-8: {e}")))?;
    from_json(&text).map_err(|e| {
        let code = match e {
            ReadError::Json(_) => codes::UNREADABLE,
            ReadError::Schema(_) => codes::SCHEMA,
            ReadError::Inconsistent(_) => codes::NAMES,
        };
        failed(code, e.to_string())
    })
}
