//! Diagnostics: code, place, cause, hint; rustc style or JSON.

use std::ops::Range;

/// A problem in an input, with all a user needs to mend it.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// Stable code: `CK0204`.
    pub code: &'static str,
    /// What is wrong, with names and shapes.
    pub message: String,
    /// The file it is in, as the user named it.
    pub file: Option<String>,
    /// Where in the file, in bytes, with a label; the first is the primary one.
    pub labels: Vec<(Range<usize>, String)>,
    /// How to mend it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A problem without a place.
    pub fn new(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code,
            message: message.into(),
            file: None,
            labels: Vec::new(),
            help: None,
        }
    }

    /// Names the file.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Diagnostic {
        self.file = Some(file.into());
        self
    }

    /// Adds a place.
    #[must_use]
    pub fn at(mut self, span: Range<usize>, label: impl Into<String>) -> Diagnostic {
        self.labels.push((span, label.into()));
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }
}
