//! The judge: checks a layout against its problem, by definition and not by trust. Shares no code with the planner,
//! and takes plans from anywhere: a report that was loaded, a cache, a test.

use std::collections::{BTreeMap, BTreeSet};

use super::problem::{Alias, Buffer, Problem, Region};
use super::solution::{RegionPlan, Solution, Status};

/// One way in which a layout is wrong. Buffers are positions in [`Problem::buffers`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Not one offset per buffer.
    OffsetCount {
        /// Buffers.
        want: usize,
        /// Offsets.
        got: usize,
    },
    /// A live buffer ends above its region's peak, or above the largest number.
    OutOfBounds {
        /// The buffer.
        buffer: usize,
    },
    /// The offset is not a multiple of the alignment.
    Misaligned {
        /// The buffer.
        buffer: usize,
    },
    /// Two buffers are live together, share bytes, and no alias allows it.
    Overlap {
        /// The lower position.
        a: usize,
        /// The higher position.
        b: usize,
        /// The first clock value at which both are live.
        at: u32,
    },
    /// A view is not at its place in its whole, or does not fit in it.
    ViewBroken {
        /// The inner buffer.
        part: usize,
        /// The outer buffer.
        whole: usize,
    },
    /// A pinned buffer is elsewhere.
    PinBroken {
        /// The buffer.
        buffer: usize,
    },
    /// A merge that nobody declared, or whose buffers start at different bytes.
    MergeNotAllowed {
        /// The written buffer.
        dst: usize,
        /// The buffer it took over.
        src: usize,
    },
    /// Two buffers that are to be kept apart share bytes.
    NotApart {
        /// One of them.
        a: usize,
        /// The other.
        b: usize,
    },
    /// A live buffer lies in a reserved range.
    InReserved {
        /// The buffer.
        buffer: usize,
    },
    /// A buffer is in another region than it must be, or in none.
    WrongRegion {
        /// The buffer.
        buffer: usize,
    },
    /// A region's peak is above its capacity.
    OverCapacity {
        /// The region.
        region: usize,
        /// Bytes too many.
        by: u64,
    },
    /// The problem names a buffer that does not exist.
    NoSuchBuffer {
        /// The position it names.
        index: usize,
    },
    /// The regions of the layout are not those of the problem.
    RegionsBroken,
    /// A peak is below its bound, a status disagrees with the two, or the sums over regions are wrong.
    StatusBroken,
}

/// Violations beyond this many are not collected: a corrupt plan can have quadratically many overlaps.
pub const MAX_VIOLATIONS: usize = 1000;

/// Every way in which `solution` is not a layout of `problem` (the first [`MAX_VIOLATIONS`]); empty when it is one. A
/// solution with a [`super::Shortage`] is none: capacities are hard.
///
/// O(n log n) for a valid layout with few views per buffer.
pub fn verify(problem: &Problem, solution: &Solution) -> Vec<Violation> {
    let mut found = Vec::new();
    let (want, got) = (problem.buffers.len(), solution.offsets.len().min(solution.region.len()));
    if solution.offsets.len() != want || solution.region.len() != want {
        return vec![Violation::OffsetCount { want, got }];
    }
    let Some(rules) = Rules::new(problem, &mut found) else {
        return found;
    };
    if !check_regions(&rules, solution, &mut found) {
        return found;
    }
    check_places(problem, &rules, solution, &mut found);
    check_aliases(problem, solution, &rules, &mut found);
    check_apart(problem, solution, &mut found);
    for region in 0..rules.regions.len() {
        check_overlaps(problem, solution, region, &rules, &mut found);
    }
    check_status(&rules, solution, &mut found);
    found
}

/// What the problem says, looked up fast.
struct Rules {
    /// The regions, of which there is always one.
    regions: Vec<Region>,
    /// Reserved ranges of each region, disjoint and ascending.
    reserved: Vec<Vec<(u64, u64)>>,
    /// The family of each buffer: everything tied together by views.
    family: Vec<usize>,
    /// Declared in-place pairs: `(dst, src, delta)`.
    in_place: BTreeSet<(usize, usize, i64)>,
    /// The branches each buffer is in: `(choice, branch)`.
    branches: Vec<BTreeSet<(usize, usize)>>,
}

impl Rules {
    fn new(problem: &Problem, found: &mut Vec<Violation>) -> Option<Self> {
        let n = problem.buffers.len();
        let tied = problem.aliases.iter().flat_map(|alias| match *alias {
            Alias::InPlace { dst, src, .. } => [dst, src],
            Alias::View { part, whole, .. } => [part, whole],
        });
        let apart = problem.apart.iter().flat_map(|&(a, b)| [a, b]);
        let chosen = problem
            .exclusive
            .iter()
            .flat_map(|c| c.branches.iter().flatten().copied());
        if let Some(index) = tied.chain(apart).chain(chosen).find(|&i| i >= n) {
            found.push(Violation::NoSuchBuffer { index });
            return None;
        }
        let mut family: Vec<usize> = (0..n).collect();
        let mut in_place = BTreeSet::new();
        for alias in &problem.aliases {
            match *alias {
                Alias::InPlace { dst, src, delta } => {
                    in_place.insert((dst, src, delta));
                }
                Alias::View { part, whole, .. } => {
                    let (x, y) = (root(&mut family, part), root(&mut family, whole));
                    family[x] = y;
                }
            }
        }
        let mut branches = vec![BTreeSet::new(); n];
        for (c, choice) in problem.exclusive.iter().enumerate() {
            for (b, buffers) in choice.branches.iter().enumerate() {
                for &buffer in buffers {
                    branches[buffer].insert((c, b));
                }
            }
        }
        let mut regions = problem.regions.clone();
        if regions.is_empty() {
            regions.push(Region::default());
        }
        Some(Self {
            reserved: regions.iter().map(|r| merge_intervals(&r.reserved)).collect(),
            regions,
            family: (0..n).map(|i| root(&mut family, i)).collect(),
            in_place,
            branches,
        })
    }

    /// Whether `dst` may lie where it does on the bytes of `src`.
    fn declared(&self, dst: usize, src: usize, offsets: &[u64]) -> bool {
        let delta = i128::from(offsets[dst]) - i128::from(offsets[src]);
        i64::try_from(delta).is_ok_and(|delta| self.in_place.contains(&(dst, src, delta)))
    }

    /// Whether some choice takes at most one of the two.
    fn exclusive(&self, a: usize, b: usize) -> bool {
        let (x, y) = (&self.branches[a], &self.branches[b]);
        let branches = |set: &BTreeSet<(usize, usize)>, choice: usize| -> BTreeSet<usize> {
            set.range((choice, 0)..=(choice, usize::MAX)).map(|s| s.1).collect()
        };
        x.iter().any(|&(choice, _)| {
            let others = branches(y, choice);
            !others.is_empty() && others.is_disjoint(&branches(x, choice))
        })
    }

    /// Whether two buffers may share bytes while both are live.
    fn allows(&self, a: usize, b: usize, offsets: &[u64]) -> bool {
        self.family[a] == self.family[b]
            || self.declared(a, b, offsets)
            || self.declared(b, a, offsets)
            || self.exclusive(a, b)
    }
}

/// The representative of `i`, shortening the path to it.
fn root(parent: &mut [usize], mut i: usize) -> usize {
    while parent[i] != i {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    i
}

/// Whether a buffer ever holds a byte.
fn lives(b: &Buffer) -> bool {
    b.size > 0 && b.live.iter().any(|r| r.start < r.end)
}

/// False when regions are so wrong that nothing else can be checked.
fn check_regions(rules: &Rules, solution: &Solution, found: &mut Vec<Violation>) -> bool {
    let same = solution.regions.len() == rules.regions.len()
        && solution
            .regions
            .iter()
            .zip(&rules.regions)
            .all(|(got, want)| got.name == want.name);
    if !same {
        found.push(Violation::RegionsBroken);
        return false;
    }
    let lost = (0..solution.region.len()).filter(|&b| solution.region[b] >= rules.regions.len());
    found.extend(lost.map(|buffer| Violation::WrongRegion { buffer }));
    for (region, (plan, rule)) in solution.regions.iter().zip(&rules.regions).enumerate() {
        if let Some(by) = rule
            .capacity
            .and_then(|c| plan.peak.checked_sub(c))
            .filter(|&by| by > 0)
        {
            found.push(Violation::OverCapacity { region, by });
        }
    }
    solution.region.iter().all(|&r| r < rules.regions.len())
}

fn check_places(problem: &Problem, rules: &Rules, solution: &Solution, found: &mut Vec<Violation>) {
    for (buffer, b) in problem.buffers.iter().enumerate() {
        let (offset, region) = (solution.offsets[buffer], solution.region[buffer]);
        let end = offset.checked_add(b.size);
        if lives(b) && end.is_none_or(|end| end > solution.regions[region].peak) {
            found.push(Violation::OutOfBounds { buffer });
        }
        if b.align == 0 || offset % b.align != 0 {
            found.push(Violation::Misaligned { buffer });
        }
        if b.pinned.is_some_and(|pin| pin != offset) {
            found.push(Violation::PinBroken { buffer });
        }
        if b.region.is_some_and(|must| must != region) {
            found.push(Violation::WrongRegion { buffer });
        }
        // The last reserved range that starts below the buffer's end.
        let reserved = &rules.reserved[region];
        let below = reserved.partition_point(|r| end.is_none_or(|end| r.0 < end));
        if lives(b) && below > 0 && reserved[below - 1].1 > offset {
            found.push(Violation::InReserved { buffer });
        }
    }
}

/// Whether two buffers have a byte in common.
fn share_bytes(problem: &Problem, solution: &Solution, a: usize, b: usize) -> bool {
    let range = |i: usize| {
        let start = u128::from(solution.offsets[i]);
        start..start + u128::from(problem.buffers[i].size)
    };
    let (x, y) = (range(a), range(b));
    solution.region[a] == solution.region[b] && x.start.max(y.start) < x.end.min(y.end)
}

fn check_apart(problem: &Problem, solution: &Solution, found: &mut Vec<Violation>) {
    for &(a, b) in &problem.apart {
        let both = lives(&problem.buffers[a]) && lives(&problem.buffers[b]);
        if both && share_bytes(problem, solution, a, b) {
            found.push(Violation::NotApart { a, b });
        }
    }
}

fn check_aliases(problem: &Problem, solution: &Solution, rules: &Rules, found: &mut Vec<Violation>) {
    let (offsets, region) = (&solution.offsets, &solution.region);
    for alias in &problem.aliases {
        if let Alias::View { part, whole, delta } = *alias {
            let placed = offsets[whole].checked_add(delta) == Some(offsets[part]) && region[whole] == region[part];
            let inside = delta
                .checked_add(problem.buffers[part].size)
                .is_some_and(|e| e <= problem.buffers[whole].size);
            if !placed || !inside {
                found.push(Violation::ViewBroken { part, whole });
            }
        }
    }
    for &(dst, src) in &solution.merged {
        let known = dst < offsets.len() && src < offsets.len();
        if !known || region[dst] != region[src] || !rules.declared(dst, src, offsets) {
            found.push(Violation::MergeNotAllowed { dst, src });
        }
    }
}

/// Whether a status can be said of a peak, a bound and a capacity.
fn holds(peak: u64, bound: u64, status: Status) -> bool {
    let optimal = peak == bound;
    bound <= peak
        && match status {
            Status::Optimal => optimal,
            Status::OptimalSearch => !optimal,
            Status::Feasible { gap } => !optimal && bound.checked_add(gap) == Some(peak),
            // They may speak of a capacity that is not in the solution.
            Status::Infeasible => peak > 0,
            Status::OverBudget { by } => by > 0 && by <= peak,
        }
}

fn check_status(rules: &Rules, solution: &Solution, found: &mut Vec<Violation>) {
    let sum = |f: fn(&RegionPlan) -> u64| solution.regions.iter().try_fold(0u64, |sum, r| sum.checked_add(f(r)));
    let sums = sum(|r| r.peak) == Some(solution.peak) && sum(|r| r.lower_bound) == Some(solution.lower_bound);
    let each = solution.regions.iter().all(|r| holds(r.peak, r.lower_bound, r.status));
    let alone = rules.regions.len() > 1 || solution.regions.iter().all(|r| r.status == solution.status);
    if !sums || !each || !alone || !holds(solution.peak, solution.lower_bound, solution.status) {
        found.push(Violation::StatusBroken);
    }
}

/// Sweeps over time, keeping who owns which bytes.
fn check_overlaps(problem: &Problem, solution: &Solution, region: usize, rules: &Rules, found: &mut Vec<Violation>) {
    let offsets = &solution.offsets;
    // (time, 0 = dies | 1 = is born, buffer): half-open, so at equal times the dead leave first.
    let mut events = BTreeSet::new();
    for (buffer, b) in problem.buffers.iter().enumerate() {
        if solution.region[buffer] == region && b.size > 0 && offsets[buffer].checked_add(b.size).is_some() {
            for (born, dies) in merge_intervals(&b.live) {
                events.extend([(born, 1u8, buffer), (dies, 0u8, buffer)]);
            }
        }
    }
    let mut bytes = Ownership::default();
    let mut seen = BTreeSet::new();
    for (at, kind, buffer) in events {
        let (start, end) = (offsets[buffer], offsets[buffer] + problem.buffers[buffer].size);
        if kind == 0 {
            bytes.release(start, end, buffer);
            continue;
        }
        for other in bytes.claim(start, end, buffer) {
            let (a, b) = (buffer.min(other), buffer.max(other));
            if !rules.allows(a, b, offsets) && seen.insert((a, b)) {
                if found.len() >= MAX_VIOLATIONS {
                    return;
                }
                found.push(Violation::Overlap { a, b, at });
            }
        }
    }
}

/// Intervals as disjoint ones, ascending, empty ones dropped.
fn merge_intervals<T: Copy + Ord>(live: &[std::ops::Range<T>]) -> Vec<(T, T)> {
    let mut sorted: Vec<(T, T)> = live.iter().map(|r| (r.start, r.end)).filter(|(s, e)| s < e).collect();
    sorted.sort_unstable();
    let mut out: Vec<(T, T)> = Vec::new();
    for (start, end) in sorted {
        match out.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => out.push((start, end)),
        }
    }
    out
}

/// The address line cut into segments, each with the buffers that are live on all of it.
#[derive(Default)]
struct Ownership {
    /// Start of a segment -> (its end, its owners). Segments are disjoint; bytes nobody owns are in none.
    segments: BTreeMap<u64, (u64, Vec<usize>)>,
}

impl Ownership {
    /// Makes `at` a boundary: a segment that contains it is cut in two.
    fn cut(&mut self, at: u64) {
        if let Some((_, (end, owners))) = self.segments.range_mut(..at).next_back()
            && *end > at
        {
            let upper = (*end, owners.clone());
            *end = at;
            self.segments.insert(at, upper);
        }
    }

    /// Gives `start..end` to `buffer` too, and returns who owned any byte of it before.
    fn claim(&mut self, start: u64, end: u64, buffer: usize) -> BTreeSet<usize> {
        self.cut(start);
        self.cut(end);
        let mut others = BTreeSet::new();
        let mut gaps = Vec::new();
        let mut free = start;
        for (&s, (e, owners)) in self.segments.range_mut(start..end) {
            others.extend(owners.iter().copied());
            owners.push(buffer);
            if free < s {
                gaps.push((free, s));
            }
            free = *e;
        }
        if free < end {
            gaps.push((free, end));
        }
        self.segments
            .extend(gaps.into_iter().map(|(s, e)| (s, (e, vec![buffer]))));
        others
    }

    /// Takes `start..end` from `buffer`.
    fn release(&mut self, start: u64, end: u64, buffer: usize) {
        let mut empty = Vec::new();
        for (&s, (_, owners)) in self.segments.range_mut(start..end) {
            owners.retain(|&o| o != buffer);
            if owners.is_empty() {
                empty.push(s);
            }
        }
        for s in empty {
            self.segments.remove(&s);
        }
    }
}

impl Violation {
    /// The violation in words, with the buffers' ids.
    pub fn describe(&self, problem: &Problem) -> String {
        let id = |i: usize| problem.buffers.get(i).map_or("?", |b| b.id.as_str());
        match *self {
            Self::OffsetCount { want, got } => format!("{got} offsets for {want} buffers"),
            Self::OutOfBounds { buffer } => format!("`{}` ends above the peak", id(buffer)),
            Self::Misaligned { buffer } => format!("`{}` is not aligned", id(buffer)),
            Self::Overlap { a, b, at } => {
                format!("`{}` and `{}` share bytes while both are live at {at}", id(a), id(b))
            }
            Self::ViewBroken { part, whole } => format!("view `{}` is not at its place in `{}`", id(part), id(whole)),
            Self::PinBroken { buffer } => format!("`{}` is not where it is pinned", id(buffer)),
            Self::MergeNotAllowed { dst, src } => format!("`{}` may not take the place of `{}`", id(dst), id(src)),
            Self::NotApart { a, b } => format!("`{}` and `{}` are to be kept apart and share bytes", id(a), id(b)),
            Self::InReserved { buffer } => format!("`{}` lies in a reserved range", id(buffer)),
            Self::WrongRegion { buffer } => format!("`{}` is in a region where it must not be", id(buffer)),
            Self::OverCapacity { region, by } => {
                let name = problem.regions.get(region).map_or("", |r| r.name.as_str());
                format!("region `{name}` is {by} bytes over its capacity")
            }
            Self::NoSuchBuffer { index } => format!("buffer number {index} is named and does not exist"),
            Self::RegionsBroken => "the layout has other regions than its problem".to_owned(),
            Self::StatusBroken => "peak, lower bound and status disagree".to_owned(),
        }
    }
}
