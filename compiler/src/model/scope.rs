//! Which tensor a name means.

use std::collections::{BTreeMap, BTreeSet};

use super::codes;
use super::decode::Spanned;
use super::sink::{Sink, Span};
use super::syntax::Item;
use crate::diag::Diagnostic;
use crate::graph::TensorId;

/// A definition of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DefId(usize);

/// A definition.
pub struct Def {
    /// The name in the graph.
    pub name: String,
    /// Where its op names it.
    pub span: Span,
    /// `None` after a mistake, which has been reported.
    pub tensor: Option<TensorId>,
    /// Whether anything reads it.
    pub used: bool,
}

/// The names that are visible from one place, inner ones last.
#[derive(Default)]
pub struct Scopes {
    defs: Vec<Def>,
    frames: Vec<Frame>,
    /// The section that defines each name at its top level.
    homes: BTreeMap<String, (String, Span)>,
    /// Names that were asked for too early: their definitions are not unused.
    awaited: BTreeSet<String>,
    /// Whether every definition of the file could be read: only then is an unknown name a mistake of its own.
    pub complete: bool,
}

struct Frame {
    names: BTreeMap<String, DefId>,
    own: Vec<(String, DefId)>,
    coming: BTreeMap<String, Span>,
}

impl Scopes {
    /// No names yet, but it is known where the sections define theirs.
    pub fn new(homes: BTreeMap<String, (String, Span)>, complete: bool) -> Scopes {
        Scopes {
            homes,
            complete,
            ..Scopes::default()
        }
    }

    /// Enters a list of ops.
    pub fn push(&mut self, items: &[Item]) {
        let coming = items.iter().filter_map(|item| match item {
            Item::Op(op) => op.name.as_ref().map(|name| (name.value.clone(), name.span.clone())),
            Item::Repeat(_) | Item::Unreadable => None,
        });
        self.frames.push(Frame {
            names: BTreeMap::new(),
            own: Vec::new(),
            coming: coming.collect(),
        });
    }

    /// Leaves it. What it defined stays visible under `prefix`.
    pub fn pop(&mut self, prefix: &str) {
        let Some(frame) = self.frames.pop() else { return };
        if let Some(outer) = self.frames.last_mut() {
            for (name, def) in frame.own {
                let name = format!("{prefix}{name}");
                outer.names.insert(name.clone(), def);
                outer.own.push((name, def));
            }
        }
    }

    /// Leaves a section: nothing of it stays visible.
    pub fn pop_section(&mut self) {
        self.frames.pop();
    }

    /// A new tensor, visible as `name`.
    pub fn define(&mut self, name: &str, full: String, span: &Span, tensor: Option<TensorId>) -> DefId {
        let id = DefId(self.defs.len());
        self.defs.push(Def {
            name: full,
            span: span.clone(),
            tensor,
            used: false,
        });
        if let Some(frame) = self.frames.last_mut() {
            frame.names.insert(name.to_string(), id);
            frame.own.push((name.to_string(), id));
        }
        id
    }

    /// Another name for a tensor.
    pub fn bind(&mut self, name: &str, def: DefId) {
        if let Some(frame) = self.frames.last_mut() {
            frame.names.insert(name.to_string(), def);
        }
    }

    /// The definition.
    pub fn get(&self, id: DefId) -> &Def {
        &self.defs[id.0]
    }

    /// Something reads it.
    pub fn mark_used(&mut self, id: DefId) {
        self.defs[id.0].used = true;
    }

    /// What the name means here; says so if nothing. Reading it is up to the caller.
    pub fn find(&mut self, name: &Spanned<String>, sink: &mut Sink) -> Option<DefId> {
        let text = &name.value;
        if let Some(def) = self.frames.iter().rev().find_map(|frame| frame.names.get(text)) {
            return Some(*def);
        }
        if !self.complete {
            return None;
        }
        let at = |code: &'static str, message: String, label: &str| {
            Diagnostic::new(code, message).at(name.span.clone(), label)
        };
        if let Some(place) = self.frames.iter().rev().find_map(|frame| frame.coming.get(text)) {
            self.awaited.insert(text.clone());
            sink.push(
                at(
                    codes::USE_BEFORE_DEFINITION,
                    format!("`{text}` is used before it is defined"),
                    "used here",
                )
                .at(place.clone(), "defined here")
                .help("ops run in the order written; tensors of the pass before are handed on with `carry`"),
            );
        } else if let Some((section, place)) = self.homes.get(text) {
            self.awaited.insert(text.clone());
            sink.push(
                at(
                    codes::BRIDGE,
                    format!("`{text}` belongs to the section `{section}`"),
                    "not visible here",
                )
                .at(place.clone(), "defined here")
                .help(format!(
                    "list it in `out` of `{section}` and in `in` of the section that reads it"
                )),
            );
        } else {
            let names = self.frames.iter().rev().flat_map(|frame| frame.names.iter());
            let (help, meant) = sink.guess(text, names.clone().map(|(name, _)| name.as_str()));
            let meant = meant
                .and_then(|meant| names.clone().find(|(name, _)| *name == meant))
                .map(|(_, def)| *def);
            sink.push(
                at(
                    codes::UNKNOWN_TENSOR,
                    format!("unknown tensor `{text}`"),
                    "no such tensor",
                )
                .help(help),
            );
            if let Some(meant) = meant {
                self.mark_used(meant);
            }
        }
        None
    }

    /// Reports tensors that nothing reads.
    pub fn report_unused(&self, sink: &mut Sink) {
        for def in &self.defs {
            let local = def.name.rsplit('.').next().unwrap_or(&def.name);
            if !def.used && !self.awaited.contains(local) {
                sink.push(
                    Diagnostic::new(codes::UNUSED_TENSOR, format!("nothing reads the tensor `{}`", def.name))
                        .at(def.span.clone(), "made here, never read")
                        .help("remove its op, or list it in `outputs`"),
                );
            }
        }
    }
}
