//! Regions: which buffer lies in which memory.

use std::borrow::Cow;
use std::cmp::Reverse;

use super::error::PlanError;
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
}

impl Family {
    /// Accesses a byte, with 32 bits after the point.
    fn density(&self) -> (u128, u128) {
        let bytes = self.bytes.max(1);
        (self.traffic / bytes, ((self.traffic % bytes) << 32) / bytes)
    }
}

/// The region of each buffer.
pub(super) fn assign(problem: &Problem, regions: &[Region]) -> Result<Vec<usize>, PlanError> {
    let mut of = vec![0; problem.buffers.len()];
    let Some(last) = regions.len().checked_sub(1).filter(|&last| last > 0) else {
        return Ok(of);
    };
    let (fixed, mut free): (Vec<Family>, Vec<Family>) =
        families(problem)?.into_iter().partition(|f| f.region.is_some());
    // Accesses a byte, the most first; of equals the smaller one, which leaves more room.
    free.sort_by(|a, b| (Reverse(a.density()), a.bytes, &a.buffers).cmp(&(Reverse(b.density()), b.bytes, &b.buffers)));
    let mut free: Vec<&Family> = free.iter().collect();
    for (r, region) in regions.iter().enumerate().take(last) {
        let mut taken: Vec<&Family> = fixed.iter().filter(|f| f.region == Some(r)).collect();
        let mut refused = Vec::new();
        admit(problem, region, &mut taken, &free, &mut refused)?;
        for f in taken {
            f.buffers.iter().for_each(|&b| of[b] = r);
        }
        free = refused;
    }
    for f in free.into_iter().chain(fixed.iter().filter(|f| f.region == Some(last))) {
        f.buffers.iter().for_each(|&b| of[b] = last);
    }
    Ok(of)
}

/// Takes the families one after another, each if it fits with what was taken before. Those that fit all at once are not
/// looked at one by one.
fn admit<'f>(
    problem: &Problem,
    region: &Region,
    taken: &mut Vec<&'f Family>,
    list: &[&'f Family],
    refused: &mut Vec<&'f Family>,
) -> Result<(), PlanError> {
    if list.is_empty() {
        return Ok(());
    }
    taken.extend(list);
    if fits(problem, region, taken)? {
        return Ok(());
    }
    taken.truncate(taken.len() - list.len());
    if let [only] = list {
        refused.push(only);
        return Ok(());
    }
    let (first, second) = list.split_at(list.len() / 2);
    admit(problem, region, taken, first, refused)?;
    admit(problem, region, taken, second, refused)
}

/// Whether a layout within the region's capacity is found.
fn fits(problem: &Problem, region: &Region, families: &[&Family]) -> Result<bool, PlanError> {
    let Some(capacity) = region.capacity else {
        return Ok(true);
    };
    let mut inside = vec![false; problem.buffers.len()];
    for f in families {
        f.buffers.iter().for_each(|&b| inside[b] = true);
    }
    let options = Options {
        capacity: Some(capacity),
        ..Options::default()
    };
    let share = share(problem, |b| inside[b]);
    Ok(plan_region(&share.problem, region, &options)?.peak <= capacity)
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
            // Below 2^62 bytes in all, and 2^64 accesses each.
            family.traffic += u128::from(b.size) * u128::from(b.accesses);
        }
    }
    Ok(families)
}
