//! What an op sees while it becomes a part of the graph: its inputs, and the means to evaluate, declare and complain.

use std::collections::BTreeMap;
use std::fmt;

use ck_kernels::dtype::ActType;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::codes;
use super::constants::Names;
use super::decode::{Decode, Lenient, Spanned, wrong_type};
use super::expr::{Expr, Number};
use super::sink::{Sink, Span};
use super::syntax::Bound;
use super::template::Template;
use super::tree::{Node, Value};
use super::weights::{Shape, Table};
use crate::diag::Diagnostic;
use crate::graph::{Cache, CacheId, Graph, Rope, RopeId, Rows, TensorId, WeightId};

/// The largest dimension.
pub const MAX_DIM: usize = i32::MAX as usize;

/// The most elements of one weight, cache, table or tensor: sums of their bytes stay far from overflow.
pub const MAX_ELEMENTS: usize = 1 << 40;

/// The shape of a matrix, `[rows, cols]`.
#[derive(Clone, Debug)]
pub struct Matrix {
    rows: Expr,
    cols: Expr,
    /// Its place.
    pub span: Span,
}

impl Decode for Matrix {
    fn decode(node: &Node, sink: &mut Sink) -> Option<Self> {
        match &node.value {
            Value::Seq(items) if items.len() == 2 => {
                let (rows, cols) = (Expr::decode(&items[0], sink), Expr::decode(&items[1], sink));
                Some(Matrix {
                    rows: rows?,
                    cols: cols?,
                    span: node.span.clone(),
                })
            }
            _ => {
                wrong_type(node, "a shape `[rows, cols]`", sink);
                None
            }
        }
    }
}

impl JsonSchema for Matrix {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MatrixShape".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let size = generator.subschema_for::<Expr>();
        json_schema!({
            "description": "The shape of a matrix: [rows, cols] = [out, in].",
            "type": "array", "items": size, "minItems": 2, "maxItems": 2
        })
    }
}

/// A rope of the file.
pub struct RopeDef {
    /// `None` after a mistake, which has been reported.
    pub rope: Option<Rope>,
    /// Its place in the graph, once an op uses it.
    pub id: Option<RopeId>,
    /// Its name's place.
    pub span: Span,
    /// Whether an op names it.
    pub used: bool,
}

/// A symbol of the file.
pub struct Symbol {
    /// `None` after a mistake, which has been reported.
    pub bound: Option<Bound>,
    /// Its name's place.
    pub span: Span,
    /// Whether a shape names it.
    pub used: bool,
}

/// What the ops share.
pub struct Context {
    /// Where mistakes go.
    pub sink: Sink,
    /// Values of names in expressions.
    pub names: Names,
    /// The weights so far.
    pub weights: Table,
    /// The graph so far.
    pub graph: Graph,
    /// Ropes by name.
    pub ropes: BTreeMap<String, RopeDef>,
    /// Symbols by name.
    pub symbols: BTreeMap<String, Symbol>,
    /// Element type of caches.
    pub kv: ActType,
    /// Where each cache is declared, by its full name.
    pub caches: BTreeMap<String, Span>,
    /// For each tensor, the size of the heads it was rotated in, and where that was said.
    pub head_dims: Vec<Option<(usize, Span)>>,
    /// Where each tensor's op stands.
    pub tensor_spans: Vec<Span>,
}

impl Context {
    /// The value as a whole number from `min` to `max`. `None` after a mistake, which has been reported.
    pub fn whole(&mut self, expr: &Expr, what: &str, min: usize, max: usize) -> Option<usize> {
        let (code, found) = match self.names.eval(expr, &mut self.sink)? {
            Number::Int(value) => match usize::try_from(value) {
                Ok(value) if (min..=max).contains(&value) => return Some(value),
                _ => (codes::OUT_OF_RANGE, value.to_string()),
            },
            Number::Float(value) => (codes::NOT_AN_INTEGER, format!("{value:?}")),
        };
        let message = format!("{what} is a whole number from {min} to {max}, not {found}");
        self.sink.error(code, message, &expr.span, format!("is {found}"));
        None
    }

    /// The value as a float above zero. `None` after a mistake, which has been reported.
    pub fn positive(&mut self, expr: &Expr, what: &str) -> Option<f64> {
        let value = self.names.eval(expr, &mut self.sink)?.as_f64();
        if value > 0.0 {
            return Some(value);
        }
        let message = format!("{what} is a number above zero, not {value:?}");
        self.sink
            .error(codes::OUT_OF_RANGE, message, &expr.span, format!("is {value:?}"));
        None
    }

    /// Whether `factors` multiply to a size that can be planned; says so if not.
    pub fn check_elements(&mut self, factors: &[usize], what: &str, span: &Span) -> bool {
        let product = factors
            .iter()
            .try_fold(1usize, |product, &factor| product.checked_mul(factor));
        let fits = product.is_some_and(|elements| elements <= MAX_ELEMENTS);
        if !fits {
            let factors: Vec<String> = factors.iter().map(usize::to_string).collect();
            let message = format!("{what} has {} elements, more than 2^40", factors.join(" * "));
            self.sink.error(codes::TOO_LARGE, message, span, "too large");
        }
        fits
    }

    /// The symbol's bound must be `bound`; says so if not, or if there is no such symbol.
    pub fn use_symbol(&mut self, name: &Spanned<String>, bound: Bound, what: &str) -> Option<()> {
        let Some(symbol) = self.symbols.get_mut(&name.value) else {
            let (help, meant) = self.sink.guess(&name.value, self.symbols.keys().map(String::as_str));
            let message = format!("unknown symbol `{}`", name.value);
            self.sink.push(
                Diagnostic::new(codes::UNKNOWN_SYMBOL, message)
                    .at(name.span.clone(), "no such symbol")
                    .help(help),
            );
            let meant = meant.map(str::to_string);
            if let Some(symbol) = meant.and_then(|meant| self.symbols.get_mut(&meant)) {
                symbol.used = true;
            }
            return None;
        };
        symbol.used = true;
        if symbol.bound.is_some_and(|b| b != bound) {
            let (found, wanted) = match bound {
                Bound::Batch => ("context", "batch"),
                Bound::Context => ("batch", "context"),
            };
            let message = format!(
                "{what} are bounded by `{wanted}`, but `{}` is bounded by `{found}`",
                name.value
            );
            self.sink.push(
                Diagnostic::new(codes::SYMBOL_BOUND, message)
                    .at(name.span.clone(), format!("needs a symbol bounded by `{wanted}`"))
                    .at(symbol.span.clone(), "declared here"),
            );
            return None;
        }
        Some(())
    }
}

/// An input of an op.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// The tensor's name.
    pub name: String,
    /// Its element type.
    pub act: ActType,
    /// Its rows.
    pub rows: Rows,
    /// Elements of a row.
    pub cols: usize,
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = match self.rows {
            Rows::Tokens => "T",
            Rows::Selected => "1",
        };
        write!(f, "{} [{rows}, {}]", self.act.name(), self.cols)
    }
}

/// One op of one pass.
pub struct Site<'a> {
    /// What the ops share.
    pub context: &'a mut Context,
    /// The inputs, and where they are named.
    pub inputs: &'a [(TensorId, Span)],
    /// The repeats around it: `layers.3.`.
    pub prefix: &'a str,
    /// Where the op is named.
    pub span: &'a Span,
    /// The size of the heads that its output is rotated in.
    pub head_dim: Option<(usize, Span)>,
}

impl Site<'_> {
    /// An input. There are as many as the op's registry entry says.
    pub fn input(&self, index: usize) -> Operand {
        let tensor = self.context.graph.tensor(self.inputs[index].0);
        Operand {
            name: tensor.name.clone(),
            act: tensor.act,
            rows: tensor.rows,
            cols: tensor.cols,
        }
    }

    /// Reports a mistake.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.context.sink.push(diagnostic);
    }

    /// A size: a whole number above zero.
    pub fn size(&mut self, expr: &Lenient<Expr>, what: &str) -> Option<usize> {
        self.context.whole(expr.0.as_ref()?, what, 1, MAX_DIM)
    }

    /// A number above zero that an f32 can hold.
    pub fn positive_f32(&mut self, expr: &Lenient<Expr>, what: &str) -> Option<f32> {
        let expr = expr.0.as_ref()?;
        let value = self.context.positive(expr, what)?;
        let narrow = value as f32;
        if narrow > 0.0 && narrow.is_finite() {
            return Some(narrow);
        }
        let message = format!("{what} is {value:?}, which an f32 cannot hold");
        self.context
            .sink
            .error(codes::OUT_OF_RANGE, message, &expr.span, "out of range");
        None
    }

    /// A matrix of the weights file, with its rows and columns, as far as they are known.
    pub fn matrix(
        &mut self,
        source: &Lenient<Template>,
        shape: &Lenient<Matrix>,
    ) -> (Option<WeightId>, Option<usize>, Option<usize>) {
        let name = self.source(source);
        let Some(shape) = &shape.0 else {
            return (None, None, None);
        };
        let rows = self.context.whole(&shape.rows, "a matrix's number of rows", 1, MAX_DIM);
        let cols = self
            .context
            .whole(&shape.cols, "a matrix's number of columns", 1, MAX_DIM);
        let (Some(height), Some(width)) = (rows, cols) else {
            return (None, rows, cols);
        };
        let what = name
            .as_ref()
            .map_or("the matrix".to_string(), |(name, _)| format!("`{name}`"));
        let id = match name {
            _ if !self.context.check_elements(&[height, width], &what, &shape.span) => None,
            Some((name, span)) => self.intern(name, Shape::Matrix(height, width), &span),
            None => None,
        };
        (id, rows, cols)
    }

    /// A vector of the weights file.
    pub fn vector(&mut self, source: &Lenient<Template>, cols: usize) -> Option<WeightId> {
        let (name, span) = self.source(source)?;
        self.intern(name, Shape::Vector(cols), &span)
    }

    fn intern(&mut self, name: String, shape: Shape, span: &Span) -> Option<WeightId> {
        let context = &mut *self.context;
        context.weights.intern(name, shape, span, &mut context.sink)
    }

    fn source(&mut self, template: &Lenient<Template>) -> Option<(String, Span)> {
        let template = template.0.as_ref()?;
        let context = &mut *self.context;
        let name = context
            .names
            .with(&mut context.sink, |names| template.expand(names))
            .flatten()?;
        Some((name, template.span.clone()))
    }

    /// The element type that an input must have.
    pub fn expect_act(&mut self, index: usize, act: ActType) -> Option<()> {
        let x = self.input(index);
        if x.act == act {
            return Some(());
        }
        let message = format!("`{}` is {x}, this op reads {}", x.name, act.name());
        self.input_mistake(codes::ELEMENT_TYPE, message, index, format!("{} is needed", act.name()));
        None
    }

    /// The input must be f32.
    pub fn expect_float(&mut self, index: usize) -> Option<()> {
        self.expect_act(index, ActType::F32)
    }

    /// The rows that an input must have.
    pub fn expect_rows(&mut self, index: usize, rows: Rows) -> Option<()> {
        let x = self.input(index);
        if x.rows == rows {
            return Some(());
        }
        let (found, needed) = match rows {
            Rows::Tokens => ("one row", "a row for each token"),
            Rows::Selected => ("a row for each token", "one row"),
        };
        let message = format!("`{}` {x} has {found}, this op needs {needed}", x.name);
        self.input_mistake(codes::SHAPE, message, index, format!("needs {needed}"));
        None
    }

    fn input_mistake(&mut self, code: &'static str, message: String, index: usize, label: String) {
        let (id, span) = &self.inputs[index];
        let (shape, place) = (self.input(index), self.context.tensor_spans[id.index()].clone());
        self.push(
            Diagnostic::new(code, message)
                .at(span.clone(), label)
                .at(place, format!("{shape}")),
        );
    }

    /// Two f32 inputs of one shape; the first.
    pub fn same_shape(&mut self, a: usize, b: usize) -> Option<Operand> {
        let (first, second) = (self.expect_float(a), self.expect_float(b));
        first.and(second)?;
        let (x, y) = (self.input(a), self.input(b));
        if (x.rows, x.cols) != (y.rows, y.cols) {
            let message = format!("`{}` {x} and `{}` {y} differ in shape", x.name, y.name);
            let span = self.inputs[b].1.clone();
            self.shape_mismatch(message, &span, format!("{y} does not fit {x}"), &[a, b]);
        }
        Some(x)
    }

    /// Reports shapes that do not fit, with the places of the inputs and of the ops that made them.
    pub fn shape_mismatch(&mut self, message: String, span: &Span, label: String, inputs: &[usize]) {
        let mut diagnostic = Diagnostic::new(codes::SHAPE, message).at(span.clone(), label);
        for &input in inputs {
            let (id, named) = &self.inputs[input];
            let x = self.input(input);
            let place = self.context.tensor_spans[id.index()].clone();
            if named != span {
                diagnostic = diagnostic.at(named.clone(), format!("{x}"));
            }
            diagnostic = diagnostic.at(place, format!("`{}` is {x}", x.name));
        }
        self.push(diagnostic);
    }

    /// A rope of the file, with its size of heads.
    pub fn rope(&mut self, name: &Lenient<Spanned<String>>) -> Option<(RopeId, usize)> {
        let name = name.0.as_ref()?;
        let context = &mut *self.context;
        let Some(def) = context.ropes.get_mut(&name.value) else {
            let (help, meant) = context
                .sink
                .guess(&name.value, context.ropes.keys().map(String::as_str));
            let meant = meant.map(str::to_string);
            context.sink.push(
                Diagnostic::new(codes::UNKNOWN_ROPE, format!("unknown rope `{}`", name.value))
                    .at(name.span.clone(), "no such rope")
                    .help(help),
            );
            if let Some(def) = meant.and_then(|meant| context.ropes.get_mut(&meant)) {
                def.used = true;
            }
            return None;
        };
        def.used = true;
        let rope = def.rope.as_ref()?;
        let ropes = &mut context.graph.ropes;
        let id = *def.id.get_or_insert_with(|| {
            ropes.push(rope.clone());
            RopeId(u32::try_from(ropes.len() - 1).expect("fewer ropes than bytes in a file"))
        });
        Some((id, rope.head_dim))
    }

    /// Says in what heads the op's output is rotated.
    pub fn set_head_dim(&mut self, head_dim: usize, span: &Span) {
        self.head_dim = Some((head_dim, span.clone()));
    }

    /// The size of the heads that an input was rotated in, if it was, and where that was said.
    pub fn head_dim_of(&self, index: usize) -> Option<(usize, Span)> {
        self.context.head_dims[self.inputs[index].0.index()].clone()
    }

    /// The symbol for the positions of a cache.
    pub fn context_symbol(&mut self, name: &Lenient<Spanned<String>>) -> Option<()> {
        self.context
            .use_symbol(name.0.as_ref()?, Bound::Context, "positions of a cache")
    }

    /// A new cache.
    pub fn cache(&mut self, name: &Lenient<Spanned<String>>, kv_heads: usize, head_dim: usize) -> Option<CacheId> {
        let name = name.0.as_ref()?;
        let context = &mut *self.context;
        let full = format!("{}{}", self.prefix, name.value);
        let positions = context.graph.context;
        if !context.check_elements(&[positions, kv_heads, head_dim], &format!("cache `{full}`"), &name.span) {
            return None;
        }
        if let Some(first) = context.caches.get(&full) {
            context.sink.push(
                Diagnostic::new(codes::DUPLICATE_NAME, format!("two ops use the cache `{full}`"))
                    .at(name.span.clone(), "the second one")
                    .at(first.clone(), "the first one")
                    .help("a cache belongs to one `attention`"),
            );
            return None;
        }
        context.caches.insert(full.clone(), name.span.clone());
        context.graph.caches.push(Cache {
            name: full,
            kv_heads,
            head_dim,
            act: context.kv,
        });
        Some(CacheId(u32::try_from(context.graph.caches.len() - 1).ok()?))
    }
}
