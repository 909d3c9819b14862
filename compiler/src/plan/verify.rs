//! The judge: checks a layout against its problem, by definition and not by trust. Shares no code with the planner,
//! and takes plans from anywhere: a report that was loaded, a cache, a test.

use std::collections::{BTreeMap, BTreeSet};

use super::problem::{Alias, Problem, Solution};

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
    /// A live buffer ends above the peak, or above the largest number.
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
    /// An alias names a buffer that does not exist.
    NoSuchBuffer {
        /// The position it names.
        index: usize,
    },
    /// The peak is below the bound, or the status disagrees with the two.
    StatusBroken,
}

/// Violations beyond this many are not collected: a corrupt plan can have quadratically many overlaps.
pub const MAX_VIOLATIONS: usize = 1000;

/// Every way in which `solution` is not a layout of `problem` (the first [`MAX_VIOLATIONS`]); empty when it is one.
///
/// O(n log n) for a valid layout with few views per buffer.
pub fn verify(problem: &Problem, solution: &Solution) -> Vec<Violation> {
    let mut found = Vec::new();
    let offsets = &solution.offsets;
    if offsets.len() != problem.buffers.len() {
        return vec![Violation::OffsetCount {
            want: problem.buffers.len(),
            got: offsets.len(),
        }];
    }
    let Some(sharing) = Sharing::new(problem, &mut found) else {
        return found;
    };
    check_places(problem, offsets, solution.peak, &mut found);
    check_aliases(problem, solution, &sharing, &mut found);
    check_overlaps(problem, offsets, &sharing, &mut found);
    let optimal = solution.peak == solution.lower_bound;
    let (peak, bound) = (solution.peak, solution.lower_bound);
    let holds = bound <= peak
        && match solution.status {
            super::Status::Optimal => optimal,
            super::Status::OptimalSearch => !optimal,
            super::Status::Feasible { gap } => !optimal && bound.checked_add(gap) == Some(peak),
            // They speak of a capacity that is not in the solution.
            super::Status::Infeasible => peak > 0,
            super::Status::OverBudget { by } => by > 0 && by <= peak,
        };
    if !holds {
        found.push(Violation::StatusBroken);
    }
    found
}

/// Who may share bytes with whom while both are live.
struct Sharing {
    /// The family of each buffer: everything tied together by views.
    family: Vec<usize>,
    /// Declared in-place pairs, both ways round.
    in_place: BTreeSet<(usize, usize)>,
}

impl Sharing {
    fn new(problem: &Problem, found: &mut Vec<Violation>) -> Option<Self> {
        let n = problem.buffers.len();
        let mut family: Vec<usize> = (0..n).collect();
        let mut in_place = BTreeSet::new();
        for alias in &problem.aliases {
            let (a, b) = match *alias {
                Alias::InPlace { dst, src } => (dst, src),
                Alias::View { part, whole, .. } => (part, whole),
            };
            if let Some(index) = [a, b].into_iter().find(|&i| i >= n) {
                found.push(Violation::NoSuchBuffer { index });
                return None;
            }
            match alias {
                Alias::InPlace { .. } => in_place.extend([(a, b), (b, a)]),
                Alias::View { .. } => {
                    let (x, y) = (root(&mut family, a), root(&mut family, b));
                    family[x] = y;
                }
            }
        }
        let family = (0..n).map(|i| root(&mut family, i)).collect();
        Some(Self { family, in_place })
    }

    fn allows(&self, a: usize, b: usize, offsets: &[u64]) -> bool {
        self.family[a] == self.family[b] || (offsets[a] == offsets[b] && self.in_place.contains(&(a, b)))
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

fn check_places(problem: &Problem, offsets: &[u64], peak: u64, found: &mut Vec<Violation>) {
    for (buffer, (b, &offset)) in problem.buffers.iter().zip(offsets).enumerate() {
        let lives = b.size > 0 && b.live.iter().any(|r| r.start < r.end);
        if lives && offset.checked_add(b.size).is_none_or(|end| end > peak) {
            found.push(Violation::OutOfBounds { buffer });
        }
        if b.align == 0 || offset % b.align != 0 {
            found.push(Violation::Misaligned { buffer });
        }
        if b.pinned.is_some_and(|pin| pin != offset) {
            found.push(Violation::PinBroken { buffer });
        }
    }
}

fn check_aliases(problem: &Problem, solution: &Solution, sharing: &Sharing, found: &mut Vec<Violation>) {
    let offsets = &solution.offsets;
    for alias in &problem.aliases {
        if let Alias::View { part, whole, delta } = *alias {
            let placed = offsets[whole].checked_add(delta) == Some(offsets[part]);
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
        if !known || offsets[dst] != offsets[src] || !sharing.in_place.contains(&(dst, src)) {
            found.push(Violation::MergeNotAllowed { dst, src });
        }
    }
}

/// Sweeps over time, keeping who owns which bytes.
fn check_overlaps(problem: &Problem, offsets: &[u64], sharing: &Sharing, found: &mut Vec<Violation>) {
    // (time, 0 = dies | 1 = is born, buffer): half-open, so at equal times the dead leave first.
    let mut events = BTreeSet::new();
    for (buffer, b) in problem.buffers.iter().enumerate() {
        if b.size > 0 && offsets[buffer].checked_add(b.size).is_some() {
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
            if !sharing.allows(a, b, offsets) && seen.insert((a, b)) {
                if found.len() >= MAX_VIOLATIONS {
                    return;
                }
                found.push(Violation::Overlap { a, b, at });
            }
        }
    }
}

/// The intervals of one lifetime as disjoint ones, empty ones dropped.
fn merge_intervals(live: &[std::ops::Range<u32>]) -> Vec<(u32, u32)> {
    let mut sorted: Vec<(u32, u32)> = live.iter().map(|r| (r.start, r.end)).filter(|(s, e)| s < e).collect();
    sorted.sort_unstable();
    let mut out: Vec<(u32, u32)> = Vec::new();
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
            Self::NoSuchBuffer { index } => format!("an alias names buffer number {index}, which does not exist"),
            Self::StatusBroken => "peak, lower bound and status disagree".to_owned(),
        }
    }
}
