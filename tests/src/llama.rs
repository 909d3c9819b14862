//! Llama-like models (llama, qwen2, mistral) as graphs, from a Hugging Face `config.json`.

use std::{fs, path::Path};

use ck_kernels::{
    dtype::{ActType, DType},
    ops::{Gate, Pairing},
};
use ckc::graph::{Attention, Graph, OpKind, Rope, RopeScaling, TensorId};
use serde_json::Value;

use crate::Builder;

/// How the ops of a graph are expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As in the model language: attention is one op.
    Language,
    /// Lowered: caches are written by ops of their own; projections of quantised weights read quantised rows.
    Lowered,
}

/// The numbers of a llama-like model.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Layers.
    pub layers: usize,
    /// Elements of the residual stream.
    pub hidden: usize,
    /// Elements between the projections of the MLP.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Rows of the embedding table.
    pub vocabulary: usize,
    /// Positions.
    pub context: usize,
    /// Added to the mean square in norms.
    pub eps: f32,
    /// Base of the rotary frequencies.
    pub theta: f64,
    /// Scaling of the rotary frequencies.
    pub scaling: RopeScaling,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// Whether the head is the embedding table.
    pub tied: bool,
    /// Positions a query sees; 0 for all.
    pub window: usize,
    /// The type of the matrices.
    pub dtype: DType,
}

impl LlamaConfig {
    /// The numbers in a model folder's `config.json`.
    ///
    /// # Panics
    /// If a number is missing.
    pub fn open(folder: &Path) -> LlamaConfig {
        let text = fs::read_to_string(folder.join("config.json")).expect("a config.json");
        let json: Value = serde_json::from_str(&text).expect("config.json is JSON");
        let number = |key: &str| json[key].as_u64().unwrap_or_else(|| panic!("{key} in config.json")) as usize;
        let (hidden, heads) = (number("hidden_size"), number("num_attention_heads"));
        let scaling = match &json["rope_scaling"] {
            Value::Null => RopeScaling::None,
            scaling => {
                assert_eq!(scaling["rope_type"], "llama3");
                let number = |key: &str| scaling[key].as_f64().unwrap_or_else(|| panic!("{key} in rope_scaling"));
                RopeScaling::Llama3 {
                    factor: number("factor"),
                    low_freq_factor: number("low_freq_factor"),
                    high_freq_factor: number("high_freq_factor"),
                    original: number("original_max_position_embeddings"),
                }
            }
        };
        LlamaConfig {
            layers: number("num_hidden_layers"),
            hidden,
            intermediate: number("intermediate_size"),
            heads,
            kv_heads: number("num_key_value_heads"),
            head_dim: json["head_dim"].as_u64().map_or(hidden / heads, |n| n as usize),
            vocabulary: number("vocab_size"),
            context: number("max_position_embeddings"),
            eps: json["rms_norm_eps"].as_f64().expect("rms_norm_eps in config.json") as f32,
            theta: json["rope_theta"].as_f64().expect("rope_theta in config.json"),
            scaling,
            qkv_bias: json["model_type"] == "qwen2",
            tied: json["tie_word_embeddings"] == true,
            window: json["sliding_window"].as_u64().unwrap_or(0) as usize,
            dtype: if json["torch_dtype"] == "bfloat16" {
                DType::BF16
            } else {
                DType::F32
            },
        }
    }

    /// A model of a few hundred weights, untied and with biases.
    pub fn small() -> LlamaConfig {
        LlamaConfig {
            layers: 2,
            hidden: 8,
            intermediate: 12,
            heads: 4,
            kv_heads: 2,
            head_dim: 4,
            vocabulary: 10,
            context: 32,
            eps: 1e-5,
            theta: 10000.0,
            scaling: RopeScaling::None,
            qkv_bias: true,
            tied: false,
            window: 0,
            dtype: DType::F32,
        }
    }
}

/// The graph of a llama-like model with the source names of Hugging Face.
pub fn llama_graph(config: &LlamaConfig, form: Form) -> Graph {
    let (hidden, vocabulary) = (config.hidden, config.vocabulary);
    let mut b = Builder::new("llama", config.context, config.context);
    b.dtype = Some(config.dtype);
    b.rope(Rope {
        theta: config.theta,
        dims: config.head_dim,
        head_dim: config.head_dim,
        pairing: Pairing::Halves,
        scaling: config.scaling.clone(),
    });
    let ids = b.input("ids", ActType::U32, 1);
    let table = b.matrix("model.embed_tokens.weight", vocabulary, hidden);
    let mut x = b.op1("embed", OpKind::Embedding, &[ids], &[table], hidden);
    for layer in 0..config.layers {
        b.layer = Some(layer);
        x = attention(&mut b, config, form, layer, x);
        x = mlp(&mut b, config, form, layer, x);
    }
    b.layer = None;
    let last = b.op1("last", OpKind::SelectRow, &[x], &[], hidden);
    let norm = b.vector("model.norm.weight", hidden);
    let normed = b.op1("norm", OpKind::RmsNorm { eps: config.eps }, &[last], &[norm], hidden);
    let head = if config.tied {
        table
    } else {
        b.matrix("lm_head.weight", vocabulary, hidden)
    };
    let normed = lowered(&mut b, config, form, normed);
    let logits = b.op1("logits", OpKind::Linear { bias: false }, &[normed], &[head], vocabulary);
    b.graph.outputs.push(logits);
    b.graph
}

/// The rows as a projection reads them.
fn lowered(b: &mut Builder, config: &LlamaConfig, form: Form, x: TensorId) -> TensorId {
    if form == Form::Language || !config.dtype.quantised() {
        return x;
    }
    let (name, cols) = (format!("{}.q8", b.graph.tensor(x).name), b.graph.tensor(x).cols);
    b.op1(&name, OpKind::Quantize, &[x], &[], cols)
}

fn attention(b: &mut Builder, config: &LlamaConfig, form: Form, layer: usize, x: TensorId) -> TensorId {
    let LlamaConfig {
        hidden,
        heads,
        kv_heads,
        head_dim,
        ..
    } = *config;
    let name = |part: &str| format!("layers.{layer}.{part}");
    let source = |part: &str| format!("model.layers.{layer}.{part}");
    let norm = b.vector(&source("input_layernorm.weight"), hidden);
    let normed = b.op1(
        &name("attn_norm"),
        OpKind::RmsNorm { eps: config.eps },
        &[x],
        &[norm],
        hidden,
    );
    let normed = lowered(b, config, form, normed);
    let cache = b.cache(&name("kv"), kv_heads, head_dim);
    let rope = ckc::graph::RopeId(0);
    let [q, k, v] = [("q", heads), ("k", kv_heads), ("v", kv_heads)].map(|(part, heads)| {
        let cols = heads * head_dim;
        let mut weights = vec![b.matrix(&source(&format!("self_attn.{part}_proj.weight")), cols, hidden)];
        if config.qkv_bias {
            weights.push(b.vector(&source(&format!("self_attn.{part}_proj.bias")), cols));
        }
        let bias = config.qkv_bias;
        b.op1(&name(part), OpKind::Linear { bias }, &[normed], &weights, cols)
    });
    let q = b.op1(&name("q_rope"), OpKind::Rope(rope), &[q], &[], heads * head_dim);
    let k = b.op1(&name("k_rope"), OpKind::Rope(rope), &[k], &[], kv_heads * head_dim);
    let attention = Attention {
        cache,
        heads,
        scale: 1.0 / (head_dim as f32).sqrt(),
        softcap: 0.0,
        window: config.window,
    };
    let attended = match form {
        Form::Language => b.op1(
            &name("attn"),
            OpKind::Attention(attention),
            &[q, k, v],
            &[],
            heads * head_dim,
        ),
        Form::Lowered => {
            b.op(&name("keys"), OpKind::CacheKeys(cache), &[k], &[], &[]);
            b.op(&name("values"), OpKind::CacheValues(cache), &[v], &[], &[]);
            b.op1(&name("attn"), OpKind::Attend(attention), &[q], &[], heads * head_dim)
        }
    };
    let matrix = b.matrix(&source("self_attn.o_proj.weight"), hidden, heads * head_dim);
    let attended = lowered(b, config, form, attended);
    let o = b.op1(
        &name("o"),
        OpKind::Linear { bias: false },
        &[attended],
        &[matrix],
        hidden,
    );
    b.op1(&name("attn_add"), OpKind::Add, &[x, o], &[], hidden)
}

fn mlp(b: &mut Builder, config: &LlamaConfig, form: Form, layer: usize, x: TensorId) -> TensorId {
    let (hidden, intermediate) = (config.hidden, config.intermediate);
    let name = |part: &str| format!("layers.{layer}.{part}");
    let source = |part: &str| format!("model.layers.{layer}.{part}");
    let linear = OpKind::Linear { bias: false };
    let norm = b.vector(&source("post_attention_layernorm.weight"), hidden);
    let normed = b.op1(
        &name("mlp_norm"),
        OpKind::RmsNorm { eps: config.eps },
        &[x],
        &[norm],
        hidden,
    );
    let normed = lowered(b, config, form, normed);
    let [gate, up] = ["gate", "up"].map(|part| {
        let matrix = b.matrix(&source(&format!("mlp.{part}_proj.weight")), intermediate, hidden);
        b.op1(&name(part), linear.clone(), &[normed], &[matrix], intermediate)
    });
    let act = b.op1(
        &name("act"),
        OpKind::Glu { gate: Gate::Silu },
        &[gate, up],
        &[],
        intermediate,
    );
    let act = lowered(b, config, form, act);
    let matrix = b.matrix(&source("mlp.down_proj.weight"), hidden, intermediate);
    let down = b.op1(&name("down"), linear, &[act], &[matrix], hidden);
    b.op1(&name("mlp_add"), OpKind::Add, &[x, down], &[], hidden)
}
