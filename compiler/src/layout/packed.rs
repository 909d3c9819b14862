//! The packed layout: `weights | kv | io | activations`. Entries share weights, caches and io at the same offsets, and
//! one activations region, planned for each of them.

use std::collections::BTreeMap;

use ck_kernels::dtype::ALIGN;

use super::debug::DebugMode;
use super::hint::Hint;
use super::{
    EntryLayout, Kind, Layout, LayoutError, Orders, PAGE, Region, align, cache_half_bytes, cache_positions,
    check_sizes, io_slots, operand_bytes, operand_name, ordered, payload, place_barriers, tensor_bytes,
};
use crate::fuse::Division;
use crate::graph::{CacheId, Graph, TensorId};
use crate::plan::{self, Alias, Buffer, Problem};
use crate::schedule::Entry;
use crate::schedule::access::Operand;
use crate::schedule::order;

pub(super) fn lay_out(
    model: &Graph,
    entries: Vec<Entry>,
    order: order::Kind,
    debug: DebugMode,
    hint: &Hint,
) -> Result<Layout, LayoutError> {
    check_sizes(model, &entries)?;
    let (ropes, weights, payload_bytes) = payload(model);
    let mut end = payload_bytes.next_multiple_of(PAGE);
    let mut regions = vec![Region {
        name: "weights".into(),
        bytes: 0..end,
        lower_bound: end,
        naive: end,
    }];
    // Where its first buffer is: behind a canary, if there are any.
    let canary = debug.canary();
    let mut region = |name: &str, bytes: u64| {
        let start = end;
        end += (canary + bytes).next_multiple_of(PAGE);
        regions.push(Region {
            name: name.into(),
            bytes: start..end,
            lower_bound: end - start,
            naive: end - start,
        });
        start + canary
    };

    let halves: Vec<u64> = (0..model.caches.len())
        .map(|c| align(cache_half_bytes(model, CacheId(c as u32)) + canary))
        .collect();
    let kv = region("kv", halves.iter().map(|h| 2 * h).sum());
    let caches = halves
        .iter()
        .scan(kv, |at, half| {
            let keys = *at;
            *at += 2 * half;
            Some((keys, keys + half))
        })
        .collect::<Vec<_>>();

    let ids_bytes = align(model.batch as u64 * 4 + canary);
    let logits_bytes: u64 = model
        .outputs
        .iter()
        .map(|t| align(tensor_bytes(model, *t) + canary))
        .sum();
    let io = region("io", ids_bytes + logits_bytes);
    let (ids, logits) = io_slots(model, io, io + ids_bytes);

    let fixed = |operand: Operand| match operand {
        Operand::Keys(c) => Some(caches[c.index()].0),
        Operand::Values(c) => Some(caches[c.index()].1),
        Operand::Tensor(t) if model.inputs.contains(&t) => Some(io),
        Operand::Tensor(t) if model.outputs.contains(&t) => Some(io + ids_bytes),
        _ => None,
    };
    let base = end + canary;
    let mut orders = Vec::with_capacity(entries.len());
    for entry in entries {
        orders.push(plan_orders(model, entry, order, base, debug, hint, &fixed)?);
    }
    let placed = ordered::choose(orders);
    let most = |f: fn(&plan::Solution) -> u64| placed.iter().map(|e| f(&e.solution)).max().unwrap_or(0);
    let (peak, bound, naive) = (most(|s| s.peak), most(|s| s.lower_bound), most(|s| s.naive));
    regions.push(Region {
        name: "activations".into(),
        bytes: end..base + peak,
        lower_bound: canary + bound,
        naive: canary + naive,
    });
    Ok(Layout {
        kind: Kind::Packed,
        entries: placed,
        regions,
        memories: Vec::new(),
        ropes,
        weights,
        caches,
        payload_bytes,
        arena_bytes: base + peak,
        ids,
        logits,
        cache_positions: cache_positions(model),
        debug,
    })
}

/// The planning problem of an entry's activations: what is not `fixed`, on the clock of its steps.
///
/// Without reuse each of them is alive all the time, as far as the plan can tell.
pub(super) fn problem(
    model: &Graph,
    entry: &Entry,
    debug: DebugMode,
    fixed: &impl Fn(Operand) -> Option<u64>,
) -> (Problem, Vec<(Operand, std::ops::Range<u32>)>) {
    // One token's activations are small, and its steps short: there a barrier costs more than bytes do.
    let data = (entry.division == Division::Columns).then(|| entry.data_barriers());
    let steps = u32::try_from(entry.steps.len()).expect("fewer than 2^32 steps");
    let mut live = entry.lifetimes(data.as_deref());
    live.retain(|(operand, _)| fixed(*operand).is_none());
    for (operand, range) in &mut live {
        if let Operand::Tensor(t) = operand {
            // The head may run once for every row: what it starts from stays.
            if given(entry, *t) {
                *range = 0..steps;
            } else if kept(entry, *t) {
                range.end = steps;
            }
        }
        if !debug.reuse {
            *range = 0..steps;
        }
    }
    let mut problem = Problem::default();
    for (operand, range) in &live {
        let mut buffer = Buffer::new(
            operand_name(entry, *operand),
            operand_bytes_in_region(model, entry, *operand) + debug.canary(),
            ALIGN as u64,
            range.clone(),
        );
        // The one tensor that two entries share has the same place in each.
        if matches!(operand, Operand::Tensor(t) if kept(entry, *t) || given(entry, *t)) {
            buffer.pinned = Some(0);
        }
        problem.buffers.push(buffer);
    }
    let index: BTreeMap<Operand, usize> = live.iter().map(|(operand, _)| *operand).zip(0..).collect();
    let at = |t| index.get(&Operand::Tensor(t)).copied();
    for (dst, src) in entry.in_place().into_iter().filter(|_| debug.reuse) {
        if let (Some(dst), Some(src)) = (at(dst), at(src)) {
            problem.aliases.push(Alias::InPlace { dst, src, delta: 0 });
        }
    }
    (problem, live)
}

/// Whether the entry starts with it in the activations region.
pub(super) fn given(entry: &Entry, t: TensorId) -> bool {
    entry.name == "head" && entry.graph.inputs.contains(&t)
}

/// Whether it stays in the activations region for the next entry.
pub(super) fn kept(entry: &Entry, t: TensorId) -> bool {
    entry.name != "head" && entry.graph.outputs.contains(&t)
}

/// Plans the entry in the source's order, and in the one with the fewest bytes live if there is a better one.
fn plan_orders(
    model: &Graph,
    entry: Entry,
    kind: order::Kind,
    base: u64,
    debug: DebugMode,
    hint: &Hint,
    fixed: &impl Fn(Operand) -> Option<u64>,
) -> Result<Orders, LayoutError> {
    let found = (kind == order::Kind::Memory).then(|| {
        order::best(&order::dag(&entry, |operand| {
            let tensor = |f: fn(&Entry, TensorId) -> bool| matches!(operand, Operand::Tensor(t) if f(&entry, t));
            fixed(operand).is_none().then(|| order::Counted {
                bytes: operand_bytes_in_region(model, &entry, operand) + debug.canary(),
                given: tensor(given),
                kept: tensor(given) || tensor(kept),
            })
        }))
    });
    let better = found.as_ref().filter(|f| f.peak < f.source);
    let other = better.map(|f| plan_entry(model, entry.reordered(&f.order), base, debug, hint, fixed));
    Ok(Orders {
        other: other.transpose()?,
        source: plan_entry(model, entry, base, debug, hint, fixed)?,
        found,
    })
}

/// Bytes the operand takes in the activations region. The head reads the body's result as the body wrote it, for as
/// many tokens as a call may have.
pub(super) fn operand_bytes_in_region(model: &Graph, entry: &Entry, operand: Operand) -> u64 {
    match operand {
        Operand::Tensor(t) if entry.graph.inputs.contains(&t) => tensor_bytes(model, t),
        _ => operand_bytes(entry, model, operand),
    }
}

fn plan_entry(
    model: &Graph,
    entry: Entry,
    base: u64,
    debug: DebugMode,
    hint: &Hint,
    fixed: &impl Fn(Operand) -> Option<u64>,
) -> Result<EntryLayout, LayoutError> {
    let (problem, live) = problem(model, &entry, debug, fixed);
    let preferred: Vec<Option<u64>> = live
        .iter()
        .map(|(operand, _)| hint.activation(entry.name, &operand_name(&entry, *operand)))
        .collect();
    let solution = plan::settle(&problem, plan::solve(&problem)?, &preferred);
    let violations = plan::verify(&problem, &solution);
    if !violations.is_empty() {
        return Err(LayoutError::Verify {
            entry: entry.name,
            violations: violations.iter().map(|v| v.describe(&problem)).collect(),
        });
    }
    let mut places: BTreeMap<Operand, u64> = BTreeMap::new();
    for ((operand, _), offset) in live.iter().zip(&solution.offsets) {
        places.insert(*operand, base + offset);
    }
    for access in entry.steps.iter().flat_map(|s| &s.accesses) {
        if let Some(offset) = fixed(access.operand) {
            places.insert(access.operand, offset);
        }
    }
    let barriers = place_barriers(&entry, model, |o| places[&o]);
    let merged = solution
        .merged
        .iter()
        .map(|(dst, src)| (live[*dst].0, live[*src].0))
        .collect();
    Ok(EntryLayout {
        entry,
        places,
        barriers,
        solution,
        live: live.into_iter().collect(),
        merged,
        order: None,
        accesses: BTreeMap::new(),
    })
}
