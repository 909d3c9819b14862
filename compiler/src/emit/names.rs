//! Names of constants in the emitted crate: derived from the model's own names, so that an edit of the model renames
//! nothing it does not touch.

use std::collections::BTreeMap;

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

use crate::layout::Layout;

/// Constant names of weights, ropes and caches by position, of activations by name.
pub(super) struct Names {
    /// By [`crate::graph::WeightId`].
    pub weights: Vec<Ident>,
    /// By [`crate::graph::RopeId`].
    pub ropes: Vec<Ident>,
    /// By [`crate::graph::CacheId`].
    pub caches: Vec<Ident>,
    by_offset: BTreeMap<u64, TokenStream>,
    tensors: BTreeMap<String, Ident>,
}

impl Names {
    pub fn new(layout: &Layout) -> Names {
        let graph = &layout.entries[0].entry.graph;
        let mut weights = Unique::default();
        let weights: Vec<Ident> = graph
            .weights
            .iter()
            .map(|w| weights.take_as(&w.source, short(&w.source)))
            .collect();
        let ropes: Vec<Ident> = (0..graph.ropes.len()).map(|i| constant(&format!("rope_{i}"))).collect();
        let mut caches = Unique::default();
        let caches: Vec<Ident> = graph.caches.iter().map(|c| caches.take(&c.name)).collect();
        let mut by_offset = BTreeMap::new();
        for (piece, name) in layout.weights.iter().zip(&weights) {
            by_offset.insert(piece.arena, quote! { weights::#name });
        }
        for (piece, name) in layout.ropes.iter().zip(&ropes) {
            by_offset.insert(piece.arena, quote! { ropes::#name });
        }
        for ((keys, _), name) in layout.caches.iter().zip(&caches) {
            by_offset.insert(*keys, quote! { caches::#name });
        }
        let mut unique = Unique::default();
        let mut tensors = BTreeMap::new();
        for entry in &layout.entries {
            for tensor in &entry.entry.graph.tensors {
                tensors
                    .entry(tensor.name.clone())
                    .or_insert_with(|| unique.take(&tensor.name));
            }
        }
        Names {
            tensors,
            weights,
            ropes,
            caches,
            by_offset,
        }
    }

    /// The constant of an activation.
    pub fn tensor(&self, name: &str) -> &Ident {
        &self.tensors[name]
    }

    /// The constant of the weight, rope table or cache at this arena offset.
    pub fn at(&self, offset: usize) -> &TokenStream {
        &self.by_offset[&(offset as u64)]
    }
}

/// Hands out constant names; two different sources that sanitise to the same name are told apart by a suffix made from
/// the source itself.
#[derive(Default)]
pub(super) struct Unique {
    taken: BTreeMap<String, String>,
}

impl Unique {
    /// A name for `source`.
    pub fn take(&mut self, source: &str) -> Ident {
        self.take_as(source, source)
    }

    /// A name for `source`, made from `text`.
    fn take_as(&mut self, source: &str, text: &str) -> Ident {
        let mut name = constant(text).to_string();
        while self.taken.get(&name).is_some_and(|owner| owner != source) {
            let sum = source
                .bytes()
                .fold(0u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
            name = format!("{name}_{sum:08X}");
        }
        self.taken.insert(name.clone(), source.into());
        Ident::new(&name, Span::call_site())
    }
}

/// A weight's name without what every weight's name has.
fn short(source: &str) -> &str {
    let name = source.strip_prefix("model.").unwrap_or(source);
    name.strip_suffix(".weight").unwrap_or(name)
}

/// `layers.0.attn_norm` as `LAYERS_0_ATTN_NORM`.
pub(super) fn constant(name: &str) -> Ident {
    Ident::new(&sanitise(name).to_ascii_uppercase(), Span::call_site())
}

/// A name as an identifier: letters, digits and underscores, not starting with a digit.
fn sanitise(name: &str) -> String {
    let mut out: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) || out.chars().all(|c| c == '_') {
        out.insert_str(0, "N_");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sanitised_and_kept_apart() {
        assert_eq!(constant("layers.0.attn-norm").to_string(), "LAYERS_0_ATTN_NORM");
        assert_eq!(constant("0.x").to_string(), "N_0_X");
        let mut unique = Unique::default();
        let (a, b) = (unique.take("a.b"), unique.take("a_b"));
        assert_ne!(a, b);
        assert_eq!(a, unique.take("a.b"));
    }
}
