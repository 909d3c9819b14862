//! The planner: aliasings, their bounds, the portfolio, the best of all.
//!
//! [`Search::try_aliasing`] is where a stronger method joins in: it has the items, their bound and the best layout so
//! far, and adds one more candidate.

use super::alias::{self, Aliasing};
use super::bound::{Bound, lower_bound};
use super::exact;
use super::greedy::Portfolio;
use super::item::round_up;
use super::problem::{Candidate, PlanError, Problem, Solution, Status};

/// Places every buffer.
///
/// Tries the aliasing with the most in-place merges first and the one without any last, each with every greedy order,
/// and stops at the lower bound. The result depends on the problem alone, and not on names or on the order of buffers
/// where they differ in nothing else.
///
/// # Errors
/// [`PlanError`] when the problem contradicts itself. A valid problem always has a layout: nothing limits its size.
pub fn solve(problem: &Problem) -> Result<Solution, PlanError> {
    solve_with(problem, &Options::default())
}

/// How hard to try, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Nodes that the exact search may look at; zero leaves it out.
    pub nodes: u64,
    /// Stop at the first layout within this many bytes, instead of looking for the least.
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
    let aliasings = alias::choices(problem)?;
    let mut search = Search {
        options: *options,
        left: options.nodes,
        floor: u64::MAX,
        ..Search::default()
    };
    for aliasing in &aliasings {
        search.try_aliasing(problem, aliasing)?;
    }
    let naive = aliasings.last().map_or(0, |plain| naive(problem, plain));
    Ok(search.finish(problem, naive))
}

/// The most bytes that are live at one time, as [`Solution::lower_bound`], without making a layout.
///
/// # Errors
/// As [`solve`], except that overlapping pins are not looked for.
pub fn bound(problem: &Problem) -> Result<u64, PlanError> {
    problem.check()?;
    let bounds = alias::choices(problem)?;
    Ok(bounds.iter().map(|a| lower_bound(&a.items).bytes).min().unwrap_or(0))
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
    bound: Option<u64>,
    options: Options,
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
        let bound = self.bound.map_or(bytes, |b| b.min(bytes));
        self.bound = Some(bound);
        let id = |item: usize| problem.buffers[aliasing.items[item].members[0].0].id.clone();
        let portfolio =
            Portfolio::new(&aliasing.items).map_err(|(a, b)| PlanError::PinsOverlap { a: id(a), b: id(b) })?;
        let prefix = if aliasing.merged.is_empty() { "" } else { "in-place/" };
        for layout in portfolio {
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
                if peak <= bound.max(self.enough()) {
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
    fn improve(&mut self, aliasing: &'a Aliasing, bound: u64, at: u32, prefix: &str) -> u64 {
        let Some(best) = self.best.as_mut().filter(|best| std::ptr::eq(best.aliasing, aliasing)) else {
            return bound;
        };
        let incumbent = (best.peak, best.bases.as_slice());
        let found = match self.options.capacity {
            _ if self.left == 0 || best.peak <= bound => return bound,
            Some(capacity) if best.peak <= capacity || bound > capacity => return bound,
            Some(capacity) => exact::decide(&aliasing.items, capacity, incumbent, &mut self.left),
            None => exact::minimise(&aliasing.items, bound, incumbent, &mut self.left),
        };
        if let Some((peak, bases)) = found.better {
            (best.peak, best.bases, best.peak_at) = (peak, bases, at);
            best.candidate = self.candidates.len();
            let name = format!("{prefix}search");
            self.candidates.push(Candidate { name, peak });
        }
        found.floor.max(bound)
    }

    fn finish(self, problem: &Problem, naive: u64) -> Solution {
        let mut offsets = vec![0; problem.buffers.len()];
        let lower_bound = self.bound.unwrap_or(0);
        let (mut peak, mut peak_at, mut chosen, mut merged) = (0, 0, 0, Vec::new());
        if let Some(best) = self.best {
            for (item, base) in best.aliasing.items.iter().zip(&best.bases) {
                for &(buffer, distance) in &item.members {
                    offsets[buffer] = base + distance;
                }
            }
            (peak, peak_at, chosen) = (best.peak, best.peak_at, best.candidate);
            merged.clone_from(&best.aliasing.merged);
        }
        let status = match (self.options.capacity, peak - lower_bound) {
            (Some(capacity), _) if self.floor != u64::MAX && self.floor > capacity => Status::Infeasible,
            (Some(capacity), _) if peak > capacity => Status::OverBudget { by: peak - capacity },
            (_, 0) => Status::Optimal,
            _ if peak <= self.floor => Status::OptimalSearch,
            (_, gap) => Status::Feasible { gap },
        };
        Solution {
            offsets,
            peak,
            lower_bound,
            status,
            candidates: self.candidates,
            chosen,
            merged,
            naive,
            peak_at,
            nodes: self.options.nodes - self.left,
        }
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
    plain
        .items
        .iter()
        .map(|item| round_up(extent(&item.members), item.align))
        .sum()
}
