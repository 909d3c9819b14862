//! Regions: which buffer lies in which memory.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use super::error::PlanError;
use super::load;
use super::problem::{Alias, Choice, Problem, Region};
use super::solve::{Options, plan_region};

/// One region and what lies in it, as a problem of its own.
pub(super) struct Share<'p> {
    /// The problem, without regions.
    pub problem: Cow<'p, Problem>,
    /// The buffers' positions in the whole problem; empty when they are the same.
    positions: Vec<usize>,
}

impl Share<'_> {
    /// Where buffer `b` of the share is in the whole problem.
    pub fn position(&self, b: usize) -> usize {
        self.positions.get(b).copied().unwrap_or(b)
    }
}

/// The buffers for which `inside` holds, and all that is said about them alone.
pub(super) fn share(problem: &Problem, inside: impl Fn(usize) -> bool) -> Share<'_> {
    let positions: Vec<usize> = (0..problem.buffers.len()).filter(|&b| inside(b)).collect();
    if positions.len() == problem.buffers.len() {
        return Share {
            problem: Cow::Borrowed(problem),
            positions: Vec::new(),
        };
    }
    let mut new = vec![None; problem.buffers.len()];
    for (at, &b) in positions.iter().enumerate() {
        new[b] = Some(at);
    }
    let alias = |alias: &Alias| match *alias {
        Alias::InPlace { dst, src, delta } => Some(Alias::InPlace {
            dst: new[dst]?,
            src: new[src]?,
            delta,
        }),
        Alias::View { part, whole, delta } => Some(Alias::View {
            part: new[part]?,
            whole: new[whole]?,
            delta,
        }),
    };
    let branch = |list: &Vec<usize>| list.iter().filter_map(|&b| new[b]).collect();
    let choice = |c: &Choice| Choice {
        branches: c.branches.iter().map(branch).collect(),
    };
    Share {
        problem: Cow::Owned(Problem {
            buffers: positions.iter().map(|&b| problem.buffers[b].clone()).collect(),
            aliases: problem.aliases.iter().filter_map(alias).collect(),
            apart: problem
                .apart
                .iter()
                .filter_map(|&(a, b)| Some((new[a]?, new[b]?)))
                .collect(),
            exclusive: problem.exclusive.iter().map(choice).collect(),
            regions: Vec::new(),
        }),
        positions,
    }
}

/// Buffers that views tie together, so that they lie in one region.
struct Family {
    buffers: Vec<usize>,
    region: Option<usize>,
    /// Bytes of all buffers that ever hold a byte.
    bytes: u128,
    /// Accesses to them.
    traffic: u128,
    /// Clock ticks from first to last use.
    ticks: u128,
    /// From first to last use.
    span: Range<u32>,
}

impl Family {
    /// Accesses a byte, with 32 bits after the point.
    fn density(&self) -> (u128, u128) {
        let bytes = self.bytes.max(1);
        (self.traffic / bytes, ((self.traffic % bytes) << 32) / bytes)
    }

    /// What its accesses cost in a region.
    fn cost(&self, region: usize) -> u128 {
        self.traffic.saturating_mul(region as u128)
    }
}

/// The region of each buffer.
///
/// Least is first the bytes beyond capacities, then the sum of `size * accesses * region`. Families are taken into the
/// fastest region that has room, in several orders; the best result is improved by a complete search where there are few
/// families, and by exchanging two where there are many.
pub(super) fn assign(problem: &Problem, regions: &[Region]) -> Result<Vec<usize>, PlanError> {
    let mut of = vec![0; problem.buffers.len()];
    if regions.len() < 2 {
        return Ok(of);
    }
    let families = families(problem)?;
    let mut memory = Memory {
        problem,
        regions,
        families: &families,
        known: BTreeMap::new(),
        left: WORK / (problem.buffers.len() + 1),
    };
    let mut best: Option<Assignment> = None;
    for order in ORDERS {
        let found = memory.greedy(*order)?;
        if best.as_ref().is_none_or(|best| found.cost < best.cost) {
            best = Some(found);
        }
    }
    let Some(mut best) = best else { return Ok(of) };
    let mut free: Vec<usize> = (0..families.len()).filter(|&f| families[f].region.is_none()).collect();
    free.sort_by_key(|&f| (Reverse(families[f].traffic), f));
    if free.len() <= FEW {
        let mut partial = memory.fixed();
        memory.search(&free, &mut partial, 0, &mut best)?;
    } else {
        memory.exchange(&free, &mut best)?;
    }
    for (family, &region) in families.iter().zip(&best.region) {
        family.buffers.iter().for_each(|&b| of[b] = region);
    }
    Ok(of)
}

/// Families up to which all assignments are looked at.
const FEW: usize = 12;

/// Region plans that are made, in buffers.
const WORK: usize = 200_000;

/// What a greedy pass takes first: more of the first number, then less of the second.
type Order = fn(&Family) -> ((u128, u128), u128);

const ORDERS: &[Order] = &[
    |f| (f.density(), f.bytes),
    |f| ((f.traffic, 0), f.bytes),
    |f| ((f.traffic / f.bytes.saturating_mul(f.ticks).max(1), 0), f.bytes),
    |f| ((f.bytes, 0), 0),
];

/// A region for each family.
#[derive(Clone)]
struct Assignment {
    region: Vec<usize>,
    /// Bytes beyond capacities, then accesses weighted with regions.
    cost: (u64, u128),
}

struct Memory<'p> {
    problem: &'p Problem,
    regions: &'p [Region],
    families: &'p [Family],
    /// Bytes beyond the capacity of a region that holds these families.
    known: BTreeMap<(usize, Vec<usize>), u64>,
    /// Plans and exchanges that may still be made.
    left: usize,
}

impl Memory<'_> {
    /// Every family that must lie somewhere in its place; the others nowhere.
    fn fixed(&self) -> Vec<Option<usize>> {
        self.families.iter().map(|f| f.region).collect()
    }

    /// Bytes by which a layout of these families exceeds the region's capacity; all there are when no more plans may be
    /// made.
    fn excess(&mut self, r: usize, mut inside: Vec<usize>) -> Result<u64, PlanError> {
        let Some(capacity) = self.regions[r].capacity else {
            return Ok(0);
        };
        if r + 1 < self.regions.len() {
            // Whether it fits is all that matters of a faster region, and most of what does not is quickly told.
            let least = self.least(&inside);
            if least > capacity {
                return Ok(least - capacity);
            }
        }
        inside.sort_unstable();
        if let Some(&by) = self.known.get(&(r, inside.clone())) {
            return Ok(by);
        }
        if self.left == 0 {
            return Ok(u64::MAX);
        }
        self.left -= 1;
        let mut wanted = vec![false; self.problem.buffers.len()];
        for &f in &inside {
            self.families[f].buffers.iter().for_each(|&b| wanted[b] = true);
        }
        let options = Options {
            capacity: Some(capacity),
            ..Options::default()
        };
        let share = share(self.problem, |b| wanted[b]);
        let by = plan_region(&share.problem, &self.regions[r], &options)?
            .peak
            .saturating_sub(capacity);
        self.known.insert((r, inside), by);
        Ok(by)
    }

    /// Bytes that the families need at least.
    fn least(&self, inside: &[usize]) -> u64 {
        let mut wanted = vec![false; self.problem.buffers.len()];
        for &f in inside {
            self.families[f].buffers.iter().for_each(|&b| wanted[b] = true);
        }
        load::least(self.problem, |b| wanted[b])
    }

    /// Whether the family needs more than the region has, whatever else is there.
    fn too_large(&self, f: usize, r: usize) -> bool {
        let capacity = self.regions[r].capacity.unwrap_or(u64::MAX);
        self.least(&[f]) > capacity
    }

    fn inside(region: &[Option<usize>], r: usize) -> Vec<usize> {
        (0..region.len()).filter(|&f| region[f] == Some(r)).collect()
    }

    /// The assignment with its cost.
    fn judged(&mut self, region: Vec<Option<usize>>) -> Result<Assignment, PlanError> {
        let mut over = 0u64;
        for r in 0..self.regions.len() {
            let by = self.excess(r, Self::inside(&region, r))?;
            // What is too much lies in the last region, where the least that is missing can be told.
            let hard = by > 0 && r + 1 < self.regions.len();
            over = over.saturating_add(if hard { u64::MAX } else { by });
        }
        let region: Vec<usize> = region.into_iter().map(|r| r.unwrap_or(0)).collect();
        let traffic = region.iter().zip(self.families).map(|(&r, f)| f.cost(r));
        let cost = (over, traffic.fold(0, u128::saturating_add));
        Ok(Assignment { region, cost })
    }

    /// Region by region, each family that has room, in an order; the last region takes the rest.
    fn greedy(&mut self, order: Order) -> Result<Assignment, PlanError> {
        let mut region = self.fixed();
        let mut free: Vec<usize> = (0..region.len()).filter(|&f| region[f].is_none()).collect();
        let families = self.families;
        let rank = |f: &usize| {
            let (more, less) = order(&families[*f]);
            (Reverse(more), less, *f)
        };
        free.sort_by_key(rank);
        let last = self.regions.len() - 1;
        for r in 0..last {
            let mut taken = Self::inside(&region, r);
            let (mut refused, list): (Vec<usize>, Vec<usize>) = free.into_iter().partition(|&f| self.too_large(f, r));
            self.admit(r, &mut taken, &list, &mut refused)?;
            taken.into_iter().for_each(|f| region[f] = Some(r));
            refused.sort_by_key(rank);
            free = refused;
        }
        free.into_iter().for_each(|f| region[f] = Some(last));
        self.judged(region)
    }

    /// Takes the families one after another, each if it fits with what was taken before. Those that fit all at once are
    /// not looked at one by one.
    fn admit(
        &mut self,
        r: usize,
        taken: &mut Vec<usize>,
        list: &[usize],
        refused: &mut Vec<usize>,
    ) -> Result<(), PlanError> {
        if list.is_empty() {
            return Ok(());
        }
        let all: Vec<usize> = taken.iter().chain(list).copied().collect();
        if self.excess(r, all)? == 0 {
            taken.extend(list);
            return Ok(());
        }
        if let [only] = list {
            refused.push(*only);
            return Ok(());
        }
        let (first, second) = list.split_at(list.len() / 2);
        self.admit(r, taken, first, refused)?;
        self.admit(r, taken, second, refused)
    }

    /// All assignments of `free` that cost less than `best`, the families with the most accesses decided first.
    fn search(
        &mut self,
        free: &[usize],
        partial: &mut Vec<Option<usize>>,
        traffic: u128,
        best: &mut Assignment,
    ) -> Result<(), PlanError> {
        let Some((&f, rest)) = free.split_first() else {
            let found = self.judged(partial.clone())?;
            if found.cost < best.cost {
                *best = found;
            }
            return Ok(());
        };
        for r in 0..self.regions.len() {
            let traffic = traffic.saturating_add(self.families[f].cost(r));
            if best.cost.0 == 0 && traffic >= best.cost.1 {
                break;
            }
            partial[f] = Some(r);
            // More families never need fewer bytes.
            if self.excess(r, Self::inside(partial, r))? <= best.cost.0 {
                self.search(rest, partial, traffic, best)?;
            }
        }
        partial[f] = None;
        Ok(())
    }

    /// Bytes that a region needs at least with one more family in it.
    fn joined(&self, assigned: &Assignment, f: usize, r: usize) -> u64 {
        let inside: Vec<usize> = (0..assigned.region.len())
            .filter(|&g| g == f || assigned.region[g] == r)
            .collect();
        self.least(&inside)
    }

    /// Moves families to faster regions, alone or in exchange for one with fewer accesses, while that helps.
    fn exchange(&mut self, free: &[usize], best: &mut Assignment) -> Result<(), PlanError> {
        loop {
            let before = best.cost;
            for &f in free {
                for r in 0..self.regions.len() {
                    if best.region[f] == r || self.too_large(f, r) {
                        continue;
                    }
                    let mut with = self.joined(best, f, r);
                    let others = free.iter().rev().copied().filter(|&g| g != f).map(Some);
                    for other in std::iter::once(None).chain(others) {
                        let from = best.region[f];
                        let swaps = other.is_none_or(|g| best.region[g] == r);
                        if from == r || !swaps || self.left == 0 {
                            continue;
                        }
                        let cheaper = match other {
                            None => self.families[f].cost(r) < self.families[f].cost(from),
                            Some(g) => r < from && self.families[g].traffic < self.families[f].traffic,
                        };
                        // What leaves makes room for as many bytes as it has, while it is live.
                        let meets = |g: usize| {
                            let (a, b) = (&self.families[f].span, &self.families[g].span);
                            a.start < b.end && b.start < a.end
                        };
                        let room = other.filter(|&g| meets(g)).map_or(0, |g| self.families[g].bytes);
                        let full = u128::from(with) > u128::from(self.regions[r].capacity.unwrap_or(u64::MAX)) + room;
                        if best.cost.0 == 0 && (full || !cheaper) {
                            continue;
                        }
                        let mut region: Vec<Option<usize>> = best.region.iter().copied().map(Some).collect();
                        region[f] = Some(r);
                        if let Some(g) = other {
                            region[g] = Some(from);
                        }
                        // A trial counts, even if its plans are known.
                        self.left -= 1;
                        let found = self.judged(region)?;
                        if found.cost < best.cost {
                            *best = found;
                            with = self.joined(best, f, r);
                        }
                    }
                }
            }
            if best.cost == before || self.left == 0 {
                return Ok(());
            }
        }
    }
}

/// Splits the buffers at what no view ties together.
fn families(problem: &Problem) -> Result<Vec<Family>, PlanError> {
    let n = problem.buffers.len();
    let mut parent: Vec<usize> = (0..n).collect();
    fn root(parent: &mut [usize], mut i: usize) -> usize {
        while parent[i] != i {
            parent[i] = parent[parent[i]];
            i = parent[i];
        }
        i
    }
    for alias in &problem.aliases {
        if let Alias::View { part, whole, .. } = *alias {
            let (a, b) = (root(&mut parent, part), root(&mut parent, whole));
            parent[a.max(b)] = a.min(b);
        }
    }
    let mut of_root = vec![usize::MAX; n];
    let mut families: Vec<Family> = Vec::new();
    for i in 0..n {
        let b = &problem.buffers[i];
        let slot = &mut of_root[root(&mut parent, i)];
        if *slot == usize::MAX {
            *slot = families.len();
            families.push(Family {
                buffers: Vec::new(),
                region: None,
                bytes: 0,
                traffic: 0,
                ticks: 0,
                span: Range {
                    start: u32::MAX,
                    end: 0,
                },
            });
        }
        let family = &mut families[*slot];
        if let Some(other) = family.region.filter(|&r| b.region.is_some_and(|own| own != r)) {
            let known = family
                .buffers
                .iter()
                .find(|&&k| problem.buffers[k].region == Some(other));
            return Err(PlanError::RegionsDiffer {
                part: b.id.clone(),
                whole: known.map_or(String::new(), |&k| problem.buffers[k].id.clone()),
            });
        }
        family.region = family.region.or(b.region);
        family.buffers.push(i);
        if b.occupies() {
            family.bytes += u128::from(b.size);
            let span = |f: fn(&Range<u32>) -> u32| b.live.iter().map(f);
            let (from, to) = (span(|r| r.start).min(), span(|r| r.end).max());
            family.span = family.span.start.min(from.unwrap_or(u32::MAX))..family.span.end.max(to.unwrap_or(0));
            family.ticks = family
                .ticks
                .max(to.zip(from).map_or(0, |(to, from)| u128::from(to - from)));
            // Below 2^62 bytes in all, and 2^64 accesses each.
            family.traffic += u128::from(b.size) * u128::from(b.accesses);
        }
    }
    Ok(families)
}
