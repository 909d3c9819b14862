//! Reading a report from a file: something that a stranger may have written.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::check::check;
use super::codes;
use super::json::{ReadError, parse};
use super::types::Report;
use crate::codes::UNREADABLE_REPORT;
use crate::diag::Diagnostic;

/// Largest report that is read; one of a model with 126 layers has about 4 MB.
const MOST_BYTES: u64 = 64 << 20;

/// Reads a report and checks it: nothing of a file that contradicts itself is believed.
///
/// # Errors
/// The file cannot be read, is no report of this schema, or breaks a rule of [`super::check()`]: everything that is wrong.
pub fn load(path: &Path) -> Result<Report, Vec<Diagnostic>> {
    let failed = |code, what: String| {
        vec![
            Diagnostic::new(code, what)
                .in_file(path.display().to_string())
                .help(crate::codes::hint(code)),
        ]
    };
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes));
    read.map_err(|e| failed(UNREADABLE_REPORT, format!("cannot read the report: {e}")))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(failed(
            UNREADABLE_REPORT,
            format!("a report has at most {MOST_BYTES} bytes"),
        ));
    }
    let text = String::from_utf8(bytes);
    let text = text.map_err(|e| failed(UNREADABLE_REPORT, format!("not a layout report: not UTF-8: {e}")))?;
    let mut report = parse(&text).map_err(|e| {
        let code = match e {
            ReadError::Json(_) => UNREADABLE_REPORT,
            ReadError::Schema(_) => codes::SCHEMA,
        };
        failed(code, e.to_string())
    })?;
    let violations = check(&report);
    if violations.is_empty() {
        report.normalise();
        return Ok(report);
    }
    let file = path.display().to_string();
    Err(violations.iter().map(|v| v.diagnostic().in_file(&file)).collect())
}
