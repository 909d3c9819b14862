//! Names as readers take them: `layers.3.attn` is `attn` of layer 3 of `layers`, one of `layers.*.attn`.

/// The layer that a name belongs to: the path before its first number, and the number.
pub(super) fn layer(name: &str) -> Option<(&str, u64)> {
    let mut at = 0;
    for part in name.split('.') {
        if at > 0 && is_number(part) {
            return Some((&name[..at - 1], part.parse().ok()?));
        }
        at += part.len() + 1;
    }
    None
}

/// What follows the layer in a name, dot included.
pub(super) fn within_layer(name: &str) -> &str {
    layer(name).map_or(name, |(family, index)| {
        &name[family.len() + 1 + index.to_string().len()..]
    })
}

/// A number as it is written by a program: without leading zeros, so that it reads back as the same text.
fn is_number(part: &str) -> bool {
    let digits = !part.is_empty() && part.len() <= 9 && part.bytes().all(|b| b.is_ascii_digit());
    digits && (part == "0" || !part.starts_with('0'))
}

/// The name with `*` for each number.
pub(super) fn pattern(name: &str) -> String {
    let parts = name.split('.').map(|part| if is_number(part) { "*" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

/// The text with `change` done to every name in it: a run of letters, digits and `_.-/` with a dot inside.
pub(super) fn map_names(text: &str, change: impl Fn(&str) -> String) -> String {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(inside) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !inside(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        let name = word.trim_end_matches('.');
        out.push_str(before);
        if name.contains('.') && name.contains(char::is_alphabetic) {
            out.push_str(&change(name));
        } else {
            out.push_str(name);
        }
        out.push_str(&word[name.len()..]);
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_is_the_layer() {
        for (name, expected) in [
            ("layers.3.attn", Some(("layers", 3))),
            ("a.b.12.experts.4.up", Some(("a.b", 12))),
            ("blk.0", Some(("blk", 0))),
            ("3.attn", None),
            ("layers.03.attn", None),
            ("layers.x", None),
            ("act.q8", None),
            ("a.99999999999999999999.b", None),
            ("", None),
        ] {
            assert_eq!(layer(name), expected, "{name}");
        }
        assert_eq!(within_layer("layers.10.attn.q8"), ".attn.q8");
        assert_eq!(within_layer("embed"), "embed");
    }

    #[test]
    fn names_in_a_sentence_are_found() {
        let text = "reads `layers.3.kv.keys`, which `embed` wrote at 1.5. See a.0.b.";
        assert_eq!(
            map_names(text, pattern),
            "reads `layers.*.kv.keys`, which `embed` wrote at 1.5. See a.*.b."
        );
    }
}
