//! The layout report of a layout.

use std::collections::{BTreeMap, BTreeSet};

use ck_kernels::dtype::ALIGN;
use ck_kernels::ops::MAX_WORKERS;
use ck_kernels::partition::{Axis, split};

use super::call::call;
use super::occupancy::Occupancy;
use super::{EntryLayout, Kind, Layout, MemoryPlan, operand_bytes, operand_name};
use crate::fuse::{Flag, Site};
use crate::graph::{CacheId, Graph};
use crate::model::Budget;
use crate::report::{
    Barrier, Division, Entry, FuseOutcome, Fusion, Header, Limit, Live, Memory, Options, Partition, Peak, Plan, Region,
    Report, SCHEMA, Status, Step, StepOrder, Tensor, Totals, WeightRow,
};
use crate::schedule::access::{Access, Operand, Pattern};
use crate::schedule::cost::cost;

/// What the report says of the compilation besides the layout.
#[derive(Clone, Debug)]
pub struct About<'a> {
    /// The model.
    pub model: &'a Graph,
    /// SHA-256 of the canonical YAML, lower-case hex.
    pub yaml_sha256: &'a str,
    /// Fusions that are allowed.
    pub fuse: crate::fuse::Flags,
    /// The type that matrices are packed as.
    pub weights_dtype: &'a str,
    /// Sizes that must not be exceeded.
    pub budget: Budget,
}

/// Describes a layout. Hashes and source types of weights are filled in by whoever packs them.
pub fn describe(layout: &Layout, about: &About<'_>) -> Report {
    let steps: Vec<Step> = layout.entries.iter().flat_map(|e| steps(layout, e)).collect();
    let mut report = Report {
        header: header(layout, about),
        totals: totals(layout, about.model),
        fusions: layout.entries.iter().flat_map(fusions).collect(),
        partitions: divisions(&steps),
        steps,
        tensors: tensors(layout, about.model),
        weights: weights(layout, about.model),
        moves: Vec::new(),
    };
    limit(&mut report, layout, about.budget);
    report.normalise();
    report
}

/// Writes down the budgets; what exceeds one has that for its status.
fn limit(report: &mut Report, layout: &Layout, budget: Budget) {
    let totals = &mut report.totals;
    let region = |name: &str| totals.regions.iter().find(|r| r.name == name).map_or(0, |r| r.bytes);
    // Memories and the stride layout have no regions by role.
    let (kv, activations) = match layout.memories.is_empty() && layout.kind == Kind::Packed {
        true => (region("kv"), region("activations")),
        false => (layout.kv_bytes(), layout.activations_bytes()),
    };
    let scratch = report.steps.iter().map(|s| s.workspace_bytes).max().unwrap_or(0);
    let sizes = [
        ("arena", budget.arena, totals.arena_bytes),
        ("weights", budget.weights, layout.payload_bytes),
        ("kv", budget.kv, kv),
        ("activations", budget.activations, activations),
        ("scratch", budget.scratch, scratch),
    ];
    for (name, limit, bytes) in sizes {
        let Some(limit) = limit else { continue };
        totals.budgets.push(Limit {
            name: name.into(),
            limit,
            bytes,
        });
        if bytes > limit {
            let over = Status::OverBudget { by: bytes - limit };
            // A memory may be called `arena`.
            let region = totals.regions.iter_mut().find(|r| r.name == name && name != "arena");
            region.into_iter().for_each(|r| r.status = over);
            // The arena's own budget comes first, and says the most.
            if !matches!(totals.status, Status::OverBudget { .. }) {
                totals.status = over;
            }
        }
    }
}

fn header(layout: &Layout, about: &About<'_>) -> Header {
    let model = about.model;
    let kv = model.caches.first().map_or("none", |c| c.act.name());
    Header {
        schema: SCHEMA.into(),
        ckc_version: env!("CARGO_PKG_VERSION").into(),
        model: model.name.clone(),
        yaml_sha256: about.yaml_sha256.into(),
        target: "any".into(),
        options: Options {
            mode: "infer".into(),
            context: model.context as u64,
            batch: model.batch as u64,
            fuse: about.fuse.names().into_iter().map(String::from).collect(),
            layout: layout.kind.name().into(),
            kv_dtype: kv.into(),
            weights_dtype: about.weights_dtype.into(),
            max_threads: MAX_WORKERS as u64,
            debug: layout.debug.names().into_iter().map(String::from).collect(),
        },
        entries: layout.entries.iter().map(|e| entry(layout, e)).collect(),
    }
}

fn entry(layout: &Layout, planned: &EntryLayout) -> Entry {
    let mut row = Entry {
        name: planned.entry.name.into(),
        steps: planned.entry.steps.len() as u64,
        barriers: planned.barriers.iter().flatten().count() as u64,
        peak_bytes: planned.solution.peak,
        plan: (layout.kind == Kind::Packed).then(|| Plan::from(&planned.solution)),
        order: planned.order.map(step_order),
        ..Entry::default()
    };
    for i in 0..planned.entry.steps.len() {
        let (flops, read, written) = traffic(planned, i);
        row.flops += flops;
        row.bytes_read += read;
        row.bytes_written += written;
    }
    row
}

fn step_order(order: super::StepOrder) -> StepOrder {
    StepOrder {
        changed: order.changed,
        source_bound: order.source,
        bound: order.bound,
        least: order.least,
    }
}

/// Operations, bytes read and bytes written of a step at the upper bounds.
fn traffic(planned: &EntryLayout, index: usize) -> (u64, u64, u64) {
    let graph = &planned.entry.graph;
    let cost = cost(graph, &graph.ops[planned.entry.steps[index].op]);
    let tokens = graph.batch as u64;
    let flops = (cost.flops_per_token + cost.attention_flops) * tokens;
    (flops, cost.weight_bytes + cost.read, cost.written)
}

fn totals(layout: &Layout, model: &Graph) -> Totals {
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

fn region(layout: &Layout, region: &super::Region) -> Region {
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
    Some(Peak {
        entry: planned.entry.name.into(),
        step: planned.entry.graph.ops[step.op].name.clone(),
        bytes: planned.solution.lower_bound,
        live,
        shrink: match layout.kind {
            Kind::Packed => Occupancy::new(layout, planned).shrink(floor),
            Kind::Stride => Vec::new(),
        },
    })
}

/// Sites with what they save: bytes of tensors that are no longer written, and barriers and passes, shared out over the
/// sites of a flag from the difference that its pass made.
fn fusions(planned: &EntryLayout) -> Vec<Fusion> {
    let saved = saved(planned);
    let tensors = &planned.entry.graph.tensors;
    let named: BTreeMap<&str, u32> = tensors.iter().map(|t| t.name.as_str()).zip(0..).collect();
    let mut sites: BTreeMap<Flag, usize> = BTreeMap::new();
    for site in planned.entry.sites.iter().filter(|s| s.outcome.is_ok()) {
        *sites.entry(site.flag).or_default() += 1;
    }
    let mut ranks: BTreeMap<Flag, usize> = BTreeMap::new();
    let fusion = |site: &Site| {
        let Ok(away) = &site.outcome else {
            return fusion(planned, site);
        };
        // The first sites of a flag carry the remainder.
        let (rank, sites) = (ranks.entry(site.flag).or_default(), sites[&site.flag]);
        *rank += 1;
        let share = |total: usize| (total / sites + usize::from(*rank <= total % sites)) as u64;
        let total = saved.get(&site.flag).copied().unwrap_or_default();
        let graph = &planned.entry.graph;
        let bytes = |name: &String| {
            let found = named.get(name.as_str());
            found.map_or(0, |t| super::tensor_bytes(graph, crate::graph::TensorId(*t)))
        };
        Fusion {
            outcome: FuseOutcome::Applied,
            bytes_saved: away.iter().map(bytes).sum(),
            barriers_saved: share(total.barriers),
            passes_saved: share(total.passes),
            ..fusion(planned, site)
        }
    };
    planned.entry.sites.iter().map(fusion).collect()
}

/// What the pass of a flag took away.
#[derive(Clone, Copy, Default)]
struct Saved {
    barriers: usize,
    passes: usize,
}

/// Barriers by data alone, and steps, that each flag's pass took away: the entry before and after it.
fn saved(planned: &EntryLayout) -> BTreeMap<Flag, Saved> {
    let with = |steps: &Vec<crate::schedule::Step>, graph: &Graph| crate::schedule::Entry {
        name: planned.entry.name,
        graph: graph.clone(),
        steps: steps.clone(),
        sites: Vec::new(),
        stages: Vec::new(),
        division: planned.entry.division,
    };
    let barriers = |steps, graph| with(steps, graph).data_barriers().iter().flatten().count();
    let Some((_, steps, graph)) = planned.entry.stages.first() else {
        return BTreeMap::new();
    };
    let mut before = (barriers(steps, graph), steps.len());
    let mut saved = BTreeMap::new();
    for (flag, steps, graph) in &planned.entry.stages[1..] {
        let after = (barriers(steps, graph), steps.len());
        let less = Saved {
            barriers: before.0.saturating_sub(after.0),
            passes: before.1.saturating_sub(after.1),
        };
        saved.extend(flag.map(|flag| (flag, less)));
        before = after;
    }
    saved
}

/// A site without what it saves.
fn fusion(planned: &EntryLayout, site: &Site) -> Fusion {
    Fusion {
        flag: site.flag.name().into(),
        entry: planned.entry.name.into(),
        site: site.site.clone(),
        outcome: FuseOutcome::Refused,
        reason: site.outcome.as_ref().err().map_or(String::new(), ToString::to_string),
        ..Fusion::default()
    }
}

fn steps(layout: &Layout, planned: &EntryLayout) -> Vec<Step> {
    let entry = &planned.entry;
    let graph = &entry.graph;
    let live_bytes = Occupancy::new(layout, planned).live_bytes();
    let merged: BTreeSet<(Operand, Operand)> = planned.merged.iter().copied().collect();
    (0..entry.steps.len())
        .map(|i| {
            let step = &entry.steps[i];
            let op = &graph.ops[step.op];
            let name = |t: &crate::graph::TensorId| graph.tensor(*t).name.clone();
            let caches = |write: bool| {
                let of =
                    move |a: &&Access| a.write == write && matches!(a.operand, Operand::Keys(_) | Operand::Values(_));
                step.accesses.iter().filter(of).map(|a| operand_name(entry, a.operand))
            };
            let weights = op.weights.iter().map(|w| graph.weight(*w).source.clone());
            let (flops, bytes_read, bytes_written) = traffic(planned, i);
            let in_place = op.outputs.iter().find_map(|dst| {
                let mut taken = op.inputs.iter().map(|i| Operand::Tensor(*i));
                let taken = taken.find(|src| merged.contains(&(Operand::Tensor(*dst), *src)));
                taken.map(|src| operand_name(entry, src))
            });
            Step {
                id: op.name.clone(),
                index: i as u64,
                entry: entry.name.into(),
                kernel: call(layout, planned, i).kernel().into(),
                fused_from: if op.fused_from.is_empty() {
                    vec![op.name.clone()]
                } else {
                    op.fused_from.clone()
                },
                inputs: op.inputs.iter().map(name).chain(caches(false)).chain(weights).collect(),
                outputs: op.outputs.iter().map(name).chain(caches(true)).collect(),
                in_place_of: in_place,
                clobbers: clobbers(entry, i),
                parts: parts(entry, i),
                flops,
                bytes_read,
                bytes_written,
                partition: partition(step),
                barrier: planned.barriers[i].map(|b| Barrier {
                    reason: crate::emit::reason(planned, b),
                }),
                workspace_bytes: step.workspace as u64,
                live_bytes: live_bytes[i],
            }
        })
        .collect()
}

/// Inputs that the step writes.
fn clobbers(entry: &crate::schedule::Entry, index: usize) -> Vec<String> {
    let step = &entry.steps[index];
    let inputs = &entry.graph.ops[step.op].inputs;
    let clobbered = |a: &&Access| a.write && matches!(a.operand, Operand::Tensor(t) if inputs.contains(&t));
    let names = step.accesses.iter().filter(clobbered);
    names.map(|a| operand_name(entry, a.operand)).collect()
}

/// The operands of a step by the part of them that one worker touches.
fn parts(entry: &crate::schedule::Entry, index: usize) -> BTreeMap<String, Vec<String>> {
    let mut parts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for access in &entry.steps[index].accesses {
        let part = match access.pattern {
            Pattern::All => "all".to_owned(),
            Pattern::Tokens { granule } => format!("rows/{granule}"),
            Pattern::Columns { granule, .. } => format!("columns/{granule}"),
            Pattern::Private => "private".to_owned(),
        };
        let (operands, name) = (parts.entry(part).or_default(), operand_name(entry, access.operand));
        // Read as two inputs, and in the same way.
        if !operands.contains(&name) {
            operands.push(name);
        }
    }
    parts
}

fn partition(step: &crate::schedule::Step) -> Partition {
    let (axis, granule) = match step.axis {
        Axis::Tokens { granule } => ("rows", granule),
        Axis::Columns { granule } => ("columns", granule),
        Axis::Heads => ("heads", 1),
        Axis::Serial => {
            return Partition::Serial {
                reason: "too little work to divide".into(),
            };
        }
    };
    Partition::Axis {
        axis: axis.into(),
        length: step.extent as u64,
        granule: granule as u64,
    }
}

/// Who takes what of each axis that the steps are divided by, for every power of two of workers.
fn divisions(steps: &[Step]) -> Vec<Division> {
    let mut axes: Vec<(&str, u64, u64)> = steps
        .iter()
        .filter_map(|s| match &s.partition {
            Partition::Axis { axis, length, granule } => Some((axis.as_str(), *length, *granule)),
            Partition::Serial { .. } => None,
        })
        .collect();
    axes.sort_unstable();
    axes.dedup();
    let ranges = |length: u64, granule: u64, workers: usize| {
        let starts = (0..workers).map(|i| split(length as usize, granule as usize, i, workers).start as u64);
        starts.chain([length]).collect()
    };
    let counts: Vec<usize> = (1..).map(|i| 1 << i).take_while(|n| *n <= MAX_WORKERS).collect();
    axes.into_iter()
        .map(|(axis, length, granule)| Division {
            axis: axis.into(),
            length,
            granule,
            ranges: counts.iter().map(|n| ranges(length, granule, *n)).collect(),
        })
        .collect()
}

fn tensors(layout: &Layout, model: &Graph) -> Vec<Tensor> {
    let mut rows = Vec::new();
    for (index, (keys, values)) in layout.caches.iter().enumerate() {
        let cache = &model.caches[index];
        let bytes = super::cache_half_bytes(model, CacheId(index as u32));
        let positions = layout.cache_positions as u64;
        let (heads, head) = (cache.kv_heads as u64, cache.head_dim as u64);
        for (half, operand, offset, shape, order) in [
            (
                "keys",
                Operand::Keys(CacheId(index as u32)),
                keys,
                vec![heads, positions / 16, head, 16],
                "positions in tiles of 16",
            ),
            (
                "values",
                Operand::Values(CacheId(index as u32)),
                values,
                vec![heads, positions, head],
                "row-major",
            ),
        ] {
            rows.push(Tensor {
                id: format!("{}.{half}", cache.name),
                entry: String::new(),
                region: "kv".into(),
                memory: layout.memory_of(*offset).map(|m| m.memory.name.clone()),
                dtype: cache.act.name().into(),
                shape,
                layout: order.into(),
                offset: *offset,
                bytes,
                align: ALIGN as u64,
                first: 0,
                last: 0,
                alias_of: None,
                accesses: layout.entries[0].accesses.get(&operand).copied(),
            });
        }
    }
    for planned in &layout.entries {
        rows.extend(entry_tensors(layout, model, planned));
    }
    rows
}

fn entry_tensors(layout: &Layout, model: &Graph, planned: &EntryLayout) -> Vec<Tensor> {
    let entry = &planned.entry;
    let activation = |o: &&Operand| matches!(o, Operand::Tensor(_) | Operand::Workspace(_));
    let mut touched: BTreeMap<Operand, (u64, u64)> = BTreeMap::new();
    for (index, step) in entry.steps.iter().enumerate() {
        for access in &step.accesses {
            touched.entry(access.operand).or_insert((index as u64, 0)).1 = index as u64;
        }
    }
    let taken: BTreeMap<Operand, Operand> = planned.merged.iter().rev().copied().collect();
    planned
        .places
        .keys()
        .filter(activation)
        .map(|operand| {
            let (first, last) = touched.get(operand).copied().unwrap_or_default();
            let bytes = operand_bytes(entry, model, *operand);
            let (dtype, shape, order) = match operand {
                Operand::Tensor(t) => {
                    let tensor = entry.graph.tensor(*t);
                    let rows = bytes / tensor.act.row_bytes(tensor.cols).max(1) as u64;
                    (tensor.act.name(), vec![rows, tensor.cols as u64], "row-major")
                }
                _ => ("u8", vec![bytes], "scratch"),
            };
            let io = matches!(operand, Operand::Tensor(t) if model.inputs.contains(t) || model.outputs.contains(t));
            Tensor {
                id: operand_name(entry, *operand),
                entry: entry.name.into(),
                region: if io { "io" } else { "activations" }.into(),
                memory: layout.memory_of(planned.places[operand]).map(|m| m.memory.name.clone()),
                dtype: dtype.into(),
                shape,
                layout: order.into(),
                offset: planned.places[operand],
                bytes,
                align: ALIGN as u64,
                first,
                last,
                alias_of: taken.get(operand).map(|src| operand_name(entry, *src)),
                accesses: planned.accesses.get(operand).copied(),
            }
        })
        .collect()
}

fn weights(layout: &Layout, model: &Graph) -> Vec<WeightRow> {
    let place = |piece: &super::Piece| (layout.kind == Kind::Stride).then_some(piece.arena);
    let ropes = model
        .ropes
        .iter()
        .zip(&layout.ropes)
        .enumerate()
        .map(|(i, (rope, piece))| WeightRow {
            name: format!("rope_{i}"),
            source: "computed".into(),
            dtype: "f32".into(),
            packed_layout: "positions x (cosines, sines)".into(),
            shape: vec![model.context as u64, rope.dims as u64],
            offset: piece.payload,
            place: place(piece),
            bytes: piece.bytes,
            ..WeightRow::default()
        });
    let matrices = model.weights.iter().zip(&layout.weights).map(|(w, piece)| WeightRow {
        name: w.source.clone(),
        source: w.source.clone(),
        dtype: w.dtype.name().into(),
        packed_layout: if w.vector { "row-major" } else { "16 rows interleaved" }.into(),
        shape: if w.vector {
            vec![w.cols as u64]
        } else {
            vec![w.rows as u64, w.cols as u64]
        },
        offset: piece.payload,
        place: place(piece),
        bytes: piece.bytes,
        ..WeightRow::default()
    });
    ropes.chain(matrices).collect()
}
