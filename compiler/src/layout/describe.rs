//! The layout report of a layout.

use std::collections::BTreeMap;

use ck_kernels::dtype::ALIGN;
use ck_kernels::partition::Axis;

use super::call::call;
use super::{EntryLayout, Layout, operand_bytes, operand_name};
use crate::fuse::{Flag, Site};
use crate::graph::{CacheId, Graph, Rows};
use crate::report::{
    Barrier, Entry, FuseOutcome, Fusion, Header, Live, Options, Partition, Peak, Plan, Region, Report, SCHEMA, Status,
    Step, Tensor, Totals, WeightRow,
};
use crate::schedule::access::Operand;
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
}

/// Describes a layout. Hashes and source types of weights are filled in by whoever packs them.
pub fn describe(layout: &Layout, about: &About<'_>) -> Report {
    let mut report = Report {
        header: header(layout, about),
        totals: totals(layout, about.model),
        fusions: layout.entries.iter().flat_map(fusions).collect(),
        steps: layout.entries.iter().flat_map(|e| steps(layout, e)).collect(),
        tensors: tensors(layout, about.model),
        weights: weights(layout, about.model),
        moves: Vec::new(),
    };
    report.normalise();
    report
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
            max_threads: ck_kernels::ops::MAX_WORKERS as u64,
            debug: layout.debug.names().into_iter().map(String::from).collect(),
        },
        entries: layout.entries.iter().map(entry).collect(),
    }
}

fn entry(planned: &EntryLayout) -> Entry {
    let mut row = Entry {
        name: planned.entry.name.into(),
        steps: planned.entry.steps.len() as u64,
        barriers: planned.barriers.iter().flatten().count() as u64,
        peak_bytes: planned.solution.peak,
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

/// Operations, bytes read and bytes written of a step at the upper bounds.
fn traffic(planned: &EntryLayout, index: usize) -> (u64, u64, u64) {
    let graph = &planned.entry.graph;
    let cost = cost(graph, &graph.ops[planned.entry.steps[index].op]);
    let tokens = graph.batch as u64;
    let flops = (cost.flops_per_token + cost.attention_flops) * tokens;
    (flops, cost.weight_bytes + cost.read, cost.written)
}

fn totals(layout: &Layout, model: &Graph) -> Totals {
    let lower: u64 = layout.regions.iter().map(|r| r.lower_bound).sum();
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
        status: status(layout, layout.arena_bytes, lower),
        naive_bytes: layout.regions.iter().map(|r| r.naive).sum(),
        kv_bytes_per_token: model.caches.iter().map(per_token).sum(),
        weights_bytes,
        regions: layout.regions.iter().map(|r| region(layout, r)).collect(),
        peak: fullest.and_then(|e| peak(model, e)),
    }
}

/// Bytes that only the activations add to their bound are as well judged as their plan is.
fn status(layout: &Layout, bytes: u64, lower: u64) -> Status {
    let proven = |e: &EntryLayout| e.solution.status == crate::plan::Status::OptimalSearch;
    let fullest = layout.entries.iter().max_by_key(|e| e.solution.peak);
    if bytes <= lower {
        Status::Optimal
    } else if layout.kind == super::Kind::Packed && fullest.is_some_and(proven) {
        Status::OptimalSearch
    } else {
        Status::Feasible { gap: bytes - lower }
    }
}

fn region(layout: &Layout, region: &super::Region) -> Region {
    let bytes = region.bytes.end - region.bytes.start;
    let plan = (region.name == "activations").then(|| {
        let fullest = layout
            .entries
            .iter()
            .max_by_key(|e| e.solution.peak)
            .expect("a program has entries");
        let s = &fullest.solution;
        Plan {
            chosen: s.candidates.get(s.chosen).map_or(String::new(), |c| c.name.clone()),
            candidates: s.candidates.iter().map(|c| (c.name.clone(), c.peak)).collect(),
        }
    });
    Region {
        name: region.name.into(),
        offset: region.bytes.start,
        bytes,
        lower_bound: region.lower_bound,
        naive: region.naive,
        status: status(layout, bytes, region.lower_bound),
        plan,
    }
}

/// Bytes of the merged buffers that are live in a step.
fn live_at(layout: &Layout, planned: &EntryLayout, step: u32) -> u64 {
    let buffers = super::merged_buffers(layout, planned);
    let live = buffers.iter().filter(|b| b.live.contains(&step));
    live.map(|b| (b.bytes.end - b.bytes.start).next_multiple_of(ALIGN as u64))
        .sum()
}

fn peak(model: &Graph, planned: &EntryLayout) -> Option<Peak> {
    let at = planned.solution.peak_at;
    let step = planned.entry.steps.get(at as usize)?;
    let mut live: Vec<Live> = planned
        .live
        .iter()
        .filter(|(_, range)| range.contains(&at))
        .map(|(operand, _)| Live {
            id: operand_name(&planned.entry, *operand),
            bytes: operand_bytes(&planned.entry, model, *operand),
        })
        .collect();
    live.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.id.cmp(&b.id)));
    Some(Peak {
        entry: planned.entry.name.into(),
        step: planned.entry.graph.ops[step.op].name.clone(),
        bytes: planned.solution.lower_bound,
        live,
    })
}

/// Sites with what they save: bytes of tensors that are no longer written, and barriers, shared out over the sites of a
/// flag from the difference that its pass made.
fn fusions(planned: &EntryLayout) -> Vec<Fusion> {
    let saved = barriers_saved(planned);
    planned
        .entry
        .sites
        .iter()
        .map(|site| fusion(planned, site, &saved))
        .collect()
}

/// Barriers that each flag's pass took away, by data alone, from the entry before and after it.
fn barriers_saved(planned: &EntryLayout) -> BTreeMap<Flag, i64> {
    let with = |steps: &Vec<crate::schedule::Step>, graph: &Graph| crate::schedule::Entry {
        name: planned.entry.name,
        graph: graph.clone(),
        steps: steps.clone(),
        sites: Vec::new(),
        stages: Vec::new(),
        division: planned.entry.division,
    };
    let count = |entry: crate::schedule::Entry| entry.data_barriers().iter().flatten().count() as i64;
    let Some((_, steps, graph)) = planned.entry.stages.first() else {
        return BTreeMap::new();
    };
    let mut before = count(with(steps, graph));
    let mut saved = BTreeMap::new();
    for (flag, steps, graph) in &planned.entry.stages[1..] {
        let after = count(with(steps, graph));
        saved.extend(flag.map(|flag| (flag, before - after)));
        before = after;
    }
    saved
}

fn fusion(planned: &EntryLayout, site: &Site, saved: &BTreeMap<Flag, i64>) -> Fusion {
    let graph = &planned.entry.graph;
    let applied = |s: &&Site| s.flag == site.flag && s.outcome.is_ok();
    let sites: Vec<&Site> = planned.entry.sites.iter().filter(applied).collect();
    let bytes = |name: &String| {
        let found = graph.tensors.iter().position(|t| t.name == *name);
        found.map_or(0, |t| super::tensor_bytes(graph, crate::graph::TensorId(t as u32)))
    };
    let (outcome, reason, bytes_saved, barriers_saved) = match &site.outcome {
        Ok(away) => {
            // The first sites of a flag carry the remainder.
            let rank = sites.iter().position(|s| s.site == site.site).unwrap_or(0);
            let total = saved.get(&site.flag).copied().unwrap_or(0).max(0) as usize;
            let share = total / sites.len() + usize::from(rank < total % sites.len());
            (
                FuseOutcome::Applied,
                String::new(),
                away.iter().map(bytes).sum(),
                share as u64,
            )
        }
        Err(reason) => (FuseOutcome::Refused, reason.to_string(), 0, 0),
    };
    Fusion {
        flag: site.flag.name().into(),
        entry: planned.entry.name.into(),
        site: site.site.clone(),
        outcome,
        reason,
        bytes_saved,
        barriers_saved,
    }
}

fn steps(layout: &Layout, planned: &EntryLayout) -> Vec<Step> {
    let entry = &planned.entry;
    let graph = &entry.graph;
    (0..entry.steps.len())
        .map(|i| {
            let step = &entry.steps[i];
            let op = &graph.ops[step.op];
            let name = |t: &crate::graph::TensorId| graph.tensor(*t).name.clone();
            let caches = |write: bool| {
                let of = move |a: &&crate::schedule::access::Access| {
                    a.write == write && matches!(a.operand, Operand::Keys(_) | Operand::Values(_))
                };
                step.accesses.iter().filter(of).map(|a| operand_name(entry, a.operand))
            };
            let weights = op.weights.iter().map(|w| graph.weight(*w).source.clone());
            let (flops, bytes_read, bytes_written) = traffic(planned, i);
            let in_place = op.outputs.iter().find_map(|dst| {
                let pair = planned
                    .merged
                    .iter()
                    .find(|(d, s)| *d == Operand::Tensor(*dst) && op.inputs.iter().any(|i| *s == Operand::Tensor(*i)));
                pair.map(|(_, s)| operand_name(entry, *s))
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
                flops,
                bytes_read,
                bytes_written,
                partition: partition(step),
                barrier: planned.barriers[i].map(|b| Barrier {
                    reason: crate::emit::reason(planned, b),
                }),
                workspace_bytes: step.workspace as u64,
                live_bytes: live_at(layout, planned, u32::try_from(i).unwrap_or(u32::MAX)),
            }
        })
        .collect()
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

fn tensors(layout: &Layout, model: &Graph) -> Vec<Tensor> {
    let mut rows = Vec::new();
    for (index, (keys, values)) in layout.caches.iter().enumerate() {
        let cache = &model.caches[index];
        let bytes = super::cache_half_bytes(model, CacheId(index as u32));
        let positions = layout.cache_positions as u64;
        let (heads, head) = (cache.kv_heads as u64, cache.head_dim as u64);
        for (half, offset, shape, order) in [
            (
                "keys",
                keys,
                vec![heads, positions / 16, head, 16],
                "positions in tiles of 16",
            ),
            ("values", values, vec![heads, positions, head], "row-major"),
        ] {
            rows.push(Tensor {
                id: format!("{}.{half}", cache.name),
                entry: String::new(),
                region: "kv".into(),
                dtype: cache.act.name().into(),
                shape,
                layout: order.into(),
                offset: *offset,
                bytes,
                align: ALIGN as u64,
                first: 0,
                last: 0,
                alias_of: None,
            });
        }
    }
    for planned in &layout.entries {
        rows.extend(entry_tensors(model, planned));
    }
    rows
}

fn entry_tensors(model: &Graph, planned: &EntryLayout) -> Vec<Tensor> {
    let entry = &planned.entry;
    let activation = |o: &&Operand| matches!(o, Operand::Tensor(_) | Operand::Workspace(_));
    planned
        .places
        .keys()
        .filter(activation)
        .map(|operand| {
            let touched = |s: &crate::schedule::Step| s.accesses.iter().any(|a| a.operand == *operand);
            let first = entry.steps.iter().position(touched).unwrap_or(0);
            let last = entry.steps.iter().rposition(touched).unwrap_or(0);
            let bytes = operand_bytes(entry, model, *operand);
            let (dtype, shape, order) = match operand {
                Operand::Tensor(t) => {
                    let tensor = entry.graph.tensor(*t);
                    let rows = if tensor.rows == Rows::Tokens {
                        entry.graph.batch
                    } else {
                        1
                    };
                    (tensor.act.name(), vec![rows as u64, tensor.cols as u64], "row-major")
                }
                _ => ("u8", vec![bytes], "scratch"),
            };
            let io = matches!(operand, Operand::Tensor(t) if model.inputs.contains(t) || model.outputs.contains(t));
            let alias = planned.merged.iter().find(|(dst, _)| dst == operand);
            Tensor {
                id: operand_name(entry, *operand),
                entry: entry.name.into(),
                region: if io { "io" } else { "activations" }.into(),
                dtype: dtype.into(),
                shape,
                layout: order.into(),
                offset: planned.places[operand],
                bytes,
                align: ALIGN as u64,
                first: first as u64,
                last: last as u64,
                alias_of: alias.map(|(_, src)| operand_name(entry, *src)),
            }
        })
        .collect()
}

fn weights(layout: &Layout, model: &Graph) -> Vec<WeightRow> {
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
        bytes: piece.bytes,
        ..WeightRow::default()
    });
    ropes.chain(matrices).collect()
}
