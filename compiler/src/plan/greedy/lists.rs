//! Conflicts as lists, for problems small enough: a placement costs as much as the item has conflicts, and an order can be
//! tried again from any position on.

use super::space::Fit;
use crate::plan::item::{Item, round_up};

/// Two rectangles that are live together: with the other item at base `x`, the own base is not in
/// `(x + start) - end .. x + stop`, and not below that either where the difference would be below zero.
#[derive(Clone, Copy, Debug)]
struct Conflict {
    other: u32,
    /// The other's first byte, and the own one past the last.
    start: u64,
    end: u64,
    /// From the other's base to the own base on top of it; below zero where the own rectangle starts high.
    above: i64,
}

/// All conflicts, an item after the other.
#[derive(Clone, Debug)]
pub(super) struct Lists {
    conflicts: Vec<Conflict>,
    /// Where each item's begin; one more at the end.
    begin: Vec<usize>,
    scratch: Vec<(u64, u64)>,
}

impl Lists {
    /// The conflicts of the items; `None` when there are more than `most`.
    pub fn new(items: &[Item], most: usize) -> Option<Self> {
        let mut rects: Vec<(u32, u32, usize, usize)> = Vec::new();
        for (i, item) in items.iter().enumerate() {
            rects.extend(item.rects.iter().enumerate().map(|(r, rect)| (rect.lo, rect.hi, i, r)));
        }
        rects.sort_unstable();
        let mut pairs = Vec::new();
        for (at, &(_, hi, i, r)) in rects.iter().enumerate() {
            let later = rects[at + 1..].iter().take_while(|later| later.0 < hi);
            for &(_, _, j, s) in later.filter(|later| later.2 != i) {
                if pairs.len() >= most {
                    return None;
                }
                pairs.push((i, r, j, s));
                pairs.push((j, s, i, r));
            }
        }
        pairs.sort_unstable();
        let conflict = |&(i, r, j, s): &(usize, usize, usize, usize)| {
            let (own, other) = (&items[i].rects[r], &items[j].rects[s]);
            Conflict {
                other: j as u32,
                start: other.start,
                end: own.end,
                above: other.end as i64 - own.start as i64,
            }
        };
        Some(Self {
            conflicts: pairs.iter().map(conflict).collect(),
            begin: (0..=items.len()).map(|i| pairs.partition_point(|p| p.0 < i)).collect(),
            scratch: Vec::new(),
        })
    }

    /// The base for item `i` among those with a base; as `Space::find`. Adds to `work` what it looks at.
    pub fn find(&mut self, item: &Item, i: usize, bases: &[u64], fit: Fit, work: &mut u64) -> u64 {
        self.scratch.clear();
        let list = &self.conflicts[self.begin[i]..self.begin[i + 1]];
        *work += list.len() as u64;
        for c in list {
            let base = bases[c.other as usize];
            if base != super::NOWHERE {
                let stop = base.saturating_add_signed(c.above);
                self.scratch.push(((base + c.start + 1).saturating_sub(c.end), stop));
            }
        }
        self.scratch.sort_unstable();
        let mut best: Option<(u64, u64)> = None;
        let mut free = 0;
        for &(from, to) in &self.scratch {
            if free < from {
                if fit == Fit::First {
                    return free;
                }
                let slack = from - 1 - free;
                if best.is_none_or(|(least, _)| slack < least) {
                    best = Some((slack, free));
                }
            }
            free = free.max(round_up(to, item.align));
        }
        best.map_or(free, |(_, at)| at)
    }
}
