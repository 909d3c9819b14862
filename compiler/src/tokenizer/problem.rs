//! Why a tokenizer cannot be compiled.

use std::fmt;

use crate::diag::Diagnostic;

/// One thing that is wrong with, or not supported in, a tokenizer's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizerProblem {
    /// The file or metadata key, and the place in it: `tokenizer.json: pre_tokenizer.pretokenizers[0]`.
    pub place: String,
    /// What is wrong, with the value that was found.
    pub message: String,
    /// How to mend it, or what is supported.
    pub hint: Option<String>,
}

impl TokenizerProblem {
    pub(super) fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            message: message.into(),
            hint: None,
        }
    }

    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for TokenizerProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, " ({hint})"))
    }
}

impl std::error::Error for TokenizerProblem {}

impl From<TokenizerProblem> for Diagnostic {
    fn from(problem: TokenizerProblem) -> Self {
        let diagnostic = Diagnostic::new(
            crate::source::codes::TOKENIZER,
            format!("{}: {}", problem.place, problem.message),
        );
        match problem.hint {
            Some(hint) => diagnostic.help(hint),
            None => diagnostic,
        }
    }
}
