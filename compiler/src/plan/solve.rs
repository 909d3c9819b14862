//! The planner: regions, and for each of them aliasings, their bounds, the portfolio, the best of all.
//!
//! [`Search::try_aliasing`] is where a stronger method joins in: it has the items, their bound and the best layout so
//! far, and adds one more candidate.

use std::cmp::Reverse;

use super::alias::Aliasing;
use super::bound::{Bound, lower_bound, pinned_into};
use super::error::PlanError;
use super::exact;
use super::greedy::Portfolio;
use super::item::{Item, round_up};
use super::lifetime;
use super::merge;
use super::problem::{Problem, Region};
use super::region;
use super::solution::{Candidate, Live, RegionPlan, Shortage, Solution, Status};
use super::ticks::{self, Ticks};

/// Places every buffer.
///
/// Gives each buffer a region, then plans region by region: tries the aliasing with the most in-place merges first and
/// the one without any last, each with every greedy order, and stops at the lower bound. The result depends on the problem
/// alone, and not on names or on the order of buffers where they differ in nothing else.
///
/// # Errors
/// [`PlanError`] when the problem contradicts itself. A valid problem always has a layout; where it does not fit into a
/// region's capacity, the best one is returned all the same, with a [`Shortage`].
pub fn solve(problem: &Problem) -> Result<Solution, PlanError> {
    solve_with(problem, &Options::default())
}

/// How hard to try, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Nodes that the exact search may look at; zero leaves it out.
    pub nodes: u64,
    /// In each region, stop at the first layout within this many bytes, instead of looking for the least.
    pub capacity: Option<u64>,
}

impl Default for Options {
    /// A few milliseconds' worth of search.
    fn default() -> Self {
        Self {
            nodes: 2_000,
            capacity: None,
        }
    }
}

/// [`solve`], with a choice of effort and of a capacity to be met. Where no layout within the capacity is found, the
/// best one is returned all the same, and the status says so.
///
/// # Errors
/// As [`solve`].
pub fn solve_with(problem: &Problem, options: &Options) -> Result<Solution, PlanError> {
    problem.check()?;
    let problem = &*lifetime::normal(problem);
    let regions = regions(problem);
    let region = region::assign(problem, &regions, options.nodes)?;
    let mut whole = Solution {
        offsets: vec![0; problem.buffers.len()],
        region,
        regions: Vec::new(),
        peak: 0,
        lower_bound: 0,
        status: Status::Optimal,
        candidates: Vec::new(),
        chosen: 0,
        merged: Vec::new(),
        naive: 0,
        peak_at: 0,
        nodes: 0,
    };
    for (r, region) in regions.iter().enumerate() {
        let share = region::share(problem, |b| whole.region[b] == r);
        // The others get at least as many as there were to decide what lies where.
        let kept = (regions.len() - 1 - r) as u64 * region::share_of(options.nodes, regions.len());
        let left = Options {
            nodes: options.nodes - whole.nodes - kept,
            ..*options
        };
        let planned = plan_region(&share.problem, region, &left)?;
        for (b, offset) in planned.offsets.iter().enumerate() {
            whole.offsets[share.position(b)] = *offset;
        }
        let position = |b| share.position(b);
        let merged = planned.merged.iter().map(|&(dst, src)| (position(dst), position(src)));
        whole.merged.extend(merged);
        let first = whole.candidates.len();
        let named = |c: Candidate| match regions.len() {
            1 => c,
            _ => Candidate {
                name: format!("{}: {}", region.name, c.name),
                ..c
            },
        };
        whole
            .regions
            .push(planned.region_plan(problem, region, r, first, &whole));
        whole.candidates.extend(planned.candidates.into_iter().map(named));
        whole.naive += planned.naive;
        whole.nodes += planned.nodes;
    }
    whole.merged.sort_unstable();
    Ok(total(whole))
}

/// A bound that no layout is below: the most bytes that are live at one time, or what small parts of the problem prove
/// within so many nodes.
///
/// # Errors
/// As [`solve`], except that overlapping pins are not looked for.
pub fn bound(problem: &Problem, nodes: u64) -> Result<u64, PlanError> {
    problem.check()?;
    let problem = &*lifetime::normal(problem);
    let regions = regions(problem);
    let of = region::assign(problem, &regions, Options::default().nodes)?;
    let mut sum = 0;
    for (r, region) in regions.iter().enumerate() {
        let share = region::share(problem, |b| of[b] == r);
        let ticks = ticks::flatten(&share.problem)?;
        let choices = merge::choices(&ticks.problem, &region.reserved)?;
        let proven = choices.aliasings.iter().map(|a| raised(&a.items, nodes)).min();
        let proven = proven.filter(|_| choices.complete).unwrap_or(0);
        sum += proven.max(choices.bound.bytes);
    }
    Ok(sum)
}

/// The bound of the items, raised by at most so many nodes.
fn raised(items: &[Item], nodes: u64) -> u64 {
    let bound = lower_bound(items).bytes;
    if nodes == 0 || items.iter().any(|item| item.reserved) {
        return bound;
    }
    let layout = Portfolio::new(items).ok().and_then(|mut p| p.next(bound));
    layout.map_or(bound, |layout| {
        exact::bound(items, bound, (layout.peak, layout.bases), nodes)
    })
}

/// The regions of a problem, of which there is always one.
fn regions(problem: &Problem) -> Vec<Region> {
    match problem.regions.as_slice() {
        [] => vec![Region::default()],
        regions => regions.to_vec(),
    }
}

/// Fills in what a solution says about all regions together.
pub(super) fn total(mut s: Solution) -> Solution {
    s.peak = s.regions.iter().map(|r| r.peak).sum();
    s.lower_bound = s.regions.iter().map(|r| r.lower_bound).sum();
    let over: u64 = s.regions.iter().map(|r| r.status.over()).sum();
    let any = |status: Status| s.regions.iter().any(|r| r.status == status);
    let feasible = s.regions.iter().any(|r| matches!(r.status, Status::Feasible { .. }));
    s.status = if any(Status::Infeasible) {
        Status::Infeasible
    } else if over > 0 {
        Status::OverBudget { by: over }
    } else if feasible {
        Status::Feasible {
            gap: s.peak - s.lower_bound,
        }
    } else if any(Status::OptimalSearch) {
        Status::OptimalSearch
    } else {
        Status::Optimal
    };
    let fullest = (0..s.regions.len()).max_by_key(|&r| (s.regions[r].peak, Reverse(r)));
    if let Some(region) = fullest.map(|r| &s.regions[r]) {
        (s.chosen, s.peak_at) = (region.chosen, region.peak_at);
    }
    s
}

/// A layout of one region.
pub(super) struct Planned {
    pub offsets: Vec<u64>,
    pub peak: u64,
    lower_bound: u64,
    /// Nothing has a peak below this.
    floor: u64,
    status: Status,
    candidates: Vec<Candidate>,
    chosen: usize,
    merged: Vec<(usize, usize)>,
    naive: u64,
    /// When most bytes are live, and when the highest byte is.
    peak_at: u32,
    top_at: u32,
    nodes: u64,
}

impl Planned {
    /// A clock value at which the plan exceeds a capacity.
    pub(super) fn short_at(&self, capacity: u64) -> u32 {
        if self.lower_bound > capacity {
            self.peak_at
        } else {
            self.top_at
        }
    }

    fn region_plan(&self, problem: &Problem, region: &Region, r: usize, first: usize, whole: &Solution) -> RegionPlan {
        let shortage = region
            .capacity
            .filter(|&capacity| self.peak > capacity)
            .map(|capacity| {
                let at = self.short_at(capacity);
                let inside = problem
                    .buffers
                    .iter()
                    .enumerate()
                    .filter(|&(i, _)| whole.region[i] == r);
                let mut live: Vec<Live> = inside
                    .filter(|(_, b)| b.size > 0 && b.live.iter().any(|l| l.contains(&at)))
                    .map(|(buffer, b)| Live {
                        buffer,
                        id: b.id.clone(),
                        bytes: b.size,
                    })
                    .collect();
                live.sort_by_key(|l| (Reverse(l.bytes), l.buffer));
                Shortage {
                    region: region.name.clone(),
                    capacity,
                    at,
                    live,
                    short: self.peak - capacity,
                    least: self.floor.saturating_sub(capacity),
                }
            });
        RegionPlan {
            name: region.name.clone(),
            peak: self.peak,
            lower_bound: self.lower_bound,
            status: self.status,
            peak_at: self.peak_at,
            candidates: first..first + self.candidates.len(),
            chosen: first + self.chosen,
            shortage,
        }
    }
}

/// Plans a problem that lies in one region.
pub(super) fn plan_region(problem: &Problem, region: &Region, options: &Options) -> Result<Planned, PlanError> {
    let ticks = ticks::flatten(problem)?;
    let merge::Choices {
        aliasings,
        bound,
        complete,
    } = merge::choices(&ticks.problem, &region.reserved)?;
    let mut search = Search {
        options: *options,
        limit: region.capacity,
        bound,
        left: options.nodes,
        floor: u64::MAX,
        ..Search::default()
    };
    for aliasing in &aliasings {
        search.try_aliasing(problem, aliasing)?;
    }
    if !complete {
        // What was not tried may be better than all that was.
        search.floor = search.floor.min(bound.bytes);
    }
    let naive = aliasings.last().map_or(0, |plain| naive(problem, plain));
    Ok(search.finish(problem, &ticks, naive))
}
/// A layout that was found, with what it rests on.
struct Found<'a> {
    aliasing: &'a Aliasing,
    bases: Vec<u64>,
    peak: u64,
    peak_at: u32,
    candidate: usize,
}

#[derive(Default)]
struct Search<'a> {
    candidates: Vec<Candidate>,
    best: Option<Found<'a>>,
    /// Nothing has a lower peak.
    bound: Bound,
    options: Options,
    /// The region's capacity.
    limit: Option<u64>,
    /// Nodes that the exact search may still look at.
    left: u64,
    /// No layout of the aliasings so far has a peak below this.
    floor: u64,
}

impl<'a> Search<'a> {
    fn try_aliasing(&mut self, problem: &Problem, aliasing: &'a Aliasing) -> Result<(), PlanError> {
        let Bound { bytes, at } = lower_bound(&aliasing.items);
        // No layout of this aliasing can beat what was found.
        if self
            .best
            .as_ref()
            .is_some_and(|best| best.peak <= bytes || best.peak <= self.enough())
        {
            self.floor = self.floor.min(bytes);
            return Ok(());
        }
        let id = |item: usize| problem.buffers[aliasing.items[item].members[0].0].id.clone();
        let mut portfolio =
            Portfolio::new(&aliasing.items).map_err(|(a, b)| PlanError::PinsOverlap { a: id(a), b: id(b) })?;
        let prefix = if aliasing.merged.is_empty() { "" } else { "in-place/" };
        let enough = bytes.max(self.enough());
        while let Some(layout) = portfolio.next(enough) {
            let candidate = self.candidates.len();
            self.candidates.push(Candidate {
                name: format!("{prefix}{}", layout.name),
                peak: layout.peak,
            });
            if self.best.as_ref().is_none_or(|best| layout.peak < best.peak) {
                let (peak, bases) = (layout.peak, layout.bases);
                self.best = Some(Found {
                    aliasing,
                    bases,
                    peak,
                    peak_at: at,
                    candidate,
                });
                if peak <= enough {
                    break;
                }
            }
        }
        let floor = self.improve(aliasing, bytes, at, prefix);
        self.floor = self.floor.min(floor);
        Ok(())
    }

    /// A peak that needs no improvement.
    fn enough(&self) -> u64 {
        self.options.capacity.unwrap_or(0)
    }

    /// Searches below the best layout, if it belongs to this aliasing. Returns a bound for this aliasing.
    ///
    /// Reserved ranges cut the addresses into storeys. A layout lies in the storey its peak is in, where those below are
    /// walls and those above do not matter; storeys are searched from the ground up, each after the one below is refuted.
    fn improve(&mut self, aliasing: &'a Aliasing, bound: u64, at: u32, prefix: &str) -> u64 {
        let items = &aliasing.items;
        if self
            .best
            .as_ref()
            .is_none_or(|best| !std::ptr::eq(best.aliasing, aliasing))
            || items.iter().any(|wall| wall.reserved && pinned_into(items, wall))
        {
            return bound;
        }
        let free = items.iter().filter(|item| !item.reserved).count();
        let wanted = self.options.capacity.or(self.limit);
        let mut floor = bound;
        for storey in free..=items.len() {
            // Where this storey ends, and where the next begins.
            let wall = items.get(storey).map(|item| item.pinned.unwrap_or(0));
            let room = wall.unwrap_or(u64::MAX);
            let above = wall.map_or(0, |start| start + items[storey].extent() + 1);
            if room < floor {
                floor = floor.max(above);
                continue;
            }
            // A capacity comes first: whether it can be met matters more than how far below it the least peak is.
            for goal in [wanted.filter(|&w| w < room), wall] {
                let found = match goal {
                    Some(goal) if floor <= goal => self.search(&items[..storey], Some(goal), floor, at, prefix),
                    _ => continue,
                };
                floor = floor.max(found);
            }
            if floor > room {
                floor = floor.max(above);
            } else if self.options.capacity.is_some() || self.best.as_ref().is_none_or(|best| best.peak > room) {
                return floor;
            } else {
                return floor.max(self.search(&items[..storey], None, floor, at, prefix));
            }
        }
        floor
    }

    /// Searches for a layout within `goal`, or for the least. Returns a bound, as far as one was proven.
    fn search(&mut self, items: &[Item], goal: Option<u64>, floor: u64, at: u32, prefix: &str) -> u64 {
        let Some(best) = self.best.as_mut() else { return 0 };
        if self.left == 0 || best.peak <= floor.max(goal.unwrap_or(0)) {
            return 0;
        }
        let incumbent = (best.peak, &best.bases[..items.len()]);
        let found = match goal {
            Some(capacity) => exact::decide(items, capacity, incumbent, &mut self.left),
            None => exact::minimise(items, floor, incumbent, &mut self.left),
        };
        if let Some((peak, bases)) = found.better {
            best.bases[..items.len()].copy_from_slice(&bases);
            (best.peak, best.peak_at) = (peak, at);
            best.candidate = self.candidates.len();
            let name = format!("{prefix}search");
            self.candidates.push(Candidate { name, peak });
        }
        found.floor
    }

    fn finish(self, problem: &Problem, ticks: &Ticks<'_>, naive: u64) -> Planned {
        let mut planned = Planned {
            offsets: vec![0; problem.buffers.len()],
            peak: 0,
            lower_bound: self.bound.bytes,
            floor: 0,
            status: Status::Optimal,
            candidates: self.candidates,
            chosen: 0,
            merged: Vec::new(),
            naive,
            peak_at: 0,
            top_at: 0,
            nodes: self.options.nodes - self.left,
        };
        if let Some(best) = self.best {
            let mut top = (0, Reverse(0));
            for (item, base) in best.aliasing.items.iter().zip(&best.bases) {
                for &(buffer, distance) in &item.members {
                    planned.offsets[buffer] = base + distance;
                }
                let ends = item.rects.iter().filter(|_| !item.reserved);
                top = ends.map(|r| (base + r.end, Reverse(r.lo))).fold(top, Ord::max);
            }
            (planned.peak, planned.chosen) = (best.peak, best.candidate);
            (planned.peak_at, planned.top_at) = (ticks.clock(best.peak_at), ticks.clock(top.1.0));
            planned.merged = best.aliasing.merged.iter().map(|&(dst, src, _)| (dst, src)).collect();
        }
        let (peak, lower_bound) = (planned.peak, planned.lower_bound);
        if self.floor != u64::MAX {
            planned.floor = self.floor;
        }
        let capacity = [self.options.capacity, self.limit].into_iter().flatten().min();
        planned.status = match (capacity, peak - lower_bound) {
            (Some(capacity), _) if planned.floor > capacity => Status::Infeasible,
            (Some(capacity), _) if peak > capacity => Status::OverBudget { by: peak - capacity },
            (_, 0) => Status::Optimal,
            _ if peak <= planned.floor => Status::OptimalSearch,
            (_, gap) => Status::Feasible { gap },
        };
        if let Status::Feasible { gap } = &mut planned.status {
            planned.lower_bound = lower_bound.max(planned.floor);
            *gap = peak - planned.lower_bound;
        }
        planned
    }
}

/// Bytes when nothing is reused: the items of the aliasing without in-place merges, one after another.
fn naive(problem: &Problem, plain: &Aliasing) -> u64 {
    let extent = |members: &[(usize, u64)]| {
        members
            .iter()
            .map(|&(i, d)| d + problem.buffers[i].size)
            .max()
            .unwrap_or(0)
    };
    let items = plain.items.iter().filter(|item| !item.reserved);
    items.map(|item| round_up(extent(&item.members), item.align)).sum()
}
