//! Why a tensor lives in the memory it lives in, in words.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::packed::{given, kept, operand_bytes_in_region};
use super::stride::place_name;
use super::{EntryLayout, Kind, Layout, MemoryPlan, Merged, merged_buffers, merged_operands, operand_name, state};
use crate::schedule::access::Operand;

/// What is named of what fills a memory.
const NAMED: usize = 3;

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
    let all = accesses_of_all(layout);
    let rank = all.iter().filter(|a| *a > accesses).count() + 1;
    let mut text = format!(
        "in `{name}`: {accesses} accesses per byte, rank {rank} of {}",
        all.len()
    );
    let bounded = memory.memory.capacity.is_some();
    if bounded && memory.coolest == Some(*accesses) {
        text.push_str(", the last that fitted");
    }
    let members = members(layout, planned, *operand);
    if members.len() > 1 {
        let entries: Vec<&str> = members.iter().map(|(e, _)| e.entry.name).collect();
        text.push_str(&format!("; one place for {}", entries.join(", ")));
    }
    for faster in layout.memories.iter().take_while(|m| m.memory.name != *name) {
        text.push_str("; ");
        text.push_str(&refusal(layout, &members, faster));
    }
    Some(text)
}

/// The memories that hold what a step touches, the fastest first, each with the names and the bytes that it has there.
pub fn touched(layout: &Layout, planned: &EntryLayout, step: usize) -> Vec<(String, Vec<String>, u64)> {
    let model = &layout.entries[0].entry.graph;
    let operands: BTreeSet<Operand> = planned.entry.steps[step].accesses.iter().map(|a| a.operand).collect();
    let of = |m: &MemoryPlan| {
        let here = |o: &&Operand| {
            layout
                .memory_of(planned.places[*o])
                .is_some_and(|h| h.memory.name == m.memory.name)
        };
        let inside: Vec<&Operand> = operands.iter().filter(here).collect();
        let names = inside.iter().map(|o| operand_name(&planned.entry, **o)).collect();
        let bytes = inside.iter().map(|o| super::operand_bytes(&planned.entry, model, **o));
        (m.memory.name.clone(), names, bytes.sum())
    };
    let memories = layout.memories.iter().map(of);
    memories
        .filter(|(_, names, _): &(_, Vec<String>, _)| !names.is_empty())
        .collect()
}

/// How often each byte of everything that is planned is touched: of an entry's own, and once of what all share.
fn accesses_of_all(layout: &Layout) -> Vec<u64> {
    let mut shared = BTreeMap::new();
    let mut all = Vec::new();
    for planned in &layout.entries {
        for (operand, accesses) in &planned.accesses {
            match planned.live.contains_key(operand) {
                true => all.push(*accesses),
                false => drop(shared.insert(operand_name(&planned.entry, *operand), *accesses)),
            }
        }
    }
    all.extend(shared.into_values());
    all
}

/// The operand in every entry that has it at the same place: what the body leaves for the head has to be in one, and in a
/// stride layout everything of one name.
fn members<'a>(layout: &'a Layout, planned: &'a EntryLayout, operand: Operand) -> Vec<(&'a EntryLayout, Operand)> {
    let all = layout.entries.iter().flat_map(|e| e.live.keys().map(move |o| (e, *o)));
    if layout.kind == Kind::Stride {
        let name = place_name(&planned.entry, operand);
        let alike: Vec<_> = all.filter(|(e, o)| place_name(&e.entry, *o) == name).collect();
        return if alike.is_empty() {
            vec![(planned, operand)]
        } else {
            alike
        };
    }
    let meets =
        |e: &EntryLayout, o: Operand| matches!(o, Operand::Tensor(t) if kept(&e.entry, t) || given(&e.entry, t));
    match meets(planned, operand) {
        true => all.filter(|(e, o)| meets(e, *o)).collect(),
        false => vec![(planned, operand)],
    }
}

/// Why the operand, which is one of each of these entries, is not in that memory.
fn refusal(layout: &Layout, members: &[(&EntryLayout, Operand)], memory: &MemoryPlan) -> String {
    let model = &layout.entries[0].entry.graph;
    let name = &memory.memory.name;
    let capacity = memory.memory.capacity.unwrap_or(u64::MAX);
    let size = |(e, o): &(&EntryLayout, Operand)| operand_bytes_in_region(model, &e.entry, *o) + layout.debug.canary();
    let bytes = super::align(members.iter().map(size).max().unwrap_or(0));
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
    let loads = members
        .iter()
        .flat_map(|(planned, operand)| match planned.live.get(operand) {
            Some(live) => Vec::from_iter(load(layout, planned, live.clone(), memory)),
            // What outlives calls meets everything.
            None => {
                let entries = layout.entries.iter();
                entries.filter_map(|e| load(layout, e, 0..u32::MAX, memory)).collect()
            }
        });
    match loads.max_by_key(|l| l.bytes) {
        Some(load) if load.bytes + bytes > capacity => format!(
            "`{name}` is full: {} of {capacity} bytes are taken at `{}` of `{}`, by {}; it needs {bytes}",
            load.bytes,
            load.step,
            load.entry,
            load.names()
        ),
        _ => format!("in `{name}` no gap of {bytes} bytes was found that lasts as long as it lives"),
    }
}

/// The step at which most bytes of a memory are taken.
struct Load<'a> {
    bytes: u64,
    step: &'a str,
    entry: &'a str,
    /// What takes them, with its bytes and the accesses to each.
    taken: Vec<(String, u64, u64)>,
}

impl Load<'_> {
    /// The largest of what takes the place, and how many more.
    fn names(&self) -> String {
        let mut taken: Vec<&(String, u64, u64)> = self.taken.iter().collect();
        taken.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let word = |t: &&(String, u64, u64)| format!("`{}` ({} bytes, {} accesses each)", t.0, t.1, t.2);
        let named: Vec<String> = taken.iter().take(NAMED).map(word).collect();
        match taken.len() - named.len() {
            0 => named.join(", "),
            more => format!("{} and {more} more", named.join(", ")),
        }
    }
}

fn load<'a>(layout: &Layout, planned: &'a EntryLayout, live: Range<u32>, memory: &MemoryPlan) -> Option<Load<'a>> {
    let here = |b: &Merged| {
        layout
            .memory_of(b.bytes.start)
            .is_some_and(|m| m.memory.name == memory.memory.name)
    };
    // Where several are updated in the same bytes, the first of them is named.
    let own = merged_operands(layout, planned).into_iter().map(|group| group[0]);
    let mut buffers: Vec<(Operand, Merged)> = own.zip(merged_buffers(layout, planned)).collect();
    buffers.extend(state(layout, planned));
    buffers.retain(|(_, b)| here(b));
    let entry = &planned.entry;
    let size = |b: &Merged| super::align(b.bytes.end - b.bytes.start);
    let steps = (0u32..).zip(&entry.steps).filter(|(at, _)| live.contains(at));
    let loads = steps.map(|(at, step)| {
        let now = buffers.iter().filter(|(_, b)| b.live.contains(&at));
        (now.map(|(_, b)| size(b)).sum::<u64>(), at, step)
    });
    // The first of the fullest.
    let (bytes, at, step) = loads.reduce(|most, next| if next.0 > most.0 { next } else { most })?;
    let taken = buffers.iter().filter(|(_, b)| b.live.contains(&at)).map(|(o, b)| {
        let each = planned.accesses.get(o).copied().unwrap_or(0);
        (name(layout, planned, *o), size(b), each)
    });
    Some(Load {
        bytes,
        step: &entry.graph.ops[step.op].name,
        entry: entry.name,
        taken: taken.collect(),
    })
}

/// The name of an operand of the entry, or of what all entries share.
fn name(layout: &Layout, planned: &EntryLayout, operand: Operand) -> String {
    let found = layout.entries.iter().find(|e| e.places.contains_key(&operand));
    match (planned.live.contains_key(&operand), found) {
        (false, Some(other)) => operand_name(&other.entry, operand),
        _ => operand_name(&planned.entry, operand),
    }
}
