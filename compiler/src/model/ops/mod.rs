//! The ops of the language: one file each, one registry.
//!
//! A new op is a file that declares its keys and says what it makes, and a line in [`OPS`].

mod add;
mod attention;
mod embedding;
mod glu;
mod linear;
mod rmsnorm;
mod rope;
mod select_row;

use std::fmt::Debug;

use ck_kernels::dtype::ActType;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::codes;
use super::decode::{Fields, Record, Spanned};
use super::sink::Sink;
use super::site::Site;
use crate::diag::Diagnostic;
use crate::graph::{OpKind, Rows, WeightId};

/// Every op, in the order that a transformer meets them.
pub const OPS: &[Entry] = &[
    entry::<embedding::Embedding>(),
    entry::<rmsnorm::RmsNorm>(),
    entry::<linear::Linear>(),
    entry::<rope::Rope>(),
    entry::<attention::Attention>(),
    entry::<glu::Glu>(),
    entry::<add::Add>(),
    entry::<select_row::SelectRow>(),
];

/// The keys that every op has.
const COMMON_KEYS: [&str; 3] = ["op", "name", "in"];

/// What the op of a description is made of.
pub trait OpSpec: Record + ModelOp + JsonSchema + Debug + Clone + 'static {
    /// The word after `op:`.
    const NAME: &'static str;
    /// What its inputs are called in messages; as many as it takes.
    const INPUTS: &'static [&'static str];
}

/// How an op becomes a part of the graph.
pub trait ModelOp: Debug {
    /// Checks the op at its site and says what it makes. `None` after a mistake that leaves the shape unknown. Every
    /// key is evaluated, whatever is wrong with others. Mistakes have been reported.
    fn lower(&self, site: &mut Site<'_>) -> Option<Lowered>;

    /// A copy.
    fn boxed(&self) -> Box<dyn ModelOp>;
}

impl Clone for Box<dyn ModelOp> {
    fn clone(&self) -> Self {
        self.boxed()
    }
}

/// What an op makes: one tensor.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// What it computes, and the weights it reads. `None` after a mistake that leaves the tensor's shape known.
    pub op: Option<(OpKind, Vec<WeightId>)>,
    /// Element type of the tensor.
    pub act: ActType,
    /// Rows of the tensor.
    pub rows: Rows,
    /// Elements of a row.
    pub cols: usize,
}

/// One op of the registry.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The word after `op:`.
    pub name: &'static str,
    /// What its inputs are called.
    pub inputs: &'static [&'static str],
    keys: &'static [&'static str],
    decode: fn(&Fields<'_>, &mut Sink) -> Option<Box<dyn ModelOp>>,
    schema: fn(&mut SchemaGenerator) -> Schema,
}

const fn entry<T: OpSpec>() -> Entry {
    Entry {
        name: T::NAME,
        inputs: T::INPUTS,
        keys: T::KEYS,
        decode: |fields, sink| T::from_fields(fields, sink).map(|op| Box::new(op) as Box<dyn ModelOp>),
        schema: T::json_schema,
    }
}

/// Reads the keys of an op of that kind.
pub fn decode(kind: &Spanned<String>, fields: &Fields<'_>, sink: &mut Sink) -> Option<(Entry, Box<dyn ModelOp>)> {
    let Some(entry) = OPS.iter().find(|entry| entry.name == kind.value) else {
        let help = sink.suggest(&kind.value, OPS.iter().map(|entry| entry.name));
        sink.push(
            Diagnostic::new(codes::UNKNOWN_OP, format!("unknown op `{}`", kind.value))
                .at(kind.span.clone(), "no such op")
                .help(help),
        );
        return None;
    };
    let fields = fields.named(format!("op `{}`", entry.name));
    fields.reject_unknown(COMMON_KEYS.into_iter().chain(entry.keys.iter().copied()), sink);
    Some((*entry, (entry.decode)(&fields, sink)?))
}

/// One schema an op.
pub fn schemas(generator: &mut SchemaGenerator) -> Vec<Schema> {
    let name = generator.subschema_for::<String>();
    OPS.iter()
        .map(|entry| {
            let mut schema = (entry.schema)(generator);
            let inputs = entry.inputs;
            let object = schema.ensure_object();
            let mut properties = serde_json::Map::new();
            properties.insert("op".into(), serde_json::json!({ "const": entry.name }));
            properties.insert(
                "name".into(),
                serde_json::json!({
                    "description": "The op's name, also that of the tensor it makes.",
                    "type": "string",
                    "pattern": "^[a-z][a-z0-9_]*$"
                }),
            );
            properties.insert(
                "in".into(),
                serde_json::json!({
                    "description": format!("Tensors: [{}].", inputs.join(", ")),
                    "type": "array",
                    "items": name.clone(),
                    "minItems": inputs.len(),
                    "maxItems": inputs.len()
                }),
            );
            if let Some(serde_json::Value::Object(own)) = object.remove("properties") {
                properties.extend(own);
            }
            let mut required: Vec<serde_json::Value> = COMMON_KEYS.iter().map(|&key| key.into()).collect();
            if let Some(serde_json::Value::Array(own)) = object.remove("required") {
                required.extend(own);
            }
            object.insert("title".into(), entry.name.into());
            object.insert("type".into(), "object".into());
            object.insert("properties".into(), properties.into());
            object.insert("required".into(), required.into());
            object.insert("additionalProperties".into(), false.into());
            schema
        })
        .collect()
}
