//! Which in-place merges to take: those that give the least lower bound, and of these the least bytes over time.
//!
//! Bytes that two merged buffers share count once, so a merge saves bytes while both are live. It also ties their offsets
//! together: it can exclude other merges, and a pin that it passes on can raise the bound. So merges are judged in sets,
//! by the bound of what they make. Few are tried in all sets; many are taken greedily, and then improved one by one.

use std::collections::BTreeSet;
use std::ops::Range;

use super::alias::{Aliasing, Groups, InPlace};
use super::bound::{Bound, around, lower_bound, profile};
use super::error::PlanError;
use super::item::round_up;
use super::problem::{Alias, Problem};

/// What is worth planning.
pub(super) struct Choices {
    /// Never empty; the most promising first, the last takes no in-place merge.
    pub aliasings: Vec<Aliasing>,
    /// No layout has a lower peak, whatever merges it takes.
    pub bound: Bound,
    /// All sets of merges are among the aliasings.
    pub complete: bool,
}

/// Merges of which all sets are looked at when nothing else reaches the bound of all sets.
const ALL_SETS: usize = 10;

/// Merges of which all sets are planned, until one is known to be best.
const ALL_PLANNED: usize = 5;

/// Sets of merges that are looked at, in buffers.
const WORK: usize = 500_000;

/// The aliasings worth planning. The `reserved` ranges are items of each, after all others.
pub(super) fn choices(problem: &Problem, reserved: &[Range<u64>]) -> Result<Choices, PlanError> {
    let declared = declared(problem);
    let views = Groups::views(problem, &declared, reserved)?;
    let plain = Judged::new(views.aliasing(Vec::new()));
    if declared.is_empty() {
        return Ok(Choices {
            bound: plain.bound,
            aliasings: vec![plain.aliasing],
            complete: true,
        });
    }
    let ideal = ideal(problem, &declared, &plain.aliasing, views.unit);
    let sets = 1usize.checked_shl(declared.len() as u32).unwrap_or(usize::MAX);
    let small = declared.len() <= ALL_SETS && sets.saturating_mul(problem.buffers.len()) <= WORK;
    let best = improved(&views, &declared, ideal.bytes);
    if !small || (best.bound.bytes == ideal.bytes && declared.len() > ALL_PLANNED) {
        let first_come = Judged::new(views.merge_in_order(&declared));
        let bound = ideal;
        let mut list = vec![best, first_come, plain];
        list.sort_by_key(Judged::score);
        return Ok(Choices::of(list, bound, false));
    }
    let mut list: Vec<Judged> = (0..sets)
        .map(|set| declared.iter().enumerate().filter(move |(i, _)| set >> i & 1 == 1))
        .map(|set| Judged::new(views.merge_in_order(&set.map(|(_, &pair)| pair).collect::<Vec<_>>())))
        .collect();
    list.sort_by_key(Judged::score);
    let bound = list.first().map_or(ideal, |judged| judged.bound);
    let complete = declared.len() <= ALL_PLANNED;
    if !complete {
        list.truncate(1);
        list.push(plain);
    }
    Ok(Choices::of(list, bound, complete))
}

impl Choices {
    /// Drops what is there twice, and puts the one without merges last.
    fn of(list: Vec<Judged>, bound: Bound, complete: bool) -> Self {
        let mut seen = BTreeSet::new();
        let mut aliasings: Vec<Aliasing> = list.into_iter().map(|judged| judged.aliasing).collect();
        aliasings.retain(|aliasing| seen.insert(aliasing.merged.clone()));
        aliasings.sort_by_key(|aliasing| aliasing.merged.is_empty());
        Self {
            aliasings,
            bound,
            complete,
        }
    }
}

/// An aliasing and what it is worth.
pub(super) struct Judged {
    aliasing: Aliasing,
    pub bound: Bound,
    /// Bytes live, summed over time.
    area: u128,
}

impl Judged {
    fn new(aliasing: Aliasing) -> Self {
        let sections = profile(&aliasing.items);
        let area = |w: &[(u32, u64)]| u128::from(w[0].1) * u128::from(w[1].0 - w[0].0);
        Self {
            bound: lower_bound(&aliasing.items),
            area: sections.windows(2).map(area).sum(),
            aliasing,
        }
    }

    /// Less is better.
    fn score(&self) -> (u64, u128) {
        (self.bound.bytes, self.area)
    }
}

/// The in-place pairs that would share bytes and may, sorted.
pub(super) fn declared(problem: &Problem) -> Vec<InPlace> {
    let buffers = &problem.buffers;
    let apart: BTreeSet<(usize, usize)> = problem.apart.iter().flat_map(|&(a, b)| [(a, b), (b, a)]).collect();
    let mut declared: Vec<InPlace> = problem
        .aliases
        .iter()
        .filter_map(|a| match *a {
            Alias::InPlace { dst, src, delta } if dst != src => Some((dst, src, delta)),
            _ => None,
        })
        .filter(|&(dst, src, delta)| delta < buffers[src].size as i64 && -delta < buffers[dst].size as i64)
        .filter(|&(dst, src, _)| !apart.contains(&(dst, src)))
        .collect();
    declared.sort_unstable();
    declared.dedup();
    declared
}

/// A bound for every set of merges. Of each buffer at most as many bytes are saved as it has, and as the buffers before it
/// that it may share bytes with have while both are live.
fn ideal(problem: &Problem, declared: &[InPlace], plain: &Aliasing, unit: u64) -> Bound {
    let buffers = &problem.buffers;
    let size = |b: usize| round_up(buffers[b].size, unit);
    let pairs: BTreeSet<(usize, usize)> = declared.iter().map(|&(a, b, _)| (a.max(b), a.min(b))).collect();
    // (time, 0 = ends | 1 = starts, buffer that saves, bytes)
    let mut events = Vec::new();
    for (late, early) in pairs {
        let bytes = size(late).min(size(early));
        for x in &buffers[late].live {
            for y in &buffers[early].live {
                let (lo, hi) = (x.start.max(y.start), x.end.min(y.end));
                if lo < hi {
                    events.extend([(lo, 1u8, late, bytes), (hi, 0u8, late, bytes)]);
                }
            }
        }
    }
    events.sort_unstable();
    let mut shared = vec![0u64; buffers.len()];
    let (mut saved, mut next) = (0u64, 0);
    let mut best = Bound::default();
    for (at, live) in profile(&plain.items) {
        while let Some(&(_, kind, b, bytes)) = events.get(next).filter(|event| event.0 <= at) {
            saved -= shared[b].min(size(b));
            // Counted as often as lifetimes are declared to overlap, which saves too much and never too little.
            shared[b] = if kind == 1 {
                shared[b].saturating_add(bytes)
            } else {
                shared[b] - bytes
            };
            saved += shared[b].min(size(b));
            next += 1;
        }
        let needed = live.saturating_sub(saved);
        if needed > best.bytes {
            best = Bound { bytes: needed, at };
        }
    }
    best.bytes = around(&plain.items, best.bytes);
    let pinned = plain
        .items
        .iter()
        .filter(|item| !item.reserved && !item.rects.is_empty());
    let ends = pinned.filter_map(|item| Some(item.pinned? + item.extent()));
    best.bytes = ends.fold(best.bytes, u64::max);
    best
}

/// Takes merges greedily, largest first. Then refuses or prefers one at a time, as long as that makes the result better:
/// first what is live where the most bytes are.
pub(super) fn improved(views: &Groups<'_>, declared: &[InPlace], ideal: u64) -> Judged {
    let buffers = &views.problem.buffers;
    let mut order = declared.to_vec();
    order.sort_by_cached_key(|&(dst, src, delta)| {
        let (d, s) = (&buffers[dst], &buffers[src]);
        let birth = |live: &[Range<u32>]| live.iter().map(|r| r.start).min();
        (
            std::cmp::Reverse(d.size.min(s.size)),
            birth(&d.live),
            birth(&s.live),
            (d.size, s.size, delta),
            dst,
            src,
        )
    });
    let mut best = Judged::new(views.merge_in_order(&order));
    // Merges that are not to be taken.
    let mut out = BTreeSet::new();
    let mut trials = WORK / (buffers.len() + declared.len());
    loop {
        let before = best.score();
        let there = |b: usize| buffers[b].live.iter().any(|r| r.contains(&best.bound.at));
        let (near, far): (Vec<InPlace>, Vec<InPlace>) =
            order.iter().partition(|&&(dst, src, _)| there(dst) || there(src));
        for pair in near.into_iter().chain(far) {
            if trials == 0 || best.bound.bytes == ideal {
                return best;
            }
            trials -= 1;
            let taken = best.aliasing.merged.binary_search(&pair).is_ok();
            let (mut order_then, mut out_then) = (order.clone(), out.clone());
            if taken {
                out_then.insert(pair);
            } else {
                out_then.remove(&pair);
                order_then.retain(|&p| p != pair);
                order_then.insert(0, pair);
            }
            let rest: Vec<InPlace> = order_then.iter().copied().filter(|p| !out_then.contains(p)).collect();
            let judged = Judged::new(views.merge_in_order(&rest));
            if judged.score() < best.score() {
                (best, order, out) = (judged, order_then, out_then);
            }
        }
        if best.score() == before {
            return best;
        }
    }
}
