//! Bytes that families need over time in each region: quick to tell and to change, so that an assignment is planned only
//! when it is nearly good.
//!
//! Loads are an estimate. In-place merges save what they save when all buffers are planned together, and a layout can need
//! more than its load. So what fits here still has to be planned.

use std::ops::Range;

use super::family::Family;
use crate::plan::bound::profile;
use crate::plan::error::PlanError;
use crate::plan::merge;
use crate::plan::problem::{Problem, Region};
use crate::plan::ticks;

/// Bytes over a range of sections of time.
type Run = (Range<usize>, i128);

/// What each family needs, and what is taken of each region.
pub(super) struct Rooms {
    /// Of each family.
    needs: Vec<Vec<Run>>,
    /// What it needs less while another family is in the same region.
    saves: Vec<Vec<(usize, Run)>>,
    /// Bytes of each region; none means without end.
    room: Vec<Option<i128>>,
    /// Taken of each region in each section.
    taken: Vec<Vec<i128>>,
    /// The region of each family.
    at: Vec<Option<usize>>,
    /// Sections that may still be looked at.
    pub work: usize,
}

/// Sections that are looked at: some tens of milliseconds.
const WORK: usize = 30_000_000;

impl Rooms {
    /// All regions empty.
    pub fn new(problem: &Problem, regions: &[Region], families: &[Family]) -> Result<Self, PlanError> {
        let room = |region: &Region| {
            let capacity = region.capacity?;
            let lost = region
                .reserved
                .iter()
                .map(|r| r.start.min(capacity)..r.end.min(capacity));
            // Ranges may overlap, so that this is too little only where they do.
            let lost: u64 = lost.map(|r| r.end - r.start).fold(0, u64::saturating_add);
            Some(i128::from(capacity) - i128::from(lost))
        };
        let mut rooms = Self {
            needs: vec![Vec::new(); families.len()],
            saves: vec![Vec::new(); families.len()],
            room: regions.iter().map(room).collect(),
            taken: vec![Vec::new(); regions.len()],
            at: vec![None; families.len()],
            work: WORK,
        };
        // What has too many branches to be said in ticks has to be planned to be known.
        let Ok(ticks) = ticks::flatten(problem) else {
            return Ok(rooms);
        };
        let aliasings = merge::choices(&ticks.problem, &[])?.aliasings;
        let (Some(best), Some(plain)) = (aliasings.first(), aliasings.last()) else {
            return Ok(rooms);
        };
        let mut times: Vec<u32> = (plain.items.iter().flat_map(|i| &i.rects))
            .flat_map(|r| [r.lo, r.hi])
            .collect();
        times.sort_unstable();
        times.dedup();
        let section = |t: u32| times.partition_point(|&x| x < t);
        // Without merges, items are families: both are in the order of their first buffers.
        for (needs, item) in rooms.needs.iter_mut().zip(&plain.items) {
            let changes = profile(std::slice::from_ref(item));
            let run = |w: &[(u32, u64)]| (section(w[0].0)..section(w[1].0), i128::from(w[0].1));
            needs.extend(changes.windows(2).map(run).filter(|run| run.1 > 0));
        }
        let mut of = vec![0; problem.buffers.len()];
        for (f, family) in families.iter().enumerate() {
            family.buffers.iter().for_each(|&b| of[b] = f);
        }
        let buffers = &ticks.problem.buffers;
        for &(dst, src, _) in &best.merged {
            let bytes = i128::from(buffers[dst].size.min(buffers[src].size));
            for x in &buffers[dst].live {
                for y in &buffers[src].live {
                    let both = section(x.start.max(y.start))..section(x.end.min(y.end));
                    if !both.is_empty() {
                        rooms.saves[of[dst]].push((of[src], (both.clone(), bytes)));
                        rooms.saves[of[src]].push((of[dst], (both, bytes)));
                    }
                }
            }
        }
        rooms.taken = vec![vec![0; times.len()]; regions.len()];
        Ok(rooms)
    }

    /// Takes everything out.
    pub fn clear(&mut self) {
        self.taken.iter_mut().flatten().for_each(|bytes| *bytes = 0);
        self.at.fill(None);
    }

    /// The region of a family.
    pub fn region(&self, f: usize) -> Option<usize> {
        self.at[f]
    }

    fn change(&mut self, f: usize, r: usize, sign: i128) {
        let taken = &mut self.taken[r];
        let mut add = |run: &Run, sign: i128| {
            taken[run.0.clone()].iter_mut().for_each(|bytes| *bytes += sign * run.1);
            self.work = self.work.saturating_sub(run.0.len());
        };
        self.needs[f].iter().for_each(|run| add(run, sign));
        let beside = self.saves[f].iter().filter(|(g, _)| *g != f && self.at[*g] == Some(r));
        beside.for_each(|(_, run)| add(run, -sign));
    }

    /// Puts a family into a region, whether there is room or not.
    pub fn put(&mut self, f: usize, r: usize) {
        self.change(f, r, 1);
        self.at[f] = Some(r);
    }

    /// Takes a family out of its region.
    pub fn take(&mut self, f: usize) {
        if let Some(r) = self.at[f].take() {
            self.change(f, r, -1);
        }
    }

    /// Puts a family into a region if there is room.
    pub fn admit(&mut self, f: usize, r: usize) -> bool {
        self.put(f, r);
        let Some(room) = self.room[r] else { return true };
        let full = |run: &Run| self.taken[r][run.0.clone()].iter().any(|&bytes| bytes > room);
        if self.needs[f].iter().any(full) {
            self.take(f);
            return false;
        }
        true
    }

    /// Bytes by which the region is too full.
    pub fn over(&self, r: usize) -> i128 {
        let most = self.taken[r].iter().copied().max().unwrap_or(0);
        self.room[r].map_or(0, |room| (most - room).max(0))
    }

    /// Whether two families are ever live together.
    pub fn meet(&self, f: usize, g: usize) -> bool {
        let overlap = |a: &Run| self.needs[g].iter().any(|b| a.0.start < b.0.end && b.0.start < a.0.end);
        self.needs[f].iter().any(overlap)
    }
}
