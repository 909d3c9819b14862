//! Why a step is as it is: what it does the work of, its barrier, what it updates in place, what it was fused from.

use std::ops::Range;

use ck_kernels::isa::chunks::CHUNK;

use super::Part;
use crate::compile::Planned;
use crate::fuse::{Flag, Reason, Site};
use crate::layout::residence::touched;
use crate::layout::{EntryLayout, operand_bytes, operand_name};
use crate::report::Step;
use crate::schedule::access::{Access, Operand, Pattern};
use crate::schedule::in_place::{Pair, Refusal};

/// The steps of an entry that are called `name` or do its work.
pub fn parts(planned: &Planned, entry: &EntryLayout, name: &str) -> Vec<Part> {
    let rows = planned.report.steps.iter().filter(|s| s.entry == entry.entry.name);
    rows.filter(|s| s.id == name || s.fused_from.iter().any(|f| f == name))
        .map(|row| part(planned, entry, row))
        .collect()
}

fn part(planned: &Planned, entry: &EntryLayout, row: &Step) -> Part {
    let index = row.index as usize;
    let mut body = vec![
        field("reads", &row.inputs.join(", ")),
        field("writes", &row.outputs.join(", ")),
        field("divided by", &row.partition.to_string()),
        field(
            "costs",
            &format!(
                "{} flops, reads {} bytes, writes {}, scratch {}; {} bytes are live",
                row.flops, row.bytes_read, row.bytes_written, row.workspace_bytes, row.live_bytes
            ),
        ),
    ];
    body.extend(
        touched(&planned.layout, entry, index)
            .into_iter()
            .map(|(memory, names, bytes)| {
                let text = format!("{bytes} bytes of {} in `{memory}`", names.join(", "));
                field("memory", &text)
            }),
    );
    body.extend(row.predicted.as_ref().map(|predicted| {
        let text = format!(
            "kernels for {}, {} ns by the costs",
            predicted.kernels, predicted.nanoseconds
        );
        field("matmuls", &text)
    }));
    if row.fused_from.len() > 1 {
        body.insert(0, field("fused from", &row.fused_from.join(", ")));
    }
    match &row.barrier {
        Some(barrier) => body.push(field("barrier", &format!("yes: {}", barrier.reason))),
        None => {
            body.push(field("barrier", "none"));
            body.extend(
                no_barrier(planned, entry, index)
                    .into_iter()
                    .map(|line| format!("  {line}")),
            );
        }
    }
    if let Some(barrier) = &row.halves {
        let pieces = match barrier.unless {
            Some(_) => format!("by heads and by context, if a token sees more than {CHUNK} positions"),
            None => "by heads and tokens, so that each worker has as much to attend to".into(),
        };
        body.push(field(
            "within",
            &format!("divided {pieces}; then another barrier: {}", barrier.reason),
        ));
    }
    let pairs: Vec<Pair> = entry
        .entry
        .in_place_pairs()
        .into_iter()
        .filter(|p| p.step == index)
        .collect();
    if pairs.is_empty() {
        body.push(field(
            "in place",
            "no: it has no result and operand that could share bytes",
        ));
    }
    body.extend(
        pairs
            .iter()
            .map(|pair| field("in place", &in_place(planned, entry, pair))),
    );
    body.extend(fusions(planned, entry, row));
    Part {
        head: format!(
            "step `{}` of {}: kernel {}, number {index}",
            row.id, row.entry, row.kernel
        ),
        body,
    }
}

/// A name and its value, values below each other.
pub(super) fn field(name: &str, value: &str) -> String {
    format!("{name:<12} {}", if value.is_empty() { "nothing" } else { value })
}

/// Why each operand needs no barrier before the step.
fn no_barrier(planned: &Planned, entry: &EntryLayout, index: usize) -> Vec<String> {
    let program = &entry.entry;
    let name = |step: usize| program.graph.ops[program.steps[step].op].name.as_str();
    let last = (0..index)
        .rev()
        .find(|i| entry.barriers[*i].is_some_and(|b| b.always()));
    let bytes = |o: Operand| bytes(planned, entry, o);
    let mut lines = Vec::new();
    for access in &program.steps[index].accesses {
        let own = bytes(access.operand);
        // The last step before that another worker could still be in with these bytes.
        let meets = |a: &&Access| overlap(&bytes(a.operand), &own) && (a.write || access.write);
        let earlier = (0..index).rev().find_map(|i| {
            let met = program.steps[i].accesses.iter().find(meets)?;
            Some((i, met))
        });
        let what = operand_name(program, access.operand);
        let Some((i, met)) = earlier else {
            lines.push(format!("`{what}`: no step before it shares these bytes"));
            continue;
        };
        let did = if met.write { "written" } else { "read" };
        let met_name = operand_name(program, met.operand);
        let whose = match met.operand == access.operand {
            true => String::new(),
            false => format!("over `{met_name}`, "),
        };
        let why = match last {
            Some(at) if i < at => format!("the barrier before `{}` lies between", name(at)),
            _ => format!(
                "each worker has the same part there and here ({})",
                pattern(access.pattern)
            ),
        };
        lines.push(format!("`{what}`: {whose}last {did} by `{}`; {why}", name(i)));
    }
    lines
}

/// The bytes of an operand in the arena.
pub(super) fn bytes(planned: &Planned, entry: &EntryLayout, operand: Operand) -> Range<u64> {
    let start = entry.places.get(&operand).copied().unwrap_or(0);
    start..start + operand_bytes(&entry.entry, &planned.model.graph, operand)
}

pub(super) fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

fn pattern(pattern: Pattern) -> String {
    match pattern {
        Pattern::All => "all of it".into(),
        Pattern::Private => "a part of its own".into(),
        Pattern::Tokens { granule } => format!("its own rows, {granule} at a time"),
        Pattern::Columns { granule, .. } => format!("its own columns, {granule} at a time"),
        Pattern::Heads { heads } => format!("its own of {heads} heads"),
        Pattern::Even { heads } => format!("an equal part of {heads} heads"),
    }
}

/// Whether the result of a pair was written over the operand, and why not.
pub(super) fn in_place(planned: &Planned, entry: &EntryLayout, pair: &Pair) -> String {
    let program = &entry.entry;
    let name = |t| operand_name(program, Operand::Tensor(t));
    let step = |i: usize| program.graph.ops[program.steps[i].op].name.as_str();
    let (dst, src) = (name(pair.dst), name(pair.src));
    let why = match pair.refusal {
        None => match untaken(entry, pair) {
            None => return format!("yes: `{dst}` takes the bytes of `{src}`"),
            Some(why) => why,
        },
        Some(Refusal::Kernel) => format!(
            "{} does not go element by element: it reads the one after it has written the other",
            kernel(planned, entry, pair.step)
        ),
        Some(Refusal::Shape) => {
            let shape = |t| {
                let t = program.graph.tensor(t);
                format!("{} of {} columns", t.act.name(), t.cols)
            };
            format!("different shape: {} and {}", shape(pair.dst), shape(pair.src))
        }
        Some(Refusal::Outside) => "the caller or another entry needs it".into(),
        Some(Refusal::Needed(later)) => format!("still needed afterwards, by `{}`", step(later)),
        Some(Refusal::Workers(at)) if at == pair.step => {
            "other workers may still read what this one would overwrite".into()
        }
        Some(Refusal::Workers(at)) => format!("other workers may still be in `{}`, which reads it", step(at)),
    };
    format!("no: `{dst}` over `{src}`: {why}")
}

fn kernel<'a>(planned: &'a Planned, entry: &EntryLayout, index: usize) -> &'a str {
    let same = |s: &&Step| s.entry == entry.entry.name && s.index as usize == index;
    planned
        .report
        .steps
        .iter()
        .find(same)
        .map_or("the kernel", |s| s.kernel.as_str())
}

/// Why the planner did not take a pair that it was allowed to take, if it did not.
fn untaken(entry: &EntryLayout, pair: &Pair) -> Option<String> {
    let (dst, src) = (Operand::Tensor(pair.dst), Operand::Tensor(pair.src));
    if entry.merged.contains(&(dst, src)) {
        return None;
    }
    let name = |o| operand_name(&entry.entry, o);
    if !entry.live.contains_key(&src) || !entry.live.contains_key(&dst) {
        return Some("one of them has a place of its own, outside the planned activations".into());
    }
    let other = |(d, s): &&(Operand, Operand)| (*d == dst) != (*s == src);
    Some(match entry.merged.iter().find(other) {
        Some((d, s)) if *d == dst => format!("it takes the bytes of `{}` instead", name(*s)),
        Some((d, _)) => format!("`{}` takes them instead", name(*d)),
        None => "allowed, but no layout that was tried needs fewer bytes with it".into(),
    })
}

/// What became of each flag at the step.
fn fusions(planned: &Planned, entry: &EntryLayout, row: &Step) -> Vec<String> {
    let mut lines = Vec::new();
    let (mut forbidden, mut absent) = (Vec::new(), Vec::new());
    for flag in Flag::all() {
        let sites: Vec<&Site> = entry
            .entry
            .sites
            .iter()
            .filter(|s| s.flag == flag && concerns(s, row))
            .collect();
        lines.extend(sites.iter().map(|s| site(planned, entry, s)));
        if sites.is_empty() {
            let allowed = row.fused_from.iter().any(|op| planned.fusion.allows(flag, op));
            if allowed { &mut absent } else { &mut forbidden }.push(flag.name());
        }
    }
    if !forbidden.is_empty() {
        lines.push(field(
            "not fused",
            &format!("{}: not allowed here", forbidden.join(", ")),
        ));
    }
    if !absent.is_empty() {
        lines.push(field("not fused", &format!("{}: no site of it", absent.join(", "))));
    }
    lines
}

/// Whether a site is about the work of a step: anchored at it, gone into it, or refused for what it reads or writes.
fn concerns(site: &Site, row: &Step) -> bool {
    let own = |name: &String| row.id == *name || row.fused_from.contains(name);
    own(&site.site)
        || match &site.outcome {
            Ok(away) => away.iter().any(own),
            Err(
                Reason::ConsumerOutside { tensor, .. }
                | Reason::PartitionNeedsBuffer { tensor }
                | Reason::RequestedOutput { tensor },
            ) => own(tensor) || row.inputs.contains(tensor) || row.outputs.contains(tensor),
            Err(_) => false,
        }
}

/// One site in words.
pub(super) fn site(planned: &Planned, entry: &EntryLayout, site: &Site) -> String {
    let (flag, at) = (site.flag.name(), &site.site);
    let same = |f: &&crate::report::Fusion| f.flag == flag && f.entry == entry.entry.name && f.site == *at;
    let row = planned.report.fusions.iter().find(same);
    match (&site.outcome, row) {
        (Ok(away), Some(row)) => {
            let gone = match away.is_empty() {
                true => String::new(),
                false => format!(", {} never written", away.join(", ")),
            };
            let (bytes, barriers, passes) = (row.bytes_saved, row.barriers_saved, row.passes_saved);
            let saves = format!("saves {bytes} bytes, {barriers} barriers, {passes} passes");
            field("fused", &format!("{flag} at `{at}`: {saves}{gone}"))
        }
        (Err(reason), _) => field("not fused", &format!("{flag} at `{at}`: {reason}")),
        (Ok(_), None) => field("fused", &format!("{flag} at `{at}`")),
    }
}
