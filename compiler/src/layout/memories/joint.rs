//! Activations, workspaces, caches and io of all entries as one planning problem, on a clock that runs through the
//! entries one after the other.

use std::collections::BTreeMap;
use std::ops::Range;

use ck_kernels::dtype::ALIGN;

use crate::graph::{CacheId, Graph};
use crate::layout::debug::DebugMode;
use crate::layout::hint::Hint;
use crate::layout::packed::{given, kept, problem};
use crate::layout::traffic::{runs, traffic};
use crate::layout::{EntryLayout, LayoutError, align, cache_half_bytes, operand_name, place_barriers, tensor_bytes};
use crate::plan::{self, Alias, Buffer, Problem, Solution};
use crate::schedule::Entry;
use crate::schedule::access::Operand;

/// A buffer of the problem: what all entries share, or an operand of one of them.
pub type Owner = (Option<usize>, Operand);

/// One problem for all entries.
pub struct Joint {
    pub problem: Problem,
    pub owners: Vec<Owner>,
    /// Bytes of each buffer that hold something: without its canary.
    pub bytes: Vec<u64>,
    /// The entries' parts of the clock.
    pub clock: Vec<Range<u32>>,
    /// What each entry planned, with lifetimes on its own clock.
    live: Vec<Vec<(Operand, Range<u32>)>>,
    debug: DebugMode,
}

impl Joint {
    pub fn new(model: &Graph, entries: &[Entry], debug: DebugMode) -> Joint {
        let mut joint = Joint {
            problem: Problem::default(),
            owners: Vec::new(),
            bytes: Vec::new(),
            debug,
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
        let mut touched = vec![0u128; joint.owners.len()];
        for (e, entry) in entries.iter().enumerate() {
            let runs = u128::from(runs(model, entry.name));
            for (operand, bytes) in traffic(model, entry) {
                let owner = joint.position((None, operand)).or(joint.position((Some(e), operand)));
                if let Some(b) = owner {
                    touched[b] += bytes * runs;
                }
            }
        }
        let sizes = joint.bytes.iter().zip(touched);
        for (buffer, (bytes, touched)) in joint.problem.buffers.iter_mut().zip(sizes) {
            let each = touched.div_ceil(u128::from((*bytes).max(1)));
            buffer.accesses = u64::try_from(each).unwrap_or(u64::MAX);
        }
        joint
    }

    pub fn position(&self, owner: Owner) -> Option<usize> {
        self.owners.iter().position(|o| *o == owner)
    }

    fn push(&mut self, owner: Owner, bytes: u64, buffer: Buffer) {
        self.owners.push(owner);
        self.bytes.push(bytes);
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
            let size = align(bytes + self.debug.canary());
            self.push(
                (None, operand),
                align(bytes),
                Buffer::new(name, size, ALIGN as u64, 0..end),
            );
        }
    }

    /// The activations and workspaces of an entry.
    fn operands(&mut self, model: &Graph, e: usize, entry: &Entry) {
        let shared = |operand: Operand| self.position((None, operand)).map(|_| 0);
        let (own, live) = problem(model, entry, self.debug, &shared);
        let (start, first) = (self.clock[e].start, self.owners.len());
        for (mut buffer, (operand, _)) in own.buffers.into_iter().zip(&live) {
            buffer.id = format!("{}/{}", entry.name, buffer.id);
            // Where entries meet, views say so.
            buffer.pinned = None;
            for range in &mut buffer.live {
                *range = range.start + start..range.end + start;
            }
            let bytes = buffer.size - self.debug.canary();
            self.push((Some(e), *operand), bytes, buffer);
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
    pub fn near(&self, entries: &[Entry], solution: Solution, hint: &Hint) -> Solution {
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
    pub fn verify(&self, solution: &Solution) -> Result<(), LayoutError> {
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

    /// Bytes read and written of a buffer, over [`runs`] of all entries.
    pub fn traffic(&self, b: usize) -> u128 {
        u128::from(self.bytes[b]) * u128::from(self.problem.buffers[b].accesses)
    }

    /// Bytes read and written of the buffers, and the fewest accesses a byte.
    pub fn accessed(&self, buffers: &[usize]) -> (u128, Option<u64>) {
        let coolest = buffers.iter().map(|b| self.problem.buffers[*b].accesses).min();
        (buffers.iter().map(|b| self.traffic(*b)).sum(), coolest)
    }

    /// Bytes of some of the buffers without any reuse.
    pub fn naive(&self, inside: impl Fn(usize) -> bool) -> u64 {
        let part = |b| {
            let of = |alias: &Alias| matches!(alias, Alias::View { part, .. } if *part == b);
            self.problem.aliases.iter().any(of)
        };
        let buffers = self.problem.buffers.iter().enumerate();
        let own = buffers.filter(|(b, _)| inside(*b) && !part(*b));
        own.map(|(_, buffer)| align(buffer.size)).sum()
    }

    pub fn entry(
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
        let alone = plan::solve(&problem(model, &entry, self.debug, &shared).0)?;
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
}
