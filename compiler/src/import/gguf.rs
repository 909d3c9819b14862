//! A GGUF file: the keys of `llama.*` and `qwen2.*`, as llama.cpp reads them.

use ck_kernels::ops::Pairing;

use super::architecture::{Architecture, Biases, FAMILIES, GGUF_NAMES};
use crate::{
    diag::Diagnostic,
    graph::RopeScaling,
    source::{Metadata, Source, Value, codes},
};

/// The tensor of per-frequency divisors that llama.cpp's converter makes of Llama 3's rotary scaling.
const ROPE_FREQS: &str = "rope_freqs.weight";

/// Keys (after `ARCH.`) that are read below, or that change nothing.
const KNOWN: &[&str] = &[
    "block_count",
    "embedding_length",
    "feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "context_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scale_linear",
    "vocab_size",
    "tensor_data_layout",
    // Said by the converter for people, or for other scalings than the ones that are accepted.
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
];

/// Keys (after `ARCH.`) that change what the model computes in a way this importer does not know. Zero and false are
/// what their absence means.
const REFUSED: &[&str] = &[
    "expert_count",
    "expert_used_count",
    "attention.sliding_window",
    "attention.clamp_kqv",
    "attention.max_alibi_bias",
    "attention.scale",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "logit_scale",
    "residual_scale",
    "embedding_scale",
    "use_parallel_residual",
    "rope.scaling.attn_factor",
];

/// The model a GGUF file describes, checked against nothing but itself.
pub fn architecture(source: &Source, metadata: &Metadata) -> Result<Architecture, Vec<Diagnostic>> {
    let file = source.path().display().to_string();
    let fail = |code, message: String| Diagnostic::new(code, message).in_file(&file);
    let family = match metadata.get("general.architecture") {
        None => {
            return Err(vec![fail(
                codes::MISSING_KEY,
                "`general.architecture` is missing".into(),
            )]);
        }
        Some(value) => value.as_str().unwrap_or_default(),
    };
    if !FAMILIES.contains(&family) {
        let help = format!("supported: {}", FAMILIES.join(", "));
        return Err(vec![
            fail(codes::ARCHITECTURE, format!("architecture `{family}` is not supported")).help(help),
        ]);
    }
    if let Some(n) = metadata.u64("split.count").filter(|&n| n > 1) {
        let message = format!("one of {n} parts of a split GGUF");
        return Err(vec![
            fail(codes::UNSUPPORTED, message).help("merge them first: `llama-gguf-split --merge FIRST OUT`"),
        ]);
    }
    let mut keys = Keys {
        metadata,
        family,
        file: &file,
        problems: Vec::new(),
        notes: Vec::new(),
    };
    let arch = keys.architecture(source);
    match arch {
        Some(mut arch) if keys.problems.is_empty() => {
            arch.notes = keys.notes;
            Ok(arch)
        }
        _ => Err(keys.problems),
    }
}

/// The keys of one family, and what was found wrong with them so far.
struct Keys<'a> {
    metadata: &'a Metadata,
    family: &'a str,
    file: &'a str,
    problems: Vec<Diagnostic>,
    notes: Vec<String>,
}

impl<'a> Keys<'a> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.family)
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.metadata.get(&self.key(key))
    }

    fn problem(&mut self, code: &'static str, message: String) {
        self.problems.push(Diagnostic::new(code, message).in_file(self.file));
    }

    fn wrong(&mut self, key: &str, value: &Value, wanted: &str) {
        let message = format!("`{}` is {}, expected {wanted}", self.key(key), value.describe());
        self.problem(codes::BAD_VALUE, message);
    }

    /// A size; some writers give one per layer, which must then agree.
    fn optional_size(&mut self, key: &str) -> Option<usize> {
        let value = self.get(key)?;
        let size = match value {
            Value::Array(array) => {
                let mut sizes = array.scalars().map(|v| v.as_u64());
                let first = sizes.next().flatten();
                first.filter(|_| sizes.all(|s| s == first))
            }
            value => value.as_u64(),
        };
        let size = size.and_then(|n| usize::try_from(n).ok());
        if size.is_none() {
            self.wrong(key, value, "a whole number, the same for every layer");
        }
        size
    }

    fn size(&mut self, key: &str) -> Option<usize> {
        if self.get(key).is_none() {
            let message = format!("`{}` is missing", self.key(key));
            self.problem(codes::MISSING_KEY, message);
        }
        self.optional_size(key)
    }

    fn number(&mut self, key: &str) -> Option<f64> {
        let value = self.get(key)?;
        let number = match value {
            // The decimal the writer meant: 1e-5, not 9.99999974e-6. It rounds back to the same f32.
            Value::F32(x) => x.to_string().parse().ok(),
            value => value.as_f64(),
        };
        if number.is_none() {
            self.wrong(key, value, "a float");
        }
        number
    }

    fn defaulted(&mut self, key: &str, value: impl std::fmt::Display) {
        let note = format!("The file has no `{}`: {value}, as llama.cpp defines.", self.key(key));
        self.notes.push(note);
    }

    /// `None` only after a problem was noted.
    fn architecture(&mut self, source: &Source) -> Option<Architecture> {
        self.refuse();
        let n_layers = self.size("block_count");
        let d_model = self.size("embedding_length");
        let d_ff = self.size("feed_forward_length");
        let n_heads = self.size("attention.head_count");
        let kv_heads = match self.optional_size("attention.head_count_kv") {
            None if self.get("attention.head_count_kv").is_none() => {
                if let Some(n) = n_heads {
                    self.defaulted("attention.head_count_kv", format_args!("{n}, one for each query head"));
                }
                n_heads
            }
            heads => heads,
        };
        let max_positions = self.size("context_length");
        let eps = self.number("attention.layer_norm_rms_epsilon");
        if self.get("attention.layer_norm_rms_epsilon").is_none() {
            let message = format!("`{}` is missing", self.key("attention.layer_norm_rms_epsilon"));
            self.problem(codes::MISSING_KEY, message);
        }
        let head_dim = self.head_dim(d_model, n_heads);
        let rope_dims = self.optional_size("rope.dimension_count").or(head_dim);
        let rope_theta = self.number("rope.freq_base").or_else(|| {
            if self.get("rope.freq_base").is_none() {
                self.defaulted("rope.freq_base", "10000");
            }
            Some(10_000.0)
        });
        let rope_scaling = self.scaling(source);
        let vocab = self.vocab(source);
        let has = |base: &str| source.tensor(&format!("{}.bias", base.replace("{i}", "0"))).is_some();
        let names = &GGUF_NAMES;
        Some(Architecture {
            n_layers: n_layers?,
            d_model: d_model?,
            n_heads: n_heads?,
            kv_heads: kv_heads?,
            head_dim: head_dim?,
            d_ff: d_ff?,
            vocab: vocab?,
            tied: source.tensor("output.weight").is_none(),
            biases: Biases {
                qkv: self.family == "qwen2" || has(names.q),
                attn_out: has(names.attn_out),
                mlp: has(names.gate),
            },
            rope_theta: rope_theta?,
            rope_dims: rope_dims?,
            rope_scaling: rope_scaling?,
            // llama.cpp's converter permutes q and k of the llama family, not those of qwen2.
            pairing: if self.family == "llama" {
                Pairing::Interleaved
            } else {
                Pairing::Halves
            },
            eps: eps?,
            max_positions: max_positions?,
            names,
            notes: Vec::new(),
        })
    }

    fn refuse(&mut self) {
        let prefix = format!("{}.", self.family);
        for (key, value) in self.metadata.entries() {
            let Some(rest) = key.strip_prefix(&prefix) else {
                continue;
            };
            let neutral = match value {
                Value::Bool(b) => !b,
                Value::F32(_) | Value::F64(_) => value.as_f64() == Some(0.0),
                value => value.as_u64() == Some(0),
            };
            if REFUSED.contains(&rest) {
                if !neutral {
                    self.problem(
                        codes::UNSUPPORTED,
                        format!("`{key}` = {} is not supported", value.describe()),
                    );
                }
            } else if rest == "attention.causal" {
                if *value != Value::Bool(true) {
                    self.problem(
                        codes::UNSUPPORTED,
                        format!("`{key}` = {}: only causal attention is supported", value.describe()),
                    );
                }
            } else if !KNOWN.contains(&rest) {
                self.notes.push(format!(
                    "The file also says `{key}` = {}, which is not understood.",
                    value.describe()
                ));
            }
        }
    }

    fn head_dim(&mut self, d_model: Option<usize>, n_heads: Option<usize>) -> Option<usize> {
        let (key, value) = (
            self.optional_size("attention.key_length"),
            self.optional_size("attention.value_length"),
        );
        if let (Some(k), Some(v)) = (key, value)
            && k != v
        {
            self.problem(
                codes::UNSUPPORTED,
                format!("keys of {k} with values of {v} elements are not supported"),
            );
            return None;
        }
        let (d, n) = (d_model?, n_heads?);
        let quotient = (n > 0 && d.is_multiple_of(n)).then(|| d / n.max(1));
        // A length that is not given is the quotient.
        let head_dim = match (key, value) {
            (Some(a), Some(_)) => Some(a),
            (Some(a), None) | (None, Some(a)) => Some(a).filter(|_| quotient == Some(a)),
            (None, None) => quotient,
        };
        if head_dim.is_none() {
            let message = format!(
                "{} elements in {n} heads: `{}` and `{}` must both say how many a head has",
                d,
                self.key("attention.key_length"),
                self.key("attention.value_length")
            );
            self.problem(codes::BAD_VALUE, message);
        }
        head_dim
    }

    fn scaling(&mut self, source: &Source) -> Option<RopeScaling> {
        let factor = self
            .number("rope.scaling.factor")
            .or_else(|| self.number("rope.scale_linear"));
        let kind = match self.get("rope.scaling.type") {
            None => None,
            Some(value) if value.as_str().is_some() => value.as_str(),
            Some(value) => {
                self.wrong("rope.scaling.type", value, "a string");
                return None;
            }
        };
        // A factor without a type means linear, to llama.cpp; a factor of 0 means none.
        let factor = factor.filter(|&f| f != 0.0);
        let linear = match (kind, factor) {
            (None | Some("linear"), Some(factor)) if factor != 1.0 => Some(factor),
            (None | Some("none" | "linear"), _) => None,
            (Some(other), _) => {
                let message = format!("rotary scaling `{other}` is not supported, only none, linear and {ROPE_FREQS}");
                self.problem(codes::UNSUPPORTED, message);
                return None;
            }
        };
        match (source.tensor(ROPE_FREQS), linear) {
            (None, None) => Some(RopeScaling::None),
            (None, Some(factor)) => Some(RopeScaling::Linear { factor }),
            (Some(_), None) => Some(RopeScaling::Factors {
                source: ROPE_FREQS.into(),
            }),
            (Some(_), Some(_)) => {
                let message = format!("linear rotary scaling together with {ROPE_FREQS} is not supported");
                self.problem(codes::UNSUPPORTED, message);
                None
            }
        }
    }

    /// The embedding says how many tokens there are; not every file has the key.
    fn vocab(&mut self, source: &Source) -> Option<usize> {
        let stated = self.optional_size("vocab_size");
        let Some(embedding) = source.tensor("token_embd.weight") else {
            let mut error =
                Diagnostic::new(codes::NO_TENSOR, "there is no tensor `token_embd.weight`").in_file(self.file);
            if source.tensors().is_empty() {
                error = error.help("the file has no tensors at all: a vocabulary only");
            }
            self.problems.push(error);
            return None;
        };
        let (rows, _) = embedding.rows_cols();
        if let Some(stated) = stated.filter(|&s| s != rows) {
            let message = format!(
                "`{}` is {stated}, but `token_embd.weight` has {rows} rows",
                self.key("vocab_size")
            );
            self.problem(codes::BAD_VALUE, message);
        }
        Some(rows)
    }
}
