//! Just enough of a JSON writer.

use std::fmt::{Display, Write};

/// A document under construction: objects and arrays on one line each where they are small, keys in the order given.
#[derive(Debug, Default)]
pub(crate) struct Json {
    out: String,
    depth: usize,
    /// Whether the next value is the first of its object or array.
    first: bool,
}

impl Json {
    /// An object; `fill` writes its members.
    pub(crate) fn object(fill: impl FnOnce(&mut Json)) -> String {
        let mut json = Json {
            first: true,
            ..Json::default()
        };
        json.nest('{', '}', fill);
        json.out.push('\n');
        json.out
    }

    /// A member that is a number or `true`, `false`, `null`.
    pub(crate) fn number(&mut self, key: &str, value: impl Display) {
        self.key(key);
        self.literal(value);
    }

    /// A member with a decimal fraction; `null` if it is not finite.
    pub(crate) fn fraction(&mut self, key: &str, value: f64, digits: usize) {
        self.key(key);
        if value.is_finite() {
            self.literal(format_args!("{value:.digits$}"));
        } else {
            self.literal("null");
        }
    }

    /// A member that is a string.
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        quote(&mut self.out, value);
    }

    /// A member that is a string or `null`.
    pub(crate) fn optional(&mut self, key: &str, value: Option<&str>) {
        match value {
            Some(value) => self.text(key, value),
            None => self.number(key, "null"),
        }
    }

    /// A member that is an object.
    pub(crate) fn member(&mut self, key: &str, fill: impl FnOnce(&mut Json)) {
        self.key(key);
        self.nest('{', '}', fill);
    }

    /// A member that is an array of objects.
    pub(crate) fn list<T>(&mut self, key: &str, items: impl IntoIterator<Item = T>, fill: impl Fn(&mut Json, T)) {
        self.key(key);
        self.nest('[', ']', |json| {
            for item in items {
                json.separate();
                json.nest('{', '}', |json| fill(json, item));
            }
        });
    }

    /// A member that is an array of numbers or arrays, on one line.
    pub(crate) fn row<T: Display>(&mut self, key: &str, items: impl IntoIterator<Item = T>) {
        self.key(key);
        self.out.push('[');
        for (i, item) in items.into_iter().enumerate() {
            if i > 0 {
                self.out.push_str(", ");
            }
            self.literal(item);
        }
        self.out.push(']');
    }

    fn nest(&mut self, open: char, close: char, fill: impl FnOnce(&mut Json)) {
        self.out.push(open);
        self.depth += 1;
        self.first = true;
        fill(self);
        self.depth -= 1;
        if !self.first {
            self.line();
        }
        self.first = false;
        self.out.push(close);
    }

    fn key(&mut self, key: &str) {
        self.separate();
        quote(&mut self.out, key);
        self.out.push_str(": ");
    }

    fn separate(&mut self) {
        if !self.first {
            self.out.push(',');
        }
        self.first = false;
        self.line();
    }

    fn line(&mut self) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n("  ", self.depth));
    }

    fn literal(&mut self, value: impl Display) {
        // Writing to a string does not fail.
        let _ = write!(self.out, "{value}");
    }
}

/// Appends `text` as a JSON string (RFC 8259, section 7).
pub(crate) fn quote(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document() {
        let text = Json::object(|json| {
            json.text("text", "a\"b\\c\n\u{1}é");
            json.number("n", 3);
            json.fraction("f", 1.25, 3);
            json.fraction("nan", f64::NAN, 3);
            json.optional("none", None);
            json.member("empty", |_| {});
            json.row("row", [1, 2]);
            json.list("list", [1, 2], |json, i| json.number("i", i));
            json.list("nothing", [0; 0], |_, _| {});
        });
        let expected = r#"{
  "text": "a\"b\\c\n\u0001é",
  "n": 3,
  "f": 1.250,
  "nan": null,
  "none": null,
  "empty": {},
  "row": [1, 2],
  "list": [
    {
      "i": 1
    },
    {
      "i": 2
    }
  ],
  "nothing": []
}
"#;
        assert_eq!(text, expected);
    }
}
