//! Steps, tensors and weights.

use std::collections::{BTreeMap, BTreeSet};

use ck_kernels::dtype::ALIGN;
use ck_kernels::ops::MAX_WORKERS;
use ck_kernels::partition::{Axis, split};

use super::traffic;
use crate::costs::{self, Chosen};
use crate::graph::{CacheId, Graph};
use crate::layout::call::call;
use crate::layout::occupancy::Occupancy;
use crate::layout::{EntryLayout, Kind, Layout, Piece, cache_half_bytes, operand_bytes, operand_name};
use crate::report::{Barrier, Division, Partition, Predicted, Step, Tensor, WeightRow};
use crate::schedule::access::{Access, Operand, Pattern};

pub(super) fn steps(layout: &Layout, planned: &EntryLayout, chosen: &Chosen<'_>) -> Vec<Step> {
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
                    unless: b.unless.map(|n| n as u64),
                }),
                halves: step.halves.map(|halves| Barrier {
                    reason: crate::emit::halves(halves),
                    unless: halves.unless().map(|n| n as u64),
                }),
                predicted: chosen.predict(graph, op, step.axis).map(predicted),
                workspace_bytes: step.workspace as u64,
                live_bytes: live_bytes[i],
            }
        })
        .collect()
}

fn predicted(predicted: costs::Predicted) -> Predicted {
    let ways: Vec<String> = predicted.ways.iter().map(ToString::to_string).collect();
    Predicted {
        kernels: ways.join("+"),
        nanoseconds: predicted.nanoseconds,
    }
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
            Pattern::Heads { heads } => format!("heads/{heads}"),
            Pattern::Even { heads } => format!("even/{heads}"),
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
pub(super) fn divisions(steps: &[Step]) -> Vec<Division> {
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

pub(super) fn tensors(layout: &Layout, model: &Graph) -> Vec<Tensor> {
    let mut rows = Vec::new();
    for (index, (keys, values)) in layout.caches.iter().enumerate() {
        let cache = &model.caches[index];
        let bytes = cache_half_bytes(model, CacheId(index as u32));
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

pub(super) fn weights(layout: &Layout, model: &Graph) -> Vec<WeightRow> {
    let place = |piece: &Piece| (layout.kind == Kind::Stride).then_some(piece.arena);
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
