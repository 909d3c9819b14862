//! `ckc plan` and `ckc explain`: the plan in words.
//!
//! Everything that is said is looked up in the layout or asked of the code that decided it; nothing is decided here.

mod names;
mod state;
mod step;
mod tensor;
mod totals;

pub use totals::totals;

use crate::compile::Planned;
use crate::diag::Diagnostic;
use crate::glob;

/// What is said of one name in one place: a line, and lines below it.
struct Part {
    head: String,
    body: Vec<String>,
}

/// Why a step, tensor, weight, cache or rope is as it is, in every entry it occurs in. `*` in a name stands for anything.
///
/// # Errors
/// Nothing has that name; the nearest names are offered.
pub fn node(planned: &Planned, name: &str) -> Result<String, Diagnostic> {
    let all = names::all(planned);
    let mut wanted: Vec<&String> = all.iter().filter(|n| glob::matches(name, n)).collect();
    if wanted.is_empty() {
        let below = names::below(&all, name);
        if below.is_empty() {
            return Err(names::unknown(&all, name));
        }
        return Ok(listing(planned, name, &below));
    }
    wanted.sort_by_key(|n| names::order(n));
    let mut groups: Vec<(String, Vec<Part>, Vec<&String>)> = Vec::new();
    for name in wanted {
        let parts = parts(planned, name);
        let key = alike(&parts, name);
        match groups.iter_mut().find(|(k, ..)| *k == key) {
            Some((.., others)) => others.push(name),
            None => groups.push((key, parts, Vec::new())),
        }
    }
    let texts = groups.into_iter().map(|(_, parts, others)| {
        let mut text: String = parts.iter().map(Part::text).collect();
        if !others.is_empty() {
            let names: Vec<&str> = others.iter().map(|n| n.as_str()).collect();
            text += &format!("alike, but for their numbers: {}\n", names.join(", "));
        }
        text
    });
    Ok(texts.collect::<Vec<_>>().join("\n"))
}

impl Part {
    fn text(&self) -> String {
        let body: String = self.body.iter().map(|line| format!("  {line}\n")).collect();
        format!("{}\n{body}", self.head)
    }
}

/// All there is to say of one name.
fn parts(planned: &Planned, name: &str) -> Vec<Part> {
    let carried = planned.model.origins.carried.iter().find(|(n, _)| n == name);
    let mut parts = Vec::new();
    let name = match carried {
        Some((_, tensor)) => {
            let tensor = planned.model.graph.tensor(*tensor).name.as_str();
            parts.push(Part {
                head: format!("`{name}` is carried from pass to pass: here it is another name of `{tensor}`"),
                body: Vec::new(),
            });
            tensor
        }
        None => name,
    };
    for entry in &planned.layout.entries {
        parts.extend(step::parts(planned, entry, name));
        parts.extend(tensor::parts(planned, entry, name));
    }
    parts.extend(state::parts(planned, name));
    parts
}

/// The text of an explanation without what differs from layer to layer: numbers, and whether the layer before is meant.
fn alike(parts: &[Part], name: &str) -> String {
    let text: String = parts.iter().map(Part::text).collect();
    let text = glob::any_layer(&text.replace(name, "\u{1}"));
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '0'..='9' if out.ends_with('#') => {}
            '0'..='9' => out.push('#'),
            // The letters of a hexadecimal number.
            'a'..='f' if out.ends_with("x#") => {}
            c => out.push(c),
        }
    }
    out
}

/// The names below a name that is no node itself, such as `layers.0`.
fn listing(planned: &Planned, name: &str, below: &[&String]) -> String {
    let mut out = format!(
        "`{name}` is no step and no tensor, but the names of {} begin with it:\n",
        below.len()
    );
    for name in below {
        let head = parts(planned, name).into_iter().map(|p| p.head).next();
        out += &format!("  {name}: {}\n", head.unwrap_or_default());
    }
    out
}
