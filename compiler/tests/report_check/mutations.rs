//! Every real mutation of a report is found, and by the rule that it breaks.

use std::collections::BTreeSet;

use ckc::report::{self, Partition, Report, Status, Step, Tensor, codes};

use crate::fixtures::*;

fn region<'a>(r: &'a mut Report, name: &str) -> Option<&'a mut report::Region> {
    r.totals.regions.iter_mut().find(|r| r.name == name)
}

/// The last region that has bytes.
fn held(r: &mut Report) -> Option<&mut report::Region> {
    r.totals.regions.iter_mut().rev().find(|r| r.bytes > 0)
}

/// Positions of two activations of one entry, both live in some step and of different sizes.
fn live_pair(r: &Report) -> Option<(usize, usize)> {
    let own = |t: &Tensor| t.region == "activations";
    let pairs = (0..r.tensors.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
    let mut pairs = pairs.filter(|(a, b)| {
        let (a, b) = (&r.tensors[*a], &r.tensors[*b]);
        let alias = a.alias_of.is_some() || b.alias_of.is_some();
        own(a) && own(b) && !alias && a.entry == b.entry && a.first <= b.last && b.first <= a.last && a.bytes != b.bytes
    });
    pairs.next()
}

fn axis_step(r: &mut Report) -> Option<&mut Step> {
    let axis = |s: &&mut Step| matches!(&s.partition, Partition::Axis { axis, .. } if axis != "heads");
    r.steps.iter_mut().find(axis)
}

/// Puts `edit` to the partition of the first step that rows or columns divide.
fn cut(r: &mut Report, edit: fn(&mut String, &mut u64, &mut u64)) -> Option<()> {
    match &mut axis_step(r)?.partition {
        Partition::Axis { axis, length, granule } => edit(axis, length, granule),
        Partition::Serial { .. } => return None,
    }
    Some(())
}

/// Puts `edit` to the ranges of the first division, for four workers.
fn ranges(r: &mut Report, edit: fn(&mut Vec<u64>)) -> Option<()> {
    Some(edit(r.partitions.first_mut()?.ranges.get_mut(1)?))
}

/// Calls a part whose name begins like this otherwise, in a step of decode.
fn recall(r: &mut Report, part: &str, name: &str) -> Option<()> {
    let of = |s: &Step| s.parts.keys().find(|p| p.starts_with(part)).cloned();
    let step = r.steps.iter_mut().find(|s| s.entry == "decode" && of(s).is_some())?;
    let operands = step.parts.remove(&of(step)?)?;
    Some(step.parts.entry(name.into()).or_default().extend(operands))
}

/// A step of that kernel whose workers meet within it.
fn halved<'a>(r: &'a mut Report, kernel: &str) -> Option<&'a mut Step> {
    r.steps.iter_mut().find(|s| s.kernel == kernel && s.halves.is_some())
}

type Mutation = (&'static str, &'static str, fn(&mut Report) -> Option<()>);

/// What is done to a report, and the code of the rule that it breaks.
const MUTATIONS: &[Mutation] = &[
    ("a name without end", codes::LIMITS, |r| {
        Some(r.tensors[0].id = "x".repeat(2000))
    }),
    ("a shape without end", codes::LIMITS, |r| {
        Some(r.tensors[0].shape = vec![1; 9])
    }),
    ("two tensors of one name", codes::NAMES, |r| {
        Some(r.tensors.push(r.tensors[0].clone()))
    }),
    ("two steps of one name", codes::NAMES, |r| {
        Some(r.steps.push(r.steps[0].clone()))
    }),
    ("two weights of one name", codes::NAMES, |r| {
        Some(r.weights.push(r.weights[0].clone()))
    }),
    ("two regions of one name", codes::NAMES, |r| {
        Some(r.totals.regions.push(r.totals.regions[0].clone()))
    }),
    ("two entries of one name", codes::NAMES, |r| {
        Some(r.header.entries.push(r.header.entries[0].clone()))
    }),
    ("an input that is nothing", codes::NAMES, |r| {
        Some(r.steps[0].inputs[0] = "nothing".into())
    }),
    ("an output that is nothing", codes::NAMES, |r| {
        Some(r.steps[0].outputs[0] = "nothing".into())
    }),
    ("an entry that is none", codes::NAMES, |r| {
        Some(r.steps[0].entry = "train".into())
    }),
    ("a tensor of no entry", codes::NAMES, |r| {
        Some(activation(r)?.entry = "train".into())
    }),
    ("a region that is none", codes::NAMES, |r| {
        Some(activation(r)?.region = "elsewhere".into())
    }),
    ("a tensor with a weight's name", codes::NAMES, |r| {
        Some(r.tensors[0].id = r.weights[1].name.clone())
    }),
    ("in place of what is not read", codes::NAMES, |r| {
        Some(r.steps[0].in_place_of = Some("nothing".into()))
    }),
    ("a peak in no step", codes::NAMES, |r| {
        Some(r.totals.peak.as_mut()?.step = "nothing".into())
    }),
    ("a peak of nothing", codes::NAMES, |r| {
        Some(r.totals.peak.as_mut()?.live[0].id = "nothing".into())
    }),
    ("no workers", codes::COUNTS, |r| Some(r.header.options.max_threads = 0)),
    ("endless workers", codes::COUNTS, |r| {
        Some(r.header.options.max_threads = u64::MAX)
    }),
    ("a batch beyond the context", codes::COUNTS, |r| {
        Some(r.header.options.batch = r.header.options.context + 1)
    }),
    ("another number of steps", codes::COUNTS, |r| {
        Some(r.header.entries[0].steps += 1)
    }),
    ("another number of barriers", codes::COUNTS, |r| {
        Some(r.header.entries[0].barriers += 1)
    }),
    ("other flops", codes::COUNTS, |r| Some(r.steps[0].flops += 1)),
    ("other traffic", codes::COUNTS, |r| {
        Some(r.steps[0].bytes_read = u64::MAX)
    }),
    ("a step that is gone", codes::COUNTS, |r| Some(drop(r.steps.remove(1)))),
    ("two steps at once", codes::COUNTS, |r| Some(r.steps[1].index = 0)),
    ("a step far away", codes::COUNTS, |r| Some(r.steps[1].index = u64::MAX)),
    ("more bytes than the shape", codes::BYTES, |r| {
        Some(r.tensors[0].bytes += 64)
    }),
    ("another shape", codes::BYTES, |r| Some(r.tensors[0].shape[0] += 1)),
    ("another element type", codes::BYTES, |r| {
        Some(activation(r)?.dtype = "f16".into())
    }),
    ("no element type", codes::BYTES, |r| {
        Some(r.weights[1].dtype = "f31".into())
    }),
    ("a weight with fewer bytes", codes::BYTES, |r| {
        Some(r.weights[1].bytes -= 64)
    }),
    ("a shape beyond numbers", codes::BYTES, |r| {
        Some(r.tensors[0].shape = vec![u64::MAX; 8])
    }),
    ("a region out of the arena", codes::REGIONS, |r| {
        Some(held(r)?.offset += 4096)
    }),
    ("a region at the end of numbers", codes::REGIONS, |r| {
        Some(held(r)?.offset = u64::MAX - 4095)
    }),
    ("regions that overlap", codes::REGIONS, |r| {
        Some(region(r, "kv")?.offset -= 4096)
    }),
    ("a smaller arena", codes::REGIONS, |r| Some(r.totals.arena_bytes -= 64)),
    // By more than a canary.
    ("a smaller region", codes::PLACES, |r| {
        Some(region(r, "activations")?.bytes -= 128)
    }),
    ("a tensor before its region", codes::PLACES, |r| {
        let start = region(r, "activations")?.offset;
        Some(activation(r)?.offset = start - 64)
    }),
    ("a tensor behind the arena", codes::PLACES, |r| {
        let end = r.totals.arena_bytes;
        Some(activation(r)?.offset = end.next_multiple_of(64))
    }),
    ("a tensor at the end of numbers", codes::PLACES, |r| {
        Some(activation(r)?.offset = u64::MAX - 63)
    }),
    ("a region that is not there", codes::PLACES, |r| {
        let before = r.totals.regions.len();
        let gone = |name: &str| ["io", "interleaved", "main"].contains(&name);
        r.totals.regions.retain(|r| !gone(&r.name));
        let tensors = r.tensors.iter().any(|t| gone(t.home()));
        (tensors && before > r.totals.regions.len()).then_some(())
    }),
    ("half a cache line on", codes::ALIGNMENT, |r| {
        Some(activation(r)?.offset += 32)
    }),
    ("an odd alignment", codes::ALIGNMENT, |r| Some(r.tensors[0].align = 96)),
    ("no alignment", codes::ALIGNMENT, |r| Some(r.tensors[0].align = 0)),
    ("a larger alignment", codes::ALIGNMENT, |r| {
        Some(r.tensors.iter_mut().for_each(|t| t.align = 1 << 40))
    }),
    ("a weight between cache lines", codes::ALIGNMENT, |r| {
        Some(r.weights[1].offset += 8)
    }),
    ("a larger arena", codes::TOTALS, |r| Some(r.totals.arena_bytes += 64)),
    ("another bound", codes::TOTALS, |r| {
        Some(r.totals.lower_bound_bytes -= 64)
    }),
    ("other naive bytes", codes::TOTALS, |r| Some(r.totals.naive_bytes += 64)),
    ("other bytes a token", codes::TOTALS, |r| {
        Some(r.totals.kv_bytes_per_token += 1)
    }),
    ("other bytes of a type", codes::TOTALS, |r| {
        Some(*r.totals.weights_bytes.values_mut().next()? += 1)
    }),
    ("a type that is not said", codes::TOTALS, |r| {
        Some(drop(r.totals.weights_bytes.pop_first()?))
    }),
    ("weights behind their region", codes::TOTALS, |r| {
        let end = region(r, "weights")?.bytes;
        Some(r.weights.last_mut()?.offset = end)
    }),
    ("scratch that is not there", codes::TOTALS, |r| {
        Some(r.steps[0].workspace_bytes += 4096)
    }),
    ("less live than there is", codes::TOTALS, |r| {
        let layout = r.header.options.layout.clone();
        (layout == "packed").then(|| r.steps.last_mut().unwrap().live_bytes = 0)
    }),
    ("another peak", codes::TOTALS, |r| {
        region(r, "activations")?;
        Some(r.totals.peak.as_mut()?.bytes += 64)
    }),
    ("another size at the peak", codes::TOTALS, |r| {
        Some(r.totals.peak.as_mut()?.live[0].bytes += 64)
    }),
    ("a bound above the bytes", codes::STATUS, |r| {
        Some(r.totals.regions[0].lower_bound = u64::MAX)
    }),
    ("optimal without reason", codes::STATUS, |r| {
        let region = r
            .totals
            .regions
            .iter_mut()
            .find(|r| r.status == Status::Optimal && r.bytes > 64)?;
        Some(region.lower_bound -= 64)
    }),
    ("a gap that is none", codes::STATUS, |r| {
        region(r, "activations")?;
        Some(r.totals.status = Status::Feasible { gap: 0 })
    }),
    ("a search that proves what is plain", codes::STATUS, |r| {
        Some(region(r, "kv")?.status = Status::OptimalSearch)
    }),
    ("worse than without reuse", codes::STATUS, |r| {
        Some(r.totals.regions[0].naive -= 64)
    }),
    ("a layout that was not tried", codes::STATUS, |r| {
        Some(region(r, "activations")?.plan.as_mut()?.chosen = "luck".into())
    }),
    ("more live than the peak", codes::STATUS, |r| {
        region(r, "activations")?;
        Some(r.steps[0].live_bytes = u64::MAX)
    }),
    ("a weight behind a gap", codes::WEIGHTS, |r| {
        Some(r.weights.last_mut()?.offset += 64)
    }),
    ("two weights at one place", codes::WEIGHTS, |r| {
        Some(r.weights[1].offset = r.weights[2].offset)
    }),
    ("two caches at one place", codes::WEIGHTS, |r| {
        let caches: Vec<u64> = r
            .tensors
            .iter()
            .filter(|t| t.region == "kv")
            .map(|t| t.offset)
            .collect();
        Some(r.tensors.iter_mut().find(|t| t.region == "kv")?.offset = *caches.last()?)
    }),
    ("a step that writes a weight", codes::WEIGHTS, |r| {
        let weight = r.weights[1].name.clone();
        Some(r.steps[0].outputs.push(weight))
    }),
    ("a weight's place where there is none", codes::WEIGHTS, |r| {
        let place = &mut r.weights[0].place;
        *place = if place.is_some() { None } else { Some(0) };
        Some(())
    }),
    ("no granule", codes::PARTITION, |r| cut(r, |_, _, granule| *granule = 0)),
    ("no length", codes::PARTITION, |r| cut(r, |_, length, _| *length = 0)),
    ("a length beyond numbers", codes::PARTITION, |r| {
        cut(r, |_, length, _| *length = u64::MAX)
    }),
    ("ranges with a gap", codes::PARTITION, |r| ranges(r, |cuts| cuts[0] = 1)),
    ("ranges that overlap", codes::PARTITION, |r| {
        ranges(r, |cuts| cuts[1] = u64::MAX)
    }),
    ("ranges that end early", codes::PARTITION, |r| {
        ranges(r, |cuts| *cuts.last_mut().unwrap() -= 1)
    }),
    ("ranges for fewer workers", codes::PARTITION, |r| {
        ranges(r, |cuts| cuts.truncate(2))
    }),
    ("a division that is not listed", codes::PARTITION, |r| {
        Some(drop(r.partitions.pop()?))
    }),
    ("a division that is listed twice", codes::PARTITION, |r| {
        Some(r.partitions.push(r.partitions.first()?.clone()))
    }),
    ("another gap of a plan", codes::STATUS, |r| {
        Some(region(r, "activations")?.plan.as_mut()?.gap += 64)
    }),
    ("an unknown axis", codes::PARTITION, |r| {
        cut(r, |axis, _, _| *axis = "diagonals".into())
    }),
    ("another length", codes::PARTS, |r| cut(r, |_, length, _| *length /= 2)),
    ("another granule", codes::PARTS, |r| {
        cut(r, |_, _, granule| *granule *= 3)
    }),
    ("another axis", codes::PARTS, |r| {
        cut(r, |axis, _, _| {
            *axis = if axis == "rows" { "columns" } else { "rows" }.into();
        })
    }),
    ("a part that is not said", codes::PARTS, |r| {
        Some(drop(r.steps[0].parts.pop_first()?))
    }),
    ("no parts at all", codes::PARTS, |r| {
        Some(r.steps.iter_mut().for_each(|s| s.parts.clear()))
    }),
    ("an unknown part", codes::PARTS, |r| {
        let (_, operands) = r.steps[0].parts.pop_first()?;
        Some(drop(r.steps[0].parts.insert("rows/0".into(), operands)))
    }),
    ("a part of something else", codes::PARTS, |r| {
        Some(r.steps[0].parts.values_mut().next()?.push("x".into()))
    }),
    ("a second part that is not the division's", codes::PARTS, |r| {
        let step = axis_step(r)?;
        let name = step.inputs[0].clone();
        Some(step.parts.entry("rows/77".into()).or_default().push(name))
    }),
    ("read in part and written in another", codes::RACE, |r| {
        let step = axis_step(r)?;
        let output = step.outputs[0].clone();
        Some(step.parts.entry("all".into()).or_default().push(output))
    }),
    ("a row that is read in part", codes::PARTS, |r| {
        let whole = |s: &&mut Step| {
            let divided = matches!(s.partition, Partition::Axis { .. });
            divided && s.entry == "decode" && s.kernel == "project" && s.parts.contains_key("all")
        };
        let step = r.steps.iter_mut().find(whole)?;
        let names = step.parts.remove("all")?;
        let part = step.parts.keys().find(|part| part.starts_with("columns/"))?.clone();
        Some(step.parts.entry(part).or_default().extend(names))
    }),
    ("a cache that is read in part", codes::PARTS, |r| {
        let step = r
            .steps
            .iter_mut()
            .find(|s| s.kernel.starts_with("attention") && s.parts.contains_key("all"))?;
        if matches!(step.partition, Partition::Serial { .. }) {
            return None;
        }
        let names = step.parts.remove("all")?;
        Some(step.parts.entry("private".into()).or_default().extend(names))
    }),
    ("an output that all write", codes::PARTS, |r| {
        let step = axis_step(r)?;
        let output = step.outputs[0].clone();
        step.parts.values_mut().for_each(|names| names.retain(|n| *n != output));
        Some(step.parts.entry("all".into()).or_default().push(output))
    }),
    ("scratch for fewer workers", codes::PARTS, |r| {
        let step = r
            .steps
            .iter_mut()
            .find(|s| s.entry == "decode" && s.workspace_bytes > 0)?;
        step.workspace_bytes -= 1;
        Some(())
    }),
    ("a longer life", codes::LIFETIMES, |r| Some(activation(r)?.last += 1)),
    ("a shorter life", codes::LIFETIMES, |r| Some(activation(r)?.last -= 1)),
    ("a later birth", codes::LIFETIMES, |r| Some(activation(r)?.first += 1)),
    ("an endless life", codes::LIFETIMES, |r| {
        Some(activation(r)?.last = u64::MAX)
    }),
    ("dead before it is born", codes::LIFETIMES, |r| {
        Some(activation(r)?.first = u64::MAX)
    }),
    ("never used", codes::LIFETIMES, |r| {
        let mut unused = activation(r)?.clone();
        unused.id = "unused".into();
        Some(r.tensors.push(unused))
    }),
    ("read and never written", codes::ORDER, |r| {
        let step = r
            .steps
            .iter_mut()
            .find(|s| s.entry == "prefill" && s.outputs.len() == 1 && s.index > 0)?;
        Some(step.outputs.clear())
    }),
    ("found in another place", codes::ORDER, |r| {
        let found = r
            .tensors
            .iter_mut()
            .find(|t| t.entry == "head" && t.first == 0 && t.region == "activations" && t.id.contains("residual"))?;
        Some(found.offset += 64)
    }),
    ("two live tensors at one place", codes::OVERLAP, |r| {
        let (a, b) = live_pair(r)?;
        Some(r.tensors[a].offset = r.tensors[b].offset)
    }),
    ("canaries that are only said", codes::CANARIES, |r| {
        if r.header.options.debug.iter().any(|d| d == "canaries") {
            return None;
        }
        Some(r.header.options.debug.push("canaries".into()))
    }),
    ("live neighbours without a canary", codes::CANARIES, |r| {
        let canaries = r.header.options.debug.iter().any(|d| d == "canaries");
        let own = |t: &Tensor| t.region == "activations" && t.alias_of.is_none() && t.bytes > 0;
        let near = |a: &Tensor, b: &Tensor| {
            let end = a.offset + a.bytes;
            own(a) && own(b) && a.entry == b.entry && b.offset >= end && b.offset - end < 128
        };
        let together = |a: &Tensor, b: &Tensor| a.first <= b.last && b.first <= a.last;
        let pair = |b: &Tensor| r.tensors.iter().any(|a| near(a, b) && together(a, b));
        let found = r.tensors.iter().position(pair).filter(|_| canaries)?;
        Some(r.tensors[found].offset -= 64)
    }),
    ("a cache without its canary", codes::CANARIES, |r| {
        let canaries = r.header.options.debug.iter().any(|d| d == "canaries");
        let cache = r
            .tensors
            .iter_mut()
            .filter(|t| t.region == "kv")
            .max_by_key(|t| t.offset);
        Some(cache.filter(|_| canaries)?.offset -= 64)
    }),
    ("an activation in the cache", codes::OVERLAP, |r| {
        let cache = r.tensors.iter().find(|t| t.region == "kv")?.offset;
        Some(activation(r)?.offset = cache)
    }),
    ("an activation in the weights", codes::OVERLAP, |r| {
        let weight = r.weights.last()?;
        let place = weight.place.unwrap_or(weight.offset);
        Some(activation(r)?.offset = place)
    }),
    ("an alias that is forgotten", codes::OVERLAP, |r| {
        Some(r.tensors.iter_mut().find(|t| t.alias_of.is_some())?.alias_of = None)
    }),
    ("an alias of nothing", codes::IN_PLACE, |r| {
        Some(activation(r)?.alias_of = Some("nothing".into()))
    }),
    ("an alias of itself", codes::IN_PLACE, |r| {
        let tensor = activation(r)?;
        Some(tensor.alias_of = Some(tensor.id.clone()))
    }),
    ("an alias of something else", codes::IN_PLACE, |r| {
        let (a, b) = live_pair(r)?;
        Some(r.tensors[a].alias_of = Some(r.tensors[b].id.clone()))
    }),
    ("in place, and not said", codes::IN_PLACE, |r| {
        Some(r.steps.iter_mut().find(|s| s.in_place_of.is_some())?.in_place_of = None)
    }),
    ("in place of what stays", codes::IN_PLACE, |r| {
        let step = r.steps.iter_mut().find(|s| s.in_place_of.is_none())?;
        Some(step.in_place_of = Some(step.inputs[0].clone()))
    }),
    ("a kernel that cannot", codes::IN_PLACE, |r| {
        Some(r.steps.iter_mut().find(|s| s.in_place_of.is_some())?.kernel = "quantize".into())
    }),
    ("a tensor in no memory", codes::MEMORIES, |r| {
        r.totals.memories.first()?;
        Some(r.tensors[0].memory = None)
    }),
    ("a tensor in a memory where there are none", codes::MEMORIES, |r| {
        let none = r.totals.memories.is_empty();
        none.then(|| r.tensors[0].memory = Some("fast".into()))
    }),
    ("a tensor whose accesses are not said", codes::MEMORIES, |r| {
        r.totals.memories.first()?;
        Some(r.tensors[0].accesses = None)
    }),
    ("a tensor that is touched more", codes::MEMORIES, |r| {
        Some(*activation(r)?.accesses.as_mut()? += 1)
    }),
    ("a tensor in another memory", codes::PLACES, |r| {
        let last = r.totals.memories.last()?.name.clone();
        let tensor = r.tensors.iter_mut().find(|t| t.memory.as_ref() != Some(&last))?;
        Some(tensor.memory = Some(last))
    }),
    ("a tensor behind its memory", codes::PLACES, |r| {
        let memory = r.totals.memories.first()?.name.clone();
        let end = region(r, &memory).map(|r| r.offset + r.bytes)?;
        let tensor = r.tensors.iter_mut().find(|t| t.memory.as_ref() == Some(&memory))?;
        Some(tensor.offset = end.next_multiple_of(64))
    }),
    ("a tensor in an unknown memory", codes::NAMES, |r| {
        r.totals.memories.first()?;
        Some(r.tensors[0].memory = Some("nothing".into()))
    }),
    ("two memories of one name", codes::NAMES, |r| {
        Some(r.totals.memories.push(r.totals.memories.first()?.clone()))
    }),
    ("a memory without a region", codes::MEMORIES, |r| {
        Some(r.totals.memories.first_mut()?.name = "nothing".into())
    }),
    ("a memory of other bytes", codes::MEMORIES, |r| {
        Some(r.totals.memories.last_mut()?.bytes += 64)
    }),
    ("a memory of another bound", codes::MEMORIES, |r| {
        Some(r.totals.memories.last_mut()?.lower_bound -= 64)
    }),
    ("a memory of other accesses", codes::MEMORIES, |r| {
        Some(r.totals.memories.first_mut()?.accesses += 1)
    }),
    ("weights in a memory that has none", codes::MEMORIES, |r| {
        Some(r.totals.memories.first_mut()?.weights_bytes += 64)
    }),
    ("a memory of another status", codes::MEMORIES, |r| {
        Some(r.totals.memories.last_mut()?.status = Status::Feasible { gap: 1 })
    }),
    ("a memory that is moved", codes::MEMORIES, |r| {
        r.totals.memories.first()?;
        r.totals.arena_bytes += 8192;
        Some(held(r)?.offset += 8192)
    }),
    ("a memory over its capacity", codes::STATUS, |r| {
        let memory = r.totals.memories.first_mut()?;
        Some(memory.capacity = Some(memory.bytes.checked_sub(1)?))
    }),
    ("a capacity that is made up", codes::STATUS, |r| {
        let memory = r.totals.memories.last_mut()?;
        let by = Status::OverBudget { by: 7 };
        memory.status = by;
        let name = memory.name.clone();
        Some(region(r, &name)?.status = by)
    }),
    ("memory that nobody lacks", codes::STATUS, |r| {
        Some(r.totals.status = Status::OverBudget { by: 12345 })
    }),
    ("a budget that is exceeded and not said", codes::STATUS, |r| {
        r.totals.budgets.iter().find(|b| b.bytes > b.limit)?;
        Some(r.totals.status = Status::Feasible { gap: 1 })
    }),
    ("a budget of other bytes", codes::TOTALS, |r| {
        let known = |b: &&mut report::Limit| ["arena", "scratch"].contains(&b.name.as_str());
        Some(r.totals.budgets.iter_mut().find(known)?.bytes += 1)
    }),
    ("a budget of nothing", codes::NAMES, |r| {
        Some(r.totals.budgets.first_mut()?.name = "nothing".into())
    }),
    ("a plan that is not as good as it says", codes::STATUS, |r| {
        Some(r.header.entries[0].plan.as_mut()?.status = Status::OptimalSearch)
    }),
    ("another number of barriers for some workers", codes::COUNTS, |r| {
        Some(r.header.entries[0].barriers_unless += 1)
    }),
    ("heads of a cache that has others", codes::PARTS, |r| {
        recall(r, "heads/", "heads/77")
    }),
    ("equal parts of heads that are not there", codes::PARTS, |r| {
        recall(r, "even/", "even/77")
    }),
    ("equal parts of none", codes::PARTS, |r| recall(r, "even/", "even/0")),
    ("heads where others read any of them", codes::RACE, |r| {
        recall(r, "even/", "all")
    }),
    ("heads that belong to nobody", codes::RACE, |r| {
        recall(r, "heads/", "private")
    }),
    ("a second half without a barrier", codes::PARTS, |r| {
        halved(r, "attention_split")?.halves = None;
        let decode = r.header.entries.iter_mut().find(|e| e.name == "decode")?;
        Some(decode.barriers_unless -= 1)
    }),
    ("a projection that does not wait for attention", codes::PARTS, |r| {
        halved(r, "attention_project")?.halves = None;
        let prefill = r.header.entries.iter_mut().find(|e| e.name == "prefill")?;
        Some(prefill.barriers -= 1)
    }),
    ("a projection that only some wait for", codes::PARTS, |r| {
        halved(r, "attention_project")?.halves.as_mut()?.unless = Some(8);
        let prefill = r.header.entries.iter_mut().find(|e| e.name == "prefill")?;
        (prefill.barriers, prefill.barriers_unless) = (prefill.barriers - 1, prefill.barriers_unless + 1);
        Some(())
    }),
    ("a second half of a kernel that has none", codes::PARTS, |r| {
        let whole = |s: &&mut Step| s.entry == "decode" && s.kernel == "project";
        let barrier = halved(r, "attention_split")?.halves.clone();
        r.steps.iter_mut().find(whole)?.halves = barrier;
        let decode = r.header.entries.iter_mut().find(|e| e.name == "decode")?;
        Some(decode.barriers_unless += 1)
    }),
    ("halves that other workers would have", codes::PARTS, |r| {
        let step = halved(r, "attention_split")?;
        Some(step.halves.as_mut()?.unless = Some(77))
    }),
    ("queries that are no equal parts", codes::PARTS, |r| {
        let step = halved(r, "attention_split")?;
        let query = step.inputs[0].clone();
        step.parts.values_mut().for_each(|names| names.retain(|n| *n != query));
        Some(step.parts.entry("even/77".into()).or_default().push(query))
    }),
    ("in place by columns of what all read", codes::RACE, |r| {
        let step = r
            .steps
            .iter_mut()
            .find(|s| s.in_place_of.is_some() && s.entry == "decode")?;
        let input = step.in_place_of.clone()?;
        step.parts.values_mut().for_each(|names| names.retain(|n| *n != input));
        Some(step.parts.entry("all".into()).or_default().push(input))
    }),
];

#[test]
fn every_mutation_is_found_by_its_rule() {
    let bases = bases();
    let mut unused: BTreeSet<&str> = MUTATIONS.iter().map(|m| m.0).collect();
    let codes_met: BTreeSet<&str> = MUTATIONS.iter().map(|m| m.1).collect();
    for (label, base) in &bases {
        for (name, code, mutate) in MUTATIONS {
            let mut report = base.clone();
            if mutate(&mut report).is_none() {
                continue;
            }
            assert!(report != *base, "{label}: {name} changes nothing");
            assert!(
                found(&report).contains(code),
                "{label}: {name} is not {code}, but\n{}",
                told(&report)
            );
            unused.remove(name);
        }
    }
    assert_eq!(unused, BTreeSet::new(), "apply to no report");
    for rule in codes::ALL.iter().filter(|rule| rule.code != codes::SCHEMA) {
        assert!(codes_met.contains(rule.code), "no mutation breaks {}", rule.code);
    }
}
