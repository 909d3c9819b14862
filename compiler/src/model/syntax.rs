//! The shape of a model description: what may stand where. No meaning yet.

use std::borrow::Cow;

use ck_kernels::dtype::DType;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::codes;
use super::decode::{Decode, Fields, Lenient, Named, Spanned, choice, decode_word, record, wrong_type};
use super::expr::Expr;
use super::ops::{self, ModelOp};
use super::sink::{Sink, Span};
use super::template::Template;
use super::tree::{Node, Value};

record! {
    /// A transformer model: named ops over named tensors.
    pub struct Document as "the model description" {
        /// The model's name: also the name of the emitted crate.
        model: Lenient<Spanned<String>>,
        /// Numbers, and arithmetic on them.
        constants: Option<Lenient<Named<Lenient<Expr>>>>,
        /// Upper bounds of what is known only at run time.
        limits: Lenient<Limits>,
        /// Sizes known only at run time, each bounded by a limit.
        symbols: Lenient<Named<Lenient<Spanned<Bound>>>>,
        /// The weights file and how it is packed.
        weights: Lenient<Weights>,
        /// A tokenizer.json, its folder or a GGUF file, relative to this file. Without it, the runner takes token ids.
        tokenizer: Option<Lenient<Spanned<String>>>,
        /// Element type of the KV cache. Left out: f32 when `weights.dtype` is f32, else f16.
        kv: Option<Lenient<KvType>>,
        /// What may be fused. Left out: everything.
        fusion: Option<Lenient<Fusion>>,
        /// Where tensors lie. Left out: packed.
        layout: Option<Lenient<LayoutKind>>,
        /// The order of the steps. Left out: memory.
        order: Option<Lenient<OrderKind>>,
        /// Sizes above which `ckc compile` and `ckc plan` fail.
        budget: Option<Lenient<Budget>>,
        /// A program that looks for faults of its own plan and kernels, and is slow. Left out: one that does not.
        debug: Option<Lenient<Debug>>,
        /// Memories of different speed, the fastest first; what is read and written most goes first. Left out: one
        /// memory, without a limit.
        arena: Option<Lenient<Spanned<Vec<Lenient<Memory>>>>>,
        /// Rotary position embeddings, by name.
        ropes: Option<Lenient<Named<Lenient<RopeSpec>>>>,
        /// Tensors given from outside.
        inputs: Lenient<Spanned<Named<Lenient<Spanned<Input>>>>>,
        /// The ops, in execution order.
        sections: Lenient<Spanned<Vec<Lenient<Section>>>>,
        /// The tensors that the runner gives back.
        outputs: Lenient<Spanned<Vec<Spanned<String>>>>,
    }
}

record! {
    /// Upper bounds.
    pub struct Limits as "`limits`" {
        /// Positions that the KV cache holds.
        context: Lenient<Expr>,
        /// Tokens of one call; longer prompts run in chunks.
        batch: Lenient<Expr>,
        /// Positions that the model was trained on.
        max_positions: Lenient<Expr>,
    }
}

choice! {
    /// What bounds a symbol.
    pub enum Bound as "a limit" {
        /// Tokens of one call.
        Batch = "batch",
        /// Positions of the KV cache.
        Context = "context",
    }
}

record! {
    /// The weights file.
    pub struct Weights as "`weights`" {
        /// A GGUF file, a safetensors file or a Hugging Face folder, relative to this file.
        file: Lenient<Spanned<String>>,
        /// What matrices are packed as. Vectors are always f32.
        dtype: Lenient<Spanned<WeightType>>,
        /// Matrices that are packed as another type: source names, `*` stands for any characters.
        dtypes: Option<Lenient<Named<Spanned<WeightType>>>>,
    }
}

/// Storage of a matrix; names and blocks are ggml's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightType(pub DType);

impl Decode for WeightType {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let words = DType::ALL.map(|dtype| (dtype.name(), WeightType(dtype)));
        decode_word(node, "a type of matrices", &words, sink)
    }
}

impl JsonSchema for WeightType {
    fn schema_name() -> Cow<'static, str> {
        "WeightType".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let word = |dtype: DType| json_schema!({"type": "string", "const": dtype.name(), "description": dtype.about()});
        json_schema!({
            "oneOf": DType::ALL.map(word),
            "description": "Storage of a matrix; names and blocks are ggml's.",
        })
    }
}

choice! {
    /// Storage of keys and values.
    pub enum KvType as "a type of the KV cache" {
        /// IEEE single.
        F32 = "f32",
        /// IEEE half.
        F16 = "f16",
    }
}

choice! {
    /// Where tensors lie.
    pub enum LayoutKind as "a layout" {
        /// Fused-away tensors have no place.
        Packed = "packed",
        /// Every tensor keeps its own place, in execution order.
        Stride = "stride",
    }
}

choice! {
    /// The order of the steps.
    pub enum OrderKind as "an order of steps" {
        /// The one with the fewest bytes live at once; as written, if that is as good.
        Memory = "memory",
        /// As written.
        Source = "source",
    }
}

record! {
    /// What may be fused.
    pub struct Fusion as "`fusion`" {
        /// `all`, `none`, or flags separated by commas, `-` before one that is taken away: `all,-attn_proj`.
        flags: Spanned<String>,
        /// The same for single ops: names, `*` stands for any characters. The last that matches an op decides.
        sites: Option<Named<Spanned<String>>>,
    }
}

record! {
    /// Sizes that must not be exceeded.
    pub struct Budget as "`budget`" {
        /// The whole arena.
        arena: Option<Bytes>,
        /// The packed weights.
        weights: Option<Bytes>,
        /// The KV cache.
        kv: Option<Bytes>,
        /// Activations.
        activations: Option<Bytes>,
        /// Workspaces of kernels.
        scratch: Option<Bytes>,
    }
}

record! {
    /// How a program looks for faults of its own plan and kernels.
    pub struct Debug as "`debug`" {
        /// 64 known bytes behind every buffer, looked at after every step. Left out: false.
        canaries: Option<bool>,
        /// NaN in what is dead or not yet written, and what a step writes looked at after it. Left out: false.
        poison: Option<bool>,
        /// Activations share bytes. False gives each a place of its own. Left out: true.
        reuse: Option<bool>,
    }
}

record! {
    /// A memory: a part of the arena with a speed of its own.
    pub struct Memory as "a memory" {
        /// Its name: a region of the report.
        name: Lenient<Spanned<String>>,
        /// What it holds at most. Only the last memory may leave it out: no limit.
        bytes: Option<Lenient<Spanned<Bytes>>>,
    }
}

record! {
    /// A rotary position embedding.
    pub struct RopeSpec as "a rope" {
        /// Base of the frequencies: `theta^(-2i/dims)`.
        theta: Expr,
        /// Leading elements of a head that rotate; even.
        dims: Expr,
        /// Elements of a head.
        head_dim: Expr,
        /// Which elements are rotated together.
        pairing: PairingWord,
        /// How frequencies are stretched for longer contexts.
        scaling: Scaling,
    }
}

choice! {
    /// Which elements of a head are rotated together.
    pub enum PairingWord as "a pairing" {
        /// `i` with `i + dims/2`: Hugging Face llama, qwen2 everywhere.
        Halves = "halves",
        /// `2i` with `2i + 1`: GGUF llama.
        Interleaved = "interleaved",
    }
}

/// How frequencies are stretched.
#[derive(Clone, Debug)]
pub enum Scaling {
    /// As trained.
    None,
    /// Positions divided by a factor.
    Linear(LinearScaling),
    /// Llama 3's ramp.
    Llama3(Llama3Scaling),
    /// Divisors from the weights file.
    Factors(Template),
}

record! {
    /// Positions divided by a factor.
    pub struct LinearScaling as "`linear`" {
        /// The divisor.
        factor: Expr,
    }
}

record! {
    /// Llama 3: long wavelengths divided by `factor`, short ones kept, a ramp between.
    pub struct Llama3Scaling as "`llama3`" {
        /// The divisor of low frequencies.
        factor: Expr,
        /// Wavelengths above `original / low_freq_factor` are divided.
        low_freq_factor: Expr,
        /// Wavelengths below `original / high_freq_factor` are kept.
        high_freq_factor: Expr,
        /// Positions that the model was first trained on.
        original: Expr,
    }
}

impl Decode for Scaling {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        const KINDS: [&str; 3] = ["linear", "llama3", "factors"];
        match &node.value {
            Value::Map(entries) => {
                let fields = Fields::of(node, "`scaling`", sink)?;
                fields.reject_unknown(KINDS.into_iter(), sink);
                let [(key, value)] = entries.as_slice() else {
                    wrong_type(node, "one of `linear`, `llama3` and `factors`", sink);
                    return None;
                };
                match key.name.as_str() {
                    "linear" => LinearScaling::decode(value, sink).map(Scaling::Linear),
                    "llama3" => Llama3Scaling::decode(value, sink).map(Scaling::Llama3),
                    "factors" => Template::decode(value, sink).map(Scaling::Factors),
                    _ => None,
                }
            }
            Value::Str(_) => decode_word(node, "a scaling", &[("none", ())], sink).map(|()| Scaling::None),
            _ => {
                wrong_type(node, "`none` or a mapping", sink);
                None
            }
        }
    }
}

impl JsonSchema for Scaling {
    fn schema_name() -> Cow<'static, str> {
        "Scaling".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let linear = generator.subschema_for::<LinearScaling>();
        let llama3 = generator.subschema_for::<Llama3Scaling>();
        let factors = generator.subschema_for::<Template>();
        json_schema!({
            "description": "How frequencies are stretched for longer contexts.",
            "oneOf": [
                { "const": "none", "description": "As trained." },
                { "type": "object", "properties": { "linear": linear }, "required": ["linear"], "additionalProperties": false },
                { "type": "object", "properties": { "llama3": llama3 }, "required": ["llama3"], "additionalProperties": false },
                {
                    "type": "object",
                    "description": "Each frequency divided by its element of a source tensor of `dims / 2` floats.",
                    "properties": { "factors": factors },
                    "required": ["factors"],
                    "additionalProperties": false
                }
            ]
        })
    }
}

record! {
    /// A tensor given from outside.
    pub struct Input as "an input" {
        /// Element type.
        dtype: Spanned<InputType>,
        /// Symbols: `[T]`.
        shape: Spanned<Vec<Spanned<String>>>,
    }
}

choice! {
    /// Element type of an input.
    pub enum InputType as "a type of inputs" {
        /// Token ids.
        U32 = "u32",
    }
}

record! {
    /// A part of the model: encoder, decoder, vision, ...
    pub struct Section as "a section" {
        /// Its name.
        section: Lenient<Spanned<String>>,
        /// The tensors of other sections, and the inputs, that it reads.
        r#in: Lenient<Vec<Spanned<String>>>,
        /// Its tensors that other sections and `outputs` may read.
        out: Lenient<Vec<Spanned<String>>>,
        /// Its ops, in execution order.
        ops: Lenient<Spanned<Vec<Item>>>,
    }
}

/// One entry of `ops`.
#[derive(Clone, Debug)]
pub enum Item {
    /// An op.
    Op(OpItem),
    /// Ops again and again.
    Repeat(Box<Repeat>),
    /// Unreadable, which has been said.
    Unreadable,
}

/// An op, with what could be read of it.
#[derive(Clone, Debug)]
pub struct OpItem {
    /// Its name, also the name of the tensor it makes.
    pub name: Option<Spanned<String>>,
    /// The tensors it reads.
    pub inputs: Option<Spanned<Vec<Spanned<String>>>>,
    /// What it computes, and the place of the op's name.
    pub kind: Option<(ops::Entry, Box<dyn ModelOp>)>,
    /// The whole entry.
    pub span: Span,
}

record! {
    /// The same ops, `count` times.
    pub struct Repeat as "a repeat" {
        /// Its name: pass 3 names its tensors `<repeat>.3.<op>`.
        repeat: Lenient<Spanned<String>>,
        /// Passes.
        count: Lenient<Expr>,
        /// The name of the pass in expressions, from 0.
        index: Lenient<Spanned<String>>,
        /// Tensors handed from pass to pass.
        carry: Option<Lenient<Named<Lenient<Carry>>>>,
        /// The ops of one pass.
        ops: Lenient<Spanned<Vec<Item>>>,
    }
}

record! {
    /// A tensor handed from pass to pass; after the last one it is `<repeat>.<name>`.
    pub struct Carry as "a carried tensor" {
        /// What it is in pass 0: a tensor from before the repeat.
        first: Spanned<String>,
        /// What it is in the others: a tensor of the pass before.
        next: Spanned<String>,
    }
}

impl Decode for Item {
    /// Never `None`: what is unreadable has been reported and is left out.
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let Some(fields) = Fields::of(node, "an entry of `ops`", sink) else {
            return Some(Item::Unreadable);
        };
        if fields.get("repeat").is_some() {
            return Some(Repeat::decode(node, sink).map_or(Item::Unreadable, |repeat| Item::Repeat(Box::new(repeat))));
        }
        let kind = Spanned::<String>::decode_key(&fields, "op", sink);
        let name = Decode::decode_key(&fields, "name", sink);
        let inputs = Decode::decode_key(&fields, "in", sink);
        let kind = kind.and_then(|kind| ops::decode(&kind, &fields, sink));
        Some(Item::Op(OpItem {
            name,
            inputs,
            kind,
            span: node.span.clone(),
        }))
    }
}

impl JsonSchema for Item {
    fn schema_name() -> Cow<'static, str> {
        "Item".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut kinds = ops::schemas(generator);
        kinds.push(generator.subschema_for::<Repeat>());
        json_schema!({ "oneOf": kinds })
    }
}

/// A number of bytes: `1048576`, `1024KiB`, `1MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl Decode for Bytes {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        const UNITS: [(&str, u64); 7] = [
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("kB", 1_000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("B", 1),
        ];
        let bytes = match &node.value {
            Value::Int(value) => u64::try_from(*value).ok(),
            Value::Str(text) => UNITS.iter().find_map(|(unit, factor)| {
                let digits = text.strip_suffix(unit)?.trim_end();
                let plain = digits.bytes().all(|b| b.is_ascii_digit());
                digits.parse::<u64>().ok().filter(|_| plain)?.checked_mul(*factor)
            }),
            _ => None,
        };
        if bytes.is_none() {
            let message = "expected a number of bytes: 4096, 64KiB, 12MiB or 1GiB";
            sink.error(codes::WRONG_TYPE, message, &node.span, "not a number of bytes");
        }
        bytes.map(Bytes)
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes: a number, or one with a unit.",
            "anyOf": [
                { "type": "integer", "minimum": 0 },
                { "type": "string", "pattern": "^[0-9]+ ?(B|kB|MB|GB|KiB|MiB|GiB)$" }
            ]
        })
    }
}

/// `none`, or a value.
#[derive(Clone, Debug)]
pub struct OrNone<T>(pub Option<T>);

impl<T: Decode> Decode for OrNone<T> {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            Value::Str(text) if text == "none" => Some(OrNone(None)),
            _ => T::decode(node, sink).map(|value| OrNone(Some(value))),
        }
    }
}

impl<T: JsonSchema> JsonSchema for OrNone<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OrNone_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [{ "const": "none" }, value] })
    }
}
