//! Llama-like models of any shape with random weights, as a description and a GGUF file.

use std::fmt::Write;

use ck_kernels::{dtype::DType, quant};

use crate::{Case, Gguf, GgufValue, Random};

/// The shape of a model.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Width of the residual.
    pub d: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Query heads for each of them.
    pub group: usize,
    /// Elements of a head; even.
    pub head_dim: usize,
    /// Leading elements of a head that rotate; even.
    pub rotated: usize,
    /// Width of the MLP.
    pub ff: usize,
    /// Token ids.
    pub vocab: usize,
    /// Layers.
    pub layers: usize,
    /// Most tokens of a call.
    pub batch: usize,
    /// Positions.
    pub context: usize,
    /// Whether q, k and v have biases.
    pub bias: bool,
    /// Whether the embedding is also the output matrix.
    pub tied: bool,
    /// Whether pairs of the rotation stand side by side.
    pub interleaved: bool,
    /// Positions a query sees; 0 for all.
    pub window: usize,
    /// Bound of the scores; 0 for none.
    pub softcap: f32,
    /// Element type of the KV cache.
    pub kv: &'static str,
    /// Type of matrices.
    pub dtype: DType,
    /// Types of the matrices whose name ends so.
    pub dtypes: Vec<(&'static str, DType)>,
    /// Seed of the weights.
    pub seed: u64,
}

impl Default for Shape {
    /// Small, and odd nowhere.
    fn default() -> Shape {
        Shape {
            d: 64,
            kv_heads: 2,
            group: 2,
            head_dim: 16,
            rotated: 16,
            ff: 128,
            vocab: 96,
            layers: 2,
            batch: 16,
            context: 48,
            bias: false,
            tied: false,
            interleaved: false,
            window: 0,
            softcap: 0.0,
            kv: "f32",
            dtype: DType::F32,
            dtypes: Vec::new(),
            seed: 1,
        }
    }
}

/// A matrix or vector of the model.
struct Tensor {
    name: String,
    rows: usize,
    cols: usize,
    /// `rows` is 1 and it is no matrix.
    vector: bool,
}

impl Shape {
    /// A model whose rows are whole blocks of every type.
    pub fn of_blocks(dtype: DType) -> Shape {
        Shape {
            d: 256,
            head_dim: 64,
            rotated: 64,
            ff: 512,
            vocab: 320,
            kv: "f16",
            dtype,
            ..Shape::default()
        }
    }

    /// A prompt of `n` ids.
    pub fn ids(&self, n: usize) -> Vec<u32> {
        let mut random = Random::new(self.seed ^ 0x1d5);
        (0..n).map(|_| random.below(self.vocab) as u32).collect()
    }

    /// The description and its weights, on disk.
    pub fn case(&self) -> Case {
        Case::new(&self.yaml(), "weights.gguf", &self.weights())
    }

    fn dtype_of(&self, name: &str) -> DType {
        let found = self.dtypes.iter().find(|(end, _)| name.ends_with(end));
        found.map_or(self.dtype, |(_, dtype)| *dtype)
    }

    fn tensors(&self) -> Vec<Tensor> {
        let (q, kv) = (
            self.kv_heads * self.group * self.head_dim,
            self.kv_heads * self.head_dim,
        );
        let mut all = Vec::new();
        let mut add = |name: String, rows, cols, vector| {
            all.push(Tensor {
                name,
                rows,
                cols,
                vector,
            });
        };
        add("embed".into(), self.vocab, self.d, false);
        for i in 0..self.layers {
            for (name, rows, cols) in [("q", q, self.d), ("k", kv, self.d), ("v", kv, self.d)] {
                add(format!("{i}.{name}"), rows, cols, false);
                if self.bias {
                    add(format!("{i}.{name}.bias"), 1, rows, true);
                }
            }
            add(format!("{i}.attn_norm"), 1, self.d, true);
            add(format!("{i}.o"), self.d, q, false);
            add(format!("{i}.mlp_norm"), 1, self.d, true);
            add(format!("{i}.gate"), self.ff, self.d, false);
            add(format!("{i}.up"), self.ff, self.d, false);
            add(format!("{i}.down"), self.d, self.ff, false);
        }
        add("norm".into(), 1, self.d, true);
        if !self.tied {
            add("head".into(), self.vocab, self.d, false);
        }
        all
    }

    /// The weights file.
    fn weights(&self) -> Vec<u8> {
        let mut random = Random::new(self.seed);
        let mut file = Gguf::default().with("general.architecture", GgufValue::str("random"));
        for t in self.tensors() {
            file = if t.vector {
                // Norms about 1, biases small.
                let base = if t.name.ends_with("norm") { 1.0 } else { 0.0 };
                let floats = random.floats(t.cols).into_iter().map(|x| base + 0.3 * x);
                file.tensor(&t.name, &[t.cols], 0, floats.flat_map(f32::to_le_bytes).collect())
            } else {
                let dtype = self.dtype_of(&t.name);
                let sigma = 1.0 / (t.cols as f32).sqrt();
                let rows = (0..t.rows)
                    .flat_map(|_| row(dtype, t.cols, sigma, &mut random))
                    .collect();
                file.tensor(&t.name, &[t.rows, t.cols], dtype.ggml_id(), rows)
            };
        }
        file.bytes(3)
    }

    /// The description.
    fn yaml(&self) -> String {
        let mut out = String::new();
        let Shape {
            d,
            kv_heads,
            head_dim,
            rotated,
            ff,
            vocab,
            layers,
            batch,
            context,
            kv,
            ..
        } = self;
        let (heads, q, kv_dim) = (
            kv_heads * self.group,
            kv_heads * self.group * head_dim,
            kv_heads * head_dim,
        );
        let pairing = if self.interleaved { "interleaved" } else { "halves" };
        let none = |value: String, is_none: bool| if is_none { "none".to_owned() } else { value };
        let window = none(self.window.to_string(), self.window == 0);
        let softcap = none(format!("{:?}", self.softcap), self.softcap == 0.0);
        let head = if self.tied { "embed" } else { "head" };
        let bias = |name: &str| {
            if self.bias {
                format!(", bias: \"{{i}}.{name}.bias\"")
            } else {
                String::new()
            }
        };
        let mut dtypes = String::new();
        for (end, dtype) in &self.dtypes {
            write!(dtypes, "\"*{end}\": {}, ", dtype.name()).expect("a string");
        }
        let dtypes = if dtypes.is_empty() {
            dtypes
        } else {
            format!(", dtypes: {{{dtypes}}}")
        };
        write!(
            out,
            r#"
model: random
limits: {{context: {context}, batch: {batch}, max_positions: {context}}}
symbols: {{T: batch, S: context}}
weights: {{file: weights.gguf, dtype: {dtype}{dtypes}}}
kv: {kv}
ropes:
  rope: {{theta: 1000.0, dims: {rotated}, head_dim: {head_dim}, pairing: {pairing}, scaling: none}}
inputs:
  ids: {{dtype: u32, shape: [T]}}
sections:
  - section: decoder
    in: [ids]
    out: [logits]
    ops:
      - {{op: embedding, name: embed, in: [ids], weight: embed, shape: [{vocab}, {d}]}}
      - repeat: layers
        count: {layers}
        index: i
        carry: {{x: {{first: embed, next: mlp_residual}}}}
        ops:
          - {{op: rmsnorm, name: attn_norm, in: [x], weight: "{{i}}.attn_norm", eps: 1.0e-5}}
          - {{op: linear, name: q, in: [attn_norm], weight: "{{i}}.q"{bq}, shape: [{q}, {d}]}}
          - {{op: linear, name: k, in: [attn_norm], weight: "{{i}}.k"{bk}, shape: [{kv_dim}, {d}]}}
          - {{op: linear, name: v, in: [attn_norm], weight: "{{i}}.v"{bv}, shape: [{kv_dim}, {d}]}}
          - {{op: rope, name: q_rot, in: [q], rope: rope}}
          - {{op: rope, name: k_rot, in: [k], rope: rope}}
          - op: attention
            name: attn
            in: [q_rot, k_rot, v]
            cache: kv
            positions: S
            n_heads: {heads}
            kv_heads: {kv_heads}
            head_dim: {head_dim}
            scale: 1 / sqrt({head_dim})
            mask: causal
            window: {window}
            softcap: {softcap}
          - {{op: linear, name: attn_out, in: [attn], weight: "{{i}}.o", shape: [{d}, {q}]}}
          - {{op: add, name: attn_residual, in: [x, attn_out]}}
          - {{op: rmsnorm, name: mlp_norm, in: [attn_residual], weight: "{{i}}.mlp_norm", eps: 1.0e-5}}
          - {{op: linear, name: gate, in: [mlp_norm], weight: "{{i}}.gate", shape: [{ff}, {d}]}}
          - {{op: linear, name: up, in: [mlp_norm], weight: "{{i}}.up", shape: [{ff}, {d}]}}
          - {{op: glu, name: act, in: [gate, up], act: silu}}
          - {{op: linear, name: down, in: [act], weight: "{{i}}.down", shape: [{d}, {ff}]}}
          - {{op: add, name: mlp_residual, in: [attn_residual, down]}}
      - {{op: select_row, name: last, in: [layers.x]}}
      - {{op: rmsnorm, name: final_norm, in: [last], weight: norm, eps: 1.0e-5}}
      - {{op: linear, name: logits, in: [final_norm], weight: {head}, shape: [{vocab}, {d}]}}
outputs: [logits]
"#,
            dtype = self.dtype.name(),
            bq = bias("q"),
            bk = bias("k"),
            bv = bias("v"),
        )
        .expect("a string");
        out
    }
}

/// One row of random weights of mean 0 and a standard deviation of about `sigma`.
fn row(dtype: DType, cols: usize, sigma: f32, random: &mut Random) -> Vec<u8> {
    let mut out = vec![0; dtype.row_bytes(cols)];
    let format = quant::format(dtype);
    // A uniform number in -1..1 has a variance of 1/3.
    let scale = sigma * 3f32.sqrt();
    let floats: Vec<f32> = random.floats(cols).into_iter().map(|x| x * scale).collect();
    if !format.encode_row(&floats, &mut out) {
        // Blocks of any bytes are valid; only the scales must be small.
        out.fill_with(|| random.next_u64() as u8);
        format.tame(&mut out, sigma);
    }
    out
}
