//! Why an activation or a workspace is where it is: region, lifetime, neighbours, who had its bytes before.

use std::ops::Range;

use super::Part;
use super::step::{bytes, field, in_place, overlap, site};
use crate::compile::Planned;
use crate::layout::residence::residence;
use crate::layout::{EntryLayout, Kind, operand_name};
use crate::schedule::access::Operand;

/// Neighbours that are named.
const MOST: usize = 8;

/// The tensor of that name in an entry: placed, or fused away.
pub fn parts(planned: &Planned, entry: &EntryLayout, name: &str) -> Vec<Part> {
    let program = &entry.entry;
    let mut parts: Vec<Part> = entry
        .places
        .keys()
        .filter(|o| matches!(o, Operand::Tensor(_) | Operand::Workspace(_)))
        .filter(|o| operand_name(program, **o) == name)
        .map(|o| placed(planned, entry, *o))
        .collect();
    if parts.is_empty() {
        let away = |s: &&crate::fuse::Site| s.outcome.as_ref().is_ok_and(|gone| gone.iter().any(|t| t == name));
        parts.extend(program.sites.iter().filter(away).map(|s| Part {
            head: format!("tensor `{name}` of {}: fused away, it has no bytes", program.name),
            body: vec![site(planned, entry, s)],
        }));
    }
    parts
}

fn placed(planned: &Planned, entry: &EntryLayout, operand: Operand) -> Part {
    let program = &entry.entry;
    let name = operand_name(program, operand);
    let row = planned
        .report
        .tensors
        .iter()
        .find(|t| t.id == name && t.entry == program.name);
    let (kind, shape) = row.map_or((String::new(), Vec::new()), |t| (t.dtype.clone(), t.shape.clone()));
    let place = bytes(planned, entry, operand);
    let region = row.map_or("activations", |t| t.region.as_str());
    let mut body = vec![
        field(
            "region",
            &residence(&planned.layout, program.name, &name)
                .unwrap_or_else(|| format!("{region}: {}", why_region(planned, operand, region))),
        ),
        field("lives", &lives(entry, operand)),
    ];
    if planned.layout.kind == Kind::Stride {
        body.push(field(
            "here",
            "stride: every tensor has a place of its own, in the order of execution",
        ));
    } else if entry.live.contains_key(&operand) {
        body.extend(neighbours(planned, entry, operand));
        for pair in entry.entry.in_place_pairs() {
            if [pair.dst, pair.src].map(Operand::Tensor).contains(&operand) {
                body.push(field("in place", &in_place(planned, entry, &pair)));
            }
        }
    } else if !planned.layout.memories.is_empty() {
        body.extend(neighbours(planned, entry, operand));
    } else {
        body.push(field(
            "here",
            "regions of the caller's data are written down in order, and not planned",
        ));
    }
    Part {
        head: format!(
            "tensor `{name}` of {}: {kind} {shape:?}, {} bytes at {:#x}",
            program.name,
            place.end - place.start,
            place.start
        ),
        body,
    }
}

fn why_region(planned: &Planned, operand: Operand, region: &str) -> &'static str {
    let graph = &planned.model.graph;
    match operand {
        Operand::Workspace(_) => "scratch of one step, planned with the activations",
        Operand::Tensor(t) if graph.inputs.contains(&t) => "the caller writes it before the call",
        Operand::Tensor(t) if graph.outputs.contains(&t) => "the caller reads it after the call",
        _ if region == "activations" => {
            "made and used up within a call, so that its bytes serve others before and after"
        }
        _ => "placed with the tensors that are used as it is",
    }
}

/// From its first step to what frees its bytes.
fn lives(entry: &EntryLayout, operand: Operand) -> String {
    let program = &entry.entry;
    let name = |step: usize| program.graph.ops[program.steps[step].op].name.as_str();
    let touches = |i: &usize| program.steps[*i].accesses.iter().any(|a| a.operand == operand);
    let count = program.steps.len();
    let (Some(first), Some(last)) = ((0..count).find(touches), (0..count).rev().find(touches)) else {
        return "never touched".into();
    };
    let used = match first == last {
        true => format!("in `{}` only (step {first})", name(first)),
        false => format!(
            "from `{}` (step {first}) to `{}` (step {last})",
            name(first),
            name(last)
        ),
    };
    let Some(live) = entry.live.get(&operand) else {
        return used;
    };
    let (start, end) = (live.start as usize, live.end as usize);
    let before = if start < first {
        "; kept from the start, because the entry may run again"
    } else {
        ""
    };
    let after = match end {
        end if end == last + 1 => format!("; free after step {last}"),
        end if end >= count => "; kept to the end, for whoever comes next".into(),
        end => format!(
            "; free from the barrier before `{}` (step {end}) on: until then other workers may be in `{}`",
            name(end),
            name(last)
        ),
    };
    format!("{used}{before}{after}")
}

/// A buffer of the entry: operands that share bytes by being merged in place, or one that outlives calls beside them.
struct Buffer {
    operands: Vec<Operand>,
    bytes: Range<u64>,
    live: Range<u32>,
}

fn buffers(planned: &Planned, entry: &EntryLayout) -> Vec<Buffer> {
    let groups = crate::layout::merged_operands(&planned.layout, entry);
    let join = |operands: Vec<Operand>| {
        let ranges = operands
            .iter()
            .map(|o| (bytes(planned, entry, *o), entry.live[o].clone()));
        let (bytes, live) = ranges.reduce(|(b, l), (c, m)| {
            (
                b.start.min(c.start)..b.end.max(c.end),
                l.start.min(m.start)..l.end.max(m.end),
            )
        })?;
        Some(Buffer { operands, bytes, live })
    };
    let state = crate::layout::state(&planned.layout, entry).into_iter();
    let held = state.map(|(operand, held)| Buffer {
        operands: vec![operand],
        bytes: held.bytes,
        live: held.live,
    });
    groups.into_iter().filter_map(join).chain(held).collect()
}

/// The name of an operand that may be none of the entry's own: what outlives calls lies beside its buffers.
fn name_in(planned: &Planned, entry: &EntryLayout, operand: Operand) -> String {
    let graph = &planned.model.graph;
    match operand {
        Operand::Tensor(t) if graph.inputs.contains(&t) || graph.outputs.contains(&t) => graph.tensor(t).name.clone(),
        Operand::Keys(_) | Operand::Values(_) => operand_name(&planned.layout.entries[0].entry, operand),
        _ => operand_name(&entry.entry, operand),
    }
}

/// Why the buffer is at its offset: what holds the bytes below, and who had its own before and has them after.
fn neighbours(planned: &Planned, entry: &EntryLayout, operand: Operand) -> Vec<String> {
    let all = buffers(planned, entry);
    let Some(own) = all.iter().find(|b| b.operands.contains(&operand)) else {
        return Vec::new();
    };
    let base = planned
        .layout
        .regions
        .iter()
        .find(|r| r.bytes.contains(&own.bytes.start));
    let base = base.map_or(0, |r| r.bytes.start);
    let name = |b: &Buffer| {
        let names: Vec<String> = b.operands.iter().map(|o| name_in(planned, entry, *o)).collect();
        match names.as_slice() {
            [one] => format!("`{one}`"),
            [first, rest @ ..] => format!("`{first}` and {} in its place", rest.len()),
            [] => String::new(),
        }
    };
    let others = || all.iter().filter(|b| !std::ptr::eq(*b, own) && !b.bytes.is_empty());
    let together = |b: &&Buffer| b.live.start < own.live.end && own.live.start < b.live.end;
    let mut lines = Vec::new();
    if own.operands.len() > 1 {
        lines.push(field("shares", &shared(entry, own, operand)));
    }
    let mut below: Vec<&Buffer> = others()
        .filter(together)
        .filter(|b| (base..own.bytes.start).contains(&b.bytes.start))
        .collect();
    below.sort_by_key(|b| b.bytes.start);
    let at = own.bytes.start - base;
    let size = own.bytes.end - own.bytes.start;
    lines.push(field("here", &match (at, gap(&below, base, own.bytes.start, size)) {
        (0, _) => "the bottom of the region is free while it lives".into(),
        (_, Some(free)) => format!(
            "byte {at} of the region; {size} bytes are free from byte {} on as well, and the layout that was kept did not take them",
            free - base
        ),
        _ => format!("byte {at} of the region: nothing below has {size} free bytes while it lives"),
    }));
    let shown = below.iter().rev().take(MOST);
    lines.extend(shown.map(|b| {
        let (from, to) = (b.bytes.start - base, b.bytes.end - base);
        let steps = format!("steps {} to {}", b.live.start, b.live.end - 1);
        field("below it", &format!("{} at {from}..{to}, {steps}", name(b)))
    }));
    if below.len() > MOST {
        lines.push(field("below it", &format!("and {} more", below.len() - MOST)));
    }
    let here: Vec<&Buffer> = others().filter(|b| overlap(&b.bytes, &own.bytes)).collect();
    let list = |found: Vec<&&Buffer>| found.into_iter().map(|b| name(b)).collect::<Vec<_>>().join(", ");
    let before = here
        .iter()
        .filter(|b| b.live.end <= own.live.start)
        .max_by_key(|b| b.live.end);
    let after = here
        .iter()
        .filter(|b| b.live.start >= own.live.end)
        .min_by_key(|b| b.live.start);
    for (what, found) in [("before it", before), ("after it", after)] {
        let text = match found {
            None => "nobody has these bytes".into(),
            Some(b) => format!("{}, steps {} to {}", list(vec![b]), b.live.start, b.live.end - 1),
        };
        lines.push(field(what, &text));
    }
    lines
}

/// The operands merged with this one: the pairs that it is in, and how many there are in all.
fn shared(entry: &EntryLayout, own: &Buffer, operand: Operand) -> String {
    let name = |o| operand_name(&entry.entry, o);
    let mut texts: Vec<String> = Vec::new();
    for (dst, src) in &entry.merged {
        if *dst == operand {
            texts.push(format!("takes the bytes of `{}`", name(*src)));
        }
        if *src == operand {
            texts.push(format!("leaves its bytes to `{}`", name(*dst)));
        }
    }
    texts.push(format!(
        "{} tensors in all are updated in these bytes",
        own.operands.len()
    ));
    texts.join("; ")
}

/// The lowest start below `end` at which `size` bytes are free, the buffers below being sorted by start.
fn gap(below: &[&Buffer], base: u64, end: u64, size: u64) -> Option<u64> {
    let mut free = base;
    for b in below {
        if b.bytes.start >= free + size {
            return Some(free);
        }
        free = free.max(b.bytes.end.next_multiple_of(ck_kernels::dtype::ALIGN as u64));
    }
    (free + size <= end).then_some(free)
}
