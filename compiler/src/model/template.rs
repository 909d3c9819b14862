//! Names of weights: text with expressions in braces, `model.layers.{i}.mlp.up_proj.weight`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::codes;
use super::decode::{Decode, wrong_type};
use super::expr::{EvalError, Expr, Lookup, Number};
use super::sink::{Sink, Span};
use super::tree::{Node, Value};

/// The longest name of a weight, in bytes: the limit of the weights formats read here.
const MAX_LEN: usize = 256;

/// A weight's name, with expressions.
#[derive(Clone, Debug)]
pub struct Template {
    pieces: Vec<Piece>,
    /// Its place.
    pub span: Span,
}

#[derive(Clone, Debug)]
enum Piece {
    Text(String),
    Hole(Expr, Span),
}

impl Template {
    fn parse(text: &str, start: Option<usize>, whole: &Span) -> Result<Template, EvalError> {
        let span = |from: usize, to: usize| start.map_or_else(|| whole.clone(), |start| start + from..start + to);
        let fail = |message: &str, from: usize, to: usize| EvalError {
            code: codes::TEMPLATE,
            message: message.to_string(),
            span: span(from, to),
        };
        if text.is_empty() || text.len() > MAX_LEN {
            return Err(fail("a weight's name has 1 to 256 bytes", 0, text.len()));
        }
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            match rest.find(['{', '}']).map(|i| (i, rest.as_bytes()[i])) {
                None => {
                    pieces.push(Piece::Text(rest.to_string()));
                    at = text.len();
                }
                Some((i, b'}')) => return Err(fail("`}` without `{`", at + i, at + i + 1)),
                Some((i, _)) => {
                    if i > 0 {
                        pieces.push(Piece::Text(rest[..i].to_string()));
                    }
                    let from = at + i + 1;
                    let len = text[from..]
                        .find('}')
                        .ok_or_else(|| fail("`{` without `}`", from - 1, from))?;
                    let hole = span(from, from + len);
                    let expr = Expr::parse(&text[from..from + len], start.map(|s| s + from), &hole)?;
                    pieces.push(Piece::Hole(expr, hole));
                    at = from + len + 1;
                }
            }
        }
        Ok(Template {
            pieces,
            span: whole.clone(),
        })
    }

    /// The name. `None` if an expression has no value, which has been reported.
    pub fn expand(&self, names: &mut dyn Lookup) -> Result<Option<String>, EvalError> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Hole(expr, span) => match expr.eval(names)? {
                    None => return Ok(None),
                    Some(Number::Int(value)) if value >= 0 => text.push_str(&value.to_string()),
                    Some(number) => {
                        return Err(EvalError {
                            code: codes::TEMPLATE,
                            message: format!("a weight's name cannot hold {}", number.as_f64()),
                            span: span.clone(),
                        });
                    }
                },
            }
        }
        Ok(Some(text))
    }
}

impl Decode for Template {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        let Value::Str(text) = &node.value else {
            wrong_type(node, "a weight's name", sink);
            return None;
        };
        Template::parse(text, node.text_start, &node.span)
            .map_err(|e| sink.error(e.code, e.message, &e.span, "in this name"))
            .ok()
    }
}

impl JsonSchema for Template {
    fn schema_name() -> Cow<'static, str> {
        "WeightName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A tensor of the weights file; `{i}` stands for the value of an expression.",
            "type": "string",
            "minLength": 1,
            "maxLength": 256
        })
    }
}
