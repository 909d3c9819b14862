//! A Hugging Face folder: `config.json` in the layout of transformers 4 and of transformers 5.
//!
//! A key may be left out where transformers itself defines what that means; the YAML then says so in a comment. All
//! others must be there: a guess would run, and be wrong.

use std::{fs::File, io::Read, path::Path};

use ck_kernels::ops::Pairing;
use serde_json::{Map, Value};

use super::architecture::{Architecture, Biases, FAMILIES, HF_NAMES};
use crate::{
    diag::Diagnostic,
    graph::RopeScaling,
    source::{Source, codes},
};

const MAX_CONFIG: u64 = 16 << 20;

/// Keys that change what the model computes in a way this importer does not know. Absent, null and false are fine.
const REFUSED: [(&str, &str); 3] = [
    (
        "quantization_config",
        "quantised checkpoints (GPTQ, AWQ, bitsandbytes, FP8) are not read; import the unquantised one or a GGUF",
    ),
    ("dual_chunk_attention_config", "dual chunk attention is not supported"),
    ("auto_map", "models that bring their own code are not supported"),
];

/// Whether the family that `config.json` of `folder` names can be imported.
pub fn supported(folder: &Path) -> Result<(), Vec<Diagnostic>> {
    let (json, file) = open(folder)?;
    Config::new(&json, &file).supported()
}

/// `config.json` of `folder`, checked against nothing but itself.
pub fn architecture(folder: &Path, source: &Source) -> Result<Architecture, Vec<Diagnostic>> {
    let (json, file) = open(folder)?;
    let mut config = Config::new(&json, &file);
    config.supported()?;
    let arch = config.architecture(source);
    match arch {
        Some(mut arch) if config.problems.is_empty() => {
            arch.notes = config.notes;
            Ok(arch)
        }
        _ => Err(config.problems),
    }
}

/// The config, and its path for messages.
fn open(folder: &Path) -> Result<(Map<String, Value>, String), Vec<Diagnostic>> {
    let path = folder.join("config.json");
    let file = path.display().to_string();
    match read(&path) {
        Ok(json) => Ok((json, file)),
        Err(message) => Err(vec![Diagnostic::new(codes::NO_DESCRIPTION, message).in_file(&file)]),
    }
}

fn read(path: &Path) -> Result<Map<String, Value>, String> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(|e| format!("cannot read: {e}"))?;
    file.take(MAX_CONFIG + 1)
        .read_to_end(&mut text)
        .map_err(|e| format!("cannot read: {e}"))?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(format!("a config of more than {MAX_CONFIG} bytes"));
    }
    match serde_json::from_slice(&text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err("not a JSON object".into()),
        Err(e) => Err(format!("not JSON: {e}")),
    }
}

/// The keys of a config, and what was found wrong with them so far.
struct Config<'a> {
    json: &'a Map<String, Value>,
    file: &'a str,
    problems: Vec<Diagnostic>,
    notes: Vec<String>,
}

impl<'a> Config<'a> {
    fn new(json: &'a Map<String, Value>, file: &'a str) -> Config<'a> {
        Config {
            json,
            file,
            problems: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn problem(&mut self, code: &'static str, message: String) {
        self.problems.push(Diagnostic::new(code, message).in_file(self.file));
    }

    /// A key that is there and not null.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.json.get(key).filter(|v| !v.is_null())
    }

    fn missing(&mut self, key: &str) {
        self.problem(codes::MISSING_KEY, format!("`{key}` is missing"));
    }

    fn wrong(&mut self, key: &str, value: &Value, wanted: &str) {
        self.problem(codes::BAD_VALUE, format!("`{key}` is {value}, expected {wanted}"));
    }

    fn optional_size(&mut self, key: &str) -> Option<usize> {
        let value = self.get(key)?;
        let size = value.as_u64().and_then(|n| usize::try_from(n).ok());
        if size.is_none() {
            self.wrong(key, value, "a whole number that is not negative");
        }
        size
    }

    fn size(&mut self, key: &str) -> Option<usize> {
        if self.get(key).is_none() {
            self.missing(key);
        }
        self.optional_size(key)
    }

    fn flag(&mut self, key: &str, absent: bool) -> bool {
        match self.get(key) {
            None => absent,
            Some(Value::Bool(b)) => *b,
            Some(value) => {
                self.wrong(key, value, "true or false");
                absent
            }
        }
    }

    /// A default that transformers defines, and the YAML mentions.
    fn defaulted(&mut self, key: &str, value: impl std::fmt::Display) {
        self.notes
            .push(format!("config.json has no `{key}`: {value}, as transformers defines."));
    }

    /// Refuses families this importer does not know; nothing else would make sense of their keys.
    fn supported(&self) -> Result<(), Vec<Diagnostic>> {
        let model_type = self.get("model_type").and_then(Value::as_str);
        let classes: Vec<&str> = match self.get("architectures") {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let error = |code, message: String| {
            let help = format!("supported: {} (for causal language modelling)", FAMILIES.join(", "));
            Err(vec![Diagnostic::new(code, message).in_file(self.file).help(help)])
        };
        let Some(family) = model_type else {
            return error(codes::MISSING_KEY, "`model_type` is missing".into());
        };
        let class = match family {
            "llama" => "LlamaForCausalLM",
            "qwen2" => "Qwen2ForCausalLM",
            _ => {
                let class = classes.first().map(|c| format!(" ({c})")).unwrap_or_default();
                return error(
                    codes::ARCHITECTURE,
                    format!("architecture `{family}`{class} is not supported"),
                );
            }
        };
        match classes.iter().find(|&&c| c != class) {
            Some(other) => error(
                codes::ARCHITECTURE,
                format!("architecture `{family}` as {other} is not supported, only {class}"),
            ),
            None => Ok(()),
        }
    }

    /// `None` only after a problem was noted.
    fn architecture(&mut self, source: &Source) -> Option<Architecture> {
        let qwen2 = self.get("model_type").and_then(Value::as_str) == Some("qwen2");
        for (key, why) in REFUSED {
            if self.get(key).is_some_and(|v| *v != Value::Bool(false)) {
                self.problem(codes::UNSUPPORTED, format!("`{key}`: {why}"));
            }
        }
        self.activation();
        let n_layers = self.size("num_hidden_layers");
        let d_model = self.size("hidden_size");
        let n_heads = self.size("num_attention_heads");
        let d_ff = self.size("intermediate_size");
        let vocab = self.size("vocab_size");
        let max_positions = self.size("max_position_embeddings");
        let eps = self.number(self.json, "rms_norm_eps");
        if self.get("rms_norm_eps").is_none() {
            self.missing("rms_norm_eps");
        }
        let kv_heads = match self.get("num_key_value_heads") {
            // LlamaConfig says "as many as query heads"; Qwen2Config would say 32, whatever the model.
            None if qwen2 => self.size("num_key_value_heads"),
            None => {
                if let Some(n) = n_heads {
                    self.defaulted("num_key_value_heads", format_args!("{n}, one for each query head"));
                }
                n_heads
            }
            Some(_) => self.size("num_key_value_heads"),
        };
        let head_dim = self.head_dim(d_model, n_heads);
        let (rope_theta, rope_scaling, partial) = self.rope();
        self.window(n_layers, max_positions);
        let biases = if qwen2 {
            Biases {
                qkv: true,
                ..Biases::default()
            }
        } else {
            let attention = self.flag("attention_bias", false);
            Biases {
                qkv: attention,
                attn_out: attention,
                mlp: self.flag("mlp_bias", false),
            }
        };
        let tied = match self.get("tie_word_embeddings") {
            None => {
                // LlamaConfig and Qwen2Config both default to false; without an output matrix that cannot be meant.
                if source.tensor("lm_head.weight").is_none() {
                    let message = "`tie_word_embeddings` is missing, and there is no `lm_head.weight` either";
                    self.problem(codes::MISSING_KEY, message.into());
                } else {
                    self.defaulted("tie_word_embeddings", false);
                }
                false
            }
            Some(_) => self.flag("tie_word_embeddings", false),
        };
        let head_dim = head_dim?;
        Some(Architecture {
            n_layers: n_layers?,
            d_model: d_model?,
            n_heads: n_heads?,
            kv_heads: kv_heads?,
            head_dim,
            d_ff: d_ff?,
            vocab: vocab?,
            tied,
            biases,
            rope_theta: rope_theta?,
            rope_dims: (head_dim as f64 * partial) as usize,
            rope_scaling: rope_scaling?,
            pairing: Pairing::Halves,
            eps: eps?,
            max_positions: max_positions?,
            names: &HF_NAMES,
            notes: Vec::new(),
        })
    }

    fn activation(&mut self) {
        match self.get("hidden_act") {
            None => self.missing("hidden_act"),
            Some(Value::String(act)) if act == "silu" || act == "swish" => {}
            Some(act) => self.problem(
                codes::UNSUPPORTED,
                format!("`hidden_act` {act} is not supported, only \"silu\""),
            ),
        }
    }

    fn head_dim(&mut self, d_model: Option<usize>, n_heads: Option<usize>) -> Option<usize> {
        if self.get("head_dim").is_some() {
            return self.optional_size("head_dim");
        }
        // Both configs compute it; older checkpoints never have the key, so that it is not worth a comment.
        let (d, n) = (d_model?, n_heads?);
        if n == 0 || !d.is_multiple_of(n) {
            let message =
                format!("`hidden_size` {d} is not a multiple of `num_attention_heads` {n}, and there is no `head_dim`");
            self.problem(codes::BAD_VALUE, message);
            return None;
        }
        Some(d / n)
    }

    fn number(&mut self, map: &Map<String, Value>, key: &str) -> Option<f64> {
        let value = map.get(key).filter(|v| !v.is_null())?;
        let number = value.as_f64();
        if number.is_none() {
            self.wrong(key, value, "a number");
        }
        number
    }

    /// Base, scaling, and the share of a head that rotates.
    fn rope(&mut self) -> (Option<f64>, Option<RopeScaling>, f64) {
        let empty = Map::new();
        let mut table = |key: &str| match self.get(key) {
            None => None,
            Some(Value::Object(map)) => Some(map),
            Some(value) => {
                self.wrong(key, value, "an object or null");
                None
            }
        };
        let (new, old) = (table("rope_parameters"), table("rope_scaling"));
        if new.is_some() && old.is_some() {
            let message = "both `rope_parameters` and `rope_scaling`: it is not clear which one holds";
            self.problem(codes::BAD_VALUE, message.into());
        }
        let parameters = new.or(old).unwrap_or(&empty);
        let inner = self.number(parameters, "rope_theta");
        let outer = self.number(self.json, "rope_theta");
        let theta = match (inner, outer) {
            (Some(a), Some(b)) if a != b => {
                self.problem(
                    codes::BAD_VALUE,
                    format!("`rope_theta` is {b}, but {a} in the rope parameters"),
                );
                None
            }
            (Some(theta), _) | (None, Some(theta)) => Some(theta),
            (None, None) => {
                if parameters.get("rope_theta").or(self.get("rope_theta")).is_none() {
                    self.defaulted("rope_theta", "10000");
                }
                Some(10_000.0)
            }
        };
        let partial = self.number(parameters, "partial_rotary_factor");
        let partial = partial
            .or(self.number(self.json, "partial_rotary_factor"))
            .unwrap_or(1.0);
        (theta, self.scaling(parameters), partial)
    }

    fn scaling(&mut self, parameters: &Map<String, Value>) -> Option<RopeScaling> {
        let kind = parameters
            .get("rope_type")
            .or(parameters.get("type"))
            .filter(|v| !v.is_null());
        let kind = match kind {
            None if parameters.contains_key("factor") => {
                self.missing("rope_type");
                return None;
            }
            None => "default",
            Some(Value::String(kind)) => kind.as_str(),
            Some(value) => {
                self.wrong("rope_type", value, "a string");
                return None;
            }
        };
        let mut needed = |key: &str| {
            let number = self.number(parameters, key);
            if parameters.get(key).is_none_or(Value::is_null) {
                self.problem(
                    codes::MISSING_KEY,
                    format!("`{key}` of the {kind} rotary scaling is missing"),
                );
            }
            number
        };
        match kind {
            "default" => Some(RopeScaling::None),
            "linear" => Some(RopeScaling::Linear {
                factor: needed("factor")?,
            }),
            "llama3" => {
                let factor = needed("factor");
                let low = needed("low_freq_factor");
                let high = needed("high_freq_factor");
                let original = needed("original_max_position_embeddings");
                Some(RopeScaling::Llama3 {
                    factor: factor?,
                    low_freq_factor: low?,
                    high_freq_factor: high?,
                    original: original?,
                })
            }
            other => {
                let message = format!("rotary scaling `{other}` is not supported, only default, linear and llama3");
                self.problem(codes::UNSUPPORTED, message);
                None
            }
        }
    }

    /// Refuses windows that would hide a position; a window that never does is full attention.
    fn window(&mut self, n_layers: Option<usize>, max_positions: Option<usize>) {
        let window = self.optional_size("sliding_window");
        let hides = window.is_some_and(|w| max_positions.is_none_or(|max| w < max));
        let layer_types = match self.get("layer_types") {
            Some(Value::Array(types)) => types.as_slice(),
            _ => &[],
        };
        if let Some(other) = layer_types
            .iter()
            .find(|t| !matches!(t.as_str(), Some("full_attention" | "sliding_attention")))
        {
            self.problem(
                codes::UNSUPPORTED,
                format!("layers of type {other} are not supported, only \"full_attention\""),
            );
            return;
        }
        let windowed = layer_types.iter().any(|t| t.as_str() == Some("sliding_attention"));
        // Qwen2 has the window in its config even where it is switched off, and switches it on from a layer on.
        let switched_on = match self.get("model_type").and_then(Value::as_str) {
            Some("qwen2") if layer_types.is_empty() => {
                let from = self.optional_size("max_window_layers").unwrap_or(28);
                self.flag("use_sliding_window", false) && n_layers.is_none_or(|n| from < n)
            }
            Some("qwen2") => windowed,
            _ => windowed || layer_types.is_empty(),
        };
        if switched_on && hides {
            let w = window.unwrap_or_default();
            self.problem(
                codes::UNSUPPORTED,
                format!("a sliding window of {w} positions is not supported, only full attention"),
            );
        }
    }
}
