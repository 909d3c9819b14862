//! The layout over several memories: `weights | last memory | the others`, the fastest first.
//!
//! Activations, workspaces, caches and io of all entries are one planning problem, on a clock that runs through the
//! entries one after the other. Weights stay in the last memory: they are the packed file, mapped in place.

use std::collections::BTreeMap;
use std::ops::Range;

use ck_kernels::dtype::ALIGN;

use super::debug::DebugMode;
use super::hint::Hint;
use super::packed::{given, kept, problem};
use super::traffic::{runs, traffic};
use super::{
    EntryLayout, Kind, Layout, LayoutError, Memory, MemoryPlan, PAGE, Region, Shortage, align, cache_half_bytes,
    cache_positions, check_sizes, io_slots, operand_name, payload, place_barriers, tensor_bytes,
};
use crate::graph::{CacheId, Graph};
use crate::plan::{self, Alias, Buffer, Problem, RegionPlan, Solution};
use crate::schedule::Entry;
use crate::schedule::access::Operand;

/// A buffer of the problem: what all entries share, or an operand of one of them.
type Owner = (Option<usize>, Operand);

/// One problem for all entries.
struct Joint {
    problem: Problem,
    owners: Vec<Owner>,
    /// The entries' parts of the clock.
    clock: Vec<Range<u32>>,
    /// What each entry planned, with lifetimes on its own clock.
    live: Vec<Vec<(Operand, Range<u32>)>>,
}

pub(super) fn lay_out(
    model: &Graph,
    entries: Vec<Entry>,
    memories: &[Memory],
    hint: &Hint,
) -> Result<Layout, LayoutError> {
    check_sizes(model, &entries)?;
    let (ropes, weights, payload_bytes) = payload(model);
    let resident = payload_bytes.next_multiple_of(PAGE);
    let mut joint = Joint::new(model, &entries);
    let last = memories.len() - 1;
    joint.problem.regions = memories
        .iter()
        .enumerate()
        .map(|(m, memory)| plan::Region {
            name: memory.name.clone(),
            capacity: memory
                .capacity
                .map(|c| c.saturating_sub(if m == last { resident } else { 0 })),
            reserved: Vec::new(),
        })
        .collect();
    let solution = joint.near(&entries, plan::solve(&joint.problem)?, hint);
    joint.verify(&solution)?;

    let mut regions = vec![Region {
        name: "weights".into(),
        bytes: 0..resident,
        lower_bound: resident,
        naive: resident,
    }];
    let mut bases = vec![0; memories.len()];
    let mut end = resident;
    for m in std::iter::once(last).chain(0..last) {
        let plan = &solution.regions[m];
        bases[m] = end.next_multiple_of(PAGE);
        end = bases[m] + plan.peak;
        regions.push(Region {
            name: memories[m].name.clone(),
            bytes: bases[m]..end,
            lower_bound: plan.lower_bound,
            naive: joint.naive(|b| solution.region[b] == m),
        });
    }
    let place = |b: usize| bases[solution.region[b]] + solution.offsets[b];
    let at = |operand| joint.position((None, operand)).map(place);
    let caches = (0..model.caches.len())
        .map(|c| CacheId(c as u32))
        .map(|c| (at(Operand::Keys(c)).unwrap_or(0), at(Operand::Values(c)).unwrap_or(0)))
        .collect();
    let first = |list: &[crate::graph::TensorId]| list.first().and_then(|t| at(Operand::Tensor(*t))).unwrap_or(0);
    let (ids, logits) = io_slots(model, first(&model.inputs), first(&model.outputs));
    let memories = memories
        .iter()
        .enumerate()
        .map(|(m, memory)| {
            let resident = if m == last { resident } else { 0 };
            joint.memory(&entries, memory, resident, &solution, m)
        })
        .collect();
    let entries = (0..)
        .zip(entries)
        .map(|(e, entry)| joint.entry(model, e, entry, &solution, place))
        .collect::<Result<_, LayoutError>>()?;
    Ok(Layout {
        kind: Kind::Packed,
        debug: DebugMode::default(),
        entries,
        regions,
        memories,
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

impl Joint {
    fn new(model: &Graph, entries: &[Entry]) -> Joint {
        let mut joint = Joint {
            problem: Problem::default(),
            owners: Vec::new(),
            clock: Vec::new(),
            live: Vec::new(),
        };
        let mut end = 0;
        for entry in entries {
            let start = end;
            end += u32::try_from(entry.steps.len()).expect("fewer than 2^32 steps");
            joint.clock.push(start..end);
        }
        joint.state(model, end);
        for (e, entry) in entries.iter().enumerate() {
            joint.operands(model, e, entry);
        }
        joint.share_kept(entries);
        let mut bytes = vec![0u128; joint.owners.len()];
        for (e, entry) in entries.iter().enumerate() {
            let runs = u128::from(runs(model, entry.name));
            for (operand, touched) in traffic(model, entry) {
                let owner = joint.position((None, operand)).or(joint.position((Some(e), operand)));
                if let Some(b) = owner {
                    bytes[b] += touched * runs;
                }
            }
        }
        for (buffer, bytes) in joint.problem.buffers.iter_mut().zip(bytes) {
            let each = bytes.div_ceil(u128::from(buffer.size.max(1)));
            buffer.accesses = u64::try_from(each).unwrap_or(u64::MAX);
        }
        joint
    }

    fn position(&self, owner: Owner) -> Option<usize> {
        self.owners.iter().position(|o| *o == owner)
    }

    fn push(&mut self, owner: Owner, buffer: Buffer) {
        self.owners.push(owner);
        self.problem.buffers.push(buffer);
    }

    /// What outlives a call: keys and values, ids and logits.
    fn state(&mut self, model: &Graph, end: u32) {
        let caches = (0..model.caches.len()).map(|c| CacheId(c as u32)).flat_map(|c| {
            let name = &model.caches[c.index()].name;
            let bytes = cache_half_bytes(model, c);
            [
                (Operand::Keys(c), format!("{name}.keys"), bytes),
                (Operand::Values(c), format!("{name}.values"), bytes),
            ]
        });
        let io = model.inputs.iter().chain(&model.outputs).map(|t| {
            let name = model.tensor(*t).name.clone();
            (Operand::Tensor(*t), name, tensor_bytes(model, *t))
        });
        for (operand, name, bytes) in caches.chain(io) {
            self.push((None, operand), Buffer::new(name, align(bytes), ALIGN as u64, 0..end));
        }
    }

    /// The activations and workspaces of an entry.
    fn operands(&mut self, model: &Graph, e: usize, entry: &Entry) {
        let shared = |operand: Operand| self.position((None, operand)).map(|_| 0);
        let (own, live) = problem(model, entry, DebugMode::default(), &shared);
        let (start, first) = (self.clock[e].start, self.owners.len());
        for (mut buffer, (operand, _)) in own.buffers.into_iter().zip(&live) {
            buffer.id = format!("{}/{}", entry.name, buffer.id);
            // Where entries meet, views say so.
            buffer.pinned = None;
            for range in &mut buffer.live {
                *range = range.start + start..range.end + start;
            }
            self.push((Some(e), *operand), buffer);
        }
        for alias in own.aliases {
            self.problem.aliases.push(match alias {
                Alias::InPlace { dst, src, delta } => Alias::InPlace {
                    dst: dst + first,
                    src: src + first,
                    delta,
                },
                Alias::View { part, whole, delta } => Alias::View {
                    part: part + first,
                    whole: whole + first,
                    delta,
                },
            });
        }
        self.live.push(live);
    }

    /// What the body leaves and the head starts from begins at one byte in each entry.
    fn share_kept(&mut self, entries: &[Entry]) {
        let meets = |b: &usize| match self.owners[*b] {
            (Some(e), Operand::Tensor(t)) => kept(&entries[e], t) || given(&entries[e], t),
            _ => false,
        };
        let mut shared: Vec<usize> = (0..self.owners.len()).filter(meets).collect();
        shared.sort_by_key(|b| (std::cmp::Reverse(self.problem.buffers[*b].size), *b));
        let Some((whole, parts)) = shared.split_first() else {
            return;
        };
        let views = parts.iter().map(|part| Alias::View {
            part: *part,
            whole: *whole,
            delta: 0,
        });
        self.problem.aliases.extend(views);
    }

    /// Of all layouts that cost no more and are no larger, one near the hint: first in its memories, then at its offsets.
    fn near(&self, entries: &[Entry], solution: Solution, hint: &Hint) -> Solution {
        let regions = &self.problem.regions;
        let place = |(owner, buffer): (&Owner, &Buffer)| {
            let place = match owner.0 {
                Some(e) => hint.place(entries[e].name, &operand_name(&entries[e], owner.1)),
                None => hint.place("", &buffer.id),
            }?;
            let region = regions.iter().position(|r| r.name == place.home)?;
            Some((region, place.offset))
        };
        let places = self.owners.iter().zip(&self.problem.buffers).map(place);
        let places: Vec<Option<(usize, u64)>> = places.collect();
        let memories: Vec<Option<usize>> = places.iter().map(|p| p.map(|(region, _)| region)).collect();
        let solution = plan::rehome(&self.problem, solution, &memories);
        let at_home = |(place, now): (&Option<(usize, u64)>, &usize)| place.filter(|(region, _)| region == now);
        let offsets = places
            .iter()
            .zip(&solution.region)
            .map(|pair| at_home(pair).map(|(_, at)| at));
        let offsets: Vec<Option<u64>> = offsets.collect();
        plan::settle(&self.problem, solution, &offsets)
    }

    /// Checks the plan, within the capacities that it keeps to.
    fn verify(&self, solution: &Solution) -> Result<(), LayoutError> {
        let mut problem = self.problem.clone();
        for (region, planned) in problem.regions.iter_mut().zip(&solution.regions) {
            region.capacity = region.capacity.filter(|capacity| planned.peak <= *capacity);
        }
        let violations = plan::verify(&problem, solution);
        if violations.is_empty() {
            return Ok(());
        }
        Err(LayoutError::Verify {
            entry: "all entries",
            violations: violations.iter().map(|v| v.describe(&problem)).collect(),
        })
    }

    /// Bytes of some of the buffers without any reuse.
    fn naive(&self, inside: impl Fn(usize) -> bool) -> u64 {
        let part = |b| {
            let of = |alias: &Alias| matches!(alias, Alias::View { part, .. } if *part == b);
            self.problem.aliases.iter().any(of)
        };
        let buffers = self.problem.buffers.iter().enumerate();
        let own = buffers.filter(|(b, _)| inside(*b) && !part(*b));
        own.map(|(_, buffer)| align(buffer.size)).sum()
    }

    fn entry(
        &self,
        model: &Graph,
        e: usize,
        entry: Entry,
        solution: &Solution,
        place: impl Fn(usize) -> u64,
    ) -> Result<EntryLayout, LayoutError> {
        let mut places = BTreeMap::new();
        let mut accesses = BTreeMap::new();
        for access in entry.steps.iter().flat_map(|s| &s.accesses) {
            let operand = access.operand;
            let owner = self.position((Some(e), operand)).or(self.position((None, operand)));
            let b = owner.expect("every operand of a step is planned");
            places.insert(operand, place(b));
            accesses.insert(operand, self.problem.buffers[b].accesses);
        }
        for (operand, _) in &self.live[e] {
            let b = self.position((Some(e), *operand)).expect("planned");
            places.insert(*operand, place(b));
        }
        let merged = solution.merged.iter().filter_map(|(dst, src)| {
            let (dst, src) = (self.owners[*dst], self.owners[*src]);
            (dst.0 == Some(e)).then_some((dst.1, src.1))
        });
        let merged = merged.collect();
        // How many bytes the entry needs by itself, whatever memory they are in.
        let shared = |operand: Operand| self.position((None, operand)).map(|_| 0);
        let alone = plan::solve(&problem(model, &entry, DebugMode::default(), &shared).0)?;
        let barriers = place_barriers(&entry, model, |o| places[&o]);
        Ok(EntryLayout {
            entry,
            places,
            barriers,
            solution: alone,
            live: self.live[e].iter().cloned().collect(),
            merged,
            order: None,
            accesses,
        })
    }

    fn memory(&self, entries: &[Entry], memory: &Memory, resident: u64, solution: &Solution, m: usize) -> MemoryPlan {
        let plan = &solution.regions[m];
        let inside = |b: &usize| solution.region[*b] == m && self.problem.buffers[*b].size > 0;
        let buffers: Vec<usize> = (0..self.owners.len()).filter(inside).collect();
        let touched = |b: &usize| {
            let buffer = &self.problem.buffers[*b];
            u128::from(buffer.size) * u128::from(buffer.accesses)
        };
        let needed = resident + plan.peak;
        let short = memory.capacity.map_or(0, |capacity| needed.saturating_sub(capacity));
        let status = match short {
            0 => plan.status,
            by => plan::Status::OverBudget { by },
        };
        MemoryPlan {
            memory: memory.clone(),
            resident,
            peak: plan.peak,
            lower_bound: plan.lower_bound,
            status,
            chosen: solution
                .candidates
                .get(plan.chosen)
                .map_or(String::new(), |c| c.name.clone()),
            candidates: solution
                .candidates
                .get(plan.candidates.clone())
                .unwrap_or_default()
                .to_vec(),
            nodes: solution.nodes,
            accesses: buffers.iter().map(touched).sum(),
            coolest: buffers.iter().map(|b| self.problem.buffers[*b].accesses).min(),
            shortage: (short > 0).then(|| self.shortage(entries, plan, resident, short, &buffers)),
        }
    }

    /// Where a memory overflows, and what is live there.
    fn shortage(&self, entries: &[Entry], plan: &RegionPlan, resident: u64, short: u64, inside: &[usize]) -> Shortage {
        let at = plan.shortage.as_ref().map_or(plan.peak_at, |s| s.at);
        let e = self.clock.iter().position(|c| c.contains(&at)).unwrap_or(0);
        let entry = &entries[e];
        let step = entry.steps.get((at - self.clock[e].start) as usize);
        let live = inside.iter().filter_map(|b| {
            let buffer = &self.problem.buffers[*b];
            let name = match self.owners[*b] {
                (None, _) => buffer.id.clone(),
                (Some(own), operand) => operand_name(&entries[own], operand),
            };
            let now = buffer.live.iter().any(|range| range.contains(&at));
            now.then_some((name, buffer.size))
        });
        let weights = (resident > 0).then(|| ("weights".to_string(), resident));
        let mut live: Vec<(String, u64)> = live.chain(weights).collect();
        live.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Shortage {
            entry: entry.name,
            step: step.map_or(String::new(), |s| entry.graph.ops[s.op].name.clone()),
            live,
            short,
        }
    }
}
