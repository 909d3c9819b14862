//! The weights that the ops name: one entry a source tensor, with its shape and its type.

use std::collections::BTreeMap;

use ck_kernels::dtype::DType;

use super::codes;
use super::decode::{Named, Spanned};
use super::sink::{Sink, Span};
use super::syntax::{WeightType, Weights};
use crate::diag::Diagnostic;
use crate::graph::{Weight, WeightId};

/// Patterns with `*` in one file: bounds the time to match them.
const MAX_PATTERNS: usize = 256;

/// The shape that a use gives a source tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `[rows, cols]`.
    Matrix(usize, usize),
    /// `[cols]`.
    Vector(usize),
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Shape::Matrix(rows, cols) => write!(f, "[{rows}, {cols}]"),
            Shape::Vector(cols) => write!(f, "[{cols}]"),
        }
    }
}

/// The weights of a graph in the making.
pub struct Table {
    /// The weights, in order of first use.
    pub weights: Vec<Weight>,
    /// Where each was first used.
    pub spans: Vec<Span>,
    by_source: BTreeMap<String, (WeightId, Shape)>,
    dtype: Option<Spanned<WeightType>>,
    exact: BTreeMap<String, Rule>,
    patterns: Vec<(String, Rule)>,
}

struct Rule {
    dtype: Spanned<WeightType>,
    span: Span,
    used: bool,
}

impl Table {
    /// An empty table with the rules of the file.
    pub fn new(weights: Option<&Weights>, sink: &mut Sink) -> Table {
        let mut table = Table {
            weights: Vec::new(),
            spans: Vec::new(),
            by_source: BTreeMap::new(),
            dtype: weights.and_then(|w| w.dtype.0.clone()),
            exact: BTreeMap::new(),
            patterns: Vec::new(),
        };
        let rules = weights
            .and_then(|w| w.dtypes.as_ref())
            .and_then(|rules| rules.0.as_ref());
        for (key, dtype) in rules.map_or(&[][..], |Named(rules)| rules) {
            let rule = Rule {
                dtype: dtype.clone(),
                span: key.span.clone(),
                used: false,
            };
            if !key.name.contains('*') {
                table.exact.insert(key.name.clone(), rule);
            } else if table.patterns.len() < MAX_PATTERNS {
                table.patterns.push((key.name.clone(), rule));
            } else {
                let message = format!("more than {MAX_PATTERNS} patterns in `dtypes`");
                sink.error(codes::TOO_LARGE, message, &key.span, "one too many");
            }
        }
        table
    }

    /// The weight of that source and shape, used at `span`. `None` after a mistake, which has been reported.
    pub fn intern(&mut self, source: String, shape: Shape, span: &Span, sink: &mut Sink) -> Option<WeightId> {
        if let Some((id, first)) = self.by_source.get(&source) {
            if *first == shape {
                return Some(*id);
            }
            sink.push(
                Diagnostic::new(
                    codes::WEIGHT_SHAPES,
                    format!("`{source}` is used as {first} and as {shape}"),
                )
                .at(span.clone(), format!("{shape} here"))
                .at(self.spans[id.index()].clone(), format!("{first} here")),
            );
            return None;
        }
        let (rows, cols, vector) = match shape {
            Shape::Matrix(rows, cols) => (rows, cols, false),
            Shape::Vector(cols) => (1, cols, true),
        };
        let dtype = if vector {
            self.refuse_vector(&source, span, sink);
            DType::F32
        } else {
            self.matrix_type(&source, cols, span, sink)
        };
        let id = WeightId(u32::try_from(self.weights.len()).ok()?);
        self.by_source.insert(source.clone(), (id, shape));
        self.spans.push(span.clone());
        self.weights.push(Weight {
            source,
            rows,
            cols,
            vector,
            dtype,
        });
        Some(id)
    }

    fn refuse_vector(&mut self, source: &str, span: &Span, sink: &mut Sink) {
        if let Some(rule) = self.exact.get_mut(source) {
            rule.used = true;
            sink.push(
                Diagnostic::new(
                    codes::DTYPES,
                    format!("`{source}` is a vector, and vectors are always f32"),
                )
                .at(rule.span.clone(), "has no choice of type")
                .at(span.clone(), "a vector here"),
            );
        }
    }

    /// The type of a matrix: its own entry, else the one pattern that matches it, else the file's.
    fn matrix_type(&mut self, source: &str, cols: usize, span: &Span, sink: &mut Sink) -> DType {
        let mut matching: Vec<&mut Rule> = self
            .patterns
            .iter_mut()
            .filter(|(pattern, _)| crate::glob::matches(pattern, source))
            .map(|(_, rule)| rule)
            .collect();
        for rule in &mut matching {
            rule.used = true;
        }
        if let Some(rule) = self.exact.get_mut(source) {
            rule.used = true;
            matching = vec![rule];
        }
        if let [first, second, ..] = matching.as_slice() {
            sink.push(
                Diagnostic::new(codes::DTYPES, format!("two patterns of `dtypes` match `{source}`"))
                    .at(second.span.clone(), "this one")
                    .at(first.span.clone(), "and this one")
                    .help("give the matrix an entry of its own: an entry without `*` goes before patterns"),
            );
        }
        let rule = matching.first().map(|rule| &rule.dtype).or(self.dtype.as_ref());
        let Some(rule) = rule else { return DType::F32 };
        let dtype = rule.value.0;
        let block = dtype.block_len();
        if !cols.is_multiple_of(block) {
            sink.push(
                Diagnostic::new(
                    codes::BLOCKS,
                    format!(
                        "`{source}` has rows of {cols} elements, {} needs a multiple of {block}",
                        dtype.name()
                    ),
                )
                .at(span.clone(), format!("rows of {cols}"))
                .at(rule.span.clone(), format!("blocks of {block}"))
                .help(format!("choose another type for it: `dtypes: {{{source}: bf16}}`")),
            );
        }
        dtype
    }

    /// Reports entries of `dtypes` that matched no matrix.
    pub fn report_unused(&self, sink: &mut Sink) {
        for (name, rule) in self
            .exact
            .iter()
            .chain(self.patterns.iter().map(|(name, rule)| (name, rule)))
        {
            if !rule.used {
                let help = sink.suggest(
                    name,
                    self.weights.iter().filter(|w| !w.vector).map(|w| w.source.as_str()),
                );
                sink.push(
                    Diagnostic::new(codes::DTYPES, format!("`{name}` matches no matrix of the model"))
                        .at(rule.span.clone(), "matches nothing")
                        .help(help),
                );
            }
        }
    }
}
