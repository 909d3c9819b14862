//! Patterns over names.

/// Whether `text` matches `pattern`, in which `*` stands for any run of characters. Time is the product of the lengths.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go back to: after the last star, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((after, taken)) = star {
            star = Some((after, taken + 1));
            (p, t) = (after, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

/// The text with `*` for every number that is a part of a name: `layers.3.q` becomes `layers.*.q`.
pub fn any_layer(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dot) = rest.find('.') {
        let (head, tail) = rest.split_at(dot + 1);
        out.push_str(head);
        let digits = tail.bytes().take_while(u8::is_ascii_digit).count();
        let whole = digits > 0 && !tail[digits..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
        if whole {
            out.push('*');
        }
        rest = &tail[if whole { digits } else { 0 }..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, text, expected) in [
            ("layers.*.gate", "layers.12.gate", true),
            ("layers.*.gate", "layers.12.gate_up", false),
            ("*", "", true),
            ("*gate*", "layers.3.gate_up", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("", "a", false),
            ("a", "a", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!matches(&"*a".repeat(200), &"a".repeat(199)));
    }

    #[test]
    fn layers_are_alike() {
        for (text, expected) in [
            ("reads `layers.3.q`, layers.12.k", "reads `layers.*.q`, layers.*.k"),
            ("a.0", "a.*"),
            ("a.3x.b.", "a.3x.b."),
            ("", ""),
        ] {
            assert_eq!(any_layer(text), expected);
        }
    }
}
