//! Rehoming: of all assignments to regions that cost no more, one near regions that are preferred, such as those of the
//! plan before an edit.
//!
//! Two families with equal traffic exchange their regions, or one without traffic moves. What results is planned anew
//! and kept if no region grows; many exchanges are tried at once, and by halves where not all of them can be had.

use std::collections::BTreeMap;

use super::problem::{Alias, Problem};
use super::settle::root;
use super::solution::Solution;
use super::solve::solve;
use super::verify::verify;

/// Plans that are made at most.
const PLANS: usize = 64;

/// A layout with the buffers in the `preferred` regions (one a buffer, `None` where there is none) as far as that was
/// found at the same cost: the sum of `size * accesses * region` is no larger, and neither is any region's peak.
/// `solution` comes back when nothing better was found.
///
/// Deterministic, and a fixed point: a layout that has all its preferences is returned as it is.
pub fn rehome(problem: &Problem, solution: Solution, preferred: &[Option<usize>]) -> Solution {
    let families = families(problem, &solution, preferred);
    let wishes: Vec<Exchange> = (families.iter())
        .filter_map(|f| Some((f, f.wish.filter(|w| *w != f.region)?)))
        .map(|(f, wish)| vec![(f.first, wish)])
        .collect();
    if wishes.is_empty() {
        return solution;
    }
    let mut rehoming = Rehoming {
        problem,
        families: &families,
        best: solution,
        left: PLANS,
    };
    if !rehoming.take(&wishes) {
        rehoming.admit(&exchanges(&families));
    }
    rehoming.best
}

/// Buffers that views tie together.
struct Family {
    /// The first of them, which names the family.
    first: usize,
    buffers: Vec<usize>,
    region: usize,
    wish: Option<usize>,
    traffic: u128,
}

/// Families by their first buffer, each with its new region; the cost stays as it is.
type Exchange = Vec<(usize, usize)>;

/// The families that may be anywhere.
fn families(problem: &Problem, solution: &Solution, preferred: &[Option<usize>]) -> Vec<Family> {
    let mut parent: Vec<usize> = (0..problem.buffers.len()).collect();
    for alias in &problem.aliases {
        if let Alias::View { part, whole, .. } = *alias {
            let (a, b) = (root(&mut parent, part), root(&mut parent, whole));
            parent[a.max(b)] = a.min(b);
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for b in 0..parent.len() {
        groups.entry(root(&mut parent, b)).or_default().push(b);
    }
    let free = |buffers: &Vec<usize>| buffers.iter().all(|&b| problem.buffers[b].region.is_none());
    let family = |(first, buffers): (usize, Vec<usize>)| {
        let mut wishes = buffers.iter().filter_map(|&b| preferred.get(b).copied().flatten());
        let wish = wishes.next().filter(|wish| wishes.all(|other| other == *wish));
        let held = buffers.iter().map(|&b| &problem.buffers[b]).filter(|b| b.occupies());
        Family {
            first,
            region: solution.region[first],
            wish: wish.filter(|&r| r < solution.regions.len()),
            traffic: held.map(|b| u128::from(b.size) * u128::from(b.accesses)).sum(),
            buffers,
        }
    };
    groups.into_iter().filter(|(_, b)| free(b)).map(family).collect()
}

/// What brings a family to the region it prefers without any cost: alone if nobody touches it, or against one with as
/// much traffic that does not prefer to stay.
fn exchanges(families: &[Family]) -> Vec<Exchange> {
    let mut taken = vec![false; families.len()];
    let mut list = Vec::new();
    for (i, f) in families.iter().enumerate() {
        let Some(wish) = f.wish.filter(|w| *w != f.region && !taken[i]) else {
            continue;
        };
        if f.traffic == 0 {
            list.push(vec![(f.first, wish)]);
            continue;
        }
        let ready = |g: &Family| g.region == wish && g.traffic == f.traffic && g.wish != Some(wish);
        let others = (0..families.len()).filter(|&j| !taken[j] && ready(&families[j]));
        // One that wants to go where this one is comes first.
        if let Some(j) = others.min_by_key(|&j| (families[j].wish != Some(f.region), j)) {
            (taken[i], taken[j]) = (true, true);
            list.push(vec![(f.first, wish), (families[j].first, f.region)]);
        }
    }
    list
}

struct Rehoming<'p> {
    problem: &'p Problem,
    families: &'p [Family],
    best: Solution,
    /// Plans that may still be made.
    left: usize,
}

impl Rehoming<'_> {
    /// Makes as many of the exchanges as can be had.
    fn admit(&mut self, exchanges: &[Exchange]) {
        if exchanges.is_empty() || self.take(exchanges) || exchanges.len() == 1 {
            return;
        }
        let (first, second) = exchanges.split_at(exchanges.len() / 2);
        self.admit(first);
        self.admit(second);
    }

    /// Makes all of the exchanges, if they cost nothing and no region grows.
    fn take(&mut self, exchanges: &[Exchange]) -> bool {
        let moved: BTreeMap<usize, usize> = exchanges.iter().flatten().copied().collect();
        let mut region = self.best.region.clone();
        let (mut before, mut after) = (0u128, 0u128);
        for family in self.families {
            let old = region[family.first];
            let new = moved.get(&family.first).copied().unwrap_or(old);
            family.buffers.iter().for_each(|&b| region[b] = new);
            before = before.saturating_add(family.traffic.saturating_mul(old as u128));
            after = after.saturating_add(family.traffic.saturating_mul(new as u128));
        }
        if after > before || self.left == 0 {
            return false;
        }
        self.left -= 1;
        let mut assigned = self.problem.clone();
        for (buffer, region) in assigned.buffers.iter_mut().zip(&region) {
            buffer.region = Some(*region);
        }
        let Ok(found) = solve(&assigned) else { return false };
        let mut peaks = found.regions.iter().zip(&self.best.regions);
        let fits = peaks.all(|(new, old)| new.peak <= old.peak) && verify(self.problem, &found).is_empty();
        if fits {
            self.best = found;
        }
        fits
    }
}
