//! Operands of kernel calls as tokens.

use ck_kernels::ops::{self, Cache, Norm, Part, Rope, Sink, Slot, Source, Vector, Weight, Workspace};
use ck_kernels::partition::Axis;
use proc_macro2::{Ident, Literal, TokenStream};
use quote::{format_ident, quote};

use super::names::Names;
use crate::graph::{Graph, Op};
use crate::layout::EntryLayout;
use crate::layout::call::Call;
use crate::schedule::access::Operand;

/// Writes the operands of one op.
pub(super) struct Writer<'a> {
    names: &'a Names,
    reads: Vec<(Slot, Ident)>,
    writes: Vec<(Slot, Ident)>,
}

/// A plain number.
pub(super) fn number(n: usize) -> Literal {
    Literal::usize_unsuffixed(n)
}

/// An offset: hexadecimal reads better, and diffs by digit.
pub(super) fn offset(n: usize) -> TokenStream {
    format!("{n:#x}").parse().expect("a hexadecimal number is a token")
}

/// A float: the shortest decimal that is read back as the same bits.
pub(super) fn float(x: f32) -> TokenStream {
    if x.is_finite() {
        return format!("{x:?}").parse().expect("a finite number is a token");
    }
    let bits = offset(x.to_bits() as usize);
    quote! { f32::from_bits(#bits) }
}

/// The constant of an element type.
pub(super) fn variant(value: &impl std::fmt::Debug) -> Ident {
    format_ident!("{}", format!("{value:?}"))
}

pub(super) fn axis(axis: Axis) -> TokenStream {
    match axis {
        Axis::Tokens { granule } => {
            let granule = number(granule);
            quote! { Axis::Tokens { granule: #granule } }
        }
        Axis::Columns { granule } => {
            let granule = number(granule);
            quote! { Axis::Columns { granule: #granule } }
        }
        Axis::Heads => quote! { Axis::Heads },
        Axis::Serial => quote! { Axis::Serial },
    }
}

impl<'a> Writer<'a> {
    pub fn new(names: &'a Names, entry: &EntryLayout, graph: &Graph, op: &Op) -> Writer<'a> {
        let named = |ids: &[crate::graph::TensorId]| {
            ids.iter()
                .map(|id| {
                    let t = graph.tensor(*id);
                    let place = entry.places[&Operand::Tensor(*id)] as usize;
                    (
                        Slot {
                            offset: place,
                            cols: t.cols,
                            act: t.act,
                        },
                        names.tensor(&t.name).clone(),
                    )
                })
                .collect()
        };
        Writer {
            names,
            reads: named(&op.inputs),
            writes: named(&op.outputs),
        }
    }

    fn slot(&self, slot: &Slot, lists: [&[(Slot, Ident)]; 2]) -> TokenStream {
        let found = lists.into_iter().flatten().find(|(s, _)| s == slot);
        let name = &found.expect("a call's slots are its op's tensors").1;
        quote! { slots::#name }
    }

    fn read(&self, slot: &Slot) -> TokenStream {
        self.slot(slot, [&self.reads, &self.writes])
    }

    fn write(&self, slot: &Slot) -> TokenStream {
        self.slot(slot, [&self.writes, &self.reads])
    }

    fn weight(&self, w: &Weight) -> TokenStream {
        self.names.at(w.offset).clone()
    }

    fn vector(&self, v: &Vector) -> TokenStream {
        self.names.at(v.offset).clone()
    }

    fn bias(&self, bias: &Option<Vector>) -> TokenStream {
        match bias {
            Some(v) => {
                let v = self.vector(v);
                quote! { Some(#v) }
            }
            None => quote! { None },
        }
    }

    fn norm(&self, n: &Norm) -> TokenStream {
        let (weight, eps) = (self.vector(&n.weight), float(n.eps));
        quote! { Norm { weight: #weight, eps: #eps } }
    }

    fn rope(&self, r: &Rope) -> TokenStream {
        self.names.at(r.table).clone()
    }

    fn cache(&self, c: &Cache) -> TokenStream {
        self.names.at(c.k).clone()
    }

    fn workspace(&self, w: &Workspace) -> TokenStream {
        let (at, bytes) = (offset(w.offset), number(w.bytes));
        quote! { Workspace { offset: #at, bytes: #bytes } }
    }

    fn source(&self, source: &Source) -> TokenStream {
        match source {
            Source::Rows(x) => {
                let x = self.read(x);
                quote! { Source::Rows(#x) }
            }
            Source::Norm { x, norm } => {
                let (x, norm) = (self.read(x), self.norm(norm));
                quote! { Source::Norm { x: #x, norm: #norm } }
            }
            Source::AddNorm { x, delta, sum, norm } => {
                let (x, delta, sum, norm) = (self.read(x), self.read(delta), self.write(sum), self.norm(norm));
                quote! { Source::AddNorm { x: #x, delta: #delta, sum: #sum, norm: #norm } }
            }
            Source::EmbedNorm { ids, table, out, norm } => {
                let (ids, table) = (self.read(ids), self.weight(table));
                let (out, norm) = (self.write(out), self.norm(norm));
                quote! { Source::EmbedNorm { ids: #ids, table: #table, out: #out, norm: #norm } }
            }
            Source::Glu { gate, up, kind } => {
                let (gate, up, kind) = (self.read(gate), self.read(up), variant(kind));
                quote! { Source::Glu { gate: #gate, up: #up, kind: Gate::#kind } }
            }
        }
    }

    fn part(&self, part: &Part) -> TokenStream {
        let (weight, bias) = (self.weight(&part.weight), self.bias(&part.bias));
        let sink = match &part.sink {
            Sink::Store(out) => {
                let out = self.write(out);
                quote! { Sink::Store(#out) }
            }
            Sink::Rope { rope, out } => {
                let (rope, out) = (self.rope(rope), self.write(out));
                quote! { Sink::Rope { rope: #rope, out: #out } }
            }
            Sink::RopeKeys { rope, cache } => {
                let (rope, cache) = (self.rope(rope), self.cache(cache));
                quote! { Sink::RopeKeys { rope: #rope, cache: #cache } }
            }
            Sink::Values { cache } => {
                let cache = self.cache(cache);
                quote! { Sink::Values { cache: #cache } }
            }
        };
        quote! { Part { weight: #weight, bias: #bias, sink: #sink } }
    }

    fn attention(&self, a: &ops::Attention, in_place: bool) -> TokenStream {
        let q = self.read(&a.q);
        let out = if in_place {
            self.read(&a.out)
        } else {
            self.write(&a.out)
        };
        let (cache, heads) = (self.cache(&a.cache), number(a.heads));
        let (scale, softcap) = (float(a.scale), float(a.softcap));
        let window = match a.window {
            usize::MAX => quote! { usize::MAX },
            n => {
                let n = number(n);
                quote! { #n }
            }
        };
        let axis = axis(a.axis);
        quote! {
            Attention {
                q: #q, cache: #cache, heads: #heads, out: #out, scale: #scale, softcap: #softcap, window: #window,
                axis: #axis
            }
        }
    }

    /// The kernel value of a call.
    pub fn call(&self, call: &Call) -> TokenStream {
        match call {
            Call::Embed(k) => {
                let (ids, table, out, axis) = (
                    self.read(&k.ids),
                    self.weight(&k.table),
                    self.write(&k.out),
                    axis(k.axis),
                );
                quote! { Embed { ids: #ids, table: #table, out: #out, axis: #axis } }
            }
            Call::EmbedNorm(k) => {
                let (ids, table, out) = (self.read(&k.ids), self.weight(&k.table), self.write(&k.out));
                let (norm, normed, axis) = (self.norm(&k.norm), self.write(&k.normed), axis(k.axis));
                quote! { EmbedNorm { ids: #ids, table: #table, out: #out, norm: #norm, normed: #normed, axis: #axis } }
            }
            Call::RmsNorm(k) => {
                let (x, norm, out, axis) = (self.read(&k.x), self.norm(&k.norm), self.write(&k.out), axis(k.axis));
                quote! { RmsNorm { x: #x, norm: #norm, out: #out, axis: #axis } }
            }
            Call::AddNorm(k) => {
                let (x, delta, sum) = (self.read(&k.x), self.read(&k.delta), self.write(&k.sum));
                let (norm, out, axis) = (self.norm(&k.norm), self.write(&k.out), axis(k.axis));
                quote! { AddNorm { x: #x, delta: #delta, sum: #sum, norm: #norm, out: #out, axis: #axis } }
            }
            Call::Add(k) => {
                let (a, b, out, axis) = (self.read(&k.a), self.read(&k.b), self.write(&k.out), axis(k.axis));
                quote! { Add { a: #a, b: #b, out: #out, axis: #axis } }
            }
            Call::Glu(k) => {
                let (gate, up, kind) = (self.read(&k.gate), self.read(&k.up), variant(&k.kind));
                let (out, axis) = (self.write(&k.out), axis(k.axis));
                quote! { Glu { gate: #gate, up: #up, kind: Gate::#kind, out: #out, axis: #axis } }
            }
            Call::Rotate(k) => {
                let (x, rope, out, axis) = (self.read(&k.x), self.rope(&k.rope), self.write(&k.out), axis(k.axis));
                quote! { Rotate { x: #x, rope: #rope, out: #out, axis: #axis } }
            }
            Call::Quantize(k) => {
                let (x, out, axis) = (self.read(&k.x), self.write(&k.out), axis(k.axis));
                quote! { Quantize { x: #x, out: #out, axis: #axis } }
            }
            Call::CacheKeys(k) => {
                let (x, cache, axis) = (self.read(&k.x), self.cache(&k.cache), axis(k.axis));
                quote! { CacheKeys { x: #x, cache: #cache, axis: #axis } }
            }
            Call::CacheValues(k) => {
                let (x, cache, axis) = (self.read(&k.x), self.cache(&k.cache), axis(k.axis));
                quote! { CacheValues { x: #x, cache: #cache, axis: #axis } }
            }
            Call::SelectRow(k) => {
                let (x, out, axis) = (self.read(&k.x), self.write(&k.out), axis(k.axis));
                quote! { SelectRow { x: #x, out: #out, axis: #axis } }
            }
            Call::Attention(k) => self.attention(k, false),
            Call::AttentionSplit(k) => {
                let (attention, workspace) = (self.attention(&k.attention, false), self.workspace(&k.workspace));
                quote! { AttentionSplit { attention: #attention, workspace: #workspace } }
            }
            Call::AttentionProject(k) => {
                let (attention, part) = (self.attention(&k.attention, true), self.part(&k.part));
                let (workspace, axis) = (self.workspace(&k.workspace), axis(k.axis));
                quote! {
                    AttentionProject { attention: #attention, part: #part, workspace: #workspace, axis: #axis }
                }
            }
            Call::Project {
                source,
                parts,
                workspace,
                axis: a,
            } => {
                let source = self.source(source);
                let parts = parts.iter().map(|p| self.part(p));
                let (workspace, axis) = (self.workspace(workspace), axis(*a));
                quote! {
                    Project { source: #source, parts: &[#(#parts),*], workspace: #workspace, axis: #axis }
                }
            }
            Call::ProjectGlu(k) => {
                let (source, gate, up) = (self.source(&k.source), self.weight(&k.gate), self.weight(&k.up));
                let (gate_bias, up_bias) = (self.bias(&k.gate_bias), self.bias(&k.up_bias));
                let (kind, out) = (variant(&k.kind), self.write(&k.out));
                let (workspace, axis) = (self.workspace(&k.workspace), axis(k.axis));
                quote! {
                    ProjectGlu {
                        source: #source, gate: #gate, gate_bias: #gate_bias, up: #up, up_bias: #up_bias,
                        kind: Gate::#kind, out: #out, workspace: #workspace, axis: #axis
                    }
                }
            }
        }
    }
}
