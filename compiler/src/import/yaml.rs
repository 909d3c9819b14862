//! The model description as text: a template, since its comments are for people.

use std::fmt::Write;

use ck_kernels::ops::Pairing;

use super::{architecture::Architecture, dtypes::Chosen};
use crate::graph::RopeScaling;

/// What a fresh description is compiled for, unless the model was trained on less.
const CONTEXT: usize = 2048;
const BATCH: usize = 512;

/// Everything the text depends on.
pub struct Description<'a> {
    /// The model's name.
    pub name: &'a str,
    /// The model.
    pub arch: &'a Architecture,
    /// The weights file or folder, relative to the YAML.
    pub weights: &'a str,
    /// Whether the tokenizer is there as well.
    pub has_tokenizer: bool,
    /// What matrices are packed as.
    pub dtypes: &'a Chosen,
}

/// The description.
pub fn write(d: &Description<'_>) -> String {
    let mut out = String::new();
    header(&mut out, d);
    constants(&mut out, d.arch);
    files(&mut out, d);
    rope(&mut out, d.arch);
    ops(&mut out, d.arch);
    out
}

/// Appends a formatted line.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {
        writeln!($out, $($arg)*).expect("writing to a string does not fail")
    };
}

fn header(out: &mut String, d: &Description<'_>) {
    line!(out, "# {}: made by `ckc import`. Yours to change.", d.name);
    for note in &d.arch.notes {
        line!(out, "# Note: {}", note.replace(char::is_control, " "));
    }
    line!(out, "\nmodel: {}\n", d.name);
}

fn constants(out: &mut String, a: &Architecture) {
    line!(out, "constants:");
    line!(out, "  n_layers: {}", a.n_layers);
    line!(out, "  d_model: {}", a.d_model);
    line!(out, "  n_heads: {}", a.n_heads);
    line!(out, "  kv_heads: {}", a.kv_heads);
    line!(out, "  head_dim: {}", a.head_dim);
    line!(out, "  q_dim: n_heads * head_dim");
    line!(out, "  kv_dim: kv_heads * head_dim");
    line!(out, "  d_ff: {}", a.d_ff);
    line!(out, "  vocab: {}", a.vocab);
    line!(out, "  rms_norm_eps: {}\n", float(a.eps));
    let context = a.max_positions.min(CONTEXT);
    line!(
        out,
        "# `batch`: tokens of one call. `context`: positions the KV cache holds. `max_positions`: as trained."
    );
    let (batch, max) = (context.min(BATCH), a.max_positions);
    line!(
        out,
        "limits: {{context: {context}, batch: {batch}, max_positions: {max}}}"
    );
    line!(out, "symbols: {{T: batch, S: context}}\n");
}

fn files(out: &mut String, d: &Description<'_>) {
    let path = quoted(d.weights);
    line!(
        out,
        "# Relative to this file. `dtype` is what matrices are packed as; vectors are always f32."
    );
    line!(out, "weights:");
    line!(out, "  file: {path}");
    line!(out, "  dtype: {}", d.dtypes.dtype.name());
    if !d.dtypes.exceptions.is_empty() {
        line!(out, "  dtypes:");
        for (name, dtype) in &d.dtypes.exceptions {
            line!(out, "    {}: {}", quoted(name), dtype.name());
        }
    }
    if d.has_tokenizer {
        line!(out, "tokenizer: {path}\n");
    } else {
        line!(out, "# No tokenizer was found: the runner takes token ids only.\n");
    }
}

fn rope(out: &mut String, a: &Architecture) {
    let dims = if a.rope_dims == a.head_dim {
        "head_dim".to_owned()
    } else {
        a.rope_dims.to_string()
    };
    let pairing = match a.pairing {
        Pairing::Halves => "halves",
        Pairing::Interleaved => "interleaved",
    };
    line!(out, "ropes:");
    line!(out, "  rope:");
    line!(out, "    theta: {}", float(a.rope_theta));
    line!(out, "    dims: {dims}");
    line!(out, "    head_dim: head_dim");
    line!(out, "    pairing: {pairing}");
    match &a.rope_scaling {
        RopeScaling::None => line!(out, "    scaling: none\n"),
        RopeScaling::Linear { factor } => line!(out, "    scaling: {{linear: {{factor: {}}}}}\n", float(*factor)),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original,
        } => {
            line!(out, "    scaling:");
            line!(out, "      llama3:");
            line!(out, "        factor: {}", float(*factor));
            line!(out, "        low_freq_factor: {}", float(*low_freq_factor));
            line!(out, "        high_freq_factor: {}", float(*high_freq_factor));
            line!(out, "        original: {}\n", float(*original));
        }
        RopeScaling::Factors { source } => line!(out, "    scaling: {{factors: {}}}\n", quoted(source)),
    }
}

/// `weight: ..., shape: ...` of a linear op, with its bias if it has one.
fn linear(base: &str, bias: bool, shape: &str) -> String {
    let bias = if bias {
        format!(", bias: {}", quoted(&format!("{base}.bias")))
    } else {
        String::new()
    };
    format!("weight: {}{bias}, shape: [{shape}]", quoted(&format!("{base}.weight")))
}

fn ops(out: &mut String, a: &Architecture) {
    let n = a.names;
    let b = a.biases;
    let norm = |base: &str| format!("weight: {}, eps: rms_norm_eps", quoted(&format!("{base}.weight")));
    line!(out, "inputs:");
    line!(out, "  ids: {{dtype: u32, shape: [T]}}\n");
    line!(
        out,
        "# Ops run in the order written. The tensor an op makes has the op's name."
    );
    line!(out, "sections:");
    line!(out, "  - section: decoder");
    line!(out, "    in: [ids]");
    line!(out, "    out: [logits]");
    line!(out, "    ops:");
    let op = |out: &mut String, depth: usize, kind: &str, name: &str, inputs: &str, rest: &str| {
        let indent = " ".repeat(depth);
        let rest = if rest.is_empty() {
            String::new()
        } else {
            format!(", {rest}")
        };
        line!(out, "{indent}- {{op: {kind}, name: {name}, in: [{inputs}]{rest}}}");
    };
    let embedding = format!(
        "weight: {}, shape: [vocab, d_model]",
        quoted(&format!("{}.weight", n.embed))
    );
    op(out, 6, "embedding", "embed", "ids", &embedding);
    line!(
        out,
        "\n      # Pass i names its tensors `layers.<i>.<name>`. A carried tensor is `first` in pass 0, and `next` of the pass"
    );
    line!(
        out,
        "      # before in the others; after the last pass it is `layers.x`."
    );
    line!(out, "      - repeat: layers");
    line!(out, "        count: n_layers");
    line!(out, "        index: i");
    line!(out, "        carry: {{x: {{first: embed, next: mlp_residual}}}}");
    line!(out, "        ops:");
    let d = 10;
    op(out, d, "rmsnorm", "attn_norm", "x", &norm(n.attn_norm));
    op(
        out,
        d,
        "linear",
        "q",
        "attn_norm",
        &linear(n.q, b.qkv, "q_dim, d_model"),
    );
    op(
        out,
        d,
        "linear",
        "k",
        "attn_norm",
        &linear(n.k, b.qkv, "kv_dim, d_model"),
    );
    op(
        out,
        d,
        "linear",
        "v",
        "attn_norm",
        &linear(n.v, b.qkv, "kv_dim, d_model"),
    );
    op(out, d, "rope", "q_rot", "q", "rope: rope");
    op(out, d, "rope", "k_rot", "k", "rope: rope");
    line!(out, "          - op: attention");
    line!(out, "            name: attn");
    line!(out, "            in: [q_rot, k_rot, v]");
    line!(out, "            cache: kv");
    line!(out, "            positions: S");
    line!(out, "            n_heads: n_heads");
    line!(out, "            kv_heads: kv_heads");
    line!(out, "            head_dim: head_dim");
    line!(out, "            scale: 1 / sqrt(head_dim)");
    line!(out, "            mask: causal");
    line!(out, "            window: none");
    line!(out, "            softcap: none");
    op(
        out,
        d,
        "linear",
        "attn_out",
        "attn",
        &linear(n.attn_out, b.attn_out, "d_model, q_dim"),
    );
    op(out, d, "add", "attn_residual", "x, attn_out", "");
    op(out, d, "rmsnorm", "mlp_norm", "attn_residual", &norm(n.mlp_norm));
    op(
        out,
        d,
        "linear",
        "gate",
        "mlp_norm",
        &linear(n.gate, b.mlp, "d_ff, d_model"),
    );
    op(
        out,
        d,
        "linear",
        "up",
        "mlp_norm",
        &linear(n.up, b.mlp, "d_ff, d_model"),
    );
    op(out, d, "glu", "act", "gate, up", "act: silu");
    op(out, d, "linear", "down", "act", &linear(n.down, b.mlp, "d_model, d_ff"));
    op(out, d, "add", "mlp_residual", "attn_residual, down", "");
    line!(out, "\n      # Only the row whose logits are asked for.");
    op(out, 6, "select_row", "last", "layers.x", "");
    op(out, 6, "rmsnorm", "final_norm", "last", &norm(n.final_norm));
    let head = if a.tied { n.embed } else { n.head };
    op(
        out,
        6,
        "linear",
        "logits",
        "final_norm",
        &linear(head, false, "vocab, d_model"),
    );
    line!(out, "\noutputs: [logits]");
}

/// A float as YAML 1.1 and 1.2 both read it back: with a point, and the shortest digits that give the same value.
fn float(x: f64) -> String {
    if x == 0.0 || (1e-3..1e15).contains(&x.abs()) {
        return if x == x.trunc() {
            format!("{x:.1}")
        } else {
            format!("{x}")
        };
    }
    let text = format!("{x:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0e{exponent}"),
        _ => text,
    }
}

/// A string that YAML cannot take for anything else: plain where that is safe, else in double quotes.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'))
        && !matches!(
            text.to_ascii_lowercase().as_str(),
            "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n"
        );
    if plain {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => write!(out, "\\u{:04x}", c as u32).expect("writing to a string does not fail"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats() {
        for (x, text) in [
            (1e-5, "1.0e-5"),
            (1.5e-6, "1.5e-6"),
            (10_000.0, "10000.0"),
            (0.25, "0.25"),
            (1e20, "1.0e20"),
            (0.0, "0.0"),
        ] {
            assert_eq!(float(x), text);
            assert_eq!(text.parse::<f64>(), Ok(x));
        }
    }

    #[test]
    fn strings() {
        for (text, yaml) in [
            ("model.norm.weight", "model.norm.weight"),
            ("blk.{i}.x", "\"blk.{i}.x\""),
            ("../a b", "\"../a b\""),
            ("no", "\"no\""),
            ("1", "\"1\""),
            ("a\"\\\n", "\"a\\\"\\\\\\u000a\""),
        ] {
            assert_eq!(quoted(text), yaml);
        }
    }
}
