//! Why a tensor lives in the memory it lives in, in words.

use std::ops::Range;

use super::packed::operand_bytes_in_region;
use super::{EntryLayout, Kind, Layout, MemoryPlan, Merged, merged_buffers, operand_name, state};
use crate::schedule::access::Operand;

/// The memory of a tensor, how hot it is, and why it is in no faster one. `entry` is empty for what all entries share.
/// Nothing if the description names no memories.
pub fn residence(layout: &Layout, entry: &str, tensor: &str) -> Option<String> {
    let planned = layout
        .entries
        .iter()
        .find(|e| entry.is_empty() || e.entry.name == entry)?;
    let named = |(operand, _): &(&Operand, &u64)| operand_name(&planned.entry, **operand) == tensor;
    let (operand, accesses) = planned.accesses.iter().find(named)?;
    let memory = layout.memory_of(planned.places[operand])?;
    let name = &memory.memory.name;
    let mut text = format!("in `{name}`: {accesses} accesses per byte");
    let bounded = memory.memory.capacity.is_some();
    if bounded && memory.coolest == Some(*accesses) {
        text.push_str(", the last that fitted");
    }
    for faster in layout.memories.iter().take_while(|m| m.memory.name != *name) {
        text.push_str("; ");
        text.push_str(&refusal(layout, planned, *operand, faster));
    }
    Some(text)
}

/// Why the operand is not in that memory.
fn refusal(layout: &Layout, planned: &EntryLayout, operand: Operand, memory: &MemoryPlan) -> String {
    let model = &layout.entries[0].entry.graph;
    let name = &memory.memory.name;
    let capacity = memory.memory.capacity.unwrap_or(u64::MAX);
    let bytes = operand_bytes_in_region(model, &planned.entry, operand) + layout.debug.canary();
    let bytes = super::align(bytes);
    if bytes > capacity {
        return format!("`{name}` has {capacity} bytes, it needs {bytes}");
    }
    if layout.kind == Kind::Stride {
        // It would be in it, had it more accesses than what is there.
        return format!(
            "`{name}` has {capacity} bytes, and {} of them are the places of others, which nobody shares; it needs {bytes}",
            memory.bytes
        );
    }
    let fullest = match planned.live.get(&operand) {
        Some(live) => load(layout, planned, live.clone(), memory),
        // What outlives calls meets everything.
        None => layout
            .entries
            .iter()
            .filter_map(|e| load(layout, e, 0..u32::MAX, memory))
            .max_by_key(|l| l.bytes),
    };
    match fullest {
        Some(load) if load.bytes + bytes > capacity => format!(
            "`{name}` is full: {} of {capacity} bytes are taken at `{}` of `{}`, it needs {bytes}",
            load.bytes, load.step, load.entry
        ),
        _ => format!("in `{name}` no gap of {bytes} bytes was found that lasts as long as it lives"),
    }
}

/// The step at which most bytes of a memory are taken.
struct Load<'a> {
    bytes: u64,
    step: &'a str,
    entry: &'a str,
}

fn load<'a>(layout: &Layout, planned: &'a EntryLayout, live: Range<u32>, memory: &MemoryPlan) -> Option<Load<'a>> {
    let here = |b: &Merged| {
        layout
            .memory_of(b.bytes.start)
            .is_some_and(|m| m.memory.name == memory.memory.name)
    };
    let mut buffers = merged_buffers(layout, planned);
    buffers.extend(state(layout, planned).into_iter().map(|(_, held)| held));
    buffers.retain(here);
    let entry = &planned.entry;
    let steps = (0u32..).zip(&entry.steps).filter(|(at, _)| live.contains(at));
    let loads = steps.map(|(at, step)| {
        let now = buffers.iter().filter(|b| b.live.contains(&at));
        Load {
            bytes: now.map(|b| super::align(b.bytes.end - b.bytes.start)).sum(),
            step: &entry.graph.ops[step.op].name,
            entry: entry.name,
        }
    });
    // The first of the fullest.
    loads.reduce(|most, next| if next.bytes > most.bytes { next } else { most })
}
