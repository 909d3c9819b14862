//! `debug.rs`: what a debug run watches, as tables.

use std::collections::BTreeMap;

use ck_runtime::debug::What;
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};

use super::names::{Names, Unique, constant};
use super::operands::{number, offset};
use crate::layout::debug::{DebugMode, EntryTable, Tables, Watched, tables};
use crate::layout::{EntryLayout, Layout};
use crate::schedule::access::Operand;

/// The file.
pub(super) fn file(layout: &Layout, names: &Names) -> TokenStream {
    let tables = tables(layout);
    let writer = Writer::new(layout, names, &tables);
    let resident = tables.resident.iter().map(|w| match w.what {
        What::Rows(slot, _) if slot == layout.ids => writer.value(w, quote! { IDS }),
        _ => writer.value(w, quote! { LOGITS }),
    });
    let caches = tables.caches.iter().map(|(operand, w)| {
        let (name, value) = (&writer.caches[operand], writer.value(w, TokenStream::new()));
        quote! { const #name: Watched = #value; }
    });
    let cache_names = writer.caches.values();
    let entries = tables.entries.iter().zip(&layout.entries);
    let (heads, modules): (Vec<_>, Vec<_>) = entries.map(|(table, planned)| writer.entry(table, planned)).unzip();
    let uses = (!tables.caches.is_empty()).then(|| quote! { use crate::layout::caches; });
    quote! {
        #![doc = " What a debug run watches: in each step who is born, who is alive and who dies. A canary stands behind each of"]
        #![doc = " those that are alive. See `ck_runtime::debug`."]

        use ck_runtime::debug::{Entry, Watched};

        #uses
        use crate::layout::{BATCH, IDS, LOGITS};

        #(#heads)*

        #[doc = " What is alive whatever runs."]
        const RESIDENT: &[Watched] = &[#(#resident),*];

        #[doc = " Keys and values."]
        const CACHES: &[Watched] = &[#(#cache_names),*];

        #(#caches)*
        #(#modules)*
    }
}

/// Writes the tables down.
struct Writer<'a> {
    layout: &'a Layout,
    names: &'a Names,
    /// The constant of each half of a cache.
    caches: BTreeMap<Operand, Ident>,
}

impl<'a> Writer<'a> {
    fn new(layout: &'a Layout, names: &'a Names, tables: &Tables) -> Writer<'a> {
        let mut unique = Unique::default();
        let caches = tables.caches.iter();
        Writer {
            layout,
            names,
            caches: caches.map(|(operand, w)| (*operand, unique.take(&w.name))).collect(),
        }
    }

    /// The value of something whose slot, if it has one, is a constant.
    fn value(&self, w: &Watched, slot: TokenStream) -> TokenStream {
        let name = &w.name;
        match w.what {
            What::Rows(_, rows) => {
                let batch = self.layout.entries[0].entry.graph.batch;
                let one = number(rows);
                let rows = if rows == batch {
                    quote! { BATCH }
                } else {
                    quote! { #one }
                };
                quote! { Watched::rows(#name, #slot, #rows) }
            }
            What::Keys(cache) => {
                let cache = self.names.at(cache.k);
                quote! { Watched::keys(#name, #cache) }
            }
            What::Values(cache) => {
                let cache = self.names.at(cache.k);
                quote! { Watched::values(#name, #cache) }
            }
            What::Scratch(at, bytes) => {
                let (at, bytes) = (offset(at), number(bytes));
                quote! { Watched::scratch(#name, #at, #bytes) }
            }
            What::Fixed(at, bytes) => {
                let (at, bytes) = (offset(at), number(bytes));
                quote! { Watched::fixed(#name, #at, #bytes) }
            }
        }
    }

    /// The constant of an entry, and the module with its tensors and steps.
    fn entry(&self, table: &EntryTable, planned: &EntryLayout) -> (TokenStream, TokenStream) {
        let (name, graph) = (planned.entry.name, &planned.entry.graph);
        let (constant, module) = (constant(name), format_ident!("{name}"));
        let mut unique = Unique::default();
        let own: BTreeMap<Operand, Ident> = table.watched.iter().map(|(o, w)| (*o, unique.take(&w.name))).collect();
        let rows = table.watched.iter().map(|(operand, w)| {
            let slot = match operand {
                Operand::Tensor(t) => {
                    let slot = self.names.tensor(&graph.tensor(*t).name);
                    quote! { slots::#slot }
                }
                _ => TokenStream::new(),
            };
            let (ident, value) = (&own[operand], self.value(w, slot));
            quote! { pub const #ident: Watched = #value; }
        });
        let refer = |o: &Operand| match (own.get(o), self.caches.get(o)) {
            (Some(name), _) => quote! { #name },
            (None, name) => quote! { super::#name },
        };
        let steps = table.steps.iter().zip(&planned.entry.steps).map(|(row, step)| {
            let list = |operands: &[Operand]| {
                let names = operands.iter().map(refer);
                quote! { &[#(#names),*] }
            };
            let id = &graph.ops[step.op].name;
            let in_place = row.in_place.iter().map(|(new, old)| {
                let (new, old) = (refer(new), refer(old));
                quote! { (#new, #old) }
            });
            let [born, writes, live, dies] = [&row.born, &row.writes, &row.live, &row.dies].map(|o| list(o));
            quote! {
                Step { id: #id, born: #born, in_place: &[#(#in_place),*], writes: #writes, live: #live, dies: #dies }
            }
        });
        let given = table.given.iter().map(|o| {
            let name = refer(o);
            quote! { #module::#name }
        });
        let DebugMode { canaries, poison, .. } = self.layout.debug;
        let (starts, title) = (table.starts, format!(" `{name}`."));
        let head = quote! {
            #[doc = #title]
            pub(crate) const #constant: Entry = Entry {
                name: #name, canaries: #canaries, poison: #poison, starts: #starts, caches: CACHES, resident: RESIDENT,
                given: &[#(#given),*], steps: #module::STEPS,
            };
        };
        let rows: Vec<TokenStream> = rows.collect();
        let batch = rows
            .iter()
            .any(|row| row.to_string().contains("BATCH"))
            .then(|| quote! { BATCH, });
        let title = format!(" The tensors and steps of `{name}`.");
        let module = quote! {
            #[doc = #title]
            mod #module {
                use ck_runtime::debug::{Step, Watched};

                use crate::layout::{#batch #module as slots};

                #(#rows)*

                #[doc = " By step."]
                pub const STEPS: &[Step] = &[#(#steps),*];
            }
        };
        (head, module)
    }
}
