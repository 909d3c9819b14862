//! The stride layout: every tensor keeps its own place, weights and activations interleaved in execution order, and what
//! fusion took away is stepped over.

use std::collections::BTreeMap;

use super::debug::DebugMode;
use super::hint::Hint;
use super::{
    EntryLayout, Kind, Layout, LayoutError, PAGE, Region, align, cache_half_bytes, cache_positions, check_sizes,
    io_slots, operand_bytes, operand_name, packed, payload, place_barriers, tensor_bytes,
};
use crate::fuse::{Config, Flags};
use crate::graph::{CacheId, Graph, OpKind};
use crate::schedule::access::Operand;
use crate::schedule::order;
use crate::schedule::{self, Entry};

pub(super) fn lay_out(model: &Graph, entries: Vec<Entry>, debug: DebugMode) -> Result<Layout, LayoutError> {
    check_sizes(model, &entries)?;
    let (mut ropes, mut weights, payload_bytes) = payload(model);
    let mut end = debug.canary();
    let mut take = |bytes: u64| {
        let start = end;
        end += align(bytes + debug.canary());
        start
    };
    let mut places: BTreeMap<String, u64> = BTreeMap::new();
    let mut caches = vec![(0, 0); model.caches.len()];
    for rope in &mut ropes {
        rope.arena = take(rope.bytes);
    }
    for input in &model.inputs {
        places.insert(model.tensor(*input).name.clone(), take(tensor_bytes(model, *input)));
    }
    // Execution order is that of the program without fusion: the body, then the head.
    let unfused = schedule::entries(
        model,
        &Config {
            flags: Flags::NONE,
            sites: Vec::new(),
        },
    );
    let mut placed_weight = vec![false; weights.len()];
    for entry in unfused.iter().filter(|e| e.name != "decode") {
        for op in &entry.graph.ops {
            for w in &op.weights {
                if !std::mem::replace(&mut placed_weight[w.index()], true) {
                    weights[w.index()].arena = take(weights[w.index()].bytes);
                }
            }
            if let OpKind::CacheKeys(c) | OpKind::CacheValues(c) = op.kind {
                let at = take(cache_half_bytes(model, CacheId(c.0)));
                let half = &mut caches[c.index()];
                match op.kind {
                    OpKind::CacheKeys(_) => half.0 = at,
                    _ => half.1 = at,
                }
            }
            for t in &op.outputs {
                let at = take(tensor_bytes(&entry.graph, *t));
                places.insert(entry.graph.tensor(*t).name.clone(), at);
            }
        }
    }
    // Workspaces, and tensors that only exist in a fused form.
    for entry in &entries {
        for access in entry.steps.iter().flat_map(|s| &s.accesses) {
            let name = place_name(entry, access.operand);
            if !matches!(access.operand, Operand::Keys(_) | Operand::Values(_)) && !places.contains_key(&name) {
                places.insert(name, take(operand_bytes(entry, model, access.operand)));
            }
        }
    }
    let arena_bytes = end.next_multiple_of(PAGE);

    // The packed plan of the same entries says how far from the least this layout is: no order of steps saves a byte
    // where every tensor has a place of its own. Its regions begin on pages, which can cost more than reuse saves.
    let reference = packed::lay_out(model, entries.clone(), order::Kind::Source, debug, &Hint::default())?;
    let bounds = reference.regions.iter().map(|r| r.lower_bound);
    let lower_bound = bounds.sum::<u64>().min(arena_bytes);
    let place = |entry: &Entry, operand: Operand| match operand {
        Operand::Keys(c) => caches[c.index()].0,
        Operand::Values(c) => caches[c.index()].1,
        _ => places[&place_name(entry, operand)],
    };
    let entries = reference
        .entries
        .into_iter()
        .map(|planned| {
            let entry = planned.entry;
            let operands = entry.steps.iter().flat_map(|s| &s.accesses).map(|a| a.operand);
            let own: BTreeMap<Operand, u64> = operands.map(|o| (o, place(&entry, o))).collect();
            let barriers = place_barriers(&entry, model, |o| own[&o]);
            EntryLayout {
                entry,
                places: own,
                barriers,
                merged: Vec::new(),
                ..planned
            }
        })
        .collect();
    let at = |list: &[crate::graph::TensorId]| list.first().map_or(0, |t| places[&model.tensor(*t).name]);
    let (ids, logits) = io_slots(model, at(&model.inputs), at(&model.outputs));
    Ok(Layout {
        kind: Kind::Stride,
        entries,
        regions: vec![Region {
            name: "interleaved".into(),
            bytes: 0..arena_bytes,
            lower_bound,
            naive: arena_bytes,
        }],
        memories: Vec::new(),
        ropes,
        weights,
        caches,
        payload_bytes,
        arena_bytes,
        ids,
        logits,
        cache_positions: cache_positions(model),
        debug,
    })
}

/// Tensors are the same in every entry; a workspace belongs to one.
fn place_name(entry: &Entry, operand: Operand) -> String {
    match operand {
        Operand::Workspace(_) => format!("{}/{}", entry.name, operand_name(entry, operand)),
        _ => operand_name(entry, operand),
    }
}
