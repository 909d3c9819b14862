//! Regions: which buffer lies in which memory.

mod family;
mod rooms;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::error::PlanError;
use super::load;
use super::problem::{Alias, Choice, Problem, Region};
use super::solve::{Options, Planned, plan_region};
use family::{Family, families};
use rooms::Rooms;

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

/// The region of each buffer.
///
/// Least is first the bytes beyond capacities, then the sum of `size * accesses * region`. Families are taken into the
/// fastest region that has room, in several orders, and exchanged while that helps, all by their loads. What is best then
/// is planned, and what does not fit after all goes to a slower region. Where there are few families, all assignments that
/// could be better are planned.
///
/// A plan in here gets [`share_of`] the search's `nodes`: no more than the plan that is made in the end.
pub(super) fn assign(problem: &Problem, regions: &[Region], nodes: u64) -> Result<Vec<usize>, PlanError> {
    let mut of = vec![0; problem.buffers.len()];
    if regions.len() < 2 {
        return Ok(of);
    }
    let families = families(problem)?;
    let mut free: Vec<usize> = (0..families.len()).filter(|&f| families[f].region.is_none()).collect();
    free.sort_by_key(|&f| (Reverse(families[f].traffic), f));
    let n = problem.buffers.len() + 1;
    let mut memory = Memory {
        problem,
        regions,
        families: &families,
        free: &free,
        nodes: share_of(nodes, regions.len()),
        known: BTreeMap::new(),
        left: (WORK / (n * (1 + n / 200))).max(LEAST_PLANS),
    };
    let mut best: Option<Assignment> = None;
    for (least, found) in memory.promising()? {
        if best.as_ref().is_none_or(|best| least < best.cost) {
            let found = memory.fitted(found)?;
            best = best.filter(|best| best.cost <= found.cost).or(Some(found));
        }
    }
    let Some(mut best) = best else { return Ok(of) };
    if best.cost.0 > 0 {
        let found = memory.simplest()?;
        best = if found.cost < best.cost { found } else { best };
    }
    if free.len() <= FEW {
        let mut partial = memory.fixed();
        memory.search(&free, &mut partial, 0, &mut best)?;
    }
    for (family, &region) in families.iter().zip(&best.region) {
        family.buffers.iter().for_each(|&b| of[b] = region);
    }
    Ok(of)
}

/// Nodes of a plan that decides what lies where; as many are kept back for every region that is still to be planned.
pub(super) fn share_of(nodes: u64, regions: usize) -> u64 {
    (nodes / regions.max(1) as u64).min(Options::default().nodes)
}

/// Families up to which all assignments are looked at.
const FEW: usize = 12;

/// Region plans that are made, in buffers, and at least.
const WORK: usize = 200_000;
const LEAST_PLANS: usize = 8;

/// Families that are sent to a slower region one at a time, since a layout needs more than its load.
const EVICTIONS: usize = 12;

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
    cost: Cost,
}

/// Bytes beyond capacities, then accesses weighted with regions.
type Cost = (u64, u128);

/// What is known of the plan of some families in a region.
#[derive(Clone)]
struct Fit {
    /// Bytes beyond the capacity.
    over: u64,
    /// Where it is exceeded, the families that are live there.
    live: Vec<usize>,
}

struct Memory<'p> {
    problem: &'p Problem,
    regions: &'p [Region],
    families: &'p [Family],
    /// The families that may lie anywhere, those with the most accesses first.
    free: &'p [usize],
    /// For each plan.
    nodes: u64,
    known: BTreeMap<(usize, Vec<usize>), Fit>,
    /// Plans that may still be made.
    left: usize,
}

impl Memory<'_> {
    /// Every family that must lie somewhere in its place; the others nowhere.
    fn fixed(&self) -> Vec<Option<usize>> {
        self.families.iter().map(|f| f.region).collect()
    }

    fn last(&self) -> usize {
        self.regions.len() - 1
    }

    /// How a layout of these families fits into the region; not at all when no more plans may be made.
    fn fit(&mut self, r: usize, inside: Vec<usize>) -> Result<Fit, PlanError> {
        let fits = Fit {
            over: 0,
            live: Vec::new(),
        };
        let Some(capacity) = self.regions[r].capacity else {
            return Ok(fits);
        };
        if let Some(known) = self.known.get(&(r, inside.clone())) {
            return Ok(known.clone());
        }
        if self.left == 0 {
            return Ok(Fit { over: u64::MAX, ..fits });
        }
        self.left -= 1;
        let wanted = self.wanted(&inside);
        let options = Options {
            capacity: Some(capacity),
            nodes: self.nodes,
        };
        let share = share(self.problem, |b| wanted[b]);
        let planned = plan_region(&share.problem, &self.regions[r], &options)?;
        let fit = Fit {
            over: planned.peak.saturating_sub(capacity),
            live: if planned.peak > capacity {
                self.live(&inside, &planned, capacity)
            } else {
                Vec::new()
            },
        };
        self.known.insert((r, inside), fit.clone());
        Ok(fit)
    }

    /// The families that are live where a plan exceeds the capacity.
    fn live(&self, inside: &[usize], planned: &Planned, capacity: u64) -> Vec<usize> {
        let at = planned.short_at(capacity);
        let live = |b: usize| self.problem.buffers[b].live.iter().any(|l| l.contains(&at));
        let there = |f: &usize| self.families[*f].buffers.iter().any(|&b| live(b));
        inside.iter().copied().filter(there).collect()
    }

    /// Which buffers are in these families.
    fn wanted(&self, inside: &[usize]) -> Vec<bool> {
        let mut wanted = vec![false; self.problem.buffers.len()];
        for &f in inside {
            self.families[f].buffers.iter().for_each(|&b| wanted[b] = true);
        }
        wanted
    }

    /// Bytes by which these families exceed the region's capacity at least.
    fn excess(&mut self, r: usize, inside: Vec<usize>) -> Result<u64, PlanError> {
        if let Some(capacity) = self.regions[r].capacity
            && r < self.last()
        {
            // Whether it fits is all that matters of a faster region, and most of what does not is quickly told.
            let wanted = self.wanted(&inside);
            let least = load::least(self.problem, |b| wanted[b]);
            if least > capacity {
                return Ok(least - capacity);
            }
        }
        Ok(self.fit(r, inside)?.over)
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
            let hard = by > 0 && r < self.last();
            over = over.saturating_add(if hard { u64::MAX } else { by });
        }
        let region: Vec<usize> = region.into_iter().map(|r| r.unwrap_or(0)).collect();
        let cost = (over, self.traffic(&region));
        Ok(Assignment { region, cost })
    }

    fn traffic(&self, region: &[usize]) -> u128 {
        let traffic = region.iter().zip(self.families).map(|(&r, f)| f.cost(r));
        traffic.fold(0, u128::saturating_add)
    }

    /// Everything free in the last region.
    fn simplest(&mut self) -> Result<Assignment, PlanError> {
        let last = self.last();
        let region = self.fixed().into_iter().map(|r| r.or(Some(last))).collect();
        self.judged(region)
    }

    /// What each order makes, by loads, with what it costs if its plans need no more than that; the best first.
    fn promising(&self) -> Result<Vec<(Cost, Vec<usize>)>, PlanError> {
        let mut rooms = Rooms::new(self.problem, self.regions, self.families)?;
        let mut found = Vec::new();
        for order in ORDERS {
            self.greedy(&mut rooms, *order);
            self.exchange(&mut rooms);
            let region: Vec<usize> = (0..self.families.len()).map(|f| rooms.region(f).unwrap_or(0)).collect();
            let over = u64::try_from(rooms.over(self.last())).unwrap_or(u64::MAX);
            found.push(((over, self.traffic(&region)), region));
        }
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Region by region, each family that has room, in an order; the last region takes the rest.
    fn greedy(&self, rooms: &mut Rooms, order: Order) {
        rooms.clear();
        for (f, family) in self.families.iter().enumerate() {
            if let Some(r) = family.region {
                rooms.put(f, r);
            }
        }
        let mut free = self.free.to_vec();
        free.sort_by_key(|&f| {
            let (more, less) = order(&self.families[f]);
            (Reverse(more), less, f)
        });
        for r in 0..self.last() {
            free.retain(|&f| !rooms.admit(f, r));
        }
        free.into_iter().for_each(|f| rooms.put(f, self.last()));
    }

    /// Moves families to faster regions, alone or in exchange for one with fewer accesses, while that helps.
    fn exchange(&self, rooms: &mut Rooms) {
        let mut moved = true;
        while moved {
            moved = false;
            for &f in self.free {
                let from = rooms.region(f).unwrap_or(0);
                for r in 0..from {
                    if rooms.work == 0 {
                        return;
                    }
                    if self.moved(rooms, f, r) {
                        moved = true;
                        break;
                    }
                }
            }
        }
    }

    /// Moves a family to a faster region, if there is room or can be made.
    fn moved(&self, rooms: &mut Rooms, f: usize, r: usize) -> bool {
        let (from, last) = (rooms.region(f).unwrap_or(0), self.last());
        let before = rooms.over(last);
        rooms.take(f);
        if rooms.admit(f, r) {
            return true;
        }
        for &g in self.free.iter().rev() {
            let cheaper = self.families[g].traffic < self.families[f].traffic;
            if rooms.region(g) != Some(r) || !(cheaper || before > 0) || !rooms.meet(f, g) || rooms.work == 0 {
                continue;
            }
            rooms.take(g);
            if rooms.admit(f, r) {
                // The last region takes everything, if it helps.
                let room = from == last || rooms.admit(g, from);
                if from == last {
                    rooms.put(g, from);
                }
                let after = rooms.over(last);
                if room && (after < before || after == before && cheaper) {
                    return true;
                }
                rooms.take(g);
                rooms.take(f);
            }
            rooms.put(g, r);
        }
        rooms.put(f, from);
        false
    }

    /// The assignment, planned: what does not fit after all goes to the last region, that with the fewest accesses first.
    fn fitted(&mut self, mut region: Vec<usize>) -> Result<Assignment, PlanError> {
        let last = self.last();
        for r in 0..last {
            for round in 0..=EVICTIONS {
                let inside: Vec<usize> = (0..region.len()).filter(|&f| region[f] == r).collect();
                let fit = self.fit(r, inside)?;
                if fit.over == 0 {
                    break;
                }
                let free = |f: &usize| region[*f] == r && self.families[*f].region.is_none();
                let there: Vec<usize> = fit.live.into_iter().filter(free).collect();
                let enough = |f: &usize| self.families[*f].bytes >= u128::from(fit.over);
                let one = there
                    .iter()
                    .copied()
                    .filter(enough)
                    .min_by_key(|&f| (self.families[f].traffic, f));
                let one = one.or_else(|| {
                    there
                        .iter()
                        .copied()
                        .min_by_key(|&f| (Reverse(self.families[f].bytes), f))
                });
                match one {
                    Some(f) if round < EVICTIONS => region[f] = last,
                    _ => {
                        for &f in self.free.iter() {
                            region[f] = if region[f] == r { last } else { region[f] };
                        }
                    }
                }
            }
        }
        self.judged(region.into_iter().map(Some).collect())
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
}
