//! Settling: of all layouts that need no more bytes, one near offsets that are preferred, such as those of the plan
//! before an edit.
//!
//! Preferences that can hold together are tried as pins, under the peak that was found without them; a pin that is in
//! the way of a buffer that does not fit any more is released, and the rest tried again. Pins are all that this adds to
//! the planner: whatever it knows of aliases and capacities holds here too.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::error::PlanError;
use super::problem::{Alias, Buffer, Problem, Region};
use super::solution::{Candidate, Solution, Status};
use super::solve::{Options, solve_with, total};
use super::verify::verify;

/// How often pins are released before the layout is left as it is.
const ROUNDS: usize = 32;

/// Nodes of search in each round.
const NODES: u64 = 500;

/// A layout with the same problem's `preferred` offsets (one a buffer, `None` where there is none) in as many places
/// as were found, and never a larger peak. `solution` comes back when nothing better was found.
///
/// Deterministic, and a fixed point: a layout that has all its preferences is returned as it is.
pub fn settle(problem: &Problem, solution: Solution, preferred: &[Option<u64>]) -> Solution {
    let preferred = possible(problem, &solution, preferred);
    let before = kept(&solution.offsets, &preferred);
    let mut wishes = wishes(problem, &solution, preferred.clone());
    for _ in 0..ROUNDS {
        if wishes.iter().flatten().count() <= before {
            return solution;
        }
        let release = match near(problem, &solution, &wishes) {
            Ok(found) if grows_nowhere(&found, &solution) => {
                let better = kept(&found.offsets, &preferred) > before && verify(problem, &found).is_empty();
                return if better { found } else { solution };
            }
            Ok(found) => in_the_way(problem, &wishes, &found, &solution),
            Err(error) => named(problem, &wishes, &error),
        };
        if release.is_empty() {
            return solution;
        }
        for i in release {
            wishes[i] = None;
        }
    }
    solution
}

/// Whether no region needs more bytes than before.
fn grows_nowhere(found: &Solution, solution: &Solution) -> bool {
    let mut regions = found.regions.iter().zip(&solution.regions);
    regions.all(|(new, old)| new.peak <= old.peak)
}

/// Buffers that are where they are preferred to be.
fn kept(offsets: &[u64], preferred: &[Option<u64>]) -> usize {
    let pairs = offsets.iter().zip(preferred);
    pairs.filter(|(offset, wish)| **wish == Some(**offset)).count()
}

/// The preferences that can hold, each by itself.
fn possible(problem: &Problem, solution: &Solution, preferred: &[Option<u64>]) -> Vec<Option<u64>> {
    let possible = |(i, b): (usize, &Buffer)| {
        let wish = preferred.get(i).copied().flatten()?;
        let peak = solution.regions[solution.region[i]].peak;
        let fits = wish.checked_add(b.size).is_some_and(|end| end <= peak);
        let free = b.pinned.is_none() && b.occupies() && wish % b.align == 0;
        (fits && free).then_some(wish)
    };
    problem.buffers.iter().enumerate().map(possible).collect()
}

/// The preferences that can hold together, as far as that is seen from pairs.
fn wishes(problem: &Problem, solution: &Solution, mut wishes: Vec<Option<u64>>) -> Vec<Option<u64>> {
    agree(&mut wishes, solution);
    let families = families(problem);
    let clash = |(a, x): (usize, u64), (b, y): (usize, u64)| {
        let (p, q) = (&problem.buffers[a], &problem.buffers[b]);
        let meet = solution.region[a] == solution.region[b] && x < y + q.size && y < x + p.size;
        meet && !families.share((a, x), (b, y)) && live_together(p, q)
    };
    let pins = problem.buffers.iter().enumerate();
    let pins: Vec<(usize, u64)> = pins.filter_map(|(i, b)| b.pinned.map(|pin| (i, pin))).collect();
    for (i, wish) in wishes.iter_mut().enumerate() {
        *wish = wish.filter(|at| !pins.iter().any(|pin| clash((i, *at), *pin)));
    }
    let placed: Vec<(usize, u64)> = wishes
        .iter()
        .enumerate()
        .filter_map(|(i, w)| Some((i, (*w)?)))
        .collect();
    let mut rivals: Vec<Vec<usize>> = vec![Vec::new(); wishes.len()];
    for (n, a) in placed.iter().enumerate() {
        for b in placed[..n].iter().filter(|b| clash(*a, **b)) {
            rivals[a.0].push(b.0);
            rivals[b.0].push(a.0);
        }
    }
    // Whoever is in the way of most others gives way; of equals the smaller, which fits elsewhere more easily.
    loop {
        let count = |i: usize| rivals[i].iter().filter(|r| wishes[**r].is_some()).count();
        let contested = (0..wishes.len()).filter(|i| wishes[*i].is_some() && count(*i) > 0);
        let Some(worst) = contested.max_by_key(|&i| (count(i), Reverse(problem.buffers[i].size), i)) else {
            return wishes;
        };
        wishes[worst] = None;
    }
}

/// Buffers that are merged in place move together: by the distance that most of them prefer, the least of equals.
fn agree(wishes: &mut [Option<u64>], solution: &Solution) {
    let mut parent: Vec<usize> = (0..wishes.len()).collect();
    for &(dst, src) in &solution.merged {
        let (a, b) = (root(&mut parent, dst), root(&mut parent, src));
        parent[a] = b;
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for i in 0..wishes.len() {
        groups.entry(root(&mut parent, i)).or_default().push(i);
    }
    for members in groups.values().filter(|m| m.len() > 1) {
        let shift = |i: usize| wishes[i].map(|wish| i128::from(wish) - i128::from(solution.offsets[i]));
        let shifts: Vec<i128> = members.iter().filter_map(|&i| shift(i)).collect();
        let votes = |s: i128| shifts.iter().filter(|other| **other == s).count();
        let elected = shifts.iter().copied().max_by_key(|&s| (votes(s), Reverse(s)));
        let outvoted: Vec<usize> = members.iter().copied().filter(|&i| shift(i) != elected).collect();
        for i in outvoted {
            wishes[i] = None;
        }
    }
}

pub(super) fn root(parent: &mut [usize], mut i: usize) -> usize {
    while parent[i] != i {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    i
}

/// Who may share bytes while both are live.
struct Families {
    /// Everything tied together by views.
    family: Vec<usize>,
    /// `(dst, src, offset(dst) - offset(src))`.
    in_place: BTreeSet<(usize, usize, i64)>,
}

fn families(problem: &Problem) -> Families {
    let mut parent: Vec<usize> = (0..problem.buffers.len()).collect();
    let mut in_place = BTreeSet::new();
    for alias in &problem.aliases {
        match *alias {
            Alias::InPlace { dst, src, delta } => drop(in_place.insert((dst, src, delta))),
            Alias::View { part, whole, .. } => {
                let (a, b) = (root(&mut parent, part), root(&mut parent, whole));
                parent[a] = b;
            }
        }
    }
    let family = (0..parent.len()).map(|i| root(&mut parent, i)).collect();
    Families { family, in_place }
}

impl Families {
    fn share(&self, (a, x): (usize, u64), (b, y): (usize, u64)) -> bool {
        // Offsets are below 2^62.
        let delta = x as i64 - y as i64;
        let declared = self.in_place.contains(&(a, b, delta)) || self.in_place.contains(&(b, a, -delta));
        declared || self.family[a] == self.family[b]
    }
}

fn live_together(a: &Buffer, b: &Buffer) -> bool {
    let meet = |x: &Range<u32>, y: &Range<u32>| x.start.max(y.start) < x.end.min(y.end);
    a.live.iter().any(|x| b.live.iter().any(|y| meet(x, y)))
}

/// A layout with the wishes as pins: within the peak of `solution` if one was found.
fn near(problem: &Problem, solution: &Solution, wishes: &[Option<u64>]) -> Result<Solution, PlanError> {
    let mut pinned = problem.clone();
    for (i, b) in pinned.buffers.iter_mut().enumerate() {
        b.pinned = b.pinned.or(wishes[i]);
        b.region = Some(solution.region[i]);
    }
    if pinned.regions.is_empty() {
        pinned.regions.push(Region::default());
    }
    let options = Options {
        nodes: NODES,
        // Of several regions each has a peak of its own.
        capacity: (pinned.regions.len() == 1).then_some(solution.peak),
    };
    let found = solve_with(&pinned, &options)?;
    let mut near = Solution {
        offsets: found.offsets,
        merged: found.merged,
        // Nodes are what the peak took to find, whatever is near: a plan that is its own hint stays as it is.
        nodes: solution.nodes,
        candidates: Vec::new(),
        ..solution.clone()
    };
    for (plan, pinned) in near.regions.iter_mut().zip(&found.regions) {
        let first = near.candidates.len();
        near.candidates
            .extend_from_slice(&solution.candidates[plan.candidates.clone()]);
        near.candidates.push(Candidate {
            name: "hint".to_owned(),
            peak: pinned.peak,
        });
        (plan.candidates, plan.chosen) = (first..near.candidates.len(), near.candidates.len() - 1);
        // The bounds stay: those of the pinned problem are none of the problem itself.
        plan.status = match pinned.peak.saturating_sub(plan.lower_bound) {
            _ if pinned.peak == plan.peak => plan.status,
            0 => Status::Optimal,
            gap => Status::Feasible { gap },
        };
        plan.peak = pinned.peak;
    }
    Ok(total(near))
}

/// The wishes to give up for the buffers that end above `peak`: for each, those in the place that costs fewest.
fn in_the_way(problem: &Problem, wishes: &[Option<u64>], found: &Solution, solution: &Solution) -> Vec<usize> {
    let buffers = &problem.buffers;
    let peak = |i: usize| solution.regions[solution.region[i]].peak;
    let over = |i: &usize| buffers[*i].occupies() && found.offsets[*i] + buffers[*i].size > peak(*i);
    let mut release = Vec::new();
    for u in (0..buffers.len()).filter(over) {
        let (size, peak) = (buffers[u].size, peak(u));
        // Pins of the problem itself stay; wishes may go.
        let beside = |j: usize| j != u && solution.region[j] == solution.region[u];
        let near = (0..buffers.len()).filter(|&j| beside(j) && live_together(&buffers[u], &buffers[j]));
        let fixed: Vec<(usize, u64)> = near
            .filter_map(|j| wishes[j].or(buffers[j].pinned).map(|at| (j, at)))
            .collect();
        let inside = |start: u64| -> Option<Vec<usize>> {
            let meets = |&&(j, at): &&(usize, u64)| at < start + size && start < at + buffers[j].size;
            let inside = fixed.iter().filter(meets).map(|&(j, _)| j);
            let inside: Vec<usize> = inside.collect();
            (start + size <= peak && inside.iter().all(|&j| wishes[j].is_some())).then_some(inside)
        };
        let ends = fixed
            .iter()
            .map(|&(j, at)| (at + buffers[j].size).next_multiple_of(buffers[u].align));
        let places = std::iter::once(0).chain(ends);
        let best = places
            .filter_map(|start| inside(start).map(|list| (list.len(), start, list)))
            .min();
        match best {
            Some((1.., _, list)) => release.extend(list),
            // Room there was, and a buffer without a wish took it: the smallest wish nearby makes more.
            _ => {
                let wished = fixed.iter().map(|&(j, _)| j).filter(|&j| wishes[j].is_some());
                release.extend(wished.min_by_key(|&j| (buffers[j].size, j)));
            }
        }
    }
    release.sort_unstable();
    release.dedup();
    release
}

/// The wish that an error is about: of two, the smaller buffer's.
fn named(problem: &Problem, wishes: &[Option<u64>], error: &PlanError) -> Vec<usize> {
    let ids: Vec<&String> = match error {
        PlanError::BadPin { id, .. } | PlanError::PinReserved { id, .. } => vec![id],
        PlanError::PinsOverlap { a, b } => vec![a, b],
        PlanError::ViewMisplaced { part, whole } => vec![part, whole],
        _ => Vec::new(),
    };
    let about = |(i, b): (usize, &Buffer)| (wishes[i].is_some() && ids.contains(&&b.id)).then_some((b.size, i));
    let smallest = problem.buffers.iter().enumerate().filter_map(about).min();
    smallest.map(|(_, i)| i).into_iter().collect()
}
