//! From a description to a graph: symbols, limits and inputs, then the sections one after the other, then the outputs.
//! What is in a section is lowered in [`items`].

mod items;

use std::collections::BTreeMap;

use ck_kernels::dtype::{ActType, DType};

use super::codes;
use super::constants::Names;
use super::decode::{Lenient, Named, Spanned};
use super::naming;
use super::ropes;
use super::scope::{DefId, Scopes};
use super::sink::{Sink, Span};
use super::site::{Context, MAX_DIM, RopeDef, Symbol};
use super::syntax::{Bound, Document, InputType, Item, KvType, OpItem, Section};
use super::weights::Table;
use super::{LoadOptions, Origins};
use crate::diag::Diagnostic;
use crate::graph::{Graph, Rows, Tensor, TensorId};

/// A graph, with the places it comes from.
pub struct Lowered {
    /// The graph. Only right if nothing was reported.
    pub graph: Graph,
    /// Where its parts stand.
    pub origins: Origins,
    /// Most positions that the model was trained on.
    pub max_positions: usize,
}

/// Makes the graph of a description. Mistakes go to the sink.
pub fn lower(document: &Document, options: &LoadOptions, mut sink: Sink) -> (Lowered, Sink) {
    // A definition that could not be read is not missing, and what it would use is not unused.
    let readable = sink.is_empty();
    if let Some(name) = &document.model.0 {
        naming::check_model_name(name, &mut sink);
    }
    let symbols = symbols(document);
    let constants = document.constants.as_ref().and_then(|c| c.0.as_ref());
    let names = Names::new(constants, symbols.keys().cloned().collect(), &mut sink);
    naming::check(document, &names, &mut sink);
    let weights = Table::new(document.weights.0.as_ref(), &mut sink);
    let mut context = Context {
        sink,
        names,
        weights,
        graph: Graph {
            name: document
                .model
                .0
                .as_ref()
                .map(|name| name.value.clone())
                .unwrap_or_default(),
            ..Graph::default()
        },
        ropes: BTreeMap::new(),
        symbols,
        kv: kv_type(document),
        caches: BTreeMap::new(),
        head_dims: Vec::new(),
        tensor_spans: Vec::new(),
    };
    let max_positions = limits(document, options, &mut context);
    ropes::evaluate(document, &mut context);
    let mut lowering = Lowering {
        context,
        scopes: Scopes::new(homes(document), readable),
        exported: BTreeMap::new(),
        layers: 0,
        layer: None,
        nesting: 0,
        steps: 0,
        stopped: false,
        skipped: false,
        uses_known: true,
        op_spans: Vec::new(),
        carried: Vec::new(),
    };
    lowering.inputs(document);
    lowering.sections(document);
    lowering.outputs(document);
    lowering.finish(readable, max_positions)
}

fn symbols(document: &Document) -> BTreeMap<String, Symbol> {
    let symbols = document.symbols.0.as_ref();
    let symbol = |bound: &Lenient<Spanned<Bound>>, span: &Span| Symbol {
        bound: bound.0.as_ref().map(|bound| bound.value),
        span: span.clone(),
        used: false,
    };
    let all = symbols.map_or(&[][..], |Named(symbols)| symbols).iter();
    all.map(|(key, bound)| (key.name.clone(), symbol(bound, &key.span)))
        .collect()
}

/// The cache's element type: as written, else f32 where the weights are f32, else f16.
fn kv_type(document: &Document) -> ActType {
    let weights = document.weights.0.as_ref().and_then(|w| w.dtype.0.as_ref());
    match document.kv.as_ref().and_then(|kv| kv.0) {
        Some(KvType::F32) => ActType::F32,
        Some(KvType::F16) => ActType::F16,
        None if weights.is_some_and(|dtype| dtype.value.0 == DType::F32) => ActType::F32,
        None => ActType::F16,
    }
}

/// The sections' names at their top level.
fn homes(document: &Document) -> BTreeMap<String, (String, Span)> {
    let mut homes = BTreeMap::new();
    for section in document
        .sections
        .0
        .iter()
        .flat_map(|s| &s.value)
        .filter_map(|s| s.0.as_ref())
    {
        let Some(home) = &section.section.0 else { continue };
        for item in section.ops.0.iter().flat_map(|items| &items.value) {
            if let Item::Op(OpItem { name: Some(name), .. }) = item {
                homes.insert(name.value.clone(), (home.value.clone(), name.span.clone()));
            }
        }
    }
    homes
}

/// `0 < batch <= context <= max_positions`, with the options in place of the file's values.
fn limits(document: &Document, options: &LoadOptions, context: &mut Context) -> usize {
    let Some(limits) = &document.limits.0 else { return 0 };
    let mut read = |expr: &Lenient<super::expr::Expr>, what: &str| {
        let expr = expr.0.as_ref()?;
        Some((context.whole(expr, what, 0, MAX_DIM)?, expr.span.clone()))
    };
    let mut most = read(&limits.context, "`context`");
    let mut batch = read(&limits.batch, "`batch`");
    let positions = read(&limits.max_positions, "`max_positions`");
    let replace = |value: &mut Option<(usize, Span)>, option: Option<usize>| {
        if let (Some((value, _)), Some(option)) = (value.as_mut(), option) {
            *value = option;
        }
    };
    replace(&mut most, options.context);
    replace(&mut batch, options.batch);
    let said = |option: Option<usize>, flag: &str, value: usize| match option {
        Some(value) => format!("`{flag} {value}` stands for this"),
        None if value == 0 => "is zero".to_string(),
        None => "is too large".to_string(),
    };
    let sink = &mut context.sink;
    if let (Some((value, span)), Some((positions, known))) = (&most, &positions)
        && (*value == 0 || value > positions)
    {
        let message = format!("the context is from 1 to {positions} positions, not {value}");
        sink.push(
            Diagnostic::new(codes::CONTEXT, message)
                .at(span.clone(), said(options.context, "--context", *value))
                .at(known.clone(), "positions that the model was trained on"),
        );
    }
    if let (Some((value, span)), Some((most, known))) = (&batch, &most)
        && *most > 0
        && (*value == 0 || value > most)
    {
        let message = format!("the batch is from 1 token to the context's {most}, not {value}");
        sink.push(
            Diagnostic::new(codes::BATCH, message)
                .at(span.clone(), said(options.batch, "--batch", *value))
                .at(known.clone(), format!("the context is {most}")),
        );
    }
    context.graph.context = most.map_or(1, |(value, _)| value.max(1));
    context.graph.batch = batch.map_or(1, |(value, _)| value.max(1));
    positions.map_or(0, |(value, _)| value)
}

struct Lowering {
    context: Context,
    scopes: Scopes,
    /// What sections may read: inputs, and what the sections before let out. `None` after a mistake.
    exported: BTreeMap<String, Option<DefId>>,
    /// Passes of outermost repeats so far.
    layers: usize,
    /// The one that is being lowered.
    layer: Option<usize>,
    nesting: usize,
    steps: usize,
    /// Whether the model is too large to go on.
    stopped: bool,
    /// Whether an op was left out because of a mistake: what only it would use is not unused.
    skipped: bool,
    /// Whether every op said what it reads.
    uses_known: bool,
    op_spans: Vec<Span>,
    /// Carried tensors by their names in each pass.
    carried: Vec<(String, TensorId)>,
}

impl Lowering {
    fn inputs(&mut self, document: &Document) {
        let Some(inputs) = &document.inputs.0 else { return };
        let [(key, input)] = inputs.value.0.as_slice() else {
            let message = format!("a model has one input, token ids; here are {}", inputs.value.0.len());
            self.context
                .sink
                .error(codes::INPUT, message, &inputs.span, "not one input");
            for (key, _) in &inputs.value.0 {
                self.exported.insert(key.name.clone(), None);
            }
            return;
        };
        let Lenient(Some(input)) = input else {
            self.exported.insert(key.name.clone(), None);
            return;
        };
        let InputType::U32 = input.value.dtype.value;
        match input.value.shape.value.as_slice() {
            [symbol] => {
                self.context.use_symbol(symbol, Bound::Batch, "rows of an input");
            }
            shape => {
                let message = format!(
                    "`{}` has {} dimensions; token ids have one, `[T]`",
                    key.name,
                    shape.len()
                );
                self.context
                    .sink
                    .error(codes::INPUT, message, &input.value.shape.span, "not `[T]`");
                for symbol in shape {
                    self.context.use_symbol(symbol, Bound::Batch, "rows of an input");
                }
            }
        }
        let tensor = self.add_tensor(
            Tensor {
                name: key.name.clone(),
                act: ActType::U32,
                rows: Rows::Tokens,
                cols: 1,
            },
            &key.span,
            None,
        );
        self.context.graph.inputs.push(tensor);
        let def = self.scopes.define(&key.name, key.name.clone(), &key.span, Some(tensor));
        self.exported.insert(key.name.clone(), Some(def));
    }

    fn add_tensor(&mut self, tensor: Tensor, span: &Span, head_dim: Option<(usize, Span)>) -> TensorId {
        self.context.tensor_spans.push(span.clone());
        self.context.head_dims.push(head_dim);
        self.context.graph.add_tensor(tensor)
    }

    fn sections(&mut self, document: &Document) {
        let Some(sections) = &document.sections.0 else { return };
        if sections.value.is_empty() {
            self.context
                .sink
                .error(codes::NO_OPS, "there is no section", &sections.span, "empty");
        }
        for section in sections.value.iter().filter_map(|section| section.0.as_ref()) {
            self.section(section);
        }
    }

    fn section(&mut self, section: &Section) {
        let items = section.ops.0.as_ref();
        self.scopes.push(items.map_or(&[][..], |items| &items.value));
        let bridges = section.r#in.0.as_deref().unwrap_or_default();
        for name in bridges {
            match self.exported.get(&name.value) {
                Some(Some(def)) => self.scopes.bind(&name.value, *def),
                Some(None) => self.scopes.complete = false,
                None => {
                    self.scopes.find(name, &mut self.context.sink);
                    // The mistake is here, not where the section reads it.
                    let poison = self.scopes.define(&name.value, name.value.clone(), &name.span, None);
                    self.scopes.mark_used(poison);
                }
            }
        }
        if let Some(items) = items {
            self.items(items, "");
        }
        for name in section.out.0.iter().flatten() {
            let def = self.scopes.find(name, &mut self.context.sink);
            self.exported.insert(name.value.clone(), def);
        }
        self.scopes.pop_section();
    }

    fn outputs(&mut self, document: &Document) {
        let Some(outputs) = &document.outputs.0 else { return };
        if outputs.value.is_empty() {
            self.context
                .sink
                .error(codes::NO_OUTPUT, "the model has no outputs", &outputs.span, "empty");
        }
        self.scopes.push(&[]);
        let exported: Vec<(String, Option<DefId>)> = self.exported.iter().map(|(n, d)| (n.clone(), *d)).collect();
        for (name, def) in exported {
            match def {
                Some(def) => self.scopes.bind(&name, def),
                None => self.scopes.complete = false,
            }
        }
        for name in &outputs.value {
            let Some(def) = self.scopes.find(name, &mut self.context.sink) else {
                continue;
            };
            self.scopes.mark_used(def);
            let Some(tensor) = self.scopes.get(def).tensor else {
                continue;
            };
            if self.context.graph.outputs.contains(&tensor) {
                let message = format!("`{}` is an output twice", name.value);
                self.context
                    .sink
                    .error(codes::NO_OUTPUT, message, &name.span, "the second one");
            } else if self.context.graph.inputs.contains(&tensor) {
                let message = format!("the input `{}` cannot be an output", name.value);
                self.context
                    .sink
                    .error(codes::NO_OUTPUT, message, &name.span, "an input");
            } else {
                self.context.graph.outputs.push(tensor);
            }
        }
        self.scopes.pop_section();
    }

    /// Reports what is unused, as far as that can be known.
    fn finish(mut self, readable: bool, max_positions: usize) -> (Lowered, Sink) {
        let mut sink = self.context.sink;
        if readable && !self.stopped {
            if self.uses_known {
                self.scopes.report_unused(&mut sink);
            }
            if !self.skipped {
                self.context.names.report_unused(&mut sink);
                self.context.weights.report_unused(&mut sink);
                let symbols = self.context.symbols.iter().map(|(n, s)| ("symbol", n, &s.span, s.used));
                let ropes = self.context.ropes.iter().map(|(n, r)| ("rope", n, &r.span, r.used));
                for (what, name, span, used) in symbols.chain(ropes) {
                    if !used {
                        let message = format!("the {what} `{name}` is never used");
                        sink.error(codes::UNUSED, message, span, "never used");
                    }
                }
            }
        }
        self.context.graph.weights = self.context.weights.weights;
        let named = |(name, def): (&String, &RopeDef)| Some((name.clone(), def.id?));
        let ropes = self.context.ropes.iter().filter_map(named).collect();
        let lowered = Lowered {
            graph: self.context.graph,
            origins: Origins {
                memories: Vec::new(),
                ops: self.op_spans,
                weights: self.context.weights.spans,
                carried: self.carried,
                ropes,
            },
            max_positions,
        };
        (lowered, sink)
    }
}
