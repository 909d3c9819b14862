//! What an importer has to find out: everything that distinguishes one model of the llama and qwen2 families from
//! another.

use ck_kernels::ops::Pairing;

use crate::{diag::Diagnostic, graph::RopeScaling, source::codes};

/// The families that can be imported, by the name GGUF (`general.architecture`) and Hugging Face (`model_type`) share.
pub const FAMILIES: [&str; 2] = ["llama", "qwen2"];

/// Limits of what is believed. Every size is checked against the tensors as well; these keep arithmetic from
/// overflowing before that.
const MAX_LAYERS: usize = 4096;
const MAX_SIZE: usize = 1 << 28;

/// A decoder-only transformer with RMS norms, rotary positions and a SwiGLU MLP.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Blocks.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Width of the MLP.
    pub d_ff: usize,
    /// Rows of the embedding.
    pub vocab: usize,
    /// Whether the embedding is the output matrix as well.
    pub tied: bool,
    /// Which projections have a bias.
    pub biases: Biases,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Leading elements of a head that rotate.
    pub rope_dims: usize,
    /// How the frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// Which elements rotate together.
    pub pairing: Pairing,
    /// Added to the mean square in every norm.
    pub eps: f64,
    /// Positions the model was trained on.
    pub max_positions: usize,
    /// What the tensors are called.
    pub names: &'static Names,
    /// Things a reader of the YAML should know: defaults that were taken, keys that were passed over.
    pub notes: Vec<String>,
}

/// Which projections have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Queries, keys and values.
    pub qkv: bool,
    /// The attention's output projection.
    pub attn_out: bool,
    /// The three matrices of the MLP.
    pub mlp: bool,
}

/// Tensor names without `.weight` or `.bias`; `{i}` is the layer.
#[derive(Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the tensor of its name")]
pub struct Names {
    pub embed: &'static str,
    pub attn_norm: &'static str,
    pub q: &'static str,
    pub k: &'static str,
    pub v: &'static str,
    pub attn_out: &'static str,
    pub mlp_norm: &'static str,
    pub gate: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub final_norm: &'static str,
    pub head: &'static str,
}

/// Hugging Face's names.
pub static HF_NAMES: Names = Names {
    embed: "model.embed_tokens",
    attn_norm: "model.layers.{i}.input_layernorm",
    q: "model.layers.{i}.self_attn.q_proj",
    k: "model.layers.{i}.self_attn.k_proj",
    v: "model.layers.{i}.self_attn.v_proj",
    attn_out: "model.layers.{i}.self_attn.o_proj",
    mlp_norm: "model.layers.{i}.post_attention_layernorm",
    gate: "model.layers.{i}.mlp.gate_proj",
    up: "model.layers.{i}.mlp.up_proj",
    down: "model.layers.{i}.mlp.down_proj",
    final_norm: "model.norm",
    head: "lm_head",
};

/// GGUF's names.
pub static GGUF_NAMES: Names = Names {
    embed: "token_embd",
    attn_norm: "blk.{i}.attn_norm",
    q: "blk.{i}.attn_q",
    k: "blk.{i}.attn_k",
    v: "blk.{i}.attn_v",
    attn_out: "blk.{i}.attn_output",
    mlp_norm: "blk.{i}.ffn_norm",
    gate: "blk.{i}.ffn_gate",
    up: "blk.{i}.ffn_up",
    down: "blk.{i}.ffn_down",
    final_norm: "output_norm",
    head: "output",
};

/// A tensor the model needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Its name in the weights file.
    pub name: String,
    /// Output features; 1 for vectors.
    pub rows: usize,
    /// Input features; the length for vectors.
    pub cols: usize,
    /// Whether it is a vector.
    pub vector: bool,
}

impl Architecture {
    /// Width of all query heads.
    pub fn q_dim(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Width of all key (or value) heads.
    pub fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Every tensor the model reads, in execution order.
    pub fn tensors(&self) -> Vec<Needed> {
        let names = self.names;
        let (d, ff, q, kv) = (self.d_model, self.d_ff, self.q_dim(), self.kv_dim());
        let Biases { qkv, attn_out, mlp } = self.biases;
        let mut needed = Vec::new();
        let mut add = |base: &str, layer: usize, rows: usize, cols: usize, bias: bool| {
            let base = base.replace("{i}", &layer.to_string());
            let vector = rows == 0;
            needed.push(Needed {
                name: format!("{base}.weight"),
                rows: rows.max(1),
                cols,
                vector,
            });
            if bias {
                needed.push(Needed {
                    name: format!("{base}.bias"),
                    rows: 1,
                    cols: rows,
                    vector: true,
                });
            }
        };
        add(names.embed, 0, self.vocab, d, false);
        for i in 0..self.n_layers {
            // Zero rows stand for a vector.
            add(names.attn_norm, i, 0, d, false);
            add(names.q, i, q, d, qkv);
            add(names.k, i, kv, d, qkv);
            add(names.v, i, kv, d, qkv);
            add(names.attn_out, i, d, q, attn_out);
            add(names.mlp_norm, i, 0, d, false);
            add(names.gate, i, ff, d, mlp);
            add(names.up, i, ff, d, mlp);
            add(names.down, i, d, ff, mlp);
        }
        add(names.final_norm, 0, 0, d, false);
        if !self.tied {
            add(names.head, 0, self.vocab, d, false);
        }
        if let RopeScaling::Factors { source } = &self.rope_scaling {
            needed.push(Needed {
                name: source.clone(),
                rows: 1,
                cols: self.rope_dims / 2,
                vector: true,
            });
        }
        needed
    }

    /// What cannot be true of any model, whatever its tensors.
    pub fn check(&self, file: &str) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        let mut problem = |message: String| problems.push(Diagnostic::new(codes::BAD_VALUE, message).in_file(file));
        let sizes = [
            ("layers", self.n_layers, MAX_LAYERS),
            ("width", self.d_model, MAX_SIZE),
            ("query heads", self.n_heads, MAX_SIZE),
            ("key/value heads", self.kv_heads, MAX_SIZE),
            ("head size", self.head_dim, MAX_SIZE),
            ("MLP width", self.d_ff, MAX_SIZE),
            ("vocabulary", self.vocab, MAX_SIZE),
            ("positions", self.max_positions, MAX_SIZE),
        ];
        for (what, value, max) in sizes {
            if !(1..=max).contains(&value) {
                problem(format!("{what} of {value}: must be 1 to {max}"));
            }
        }
        if self.kv_heads > 0 && !self.n_heads.is_multiple_of(self.kv_heads) {
            problem(format!(
                "{} query heads are not a multiple of {} key/value heads",
                self.n_heads, self.kv_heads
            ));
        }
        if !self.rope_dims.is_multiple_of(2) || self.rope_dims == 0 || self.rope_dims > self.head_dim {
            let (dims, head) = (self.rope_dims, self.head_dim);
            problem(format!(
                "{dims} rotary dimensions in a head of {head}: must be even, and 2 to the head's size"
            ));
        }
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if !positive(self.eps) {
            problem(format!("a norm epsilon of {}: must be positive", self.eps));
        }
        if !positive(self.rope_theta) {
            problem(format!("a rotary base of {}: must be positive", self.rope_theta));
        }
        match self.rope_scaling {
            RopeScaling::Linear { factor } if !positive(factor) => {
                problem(format!("a rotary scaling factor of {factor}: must be positive"));
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original,
            } if ![factor, low, high, original].into_iter().all(positive) || low >= high => {
                problem(format!(
                    "llama3 rotary scaling with factor {factor}, low_freq_factor {low}, high_freq_factor {high}, \
                     original_max_position_embeddings {original}: all must be positive, low below high"
                ));
            }
            _ => {}
        }
        problems
    }
}
