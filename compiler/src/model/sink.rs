//! Where the diagnostics of one file gather.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::diag::Diagnostic;

/// A place in the file, in bytes.
pub type Span = Range<usize>;

/// Names compared for suggestions in one file: bounds the time that a hostile file can take.
const MAX_COMPARISONS: usize = 100_000;

/// Gathers the diagnostics of one file. Says nothing twice: a mistake in the body of a `repeat` is one mistake.
pub struct Sink {
    file: String,
    seen: BTreeSet<(&'static str, usize, usize)>,
    diagnostics: Vec<Diagnostic>,
    comparisons_left: usize,
}

impl Sink {
    /// An empty one for that file.
    pub fn new(file: &str) -> Sink {
        Sink {
            file: file.to_string(),
            seen: BTreeSet::new(),
            diagnostics: Vec::new(),
            comparisons_left: MAX_COMPARISONS,
        }
    }

    /// Adds a diagnostic, unless one of its code is already at its primary place.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let place = diagnostic
            .labels
            .first()
            .map_or((0, 0), |(span, _)| (span.start, span.end));
        if diagnostic.labels.is_empty() || self.seen.insert((diagnostic.code, place.0, place.1)) {
            self.diagnostics.push(diagnostic.in_file(self.file.clone()));
        }
    }

    /// Adds a diagnostic, whatever is already there.
    pub fn push_always(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic.in_file(self.file.clone()));
    }

    /// Adds a diagnostic with one place.
    pub fn error(&mut self, code: &'static str, message: impl Into<String>, span: &Span, label: impl Into<String>) {
        self.push(Diagnostic::new(code, message).at(span.clone(), label));
    }

    /// Help for an unknown name: the candidate that was probably meant, or all of them.
    pub fn suggest<'a>(&mut self, name: &str, candidates: impl Iterator<Item = &'a str>) -> String {
        self.guess(name, candidates).0
    }

    /// Help for an unknown name, and the candidate that was probably meant.
    pub fn guess<'a>(&mut self, name: &str, candidates: impl Iterator<Item = &'a str>) -> (String, Option<&'a str>) {
        let candidates: Vec<&str> = candidates.take(self.comparisons_left).collect();
        self.comparisons_left -= candidates.len();
        match nearest(name, candidates.iter().copied()) {
            Some(candidate) => (format!("did you mean `{candidate}`?"), Some(candidate)),
            None => (possible(&candidates), None),
        }
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// What was said, in the order of the file.
    pub fn finish(mut self) -> Vec<Diagnostic> {
        self.diagnostics
            .sort_by_key(|d| (d.labels.first().map_or(0, |(span, _)| span.start), d.code));
        self.diagnostics
    }
}

fn possible(candidates: &[&str]) -> String {
    let shown: Vec<String> = candidates.iter().take(12).map(|c| format!("`{c}`")).collect();
    match candidates.len() - shown.len() {
        _ if shown.is_empty() => "there are none".to_string(),
        0 => format!("possible: {}", shown.join(", ")),
        more => format!("possible: {}, and {more} more", shown.join(", ")),
    }
}

/// The candidate that `name` was probably meant to be: few edits away, counted as insertions, deletions,
/// substitutions and swaps of neighbours. The first of equals.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = name.chars().count().div_ceil(3).min(3);
    let limit = if name.chars().count() < 2 { 0 } else { limit };
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let distance = edits(name, candidate);
        if distance <= limit && best.is_none_or(|(d, _)| distance < d) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Damerau-Levenshtein distance (optimal string alignment); names longer than 64 characters are infinitely far.
pub fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(65).collect(), b.chars().take(65).collect());
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substituted = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = substituted.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_small_slips_only() {
        let keys = ["weight", "shape", "bias", "in"];
        assert_eq!(nearest("wieght", keys), Some("weight"));
        assert_eq!(nearest("weights", keys), Some("weight"));
        assert_eq!(nearest("shap", keys), Some("shape"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest(&"x".repeat(10_000), keys), None);
    }
}
