//! Sums, regions and memories, and the cause of the peak.

use std::collections::BTreeMap;

use crate::graph::Graph;
use crate::layout::occupancy::Occupancy;
use crate::layout::{self, EntryLayout, Kind, Layout, MemoryPlan, operand_bytes, operand_name};
use crate::report::{Live, Memory, Peak, Plan, Region, Status, Totals};

pub(super) fn totals(layout: &Layout, model: &Graph) -> Totals {
    // Memories start on pages.
    let between = layout.arena_bytes - layout.regions.iter().map(|r| r.bytes.end - r.bytes.start).sum::<u64>();
    let lower: u64 = layout.regions.iter().map(|r| r.lower_bound).sum::<u64>() + between;
    let mut weights_bytes = BTreeMap::new();
    for (w, piece) in model.weights.iter().zip(&layout.weights) {
        *weights_bytes.entry(w.dtype.name().to_string()).or_insert(0) += piece.bytes;
    }
    let per_token = |c: &crate::graph::Cache| {
        let element = if c.act == ck_kernels::dtype::ActType::F16 { 2 } else { 4 };
        2 * (c.kv_heads * c.head_dim * element) as u64
    };
    let fullest = layout
        .entries
        .iter()
        .max_by_key(|e| (e.solution.peak, std::cmp::Reverse(e.entry.name)));
    Totals {
        arena_bytes: layout.arena_bytes,
        lower_bound_bytes: lower,
        status: memories_status(layout).unwrap_or_else(|| status(layout, layout.arena_bytes, lower)),
        naive_bytes: layout.regions.iter().map(|r| r.naive).sum::<u64>() + between,
        kv_bytes_per_token: model.caches.iter().map(per_token).sum(),
        weights_bytes,
        regions: layout.regions.iter().map(|r| region(layout, r)).collect(),
        peak: fullest.and_then(|e| peak(layout, model, e)),
        memories: layout.memories.iter().map(memory).collect(),
        budgets: Vec::new(),
    }
}

fn memory(planned: &MemoryPlan) -> Memory {
    Memory {
        name: planned.memory.name.clone(),
        capacity: planned.memory.capacity,
        bytes: planned.bytes,
        weights_bytes: planned.weights,
        lower_bound: planned.lower_bound,
        status: planned.status,
        accesses: u64::try_from(planned.accesses).unwrap_or(u64::MAX),
    }
}

/// The status of all memories together: what is missing, or the least that is known of any of them.
fn memories_status(layout: &Layout) -> Option<Status> {
    let short: u64 = layout
        .memories
        .iter()
        .filter_map(|m| m.shortage.as_ref())
        .map(|s| s.short)
        .sum();
    let gap: u64 = layout
        .memories
        .iter()
        .map(|m| m.bytes.saturating_sub(m.lower_bound))
        .sum();
    let proven = |m: &MemoryPlan| matches!(m.status, Status::Optimal | Status::OptimalSearch);
    match (short, gap) {
        _ if layout.memories.is_empty() => None,
        (0, 0) => Some(Status::Optimal),
        (0, _) if layout.memories.iter().all(proven) => Some(Status::OptimalSearch),
        (0, gap) => Some(Status::Feasible { gap }),
        (by, _) => Some(Status::OverBudget { by }),
    }
}

/// Bytes that only the activations add to their bound are as well judged as their plan is.
fn status(layout: &Layout, bytes: u64, lower: u64) -> Status {
    let proven = |e: &EntryLayout| e.solution.status == Status::OptimalSearch;
    let fullest = layout.entries.iter().max_by_key(|e| e.solution.peak);
    if bytes <= lower {
        Status::Optimal
    } else if layout.kind == Kind::Packed && fullest.is_some_and(proven) {
        Status::OptimalSearch
    } else {
        Status::Feasible { gap: bytes - lower }
    }
}

fn region(layout: &Layout, region: &layout::Region) -> Region {
    let bytes = region.bytes.end - region.bytes.start;
    if let Some(memory) = layout.memories.iter().find(|m| m.memory.name == region.name) {
        return Region {
            name: region.name.clone(),
            offset: region.bytes.start,
            bytes,
            lower_bound: region.lower_bound,
            naive: region.naive,
            status: memory.status,
            plan: memory.plan.clone(),
        };
    }
    let plan = (region.name == "activations").then(|| {
        let fullest = layout
            .entries
            .iter()
            .max_by_key(|e| e.solution.peak)
            .expect("a program has entries");
        Plan::from(&fullest.solution)
    });
    Region {
        name: region.name.clone(),
        offset: region.bytes.start,
        bytes,
        lower_bound: region.lower_bound,
        naive: region.naive,
        status: status(layout, bytes, region.lower_bound),
        plan,
    }
}

fn peak(layout: &Layout, model: &Graph, planned: &EntryLayout) -> Option<Peak> {
    let at = planned.solution.peak_at;
    let step = planned.entry.steps.get(at as usize)?;
    let mut live: Vec<Live> = planned
        .live
        .iter()
        .filter(|(_, range)| range.contains(&at))
        .map(|(operand, _)| Live {
            id: operand_name(&planned.entry, *operand),
            bytes: operand_bytes(&planned.entry, model, *operand),
            alias_of: planned
                .merged
                .iter()
                .find(|(dst, src)| dst == operand && planned.live[src].contains(&at))
                .map(|(_, src)| operand_name(&planned.entry, *src)),
        })
        .collect();
    live.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.id.cmp(&b.id)));
    let others = layout.entries.iter().filter(|e| e.entry.name != planned.entry.name);
    let floor = others.map(|e| e.solution.lower_bound).max().unwrap_or(0);
    let (bytes, shrink) = match layout.kind {
        // What is live is what the chosen merges leave; the bound is for any.
        Kind::Packed => {
            let occupancy = Occupancy::new(layout, planned);
            (*occupancy.live_bytes().get(at as usize)?, occupancy.shrink(floor))
        }
        Kind::Stride => (planned.solution.lower_bound, Vec::new()),
    };
    Some(Peak {
        entry: planned.entry.name.into(),
        step: planned.entry.graph.ops[step.op].name.clone(),
        bytes,
        live,
        shrink,
    })
}
