//! From tokens to text: prettyplease breaks the lines, this file joins those that fit the emitted `rustfmt.toml` and sets
//! items apart, so that rustfmt has nothing to change and a person sees a table as a table.

use proc_macro2::TokenStream;

/// Columns of a line, as in [`RUSTFMT`].
const WIDTH: usize = 120;

/// One level of indentation.
const INDENT: usize = 4;

/// The longest element of an array that is filled like text instead of standing on a line of its own.
const SHORT_ELEMENT: usize = 10;

/// `rustfmt.toml` of the emitted crate.
pub(super) const RUSTFMT: &str = "max_width = 120\nuse_small_heuristics = \"Max\"\n";

/// Formats a file.
///
/// # Panics
/// If the tokens are not Rust: a bug of the emitter.
pub(super) fn unparse(tokens: TokenStream) -> String {
    let file = syn::parse2(tokens).expect("the emitter writes Rust");
    let broken: Vec<String> = prettyplease::unparse(&file).lines().map(str::to_owned).collect();
    let joined = join(&broken);
    let mut out = String::new();
    for (i, line) in joined.iter().enumerate() {
        if i > 0 && set_apart(&joined[i - 1], line) {
            out.push('\n');
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The closer of the group that a line ends by opening, if it is an expression or a list.
fn closer(line: &str) -> Option<char> {
    if line.trim_start().starts_with("//") {
        return None;
    }
    let (head, last) = line.split_at(line.len().checked_sub(1)?);
    match last {
        "[" => Some(']'),
        "(" => Some(')'),
        "{" => {
            let word = head.trim_end().rsplit([' ', ':', '(', '[', '&']).next()?;
            let other = ["struct ", "impl ", "fn ", "enum ", "if ", "while "];
            let literal = !other.iter().any(|k| head.contains(k)) && word.starts_with(|c: char| c.is_ascii_uppercase());
            (literal || head.trim_start().starts_with("use ")).then_some('}')
        }
        _ => None,
    }
}

/// The line that closes the group opened at `open`: the next one at its indentation.
fn end_of(lines: &[String], open: usize) -> Option<usize> {
    let close = closer(&lines[open])?;
    let at = indent(&lines[open]);
    let end = (open + 1..lines.len()).find(|i| indent(&lines[*i]) <= at)?;
    lines[end].trim_start().starts_with(close).then_some(end)
}

/// Joins groups that fit on one line, outermost first.
fn join(lines: &[String]) -> Vec<String> {
    let mut out = Vec::with_capacity(lines.len());
    let mut i = 0;
    while i < lines.len() {
        match end_of(lines, i) {
            Some(end) => {
                group(&lines[i..=end], &mut out);
                i = end + 1;
            }
            None => {
                out.push(lines[i].clone());
                i += 1;
            }
        }
    }
    out
}

fn group(lines: &[String], out: &mut Vec<String>) {
    let (first, inner, last) = (&lines[0], &lines[1..lines.len() - 1], &lines[lines.len() - 1]);
    let flat = flatten(lines);
    let at = indent(first);
    if flat.len() <= WIDTH {
        out.push(flat);
        return;
    }
    // A constant's value on the next line, if that is all it takes.
    if let Some((name, value)) = flat.split_once(" = ")
        && ["const ", "pub const "]
            .iter()
            .any(|k| first.trim_start().starts_with(k))
        && at + INDENT + value.len() <= WIDTH
    {
        out.push(format!("{name} ="));
        out.push(format!("{:1$}{value}", "", at + INDENT));
        return;
    }
    // The only element of a list opens on the list's line.
    if first.ends_with('[') && !inner.is_empty() && end_of(inner, 0) == Some(inner.len() - 1) {
        let closes = inner[inner.len() - 1].trim().trim_end_matches(',');
        let mut hugged = vec![format!("{first}{}", inner[0].trim_start())];
        hugged.extend(inner[1..inner.len() - 1].iter().map(|l| l[INDENT..].to_owned()));
        hugged.push(format!("{:at$}{closes}{}", "", last.trim_start()));
        let (head, rest) = hugged.split_at(1);
        out.push(head[0].clone());
        let (body, tail) = rest.split_at(rest.len() - 1);
        out.extend(join(body));
        out.push(tail[0].clone());
        return;
    }
    out.push(first.clone());
    match fill(inner, first.trim_start().starts_with("use ")) {
        Some(filled) => out.extend(filled),
        None => out.extend(join(inner)),
    }
    out.push(last.clone());
}

/// The lines as one.
fn flatten(lines: &[String]) -> String {
    let mut out = lines[0].clone();
    for line in lines[1..].iter().map(|l| l.trim_start()) {
        let closes = line.starts_with([')', ']', '}']);
        if closes && out.ends_with(',') {
            out.pop();
        }
        let tight = out.ends_with(['(', '[']) || line.starts_with([')', ']']) || out.ends_with("::{");
        let import = closes && out.starts_with("use ");
        if !tight && !import {
            out.push(' ');
        }
        out.push_str(line);
    }
    out
}

/// Short elements and imports are filled like text.
fn fill(inner: &[String], import: bool) -> Option<Vec<String>> {
    let at = indent(inner.first()?);
    let elements: Vec<&str> = inner
        .iter()
        .flat_map(|l| l.split(','))
        .map(str::trim)
        .filter(|e| !e.is_empty())
        .collect();
    let plain = |e: &&str| e.chars().all(|c| c.is_ascii_alphanumeric() || "_ .".contains(c));
    if !elements.iter().all(plain) || !(import || elements.iter().all(|e| e.len() <= SHORT_ELEMENT)) {
        return None;
    }
    let mut lines = vec![" ".repeat(at)];
    for element in elements {
        let line = lines.last_mut().expect("one line at least");
        let empty = line.trim().is_empty();
        if !empty && line.len() + 1 + element.len() + 1 >= WIDTH {
            lines.push(format!("{:at$}{element},", ""));
        } else {
            line.push_str(if empty { "" } else { " " });
            line.push_str(element);
            line.push(',');
        }
    }
    Some(lines)
}

/// Whether a blank line stands between two lines of code.
fn set_apart(before: &str, line: &str) -> bool {
    let (was, is) = (before.trim_start(), line.trim_start());
    let import = |l: &str| l.starts_with("use ") || l.starts_with("pub use ");
    let inner = |l: &str| l.starts_with("//!") || l.starts_with("#![");
    if inner(was) {
        return !(is.starts_with("//!") || was.starts_with("#![") && is.starts_with("#!["));
    }
    let opens = was.ends_with(['{', '(', '[']);
    let outer = was.starts_with("///") || was.starts_with("#[");
    if opens || outer || is.starts_with(['}', ')', ']']) {
        return false;
    }
    if import(was) || was.starts_with("} from") {
        return !import(is) || is.starts_with("use crate::") != was.starts_with("use crate::");
    }
    let module = |l: &str| l.ends_with(';') && (l.starts_with("mod ") || l.starts_with("pub mod "));
    let item = ["///", "#[", "fn ", "impl "].iter().any(|word| is.starts_with(word)) || import(is);
    let ends = was.starts_with('}') || was.ends_with(';');
    match indent(line) {
        0 => ends && (item || module(was) != module(is)),
        _ => ends && is.starts_with("fn "),
    }
}

#[cfg(test)]
mod tests {
    use quote::quote;

    use super::unparse;

    #[test]
    fn what_fits_stands_on_one_line() {
        let text = unparse(quote! {
            #![doc = " File."]
            use a::b;
            #[doc = " One."]
            pub const SLOT: Slot = Slot { offset: 0x793000, cols: 1, act: ActType::U32 };
            fn run(w: &Worker<'_>) {
                w.run(Project {
                    source: Source::Rows(slots::LAYERS_0_ATTENTION_OUTPUT_BEFORE_THE_RESIDUAL),
                    parts: &[Part { weight: weights::Q, bias: None, sink: Sink::Store(slots::Q) }],
                });
            }
        });
        let expected = "\
//! File.

use a::b;

/// One.
pub const SLOT: Slot = Slot { offset: 0x793000, cols: 1, act: ActType::U32 };

fn run(w: &Worker<'_>) {
    w.run(Project {
        source: Source::Rows(slots::LAYERS_0_ATTENTION_OUTPUT_BEFORE_THE_RESIDUAL),
        parts: &[Part { weight: weights::Q, bias: None, sink: Sink::Store(slots::Q) }],
    });
}
";
        assert_eq!(text, expected);
    }
}
