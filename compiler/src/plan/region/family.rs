//! Families: what must lie in one region.

use std::ops::Range;

use crate::plan::error::PlanError;
use crate::plan::problem::{Alias, Problem};

/// Buffers that views tie together, so that they lie in one region.
pub(super) struct Family {
    /// Ascending.
    pub buffers: Vec<usize>,
    /// Where it must lie.
    pub region: Option<usize>,
    /// Bytes of all buffers that ever hold a byte.
    pub bytes: u128,
    /// Accesses to them.
    pub traffic: u128,
    /// Clock ticks from first to last use.
    pub ticks: u128,
}

impl Family {
    /// Accesses a byte, with 32 bits after the point.
    pub fn density(&self) -> (u128, u128) {
        let bytes = self.bytes.max(1);
        (self.traffic / bytes, ((self.traffic % bytes) << 32) / bytes)
    }

    /// What its accesses cost in a region.
    pub fn cost(&self, region: usize) -> u128 {
        self.traffic.saturating_mul(region as u128)
    }
}

/// Splits the buffers at what no view ties together, in the order of the first of each.
pub(super) fn families(problem: &Problem) -> Result<Vec<Family>, PlanError> {
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
            family.ticks = family
                .ticks
                .max(to.zip(from).map_or(0, |(to, from)| u128::from(to - from)));
            // Below 2^62 bytes in all, and 2^64 accesses each.
            family.traffic += u128::from(b.size) * u128::from(b.accesses);
        }
    }
    Ok(families)
}
