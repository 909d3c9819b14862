//! Aliasing: which buffers move together, and which in-place merges are legal. Which of them to take is up to
//! [`super::merge`].

use std::ops::Range;

use super::error::PlanError;
use super::item::{self, Item, Rect, coalesce, round_down, round_up};
use super::problem::{Alias, Problem};

/// One way to resolve a problem's aliases.
#[derive(Clone, Debug)]
pub(super) struct Aliasing {
    /// What is to be placed.
    pub items: Vec<Item>,
    /// In-place pairs that lie at their distance, sorted. With the views, they say which buffers are tied together how.
    pub merged: Vec<InPlace>,
}

/// Groups of buffers with fixed distances, built up by merging.
#[derive(Clone)]
pub(super) struct Groups<'p> {
    pub problem: &'p Problem,
    /// Group of each buffer.
    of: Vec<usize>,
    /// Distance of each buffer from its group's anchor; may be negative.
    delta: Vec<i64>,
    /// Buffers of each group; empty once merged away.
    members: Vec<Vec<usize>>,
    /// Declared in-place pairs, sorted.
    declared: &'p [InPlace],
    /// Bytes that nothing may use.
    reserved: &'p [Range<u64>],
    /// The smallest alignment of a group of views that is ever live, or less where reserved ranges begin within it. Every
    /// base is a multiple of it, with merges too, so growing rectangles outwards to it loses nothing.
    pub unit: u64,
}

/// An in-place pair that may be merged: `(dst, src, delta)`.
pub(super) type InPlace = (usize, usize, i64);

impl<'p> Groups<'p> {
    /// The groups that views force. `declared` is sorted.
    pub fn views(problem: &'p Problem, declared: &'p [InPlace], reserved: &'p [Range<u64>]) -> Result<Self, PlanError> {
        let n = problem.buffers.len();
        let mut groups = Self {
            problem,
            of: (0..n).collect(),
            delta: vec![0; n],
            members: (0..n).map(|i| vec![i]).collect(),
            declared,
            reserved,
            unit: 1,
        };
        for alias in &problem.aliases {
            if let Alias::View { part, whole, delta } = *alias {
                let misplaced = || PlanError::ViewMisplaced {
                    part: problem.buffers[part].id.clone(),
                    whole: problem.buffers[whole].id.clone(),
                };
                // Below LIMIT by `Problem::check`, so the cast is exact.
                let shift = groups.delta[whole] + delta as i64 - groups.delta[part];
                if !groups.join(groups.of[part], groups.of[whole], shift) {
                    return Err(misplaced());
                }
            }
        }
        for members in groups.members.iter().filter(|m| !m.is_empty()) {
            if let Err(buffer) = groups.consistent(members, |i| groups.delta[i]) {
                let b = &problem.buffers[buffer];
                return Err(match b.pinned {
                    Some(offset) => PlanError::BadPin {
                        id: b.id.clone(),
                        offset,
                    },
                    None => PlanError::ViewMisplaced {
                        part: b.id.clone(),
                        whole: problem.buffers[members[0]].id.clone(),
                    },
                });
            }
        }
        groups.check_apart()?;
        let live = groups
            .members
            .iter()
            .filter(|m| m.iter().any(|&i| problem.buffers[i].occupies()));
        groups.unit = live.map(|m| groups.align(m)).min().unwrap_or(1);
        if !groups.ends_are_units() {
            let walls = reserved.iter().filter(|r| !r.is_empty() && r.start > 0);
            groups.unit = walls.map(|r| 1 << r.start.trailing_zeros()).fold(groups.unit, u64::min);
        }
        Ok(groups)
    }

    /// Whether every buffer ends at a multiple of the unit. If not, one that ends below a reserved range may reach into the
    /// unit in which the range begins, and growing both would keep them apart.
    fn ends_are_units(&self) -> bool {
        let whole = |bytes: u64| bytes.is_multiple_of(self.unit);
        let mut sizes = self.problem.buffers.iter().filter(|b| b.occupies()).map(|b| b.size);
        let mut deltas = self.problem.aliases.iter().map(|alias| match *alias {
            Alias::View { delta, .. } => delta,
            Alias::InPlace { delta, .. } => delta.unsigned_abs(),
        });
        sizes.all(whole) && deltas.all(whole)
    }

    /// What is to be kept apart must not be tied together on the same bytes.
    fn check_apart(&self) -> Result<(), PlanError> {
        let buffers = &self.problem.buffers;
        let meet = |&&(a, b): &&(usize, usize)| {
            let (x, y) = (&buffers[a], &buffers[b]);
            self.of[a] == self.of[b]
                && x.occupies()
                && y.occupies()
                && self.delta[a] < self.delta[b] + y.size as i64
                && self.delta[b] < self.delta[a] + x.size as i64
        };
        match self.problem.apart.iter().find(meet) {
            Some(&(a, b)) => Err(PlanError::ApartTogether {
                a: buffers[a].id.clone(),
                b: buffers[b].id.clone(),
            }),
            None => Ok(()),
        }
    }

    /// The alignment of a group's base.
    fn align(&self, members: &[usize]) -> u64 {
        members
            .iter()
            .map(|&i| self.problem.buffers[i].align)
            .max()
            .unwrap_or(1)
    }

    /// Moves group `from` into group `to`, shifting it by `shift`. False when they are one group at another distance.
    fn join(&mut self, from: usize, to: usize, shift: i64) -> bool {
        if from == to {
            return shift == 0;
        }
        // The smaller group moves, so that a long chain costs n log n.
        let (from, to, shift) = if self.members[from].len() > self.members[to].len() {
            (to, from, -shift)
        } else {
            (from, to, shift)
        };
        for i in std::mem::take(&mut self.members[from]) {
            self.of[i] = to;
            self.delta[i] += shift;
            self.members[to].push(i);
        }
        true
    }

    /// Whether alignments and pins of `members` can hold together; else a buffer for which they cannot.
    fn consistent(&self, members: &[usize], delta: impl Fn(usize) -> i64) -> Result<(), usize> {
        let base = members.iter().map(|&i| delta(i)).min().unwrap_or(0);
        let align = members
            .iter()
            .map(|&i| self.problem.buffers[i].align)
            .max()
            .unwrap_or(1);
        let mut pin: Option<i64> = None;
        for &i in members {
            let b = &self.problem.buffers[i];
            let distance = delta(i) - base;
            if distance % b.align as i64 != 0 {
                return Err(i);
            }
            if let Some(offset) = b.pinned {
                let at = offset as i64 - distance;
                if at < 0 || at % align as i64 != 0 || pin.is_some_and(|p| p != at) {
                    return Err(i);
                }
                pin = Some(at);
            }
        }
        Ok(())
    }

    /// Applies every merge of `order` that is legal at its turn.
    pub fn merge_in_order(&self, order: &[InPlace]) -> Aliasing {
        let mut groups = self.clone();
        for &(dst, src, delta) in order {
            let (from, to) = (groups.of[dst], groups.of[src]);
            let shift = groups.delta[src] + delta - groups.delta[dst];
            if from != to && groups.mergeable(from, to, shift) {
                groups.join(from, to, shift);
            }
        }
        // Every declared pair that ended up at its distance counts, whichever merge brought it there.
        let merged = self
            .declared
            .iter()
            .filter(|&&(d, s, delta)| groups.of[d] == groups.of[s] && groups.delta[d] == groups.delta[s] + delta)
            .filter(|&&(d, s, _)| self.of[d] != self.of[s])
            .copied()
            .collect();
        groups.aliasing(merged)
    }

    /// Whether the two groups may be tied together at this distance: pins and alignments agree, and members that are
    /// live together and share bytes are a declared in-place pair at its distance.
    fn mergeable(&self, from: usize, to: usize, shift: i64) -> bool {
        let both: Vec<usize> = self.members[from].iter().chain(&self.members[to]).copied().collect();
        let delta = |i: usize| {
            if self.of[i] == from {
                self.delta[i] + shift
            } else {
                self.delta[i]
            }
        };
        let buffers = &self.problem.buffers;
        if self.consistent(&both, delta).is_err() {
            return false;
        }
        let clash = |a: usize, b: usize| {
            let ((da, ba), (db, bb)) = ((delta(a), &buffers[a]), (delta(b), &buffers[b]));
            da < db + bb.size as i64
                && db < da + ba.size as i64
                && ba
                    .live
                    .iter()
                    .any(|x| bb.live.iter().any(|y| x.start.max(y.start) < x.end.min(y.end)))
        };
        let allowed = |a: usize, b: usize| {
            let declared = |dst, src| {
                self.declared
                    .binary_search(&(dst, src, delta(dst) - delta(src)))
                    .is_ok()
            };
            declared(a, b) || declared(b, a)
        };
        self.members[from]
            .iter()
            .all(|&a| self.members[to].iter().all(|&b| !clash(a, b) || allowed(a, b)))
    }

    /// The items these groups make, in the order of their first buffer.
    pub fn aliasing(&self, merged: Vec<InPlace>) -> Aliasing {
        let buffers = &self.problem.buffers;
        let mut items: Vec<Item> = self
            .members
            .iter()
            .filter(|m| !m.is_empty())
            .map(|members| {
                let base = members.iter().map(|&i| self.delta[i]).min().unwrap_or(0);
                // Not negative: `base` is the smallest.
                let distance = |i: usize| (self.delta[i] - base) as u64;
                let mut list: Vec<_> = members.iter().map(|&i| (i, distance(i))).collect();
                list.sort_unstable();
                let rects = list
                    .iter()
                    .flat_map(|&(i, d)| rects_of(&buffers[i].live, d, buffers[i].size, self.unit));
                Item {
                    align: self.align(members),
                    pinned: members.iter().find_map(|&i| buffers[i].pinned.map(|p| p - distance(i))),
                    rects: coalesce(rects.collect()),
                    members: list,
                    reserved: false,
                }
            })
            .collect();
        items.sort_unstable_by_key(|item| item.members[0].0);
        items.extend(item::reserved(self.reserved, self.unit));
        Aliasing { items, merged }
    }
}

/// The rectangles of one buffer at `distance` from its item's base, grown outwards to the unit.
fn rects_of(live: &[Range<u32>], distance: u64, size: u64, unit: u64) -> impl Iterator<Item = Rect> + '_ {
    let (start, end) = (round_down(distance, unit), round_up(distance + size, unit));
    live.iter()
        .filter(move |r| size > 0 && !r.is_empty())
        .map(move |r| Rect {
            start,
            end,
            lo: r.start,
            hi: r.end,
        })
}
