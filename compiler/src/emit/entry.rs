//! One file an entry: the straight line of its steps, one function a layer.

use ck_kernels::isa::chunks::CHUNK;
use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use super::comments::Comments;
use super::names::{Names, constant};
use super::operands::{Writer, number};
use crate::graph::{Op, TensorId};
use crate::layout::call::{Call, call};
use crate::layout::{EntryLayout, Layout, operand_name};
use crate::schedule::Halves;
use crate::schedule::access::Operand;
use crate::schedule::barrier::{Barrier, Hazard};

/// Calls in one function at most: rustc's time grows faster than the length of a function.
const CALLS_PER_FUNCTION: usize = 64;

/// The file of an entry.
pub(super) fn emit(layout: &Layout, planned: &EntryLayout, names: &Names) -> (TokenStream, Comments) {
    let mut comments = Comments::default();
    let entry = &planned.entry;
    let calls: Vec<Call> = (0..entry.steps.len()).map(|i| call(layout, planned, i)).collect();
    let (functions, order): (Vec<_>, Vec<_>) = stretches(planned)
        .into_iter()
        .map(|(name, title, range)| {
            let ident = format_ident!("{name}");
            let body = range.map(|i| step(layout, planned, names, &mut comments, i, &calls[i]));
            let function = quote! {
                #[doc = #title]
                fn #ident(w: &Worker<'_>) {
                    #(#body)*
                }
            };
            (function, quote! { #ident(w); })
        })
        .unzip();
    let title = format!(" `{}`: {}", entry.name, purpose(entry.name));
    let uses = uses(&calls);
    let text: Vec<String> = functions.iter().map(ToString::to_string).collect();
    let mut tables: Vec<&str> = ["caches", "ropes", "weights"]
        .into_iter()
        .filter(|table| text.iter().any(|f| f.contains(&format!("{table} ::"))))
        .collect();
    tables.push(entry.name);
    tables.sort_unstable();
    let tables = tables.into_iter().map(|table| {
        let name = format_ident!("{table}");
        if table == entry.name {
            quote! { #name as slots }
        } else {
            quote! { #name }
        }
    });
    let debug = layout.debug.watches().then(|| quote! { use crate::debug; });
    let tokens = quote! {
        #![doc = #title]

        use ck_runtime::Worker;
        #uses

        #debug
        use crate::layout::{#(#tables),*};

        #[doc = " Every worker runs this line, each on its own part of every step."]
        pub(crate) fn run(w: &Worker<'_>) {
            #(#order)*
        }

        #(#functions)*
    };
    (tokens, comments)
}

fn purpose(entry: &str) -> &'static str {
    match entry {
        "prefill" => "the body for up to `BATCH` tokens, divided by tokens.",
        "decode" => "the body for one token, divided by columns of the weights.",
        _ => "from the selected row to its logits, divided by columns of the weights.",
    }
}

/// Cuts the steps into functions: one a layer, and one for each stretch between layers.
fn stretches(planned: &EntryLayout) -> Vec<(String, String, std::ops::Range<usize>)> {
    let entry = &planned.entry;
    let layer = |i: usize| entry.graph.ops[entry.steps[i].op].layer;
    let mut cuts: Vec<std::ops::Range<usize>> = Vec::new();
    for i in 0..entry.steps.len() {
        match cuts.last_mut() {
            Some(last) if layer(last.start) == layer(i) && last.len() < CALLS_PER_FUNCTION => last.end = i + 1,
            _ => cuts.push(i..i + 1),
        }
    }
    let mut named: Vec<(String, String, std::ops::Range<usize>)> = Vec::new();
    for range in cuts {
        let (base, title) = match layer(range.start) {
            Some(n) => (format!("layer_{n}"), format!(" Layer {n}.")),
            None => {
                let first = &entry.graph.ops[entry.steps[range.start].op].name;
                let ident = constant(first).to_string().to_ascii_lowercase();
                (format!("from_{ident}"), format!(" From `{first}`."))
            }
        };
        let same = named
            .iter()
            .filter(|(n, ..)| *n == base || n.starts_with(&format!("{base}_part_")))
            .count();
        let name = if same == 0 {
            base
        } else {
            format!("{base}_part_{}", same + 1)
        };
        named.push((name, title, range));
    }
    named
}

fn step(
    layout: &Layout,
    planned: &EntryLayout,
    names: &Names,
    comments: &mut Comments,
    index: usize,
    call: &Call,
) -> TokenStream {
    let entry = &planned.entry;
    let step = &entry.steps[index];
    let op = &entry.graph.ops[step.op];
    let writer = Writer::new(names, planned, &entry.graph, op);
    let comment = comments.add(describe(planned, index, op, call));
    let barrier = planned.barriers[index].map(|barrier| match barrier.unless {
        None => quote! { w.barrier(); },
        Some(heads) => {
            let heads = number(heads);
            quote! { w.barrier_unless(#heads); }
        }
    });
    let kernel = writer.call(call);
    let run = if layout.debug.watches() {
        let (table, number) = (constant(entry.name), number(index));
        quote! { w.watch(&debug::#table, #number, #kernel); }
    } else {
        quote! { w.run(#kernel); }
    };
    quote! {
        #comment
        #barrier
        #run
    }
}

/// What a reader wants to know of a step: its name, what is fused in it, operands with places and lifetimes, the
/// division, and why a barrier stands before it.
fn describe(planned: &EntryLayout, index: usize, op: &Op, call: &Call) -> Vec<String> {
    let entry = &planned.entry;
    let step = &entry.steps[index];
    let mut lines = vec![String::new(), format!("{index:03} {}: {}", op.name, call.kernel())];
    if op.fused_from.len() > 1 {
        list(&mut lines, "of  ", &wrapped(&op.fused_from));
    }
    let operand = |t: &TensorId| {
        let tensor = entry.graph.tensor(*t);
        let place = planned.places[&Operand::Tensor(*t)];
        let live = planned
            .live
            .get(&Operand::Tensor(*t))
            .map_or(String::new(), |r| format!(", live {}..{}", r.start, r.end));
        format!(
            "{}: {}[{}] at {place:#x}{live}",
            tensor.name,
            tensor.act.name(),
            shape(planned, *t)
        )
    };
    list(&mut lines, "in  ", &op.inputs.iter().map(operand).collect::<Vec<_>>());
    list(&mut lines, "out ", &op.outputs.iter().map(operand).collect::<Vec<_>>());
    lines.push(format!("  by   {}", division(step)));
    if let Some(barrier) = planned.barriers[index] {
        lines.push(format!("  wait {}", reason(planned, barrier)));
    }
    if let Some(why) = step.halves.map(halves) {
        lines.push(format!("  meet {why}"));
    }
    lines
}

/// One line an item, the first one after the word.
fn list(lines: &mut Vec<String>, word: &str, items: &[String]) {
    for (i, item) in items.iter().enumerate() {
        lines.push(format!("  {} {item}", if i == 0 { word } else { "    " }));
    }
}

/// Names in lines of a readable length.
fn wrapped(names: &[String]) -> Vec<String> {
    let mut lines = vec![String::new()];
    for (i, name) in names.iter().enumerate() {
        let line = lines.last_mut().expect("one line at least");
        let comma = if i + 1 == names.len() { "" } else { "," };
        if line.is_empty() {
            *line = format!("{name}{comma}");
        } else if line.len() + name.len() < 96 {
            line.push_str(&format!(" {name}{comma}"));
        } else {
            lines.push(format!("{name}{comma}"));
        }
    }
    lines
}

fn shape(planned: &EntryLayout, t: TensorId) -> String {
    let tensor = planned.entry.graph.tensor(t);
    let rows = match tensor.rows {
        crate::graph::Rows::Tokens if planned.entry.name == "decode" => "1",
        crate::graph::Rows::Tokens => "T",
        crate::graph::Rows::Selected => "1",
    };
    format!("{rows}, {}", tensor.cols)
}

/// A step's division in words.
pub(crate) fn division(step: &crate::schedule::Step) -> String {
    use ck_kernels::partition::Axis;
    match step.axis {
        Axis::Tokens { granule } => format!("tokens, {granule} together"),
        Axis::Columns { granule } => format!("columns, {granule} together"),
        Axis::Heads => format!("heads, {} of them", step.extent),
        Axis::Serial => "worker 0 alone".into(),
    }
}

/// Why workers meet between two halves of a step, in words.
pub(crate) fn halves(halves: Halves) -> String {
    match halves {
        Halves::Chunks { heads } => {
            format!("puts together what each found in chunks of {CHUNK} positions, unless their number divides {heads}")
        }
        Halves::Project => "projects its own tokens, whose attention was divided evenly".into(),
    }
}

/// Why a barrier stands, in words.
pub(crate) fn reason(planned: &EntryLayout, barrier: Barrier) -> String {
    let entry = &planned.entry;
    let step_name = |i: usize| &entry.graph.ops[entry.steps[i].op].name;
    let why = match barrier.hazard {
        Hazard::Reads { operand, writer } => {
            format!(
                "reads `{}`, which `{}` wrote on other workers",
                operand_name(entry, operand),
                step_name(writer)
            )
        }
        Hazard::Reuses { operand, user } => {
            format!(
                "takes the bytes of `{}`, in use by `{}` on other workers",
                operand_name(entry, operand),
                step_name(user)
            )
        }
    };
    match barrier.unless {
        None => why,
        Some(heads) => format!("{why}, unless their number divides {heads}"),
    }
}

/// The kernel types that the calls name, sorted.
fn uses(calls: &[Call]) -> TokenStream {
    let text: Vec<String> = calls.iter().map(|c| format!("{c:?}")).collect();
    let has = |word: &str| text.iter().any(|t| t.contains(word));
    let kernel = |c: &Call| match c {
        Call::Embed(_) => "Embed",
        Call::EmbedNorm(_) => "EmbedNorm",
        Call::RmsNorm(_) => "RmsNorm",
        Call::AddNorm(_) => "AddNorm",
        Call::Add(_) => "Add",
        Call::Glu(_) => "Glu",
        Call::Rotate(_) => "Rotate",
        Call::Quantize(_) => "Quantize",
        Call::CacheKeys(_) => "CacheKeys",
        Call::CacheValues(_) => "CacheValues",
        Call::SelectRow(_) => "SelectRow",
        Call::Attention(_) => "Attention",
        Call::AttentionSplit(_) => "AttentionSplit",
        Call::AttentionProject(_) => "AttentionProject",
        Call::Project { .. } => "Project",
        Call::ProjectGlu(_) => "ProjectGlu",
    };
    let mut names: std::collections::BTreeSet<&str> = calls.iter().map(kernel).collect();
    names.extend((has("AttentionProject") || has("AttentionSplit")).then_some("Attention"));
    names.extend(has("eps:").then_some("Norm"));
    names.extend(has("kind:").then_some("Gate"));
    names.extend(has("source:").then_some("Source"));
    names.extend(has("sink:").then_some("Part"));
    names.extend(has("sink:").then_some("Sink"));
    names.extend(has("workspace:").then_some("Workspace"));
    let idents = names.iter().map(|n| format_ident!("{n}"));
    quote! {
        use ck_runtime::kernels::ops::{#(#idents),*};
        use ck_runtime::kernels::partition::Axis;
    }
}
