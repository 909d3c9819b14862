//! Diagnostics: code, place, cause, hint; rustc style or JSON.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};

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
    /// What else there is to know, a line each.
    pub notes: Option<Box<Notes>>,
    /// How to mend it.
    pub help: Option<String>,
}

/// Lines of a diagnostic. Few have any, and errors are passed on by value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notes(pub Vec<String>);

impl Diagnostic {
    /// A problem without a place.
    pub fn new(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            code,
            message: message.into(),
            file: None,
            labels: Vec::new(),
            notes: None,
            help: None,
        }
    }

    /// A problem that another program part said in lines: the first is the message, one that begins with `hint:` the
    /// hint, and the others are notes.
    pub fn from_lines(code: &'static str, text: &str) -> Diagnostic {
        let mut lines = text.lines().map(str::trim);
        let diagnostic = Diagnostic::new(code, lines.next().unwrap_or_default());
        lines.fold(diagnostic, |diagnostic, line| match line.strip_prefix("hint:") {
            Some(hint) => diagnostic.help(hint.trim_start()),
            None => diagnostic.note(line),
        })
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

    /// What else there is to know.
    pub fn notes(&self) -> &[String] {
        self.notes.as_ref().map_or(&[], |notes| &notes.0)
    }

    /// Adds a line of what else there is to know.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Diagnostic {
        self.notes.get_or_insert_default().0.push(note.into());
        self
    }

    /// Adds a hint.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help = Some(help.into());
        self
    }
}

/// The texts that diagnostics point into.
pub trait Sources {
    /// The text of the file that the user named so.
    fn text(&self, file: &str) -> Option<&str>;
}

/// A few files: `[(name, text)]`.
impl Sources for [(&str, &str)] {
    fn text(&self, file: &str) -> Option<&str> {
        self.iter().find(|(name, _)| *name == file).map(|(_, text)| *text)
    }
}

/// Renders diagnostics as rustc does: code, message, `file:line:col`, source lines with labels, help; then how many
/// there were. Places in a text that `sources` does not have are named without their lines.
pub fn render(diagnostics: &[Diagnostic], sources: &(impl Sources + ?Sized), colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&render_one(diagnostic, sources, &renderer));
        out.push_str("\n\n");
    }
    match diagnostics.len() {
        0 => {}
        1 => out.push_str("error: 1 error\n"),
        n => out.push_str(&format!("error: {n} errors\n")),
    }
    out
}

fn render_one(diagnostic: &Diagnostic, sources: &(impl Sources + ?Sized), renderer: &Renderer) -> String {
    let file = diagnostic.file.as_deref();
    let text = file
        .and_then(|file| sources.text(file))
        .filter(|_| !diagnostic.labels.is_empty());
    let mut group = Level::ERROR
        .primary_title(printable(&diagnostic.message))
        .id(diagnostic.code)
        .elements(std::iter::empty::<annotate_snippets::Message<'_>>());
    match (text, file) {
        (Some(text), file) => {
            let annotations = diagnostic.labels.iter().enumerate().map(|(i, (span, label))| {
                let kind = if i == 0 {
                    AnnotationKind::Primary
                } else {
                    AnnotationKind::Context
                };
                kind.span(clamp(span, text)).label(printable(label))
            });
            group = group.element(Snippet::source(text).path(file).annotations(annotations));
        }
        (None, Some(file)) => group = group.element(annotate_snippets::Origin::path(file)),
        (None, None) => {}
    }
    for note in diagnostic.notes() {
        group = group.element(Level::NOTE.message(printable(note)));
    }
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(printable(help)));
    }
    renderer.render(&[group])
}

/// The span cut to the text, to character boundaries and to its first line: a long value is shown by its start.
fn clamp(span: &Range<usize>, text: &str) -> Range<usize> {
    let start = text.floor_char_boundary(span.start.min(text.len()));
    let end = text.floor_char_boundary(span.end.clamp(start, text.len()));
    let first_line = text[start..end].find('\n').map_or(end, |newline| start + newline);
    start..text[start..first_line].trim_end().len() + start
}

/// Text from a file, fit for a terminal: no control characters, not endless.
fn printable(text: &str) -> String {
    const MOST: usize = 400;
    let mut shown: String = text
        .chars()
        .take(MOST)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if shown.len() < text.len() && text.chars().count() > MOST {
        shown.push_str("...");
    }
    shown
}

/// The same as JSON, one array; places with byte offsets and, where the text is known, line and column from 1.
pub fn to_json(diagnostics: &[Diagnostic], sources: &(impl Sources + ?Sized)) -> String {
    let all: Vec<Value> = diagnostics
        .iter()
        .map(|diagnostic| {
            let text = diagnostic.file.as_deref().and_then(|file| sources.text(file));
            let labels: Vec<Value> = diagnostic
                .labels
                .iter()
                .map(|(span, label)| {
                    let place = text.map(|text| line_and_column(text, span.start));
                    json!({
                        "start": span.start,
                        "end": span.end,
                        "line": place.map(|(line, _)| line),
                        "column": place.map(|(_, column)| column),
                        "label": label,
                    })
                })
                .collect();
            json!({
                "code": diagnostic.code,
                "message": diagnostic.message,
                "file": diagnostic.file,
                "labels": labels,
                "notes": diagnostic.notes(),
                "help": diagnostic.help,
            })
        })
        .collect();
    let mut text = serde_json::to_string_pretty(&all).expect("diagnostics are plain JSON");
    text.push('\n');
    text
}

/// Line and column of a byte, both from 1; columns count characters.
pub fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset.min(text.len()))];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_span_renders() {
        let text = "a: é\nb: 2\n";
        for start in 0..15 {
            for end in 0..15 {
                let diagnostic = Diagnostic::new("CK0000", "m\u{7}")
                    .in_file("f")
                    .at(start..end, "l")
                    .help("h");
                let shown = render(std::slice::from_ref(&diagnostic), &[("f", text)][..], false);
                assert!(shown.contains("CK0000") && !shown.contains('\u{7}'));
                render(std::slice::from_ref(&diagnostic), &[][..], false);
                to_json(&[diagnostic], &[("f", text)][..]);
            }
        }
    }

    #[test]
    fn lines_become_message_notes_and_hint() {
        let one = Diagnostic::from_lines("CK0000", "m");
        assert_eq!(one, Diagnostic::new("CK0000", "m"));
        let said = Diagnostic::from_lines("CK0000", "m\n  at byte 7\n  hint: h: i");
        assert_eq!(said, Diagnostic::new("CK0000", "m").note("at byte 7").help("h: i"));
        assert!(!render(&[said], &[][..], false).contains('\u{fffd}'));
    }

    #[test]
    fn json_has_lines_and_columns_from_one() {
        let diagnostic = Diagnostic::new("CK0000", "m").in_file("f").at(3..4, "l");
        let json: Value = serde_json::from_str(&to_json(&[diagnostic], &[("f", "é\nb")][..])).expect("JSON");
        assert_eq!(
            (&json[0]["labels"][0]["line"], &json[0]["labels"][0]["column"]),
            (&json!(2), &json!(1))
        );
    }
}
