//! `lib.rs`, `main.rs` and `layout.rs`: what is constant about a program.

use proc_macro2::{Literal, TokenStream};
use quote::{format_ident, quote};

use ck_kernels::dtype::DType;
use ck_kernels::isa::Choices;

use super::Origin;
use super::comments::Comments;
use super::names::{Names, constant};
use super::operands::{axis, number, offset, variant};
use crate::layout::call::call;
use crate::layout::{EntryLayout, Kind, Layout, Region};
use crate::schedule::access::Operand;
use crate::schedule::cost::cost;

/// `lib.rs`: the program as the runtime wants it, and the API.
pub(super) fn library(origin: &Origin<'_>, layout: &Layout) -> TokenStream {
    let title = format!(
        " `{}`, compiled: a straight line of kernel calls over one arena.",
        origin.model
    );
    let mut modules: Vec<&str> = layout.entries.iter().map(|e| e.entry.name).collect();
    modules.push("layout");
    modules.extend(layout.debug.watches().then_some("debug"));
    modules.sort_unstable();
    let modules = modules.into_iter().map(|name| {
        let public = (name == "layout").then(|| quote! { pub });
        let name = format_ident!("{name}");
        quote! { #public mod #name; }
    });
    let package = package(origin);
    let example_use = format!(" use {package}::{{Config, Runner, WEIGHTS_FILE, layout}};");
    let example_main = format!(" # fn main() -> Result<(), {package}::Error> {{");
    let entries = layout.entries.iter().map(|e| {
        let name = format_ident!("{}", e.entry.name);
        quote! {
            fn #name(w: &Worker<'_>) {
                #name::run(w);
            }
        }
    });
    let file = format!("{}.ckw", origin.model);
    quote! {
        #![doc = #title]
        #![doc = ""]
        #![doc = " ```no_run"]
        #![doc = #example_use]
        #![doc = ""]
        #![doc = #example_main]
        #![doc = " let mut runner = Runner::open(WEIGHTS_FILE, Config::default())?;"]
        #![doc = " let logits = runner.prefill(&[1, 2, 3])?;"]
        #![doc = " assert_eq!(logits.len(), layout::LOGITS.cols);"]
        #![doc = " # Ok(())"]
        #![doc = " # }"]
        #![doc = " ```"]
        #![forbid(unsafe_code)]

        #(#modules)*

        pub use ck_runtime::{Config, Error};
        use ck_runtime::{Layout, Program, Worker};

        #[doc = " The packed weights, in this crate's folder."]
        pub const WEIGHTS_FILE: &str = #file;

        #[doc = " The compiled model."]
        #[derive(Clone, Copy, Debug)]
        pub struct Model;

        impl Program for Model {
            const LAYOUT: Layout = layout::LAYOUT;

            #(#entries)*
        }

        #[doc = " The model with its memory and workers."]
        pub type Runner = ck_runtime::Runner<Model>;
    }
}

/// The crate as other crates name it.
fn package(origin: &Origin<'_>) -> String {
    origin.model.replace(['-', '.'], "_")
}

/// `main.rs`: the command line.
pub(super) fn main(origin: &Origin<'_>) -> TokenStream {
    let title = format!(" The command line of `{}`.", origin.model);
    let package = format_ident!("{}", package(origin));
    quote! {
        #![doc = #title]
        #![forbid(unsafe_code)]

        use std::process::ExitCode;

        fn main() -> ExitCode {
            ck_runtime::cli::main::<#package::Model>(#package::WEIGHTS_FILE)
        }
    }
}

/// `layout.rs`: offsets, proofs, and the steps for the runtime's report.
pub(super) fn layout(layout: &Layout, origin: &Origin<'_>, names: &Names) -> (TokenStream, Comments) {
    let comments = Comments::default();
    let graph = &layout.entries[0].entry.graph;
    let ids = slot(&layout.ids);
    let logits = slot(&layout.logits);
    let hash = origin.hash.iter().map(|b| Literal::u8_unsuffixed(*b));
    let arena_bytes = number(layout.arena_bytes as usize);
    let payload = number(layout.payload_bytes as usize);
    let (context, batch) = (number(graph.context), number(graph.batch));
    let vocab = number(layout.logits.cols);
    let model = origin.model;
    let (kv_offset, kv_bytes) = kv_range(layout);
    let (kv_offset, kv_bytes) = (offset(kv_offset as usize), number(kv_bytes as usize));
    let segments = segments(layout);
    let choices = choices(origin, graph);
    let steps = layout.entries.iter().flat_map(|e| steps(layout, e));
    let slots: Vec<TokenStream> = layout.entries.iter().map(|e| entry_slots(e, names)).collect();
    let proofs: Vec<TokenStream> = layout.entries.iter().map(|e| proof(layout, e)).collect();
    let regions = regions(layout);
    let weights = weights(layout, names);
    let ropes = ropes(layout, names);
    let caches = caches(layout, names);
    let tokens = quote! {
        #![doc = " Where every byte is: offsets in one arena, known before anything runs."]
        #![allow(dead_code, reason = "a tensor may be named and never touched in one of the entries")]
        #![allow(long_running_const_eval, reason = "the proofs below compare every pair of buffers")]

        use ck_runtime::kernels::dtype::{ActType, DType};
        use ck_runtime::kernels::isa::Choices;
        use ck_runtime::kernels::ops::{Cache, Pairing, Rope, Slot, Vector, Weight};
        use ck_runtime::kernels::partition::Axis;
        use ck_runtime::{Layout, Segment, StepInfo};

        #[doc = " Bytes of the arena."]
        pub const ARENA_BYTES: usize = #arena_bytes;

        #[doc = " Positions there is room for."]
        pub const CONTEXT: usize = #context;

        #[doc = " The most tokens of one call of `prefill`."]
        pub const BATCH: usize = #batch;

        #regions

        #[doc = " The memory and the steps, for the runtime."]
        pub const LAYOUT: Layout = Layout {
            model: #model,
            hash: [#(#hash),*],
            arena_bytes: ARENA_BYTES,
            weights_bytes: #payload,
            context: CONTEXT,
            batch: BATCH,
            vocab: #vocab,
            ids: IDS,
            logits: LOGITS,
            kv_offset: #kv_offset,
            kv_bytes: #kv_bytes,
            segments: SEGMENTS,
            choices: CHOICES,
            steps: STEPS,
        };

        #[doc = " Tokens from which on kernels for many of them are used, by weight type and on a matrix unit."]
        pub const CHOICES: Choices = #choices;

        #[doc = " Token ids of a call."]
        pub const IDS: Slot = #ids;

        #[doc = " Logits of one row."]
        pub const LOGITS: Slot = #logits;

        #[doc = " Pieces of the packed weights with places of their own; none when they are mapped in place."]
        pub const SEGMENTS: &[Segment] = &[#(#segments),*];

        #weights
        #ropes
        #caches
        #(#slots)*
        #(#proofs)*

        #[doc = " Bytes `from..to` of the arena, in use from the first step to before the last one."]
        struct Buffer(usize, usize, u32, u32);

        #[doc = " Whether no two buffers that are in use at the same time share a byte, and all are in the arena."]
        const fn disjoint(buffers: &[Buffer]) -> bool {
            let mut i = 0;
            while i < buffers.len() {
                let a = &buffers[i];
                if a.0 > a.1 || a.1 > ARENA_BYTES {
                    return false;
                }
                let mut j = i + 1;
                while j < buffers.len() {
                    let b = &buffers[j];
                    if a.0 < b.1 && b.0 < a.1 && a.2 < b.3 && b.2 < a.3 {
                        return false;
                    }
                    j += 1;
                }
                i += 1;
            }
            true
        }

        #[doc = " Every step, in program order."]
        pub const STEPS: &[StepInfo] = &[#(#steps),*];
    };
    (tokens, comments)
}

fn slot(slot: &ck_kernels::ops::Slot) -> TokenStream {
    let (at, cols, act) = (offset(slot.offset), number(slot.cols), variant(&slot.act));
    quote! { Slot { offset: #at, cols: #cols, act: ActType::#act } }
}

/// The thresholds of the program's own types.
fn choices(origin: &Origin<'_>, graph: &crate::graph::Graph) -> TokenStream {
    let from = |tokens: usize| match tokens {
        usize::MAX => quote! { usize::MAX },
        tokens => {
            let tokens = number(tokens);
            quote! { #tokens }
        }
    };
    let types: std::collections::BTreeSet<DType> =
        graph.weights.iter().filter(|w| !w.vector).map(|w| w.dtype).collect();
    let Choices { avx2, avx512, tiles } = origin.choices;
    let [avx2, avx512] = [avx2, avx512].map(|of| {
        let many = types.iter().map(|dtype| (dtype, of[*dtype as usize]));
        let many = many.filter(|(_, tokens)| *tokens != usize::MAX).map(|(dtype, tokens)| {
            let (dtype, tokens) = (variant(dtype), from(tokens));
            quote! { (DType::#dtype, #tokens) }
        });
        quote! { Choices::thresholds(&[#(#many),*]) }
    });
    let tiles = from(tiles);
    quote! { Choices { avx2: #avx2, avx512: #avx512, tiles: #tiles } }
}

/// From the first key to the last value; a stride layout has them interleaved with everything else.
fn kv_range(layout: &Layout) -> (u64, u64) {
    match layout.regions.iter().find(|r| r.name == "kv") {
        Some(region) => (region.bytes.start, region.bytes.end - region.bytes.start),
        None => (0, 0),
    }
}

fn segments(layout: &Layout) -> Vec<TokenStream> {
    if layout.kind == Kind::Packed {
        return Vec::new();
    }
    layout
        .ropes
        .iter()
        .chain(&layout.weights)
        .map(|p| {
            let (file, arena, bytes) = (
                offset(p.payload as usize),
                offset(p.arena as usize),
                number(p.bytes as usize),
            );
            quote! { Segment { file_offset: #file, arena_offset: #arena, bytes: #bytes } }
        })
        .collect()
}

/// The constant of a region. A memory has a name of the user's, which may be that of another constant.
fn region_constant(layout: &Layout, region: &Region) -> proc_macro2::Ident {
    if layout.memories.iter().any(|m| m.memory.name == region.name) {
        constant(&format!("memory_{}", region.name))
    } else {
        constant(&region.name)
    }
}

/// The regions, and the proof that they lie one behind the other.
fn regions(layout: &Layout) -> TokenStream {
    let rows = layout.regions.iter().map(|r| {
        let name = region_constant(layout, r);
        let title = format!(" The region `{}`: {} bytes.", r.name, r.bytes.end - r.bytes.start);
        let (start, end) = (offset(r.bytes.start as usize), offset(r.bytes.end as usize));
        quote! {
            #[doc = #title]
            pub const #name: std::ops::Range<usize> = #start..#end;
        }
    });
    let pairs = layout.regions.windows(2).map(|pair| {
        let (a, b) = (region_constant(layout, &pair[0]), region_constant(layout, &pair[1]));
        quote! { const _: () = assert!(#a.end <= #b.start); }
    });
    let last = layout.regions.last().map(|r| {
        let name = region_constant(layout, r);
        quote! { const _: () = assert!(#name.end <= ARENA_BYTES); }
    });
    quote! { #(#rows)* #(#pairs)* #last }
}

fn weights(layout: &Layout, names: &Names) -> TokenStream {
    let graph = &layout.entries[0].entry.graph;
    let rows = graph
        .weights
        .iter()
        .zip(&layout.weights)
        .zip(&names.weights)
        .map(|((w, piece), name)| {
            let (at, cols) = (offset(piece.arena as usize), number(w.cols));
            let title = format!(" `{}`", w.source);
            if w.vector {
                quote! { #[doc = #title] pub const #name: Vector = Vector { offset: #at, len: #cols }; }
            } else {
                let (rows, dtype) = (number(w.rows), variant(&w.dtype));
                quote! {
                    #[doc = #title]
                    pub const #name: Weight = Weight { offset: #at, rows: #rows, cols: #cols, dtype: DType::#dtype };
                }
            }
        });
    quote! {
        #[doc = " The packed weights, in the order the program reads them."]
        pub mod weights {
            use super::{DType, Vector, Weight};
            #(#rows)*
        }
    }
}

fn ropes(layout: &Layout, names: &Names) -> TokenStream {
    let graph = &layout.entries[0].entry.graph;
    if graph.ropes.is_empty() {
        return TokenStream::new();
    }
    let rows = graph
        .ropes
        .iter()
        .zip(&layout.ropes)
        .zip(&names.ropes)
        .map(|((r, piece), name)| {
            let (at, head, dims) = (offset(piece.arena as usize), number(r.head_dim), number(r.dims));
            let pairing = variant(&r.pairing);
            let title = format!(" Cosines and sines, theta {}", r.theta);
            quote! {
                #[doc = #title]
                pub const #name: Rope = Rope {
                    table: #at, positions: CONTEXT, head_dim: #head, dims: #dims, pairing: Pairing::#pairing
                };
            }
        });
    quote! {
        #[doc = " Rotary tables."]
        pub mod ropes {
            use super::{CONTEXT, Pairing, Rope};
            #(#rows)*
        }
    }
}

fn caches(layout: &Layout, names: &Names) -> TokenStream {
    let graph = &layout.entries[0].entry.graph;
    if graph.caches.is_empty() {
        return TokenStream::new();
    }
    let positions = number(layout.cache_positions);
    let rows = graph
        .caches
        .iter()
        .zip(&layout.caches)
        .zip(&names.caches)
        .map(|((c, (k, v)), name)| {
            let (k, v) = (offset(*k as usize), offset(*v as usize));
            let (heads, head, act) = (number(c.kv_heads), number(c.head_dim), variant(&c.act));
            let title = format!(" `{}`", c.name);
            quote! {
                #[doc = #title]
                pub const #name: Cache = Cache {
                    k: #k, v: #v, kv_heads: #heads, head_dim: #head, context: #positions, act: ActType::#act
                };
            }
        });
    quote! {
        #[doc = " Keys and values, layer by layer."]
        pub mod caches {
            use super::{ActType, Cache};
            #(#rows)*
        }
    }
}

/// The slots of an entry's tensors, in order of first use.
fn entry_slots(planned: &EntryLayout, names: &Names) -> TokenStream {
    let entry = &planned.entry;
    let mut seen = std::collections::BTreeSet::new();
    let rows: Vec<TokenStream> = entry
        .steps
        .iter()
        .flat_map(|s| {
            let op = &entry.graph.ops[s.op];
            op.inputs.iter().chain(&op.outputs)
        })
        .filter(|t| seen.insert(**t))
        .map(|t| {
            let tensor = entry.graph.tensor(*t);
            let name = names.tensor(&tensor.name);
            let place = planned.places[&Operand::Tensor(*t)] as usize;
            let value = slot(&ck_kernels::ops::Slot {
                offset: place,
                cols: tensor.cols,
                act: tensor.act,
            });
            let title = format!(" `{}`", tensor.name);
            quote! { #[doc = #title] pub const #name: Slot = #value; }
        })
        .collect();
    let module = format_ident!("{}", entry.name);
    let title = format!(" Activations of `{}`.", entry.name);
    quote! {
        #[doc = #title]
        pub mod #module {
            use super::{ActType, Slot};
            #(#rows)*
        }
    }
}

/// The plan of an entry as a proof obligation: buffers that share bytes by being merged in place count as one.
fn proof(layout: &Layout, planned: &EntryLayout) -> TokenStream {
    let mut buffers = crate::layout::merged_buffers(layout, planned);
    buffers.extend(crate::layout::state(layout, planned).into_iter().map(|(_, held)| held));
    let rows = buffers.iter().map(|b| {
        let (start, end) = (offset(b.bytes.start as usize), offset(b.bytes.end as usize));
        let (from, to) = (number(b.live.start as usize), number(b.live.end as usize));
        quote! { Buffer(#start, #end, #from, #to) }
    });
    let name = format_ident!("{}_BUFFERS", entry_constant(planned));
    let title = format!(
        " The activations of `{}`, merged where they are updated in place.",
        planned.entry.name
    );
    quote! {
        #[doc = #title]
        const #name: &[Buffer] = &[#(#rows),*];
        const _: () = assert!(disjoint(#name));
    }
}

fn entry_constant(planned: &EntryLayout) -> String {
    planned.entry.name.to_ascii_uppercase()
}

fn steps(layout: &Layout, planned: &EntryLayout) -> Vec<TokenStream> {
    let entry = &planned.entry;
    (0..entry.steps.len())
        .map(|i| {
            let step = &entry.steps[i];
            let op = &entry.graph.ops[step.op];
            let kernel = call(layout, planned, i).kernel();
            let (id, name, extent) = (&op.name, entry.name, number(step.extent));
            let axis = axis(step.axis);
            let barrier = match planned.barriers[i] {
                Some(b) => {
                    let reason = super::entry::reason(planned, b);
                    quote! { Some(#reason) }
                }
                None => quote! { None },
            };
            let at = planned.places.get(&Operand::Workspace(i)).copied().unwrap_or(0);
            let (at, bytes) = (offset(at as usize), number(step.workspace));
            let cost = cost(&entry.graph, op);
            let flops = Literal::u64_unsuffixed(cost.flops_per_token);
            let weight_bytes = Literal::u64_unsuffixed(cost.weight_bytes);
            quote! {
                StepInfo {
                    id: #id,
                    entry: #name,
                    kernel: #kernel,
                    axis: #axis,
                    extent: #extent,
                    barrier: #barrier,
                    workspace_offset: #at,
                    workspace_bytes: #bytes,
                    serial: None,
                    flops_per_token: #flops,
                    weight_bytes: #weight_bytes,
                }
            }
        })
        .collect()
}
