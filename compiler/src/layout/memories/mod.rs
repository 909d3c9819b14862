//! The layout over several memories: `weights | last memory | the others`, the fastest first. Weights stay in the last
//! memory: they are the packed file, mapped in place.

mod joint;
mod stride;

use super::debug::DebugMode;
use super::hint::Hint;
use super::{
    Kind, Layout, LayoutError, Memory, MemoryPlan, PAGE, Region, Shortage, cache_positions, check_sizes, io_slots,
    operand_name, payload,
};
use crate::graph::{CacheId, Graph};
use crate::plan::{self, Solution};
use crate::report::Plan;
use crate::schedule::Entry;
use crate::schedule::access::Operand;
use joint::Joint;
pub(super) use stride::{Homes, homes};

pub(super) fn lay_out(
    model: &Graph,
    entries: Vec<Entry>,
    memories: &[Memory],
    debug: DebugMode,
    hint: &Hint,
) -> Result<Layout, LayoutError> {
    check_sizes(model, &entries)?;
    let (ropes, weights, payload_bytes) = payload(model);
    let resident = payload_bytes.next_multiple_of(PAGE);
    let mut joint = Joint::new(model, &entries, debug);
    let last = memories.len() - 1;
    let mapped = |m| if m == last { resident } else { 0 };
    joint.problem.regions = regions(memories, |m| mapped(m) + debug.canary());
    let solution = joint.near(&entries, plan::solve(&joint.problem)?, hint);
    joint.verify(&solution)?;

    let mut regions = vec![Region {
        name: "weights".into(),
        bytes: 0..resident,
        lower_bound: resident,
        naive: resident,
    }];
    let mut bases = vec![0; memories.len()];
    let mut plans = vec![None; memories.len()];
    let mut end = resident;
    for m in std::iter::once(last).chain(0..last) {
        let plan = &solution.regions[m];
        // In front of the first buffer, where there is one.
        let edge = if plan.peak > 0 { debug.canary() } else { 0 };
        let start = end.next_multiple_of(PAGE);
        bases[m] = start + edge;
        end = bases[m] + plan.peak;
        regions.push(Region {
            name: memories[m].name.clone(),
            bytes: start..end,
            lower_bound: edge + plan.lower_bound,
            naive: edge + joint.naive(|b| solution.region[b] == m),
        });
        plans[m] = Some(memory(&joint, &entries, &memories[m], mapped(m), edge, &solution, m));
    }
    let place = |b: usize| bases[solution.region[b]] + solution.offsets[b];
    let at = |operand| joint.position((None, operand)).map(place);
    let caches = (0..model.caches.len())
        .map(|c| CacheId(c as u32))
        .map(|c| (at(Operand::Keys(c)).unwrap_or(0), at(Operand::Values(c)).unwrap_or(0)))
        .collect();
    let first = |list: &[crate::graph::TensorId]| list.first().and_then(|t| at(Operand::Tensor(*t))).unwrap_or(0);
    let (ids, logits) = io_slots(model, first(&model.inputs), first(&model.outputs));
    let entries = (0..)
        .zip(entries)
        .map(|(e, entry)| joint.entry(model, e, entry, &solution, place))
        .collect::<Result<_, LayoutError>>()?;
    Ok(Layout {
        kind: Kind::Packed,
        debug,
        entries,
        regions,
        memories: plans.into_iter().flatten().collect(),
        ropes,
        weights,
        caches,
        payload_bytes,
        arena_bytes: end,
        ids,
        logits,
        cache_positions: cache_positions(model),
    })
}

/// The memories as the planner's regions, without what is taken of each beforehand.
fn regions(memories: &[Memory], taken: impl Fn(usize) -> u64) -> Vec<plan::Region> {
    let region = |(m, memory): (usize, &Memory)| plan::Region {
        name: memory.name.clone(),
        capacity: memory.capacity.map(|capacity| capacity.saturating_sub(taken(m))),
        reserved: Vec::new(),
    };
    memories.iter().enumerate().map(region).collect()
}

/// What is planned for memory `m`, behind so many bytes of weights and a canary.
fn memory(
    joint: &Joint,
    entries: &[Entry],
    memory: &Memory,
    weights: u64,
    edge: u64,
    solution: &Solution,
    m: usize,
) -> MemoryPlan {
    let planned = &solution.regions[m];
    let inside = |b: &usize| solution.region[*b] == m && joint.problem.buffers[*b].size > 0;
    let buffers: Vec<usize> = (0..joint.owners.len()).filter(inside).collect();
    let bytes = weights + edge + planned.peak;
    let short = memory.capacity.map_or(0, |capacity| bytes.saturating_sub(capacity));
    let tried = solution.candidates.get(planned.candidates.clone()).unwrap_or_default();
    let status = match short {
        0 => planned.status,
        by => plan::Status::OverBudget { by },
    };
    let plan = Plan {
        chosen: solution
            .candidates
            .get(planned.chosen)
            .map_or(String::new(), |c| c.name.clone()),
        candidates: tried.iter().map(|c| (c.name.clone(), c.peak)).collect(),
        bytes: planned.peak,
        lower_bound: planned.lower_bound,
        gap: planned.peak.saturating_sub(planned.lower_bound),
        status,
        nodes: solution.nodes,
    };
    let (accesses, coolest) = joint.accessed(&buffers);
    MemoryPlan {
        memory: memory.clone(),
        weights,
        bytes,
        lower_bound: weights + edge + planned.lower_bound,
        status,
        plan: Some(plan),
        accesses,
        coolest,
        shortage: (short > 0).then(|| {
            let at = planned.shortage.as_ref().map_or(planned.peak_at, |s| s.at);
            let live = |b: usize| joint.problem.buffers[b].live.iter().any(|range| range.contains(&at));
            // What took over the bytes of something that is live has none of its own.
            let takes = |b: usize| solution.merged.iter().any(|&(dst, src)| dst == b && live(src));
            let own = buffers.iter().copied().filter(|&b| live(b) && !takes(b)).collect();
            shortage(joint, entries, at, weights, short, own)
        }),
    }
}

/// Where a memory overflows, and what is live there.
fn shortage(joint: &Joint, entries: &[Entry], at: u32, weights: u64, short: u64, live: Vec<usize>) -> Shortage {
    let e = joint.clock.iter().position(|c| c.contains(&at)).unwrap_or(0);
    let entry = &entries[e];
    let step = entry.steps.get((at - joint.clock[e].start) as usize);
    let live = live.into_iter().map(|b| {
        let buffer = &joint.problem.buffers[b];
        let name = match joint.owners[b] {
            (None, _) => buffer.id.clone(),
            (Some(own), operand) => operand_name(&entries[own], operand),
        };
        (name, buffer.size)
    });
    let weights = (weights > 0).then(|| ("weights".to_string(), weights));
    let mut live: Vec<(String, u64)> = live.chain(weights).collect();
    live.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    Shortage {
        entry: entry.name,
        step: step.map_or(String::new(), |s| entry.graph.ops[s.op].name.clone()),
        live,
        short,
    }
}
