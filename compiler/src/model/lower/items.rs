//! The items of a section: ops are checked and added one by one, repeats are unrolled, names are resolved.

use super::Lowering;
use crate::diag::Diagnostic;
use crate::graph::{Op, Rows, Tensor, TensorId};
use crate::model::codes;
use crate::model::decode::{Named, Spanned};
use crate::model::ops::Entry;
use crate::model::scope::DefId;
use crate::model::sink::{Sink, Span};
use crate::model::site::{Operand, Site};
use crate::model::syntax::{Carry, Item, OpItem, Repeat};

/// The most passes of one repeat.
const MAX_PASSES: usize = 4096;

/// The most ops and passes of a model, all in all.
const MAX_STEPS: usize = 1 << 16;

/// The most repeats within one another.
const MAX_NESTING: usize = 4;

impl Lowering {
    /// Lowers ops and repeats in their order; `prefix` stands before their names in the graph.
    pub(super) fn items(&mut self, items: &Spanned<Vec<Item>>, prefix: &str) {
        if items.value.is_empty() {
            self.context
                .sink
                .error(codes::NO_OPS, "there is no op", &items.span, "empty");
        }
        for item in &items.value {
            self.steps += 1;
            if self.steps > MAX_STEPS && !self.stopped {
                self.stopped = true;
                self.scopes.complete = false;
                let message = format!("the model has more than {MAX_STEPS} ops");
                self.context
                    .sink
                    .error(codes::TOO_LARGE, message, &items.span, "in these ops, repeated");
            }
            if self.stopped {
                return;
            }
            match item {
                Item::Op(op) => self.op(op, prefix),
                Item::Repeat(repeat) => self.repeat(repeat, prefix),
                Item::Unreadable => self.skipped = true,
            }
        }
    }

    fn op(&mut self, op: &OpItem, prefix: &str) {
        let tensor = self.op_tensor(op, prefix);
        self.skipped |= tensor.is_none();
        if let Some(name) = &op.name {
            self.scopes
                .define(&name.value, format!("{prefix}{}", name.value), &name.span, tensor);
        }
    }

    /// The tensor that the op makes. `None` after a mistake, which has been reported.
    fn op_tensor(&mut self, op: &OpItem, prefix: &str) -> Option<TensorId> {
        let named = op.inputs.as_ref();
        let inputs: Vec<Option<(TensorId, Span)>> = named
            .map_or(&[][..], |inputs| &inputs.value)
            .iter()
            .map(|name| {
                let def = self.scopes.find(name, &mut self.context.sink)?;
                self.scopes.mark_used(def);
                Some((self.scopes.get(def).tensor?, name.span.clone()))
            })
            .collect();
        let (entry, kind) = op.kind.as_ref()?;
        if check_arity(entry, named?, &mut self.context.sink).is_none() {
            self.uses_known = false;
            return None;
        }
        let inputs: Vec<(TensorId, Span)> = inputs.into_iter().collect::<Option<_>>()?;
        let name = op.name.as_ref()?;
        let mut site = Site {
            context: &mut self.context,
            inputs: &inputs,
            prefix,
            span: &name.span,
            head_dim: None,
        };
        let made = kind.lower(&mut site)?;
        let head_dim = site.head_dim;
        let full = format!("{prefix}{}", name.value);
        let rows = match made.rows {
            Rows::Tokens => self.context.graph.batch,
            Rows::Selected => 1,
        };
        if !self
            .context
            .check_elements(&[rows, made.cols], &format!("`{full}`"), &name.span)
        {
            return None;
        }
        let tensor = Tensor {
            name: full.clone(),
            act: made.act,
            rows: made.rows,
            cols: made.cols,
        };
        let output = self.add_tensor(tensor, &name.span, head_dim);
        if let Some((kind, weights)) = made.op {
            self.op_spans.push(op.span.clone());
            self.context.graph.ops.push(Op {
                name: full,
                kind,
                inputs: inputs.into_iter().map(|(id, _)| id).collect(),
                weights,
                outputs: vec![output],
                layer: self.layer,
                fused_from: Vec::new(),
            });
        }
        Some(output)
    }

    fn repeat(&mut self, repeat: &Repeat, prefix: &str) {
        let Some(items) = &repeat.ops.0 else {
            self.skipped = true;
            return;
        };
        if self.nesting == MAX_NESTING {
            let message = format!("repeats stand in one another more than {MAX_NESTING} deep");
            self.context
                .sink
                .error(codes::TOO_LARGE, message, &items.span, "too deep");
            return;
        }
        // Without a count, one pass finds the other mistakes.
        let count = repeat.count.0.as_ref();
        let count = count
            .and_then(|count| self.context.whole(count, "`count`", 1, MAX_PASSES))
            .unwrap_or(1);
        let name = repeat.repeat.0.as_ref().map_or("", |name| &name.value);
        let carried = repeat.carry.as_ref().and_then(|carry| carry.0.as_ref());
        let carried = carried.map_or(&[][..], |Named(carried)| carried);
        let mut bound: Vec<Option<DefId>> = carried
            .iter()
            .map(|(_, carry)| self.scopes.find(&carry.0.as_ref()?.first, &mut self.context.sink))
            .collect();
        let outermost = self.nesting == 0;
        self.nesting += 1;
        for pass in 0..count {
            if self.stopped {
                break;
            }
            if outermost {
                self.layer = Some(self.layers);
                self.layers += 1;
            }
            if let Some(index) = &repeat.index.0 {
                self.context.names.push_index(&index.value, pass as i64);
            }
            self.scopes.push(&items.value);
            let inner = format!("{prefix}{name}.{pass}.");
            for ((key, _), def) in carried.iter().zip(&bound) {
                self.bind_carried(&key.name, &key.span, *def);
                self.note_carried(format!("{inner}{}", key.name), *def);
            }
            self.items(items, &inner);
            bound = carried
                .iter()
                .zip(&bound)
                .map(|((_, carry), now)| self.next(carry.0.as_ref()?, *now))
                .collect();
            self.scopes.pop(&format!("{name}.{pass}."));
            if repeat.index.0.is_some() {
                self.context.names.pop_index();
            }
        }
        self.nesting -= 1;
        if outermost {
            self.layer = None;
        }
        for ((key, _), def) in carried.iter().zip(&bound) {
            self.bind_carried(&format!("{name}.{}", key.name), &key.span, *def);
            self.note_carried(format!("{prefix}{name}.{}", key.name), *def);
        }
    }

    fn note_carried(&mut self, name: String, def: Option<DefId>) {
        let tensor = def.and_then(|def| self.scopes.get(def).tensor);
        self.carried.extend(tensor.map(|tensor| (name, tensor)));
    }

    fn bind_carried(&mut self, name: &str, span: &Span, def: Option<DefId>) {
        let def = def.unwrap_or_else(|| {
            let poison = self.scopes.define(name, name.to_string(), span, None);
            self.scopes.mark_used(poison);
            poison
        });
        self.scopes.bind(name, def);
    }

    /// What a carried tensor is in the next pass: a tensor of the same shape.
    fn next(&mut self, carry: &Carry, first: Option<DefId>) -> Option<DefId> {
        let next = self.scopes.find(&carry.next, &mut self.context.sink)?;
        let (Some(now), Some(then)) = (self.scopes.get(first?).tensor, self.scopes.get(next).tensor) else {
            return Some(next);
        };
        let (before, after) = (self.operand(now), self.operand(then));
        if (before.act, before.rows, before.cols) != (after.act, after.rows, after.cols) {
            let message = format!("`{}` {before} is carried on as `{}` {after}", before.name, after.name);
            let spans = &self.context.tensor_spans;
            let (made_before, made_after) = (spans[now.index()].clone(), spans[then.index()].clone());
            self.context.sink.push(
                Diagnostic::new(codes::SHAPE, message)
                    .at(carry.next.span.clone(), format!("{after}"))
                    .at(carry.first.span.clone(), format!("{before}"))
                    .at(made_before, format!("`{}` is {before}", before.name))
                    .at(made_after, format!("`{}` is {after}", after.name)),
            );
            // One mistake is enough: the next pass goes on with the shape it expects.
            self.scopes.mark_used(next);
            return first;
        }
        Some(next)
    }

    fn operand(&self, id: TensorId) -> Operand {
        let tensor = self.context.graph.tensor(id);
        Operand {
            name: tensor.name.clone(),
            act: tensor.act,
            rows: tensor.rows,
            cols: tensor.cols,
        }
    }
}

fn check_arity(entry: &Entry, inputs: &Spanned<Vec<Spanned<String>>>, sink: &mut Sink) -> Option<()> {
    let (wanted, found) = (entry.inputs.len(), inputs.value.len());
    if wanted == found {
        return Some(());
    }
    let plural = if wanted == 1 { "" } else { "s" };
    let message = format!("`{}` takes {wanted} input{plural}, found {found}", entry.name);
    sink.push(
        Diagnostic::new(codes::ARITY, message).at(inputs.span.clone(), format!("takes [{}]", entry.inputs.join(", "))),
    );
    None
}
