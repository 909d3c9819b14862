//! Small GGUF files made by hand, written independently of the code under test.

/// A metadata value.
#[derive(Clone, Debug)]
pub enum GgufValue {
    /// Type id and bytes of a fixed-size value.
    Raw(u32, Vec<u8>),
    /// A string.
    Str(String),
    /// Element type id, number of elements, their bytes.
    Array(u32, u64, Vec<u8>),
}

impl GgufValue {
    /// A `u32`.
    pub fn u32(value: u32) -> GgufValue {
        GgufValue::Raw(4, value.to_le_bytes().into())
    }

    /// An `f32`.
    pub fn f32(value: f32) -> GgufValue {
        GgufValue::Raw(6, value.to_le_bytes().into())
    }

    /// A boolean.
    pub fn bool(value: bool) -> GgufValue {
        GgufValue::Raw(7, vec![value.into()])
    }

    /// A string.
    pub fn str(value: &str) -> GgufValue {
        GgufValue::Str(value.into())
    }

    /// An array of strings.
    pub fn strings(values: &[&str]) -> GgufValue {
        let bytes = values.iter().flat_map(|v| string(v)).collect();
        GgufValue::Array(8, values.len() as u64, bytes)
    }
}

fn string(text: &str) -> Vec<u8> {
    let mut out = (text.len() as u64).to_le_bytes().to_vec();
    out.extend(text.bytes());
    out
}

/// A tensor of the file.
#[derive(Clone, Debug)]
struct GgufTensor {
    name: String,
    /// Innermost first.
    dims: Vec<u64>,
    ggml_type: u32,
    bytes: Vec<u8>,
}

/// A GGUF file in the making.
#[derive(Clone, Debug, Default)]
pub struct Gguf {
    pairs: Vec<(String, GgufValue)>,
    tensors: Vec<GgufTensor>,
}

/// The alignment of files that do not state one.
const ALIGNMENT: usize = 32;

impl Gguf {
    /// Adds a key.
    #[must_use]
    pub fn with(mut self, key: &str, value: GgufValue) -> Gguf {
        self.pairs.push((key.into(), value));
        self
    }

    /// Replaces a key's value, or removes the key.
    #[must_use]
    pub fn change(mut self, key: &str, value: Option<GgufValue>) -> Gguf {
        self.pairs.retain(|(k, _)| k != key);
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds a tensor: dimensions outermost first, ggml's type id, its bytes.
    #[must_use]
    pub fn tensor(mut self, name: &str, shape: &[usize], ggml_type: u32, bytes: Vec<u8>) -> Gguf {
        let dims = shape.iter().rev().map(|&d| d as u64).collect();
        self.tensors.push(GgufTensor {
            name: name.into(),
            dims,
            ggml_type,
            bytes,
        });
        self
    }

    /// Adds an f32 tensor whose element `i` is `i % 7 - 3`.
    #[must_use]
    pub fn floats(self, name: &str, shape: &[usize]) -> Gguf {
        let n: usize = shape.iter().product();
        let bytes = (0..n).flat_map(|i| ((i % 7) as f32 - 3.0).to_le_bytes()).collect();
        self.tensor(name, shape, 0, bytes)
    }

    /// Stores a tensor as another type: zeros, `block` bytes for every 32 elements.
    #[must_use]
    pub fn retype(mut self, name: &str, ggml_type: u32, block: usize) -> Gguf {
        for tensor in self.tensors.iter_mut().filter(|t| t.name == name) {
            let n: u64 = tensor.dims.iter().product();
            tensor.ggml_type = ggml_type;
            tensor.bytes = vec![0; n as usize / 32 * block];
        }
        self
    }

    /// The file, as version 2 or 3.
    pub fn bytes(&self, version: u32) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.pairs.len() as u64).to_le_bytes());
        for (key, value) in &self.pairs {
            out.extend(string(key));
            match value {
                GgufValue::Raw(id, bytes) => {
                    out.extend(id.to_le_bytes());
                    out.extend(bytes);
                }
                GgufValue::Str(text) => {
                    out.extend(8u32.to_le_bytes());
                    out.extend(string(text));
                }
                GgufValue::Array(id, n, bytes) => {
                    out.extend(9u32.to_le_bytes());
                    out.extend(id.to_le_bytes());
                    out.extend(n.to_le_bytes());
                    out.extend(bytes);
                }
            }
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            out.extend(string(&tensor.name));
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            out.extend(tensor.dims.iter().flat_map(|d| d.to_le_bytes()));
            out.extend(tensor.ggml_type.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset = (offset + tensor.bytes.len()).next_multiple_of(ALIGNMENT);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            out.extend(&tensor.bytes);
        }
        out
    }
}

/// [`small_model`] of the llama family.
pub fn small_llama() -> Gguf {
    small_model("llama")
}

/// A model of one layer: width 32, 2 heads of 16, 1 key/value head, MLP 64, 40 tokens, tied.
pub fn small_model(family: &str) -> Gguf {
    let layer = |name: &str| format!("blk.0.{name}.weight");
    let key = |name: &str| format!("{family}.{name}");
    Gguf::default()
        .with("general.architecture", GgufValue::str(family))
        .with("general.name", GgufValue::str("Small Llama"))
        .with(&key("block_count"), GgufValue::u32(1))
        .with(&key("embedding_length"), GgufValue::u32(32))
        .with(&key("feed_forward_length"), GgufValue::u32(64))
        .with(&key("attention.head_count"), GgufValue::u32(2))
        .with(&key("attention.head_count_kv"), GgufValue::u32(1))
        .with(&key("attention.layer_norm_rms_epsilon"), GgufValue::f32(1e-5))
        .with(&key("context_length"), GgufValue::u32(128))
        .with(&key("rope.freq_base"), GgufValue::f32(10_000.0))
        .with("tokenizer.ggml.model", GgufValue::str("llama"))
        .with(
            "tokenizer.ggml.tokens",
            GgufValue::strings(&["<unk>", "a", "\u{2581}b"]),
        )
        .with("tokenizer.ggml.scores", GgufValue::Array(6, 3, vec![0; 12]))
        .with("tokenizer.ggml.add_bos_token", GgufValue::bool(true))
        .floats("token_embd.weight", &[40, 32])
        .floats(&layer("attn_norm"), &[32])
        .floats(&layer("attn_q"), &[32, 32])
        .floats(&layer("attn_k"), &[16, 32])
        .floats(&layer("attn_v"), &[16, 32])
        .floats(&layer("attn_output"), &[32, 32])
        .floats(&layer("ffn_norm"), &[32])
        .floats(&layer("ffn_gate"), &[64, 32])
        .floats(&layer("ffn_up"), &[64, 32])
        .floats(&layer("ffn_down"), &[32, 64])
        .floats("output_norm.weight", &[32])
}
