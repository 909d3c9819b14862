//! The canonical form of a description: what it says, without how it is written.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use super::tree::{Node, Value};

/// SHA-256 of the canonical form, in hexadecimal. Comments, spaces, quotes, anchors and the order of keys do not count.
pub fn sha256(node: &Node) -> String {
    let mut text = String::new();
    write_value(&node.value, &mut text);
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// JSON with sorted keys; floats always have a point or an exponent, so that `1` and `1.0` differ.
fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => out.push_str(&value.to_string()),
        Value::Float(value) | Value::NotFinite(value) => out.push_str(&format!("{value:?}")),
        Value::Str(text) => write_text(text, out),
        Value::Seq(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                write_value(&item.value, out);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
            out.push('{');
            for (i, (key, node)) in entries.into_iter().enumerate() {
                out.push_str(if i == 0 { "" } else { "," });
                write_text(&key.name, out);
                out.push(':');
                write_value(&node.value, out);
            }
            out.push('}');
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
