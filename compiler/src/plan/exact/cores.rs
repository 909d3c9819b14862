//! Bounds above the fullest moment, from small parts of a problem.
//!
//! A core is what is live in a window of time, cut off at its edges. Every layout of the problem is one of the core, so a
//! capacity that is too small for a core is too small for the problem. Where the search of everything places what is easy
//! again and again around what is impossible, a core of a few moments is refuted at once.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::instance::step;
use super::{Attempt, Best};
use crate::plan::item::{Item, Rect};

/// Nodes that a window gets the first time, and by how much that grows.
const SHARE: u64 = 250;
const GROWTH: u64 = 4;

/// Items that are cut to a window for one node, and pairs in a core that are looked at for one.
const CUTS: u64 = 32;
const PAIRS: u64 = 1024;

/// Items of a core. What needs more to be refuted is as well searched as a whole.
const MOST: usize = 200;

/// Windows of time in which no layout within the bound is known, the smallest first.
pub(super) struct Cores<'a> {
    items: &'a [Item],
    /// A layout of the items, and so of each core.
    bases: Vec<u64>,
    /// Each with the nodes that it gets next, its first tick and one past its last.
    open: VecDeque<(u64, u32, u32)>,
}

impl<'a> Cores<'a> {
    pub fn new(items: &'a [Item], bases: Vec<u64>, floor: u64) -> Self {
        let moments = moments(items);
        // How many of the moments so far have something above the floor.
        let mut above = vec![0];
        above.extend(tops(items, &bases, &moments).iter().scan(0, |count, &top| {
            *count += usize::from(top > floor);
            Some(*count)
        }));
        let mut open = VecDeque::new();
        let widths = std::iter::successors(Some(1), |width| Some(2 * width));
        for width in widths.take_while(|&width| width < moments.len().min(MOST)) {
            for first in (0..=moments.len() - width).step_by(width.div_ceil(2)) {
                if above[first + width] > above[first] {
                    open.push_back((SHARE, moments[first], moments[first + width - 1] + 1));
                }
            }
        }
        Self { items, bases, open }
    }

    /// Raises the bound `floor`, no further than to `enough`, with `share` nodes.
    pub fn raise(&mut self, mut floor: u64, enough: u64, share: u64, budget: &mut u64) -> u64 {
        let mut left = share.min(*budget);
        *budget -= left;
        while floor < enough && left > 0 {
            let Some((nodes, lo, hi)) = self.open.pop_front() else {
                break;
            };
            let (core, bases) = self.cut(lo, hi);
            let (all, some) = (self.items.len() as u64, core.len() as u64);
            left = left.saturating_sub(1 + all / CUTS + some * some / PAIRS);
            let tops = core.iter().zip(&bases).map(|(item, base)| item.extent() + base);
            let peak = tops.max().unwrap_or(0);
            if peak <= floor || core.len() > MOST {
                continue;
            }
            let mut allowed = nodes.min(left);
            left -= allowed;
            let fits;
            (floor, fits) = lift(&core, (peak, &bases), floor, enough, &mut allowed);
            // Where nodes are left, more would change nothing.
            if !fits && allowed == 0 {
                self.open.push_back((nodes.saturating_mul(GROWTH), lo, hi));
            }
            left += allowed;
        }
        *budget += left;
        floor
    }

    /// What is live in a window, and where it is. Items with free bytes below them are left out: blocks are solid.
    fn cut(&self, lo: u32, hi: u32) -> (Vec<Item>, Vec<u64>) {
        let inside = |item: &Item| -> Vec<Rect> {
            let cut = item.rects.iter().map(|r| Rect {
                lo: r.lo.max(lo),
                hi: r.hi.min(hi),
                ..*r
            });
            cut.filter(|r| r.lo < r.hi).collect()
        };
        let core = self.items.iter().zip(&self.bases).filter_map(|(item, &base)| {
            let rects = inside(item);
            if rects.is_empty() || rects.iter().any(|r| r.start > 0) {
                return None;
            }
            let members = item.members.first().copied().into_iter().collect();
            Some((
                Item {
                    members,
                    rects,
                    ..*item
                },
                base,
            ))
        });
        core.unzip()
    }
}

/// Raises `floor` to a bound that the core has, up to `enough`. Also whether the core is known to have a layout within the
/// new one.
fn lift(core: &[Item], layout: (u64, &[u64]), mut floor: u64, enough: u64, budget: &mut u64) -> (u64, bool) {
    let mut best = Best::new(core, layout);
    let instances = best.instances();
    let step = step(core);
    // From here on nothing is to be refuted.
    let mut high = enough.min(layout.0);
    // The core's own peaks are multiples of its step, which the floor of the problem need not be.
    let mut capacity = floor / step * step;
    while capacity < high && *budget > 0 {
        let all = *budget;
        match best.go_on(&mut Attempt::new(capacity), &instances, all, budget) {
            Some(false) => floor = capacity + step,
            Some(true) | None => high = capacity,
        }
        capacity = floor + high.saturating_sub(floor) / step / 2 * step;
    }
    (floor.min(enough), best.peak <= floor)
}

/// The last tick at which something starts in each section of time that is not contained in a neighbour.
fn moments(items: &[Item]) -> Vec<u32> {
    let rects = items.iter().filter(|item| !item.reserved).flat_map(|item| &item.rects);
    // At equal times ends come first, intervals being half-open.
    let mut events: Vec<(u32, bool)> = rects.flat_map(|r| [(r.hi, false), (r.lo, true)]).collect();
    events.sort_unstable();
    let mut started = None;
    let mut out = Vec::new();
    for (at, starts) in events {
        if starts {
            started = Some(at);
        } else {
            out.extend(started.take());
        }
    }
    out
}

/// The highest end at each of the moments.
fn tops(items: &[Item], bases: &[u64], moments: &[u32]) -> Vec<u64> {
    let items = items.iter().zip(bases).filter(|(item, _)| !item.reserved);
    let mut rects: Vec<(u32, u64, u32)> = items
        .flat_map(|(item, base)| item.rects.iter().map(move |r| (r.lo, base + r.end, r.hi)))
        .collect();
    rects.sort_unstable_by_key(|&rect| Reverse(rect));
    let mut live: BinaryHeap<(u64, u32)> = BinaryHeap::new();
    let top = |&at: &u32| {
        while let Some((_, end, hi)) = rects.pop_if(|rect| rect.0 <= at) {
            live.push((end, hi));
        }
        while live.peek().is_some_and(|&(_, hi)| hi <= at) {
            live.pop();
        }
        live.peek().map_or(0, |&(end, _)| end)
    };
    moments.iter().map(top).collect()
}
