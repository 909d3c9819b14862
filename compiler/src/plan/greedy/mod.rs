//! The greedy portfolio: items in some order, each at the first or the tightest place that is free for its lifetime.

mod features;
mod lists;
mod space;

use std::cmp::Reverse;

use super::item::{Item, Rect};
use features::{Features, features};
use lists::Lists;
use space::{Fit, Space};

/// A sort key: largest first, then `rank`.
type Key = fn(&Features) -> (u128, u128);

/// The orders, by the name the report shows. Those that win most often stand first, since the search stops at the bound.
const ORDERS: &[(&str, Key)] = &[
    ("size", |f| (f.size.into(), f.duration.into())),
    ("time", |f| (u128::from(u32::MAX - f.lo), f.size.into())),
    ("section", |f| (f.section.into(), f.size.into())),
    ("area", |f| (u128::from(f.size) * u128::from(f.duration), f.size.into())),
    ("duration", |f| (f.duration.into(), f.size.into())),
    ("conflicts", |f| (f.conflicts as u128, f.size.into())),
    ("load", |f| (f.load.into(), f.size.into())),
    ("time-reversed", |f| (f.hi.into(), f.size.into())),
];

const FITS: &[(&str, Fit)] = &[("first", Fit::First), ("best", Fit::Best)];

/// One layout of the items.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Order and fit.
    pub name: String,
    /// Base of each item.
    pub bases: Vec<u64>,
    /// Highest end of anything that is ever live.
    pub peak: u64,
}

/// Lists that the portfolio may look at before it starts no further order. The first order always runs.
fn work_limit(items: usize) -> u64 {
    let n = items as u64;
    5_000_000 + n * n / 8
}

/// Conflicts that the improvement may look at where they are listed: up to some tens of milliseconds, and less where the
/// orders themselves take long.
fn improvement(items: usize) -> u64 {
    let n = items as u64 + 1;
    (8_000 * n).min(1_600_000).min(640_000_000 / n)
}

/// Conflicts up to which they are listed.
const MAX_CONFLICTS: usize = 100_000;

/// The base of an item that has none yet.
const NOWHERE: u64 = u64::MAX;

/// With more items than this, an order is given up where it reaches the best peak.
const LARGE: usize = 2_000;

/// The best orders are improved by turns, each in so many rounds.
const TURN: usize = 100;
const STARTS: usize = 3;

/// An item that ends too high moves up by at most this part of its position in the order; another part each turn.
const STRIDES: [usize; 3] = [2, 4, 8];

/// An order, how it is placed, and the peak that this gives.
#[derive(Clone, Debug)]
struct Start {
    peak: u64,
    order: Vec<usize>,
    fit: Fit,
}

/// The portfolio: each call of [`Portfolio::next`] makes one layout.
pub(super) struct Portfolio<'a> {
    items: &'a [Item],
    features: Vec<Features>,
    /// With the pinned items in place.
    pinned: Space,
    /// Where an order is tried.
    space: Space,
    /// Orders tried so far.
    next: usize,
    work: u64,
    /// The best orders, best first.
    starts: Vec<Start>,
}

impl<'a> Portfolio<'a> {
    /// Prepares the orders. `Err` holds two pinned items that overlap.
    pub fn new(items: &'a [Item]) -> Result<Self, (usize, usize)> {
        let pinned = place_pinned(items)?;
        Ok(Self {
            items,
            features: features(items),
            space: pinned.clone(),
            pinned,
            next: 0,
            work: 0,
            starts: Vec::new(),
        })
    }

    /// The next layout: the static orders one by one, then an improvement of the best ones, if it succeeds. No layout below
    /// `enough` is looked for.
    pub fn next(&mut self, enough: u64) -> Option<Layout> {
        while self.next < ORDERS.len() * FITS.len() && (self.next == 0 || self.work <= work_limit(self.items.len())) {
            let (fit_name, fit) = FITS[self.next / ORDERS.len()];
            let (name, key) = ORDERS[self.next % ORDERS.len()];
            self.next += 1;
            if let Some(layout) = self.try_order(format!("{name}/{fit_name}"), key, fit) {
                return Some(layout);
            }
        }
        if self.next > ORDERS.len() * FITS.len() {
            return None;
        }
        self.next = ORDERS.len() * FITS.len() + 1;
        self.improve(enough)
    }

    /// The items to be placed, in the order of a key.
    fn order(&self, key: Key) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.items.len())
            .filter(|&i| self.items[i].pinned.is_none() && !self.items[i].rects.is_empty())
            .collect();
        order.sort_by_cached_key(|&i| (Reverse(key(&self.features[i])), self.features[i].rank));
        order
    }

    /// Places the items in this order. `Err` holds the position of the first one that ends above `limit`.
    fn place(&mut self, order: &[usize], fit: Fit, limit: u64) -> Result<(u64, Vec<u64>), usize> {
        self.space.copy(&self.pinned);
        let mut bases: Vec<u64> = self.items.iter().map(|item| item.pinned.unwrap_or(0)).collect();
        for (position, &i) in order.iter().enumerate() {
            let item = &self.items[i];
            bases[i] = self.space.find(item, fit, &mut self.work);
            if bases[i] + item.extent() > limit {
                return Err(position);
            }
            self.space.insert(item, bases[i], &mut self.work);
        }
        let live = self.items.iter().zip(&bases).filter(|(item, _)| !item.rects.is_empty());
        let top = |(item, base): (&Item, &u64)| if item.reserved { 0 } else { base + item.extent() };
        Ok((live.map(top).max().unwrap_or(0), bases))
    }

    fn try_order(&mut self, name: String, key: Key, fit: Fit) -> Option<Layout> {
        let order = self.order(key);
        let limit = match self.starts.first() {
            Some(best) if self.items.len() > LARGE => best.peak - 1,
            _ => u64::MAX,
        };
        let (peak, bases) = self.place(&order, fit, limit).ok()?;
        let at = self.starts.partition_point(|s| s.peak <= peak);
        self.starts.insert(at, Start { peak, order, fit });
        self.starts.truncate(STARTS);
        Some(Layout { name, bases, peak })
    }

    /// A layout below the best, by moving up in the order what ends too high, again and again.
    fn improve(&mut self, enough: u64) -> Option<Layout> {
        let mut lists = Lists::new(self.items, MAX_CONFLICTS);
        let n = self.items.len();
        let end = match lists {
            Some(_) => self.work + improvement(n),
            // What is in the tree costs more to look at.
            None if n <= LARGE => self.work + improvement(n) / 4,
            None => work_limit(n),
        };
        let mut found = None;
        let mut turn = 0;
        // The same numbers each time, from a generator of three shifts.
        let mut random = 0x9e37_79b9_7f4a_7c15u64;
        while self.work < end {
            let Some(best) = self.starts.first().map(|best| best.peak).filter(|&peak| peak > enough) else {
                break;
            };
            let mut start = self.starts[turn % self.starts.len()].clone();
            let stride = STRIDES[turn / self.starts.len() % STRIDES.len()];
            turn += 1;
            let mut from = 0;
            let mut bases = self.free();
            for _ in 0..TURN {
                let placed = match &mut lists {
                    None => self.place(&start.order, start.fit, best - 1),
                    Some(lists) => self.place_again(lists, &start, from, &mut bases, best - 1),
                };
                match placed {
                    Ok((peak, bases)) => {
                        start.peak = peak;
                        self.starts.insert(0, start);
                        self.starts.truncate(STARTS);
                        let name = String::from("improved");
                        found = Some(Layout { name, bases, peak });
                        break;
                    }
                    // Too high by itself.
                    Err(0) => return found,
                    Err(at) => {
                        random ^= random << 13;
                        random ^= random >> 7;
                        random ^= random << 17;
                        from = at - 1 - (random % at.div_ceil(stride) as u64) as usize;
                        start.order[from..=at].rotate_right(1);
                    }
                }
                if self.work >= end {
                    break;
                }
            }
        }
        found
    }

    /// Bases of which only those of pinned items are given.
    fn free(&self) -> Vec<u64> {
        let base = |item: &Item| match item.rects.is_empty() {
            true => item.pinned.unwrap_or(0),
            false => item.pinned.unwrap_or(NOWHERE),
        };
        self.items.iter().map(base).collect()
    }

    /// As `place`, where everything before position `from` has its base already.
    fn place_again(
        &mut self,
        lists: &mut Lists,
        start: &Start,
        from: usize,
        bases: &mut [u64],
        limit: u64,
    ) -> Result<(u64, Vec<u64>), usize> {
        start.order[from..].iter().for_each(|&i| bases[i] = NOWHERE);
        for (position, &i) in start.order.iter().enumerate().skip(from) {
            let item = &self.items[i];
            let base = lists.find(item, i, bases, start.fit, &mut self.work);
            if base + item.extent() > limit {
                return Err(position);
            }
            bases[i] = base;
        }
        let live = self
            .items
            .iter()
            .zip(bases.iter())
            .filter(|(item, _)| !item.rects.is_empty());
        let top = |(item, base): (&Item, &u64)| if item.reserved { 0 } else { base + item.extent() };
        Ok((live.map(top).max().unwrap_or(0), bases.to_vec()))
    }
}

/// Puts the pinned items in place, or names two that overlap.
fn place_pinned(items: &[Item]) -> Result<Space, (usize, usize)> {
    let mut space = Space::new(items);
    let base = |i: usize| items[i].pinned.map(|base| (i, base));
    let (reserved, pinned): (Vec<_>, Vec<_>) = (0..items.len()).filter_map(base).partition(|&(i, _)| items[i].reserved);
    for (n, &(i, base)) in pinned.iter().enumerate() {
        if !space.admits(&items[i], base) {
            let met = pinned[..n]
                .iter()
                .find(|&&(j, other)| overlap((&items[i], base), (&items[j], other)));
            return Err((met.map_or(i, |&(j, _)| j), i));
        }
        space.insert(&items[i], base, &mut 0);
    }
    // Pins were held against the reserved ranges byte by byte; here both are grown to the placement unit.
    for (i, base) in reserved {
        space.insert(&items[i], base, &mut 0);
    }
    Ok(space)
}

fn overlap((a, at): (&Item, u64), (b, bt): (&Item, u64)) -> bool {
    let meets =
        |r: &Rect, s: &Rect| r.lo < s.hi && s.lo < r.hi && at + r.start < bt + s.end && bt + s.start < at + r.end;
    a.rects.iter().any(|r| b.rects.iter().any(|s| meets(r, s)))
}
