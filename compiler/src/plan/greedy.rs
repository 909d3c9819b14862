//! The greedy portfolio: items in some order, each at the first or the tightest place that is free for its lifetime.

use std::cmp::Reverse;

use super::item::{Item, Rect, round_up};

/// What the orders look at, one per item.
#[derive(Clone, Debug)]
struct Features {
    /// Bytes from base to highest end.
    size: u64,
    /// Clock ticks from first to last use.
    duration: u64,
    /// First clock value.
    lo: u32,
    /// One past the last clock value.
    hi: u32,
    /// Items that are live at some time with this one.
    conflicts: usize,
    /// Their bytes together.
    load: u64,
    /// The most bytes live at any time of its life.
    section: u64,
    /// Position in an order that depends on geometry alone, so that renaming or reordering buffers changes nothing.
    rank: usize,
}

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

/// How a place is chosen among the free ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// The lowest.
    First,
    /// The one that leaves the fewest bytes over; the lowest of those.
    Best,
}

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

/// A placed rectangle, at its final position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slab {
    start: u64,
    end: u64,
    lo: u32,
    hi: u32,
}

/// Placed rectangles, sorted by start.
#[derive(Clone, Default)]
struct Shelf {
    slabs: Vec<Slab>,
}

/// Rectangles that the portfolio may look at before it stops starting new orders. The first order always runs.
const WORK_LIMIT: u64 = 200_000_000;

/// The portfolio as a sequence: each call of `next` makes one layout.
pub(super) struct Portfolio<'a> {
    items: &'a [Item],
    features: Vec<Features>,
    pinned: Shelf,
    next: usize,
    work: u64,
}

impl<'a> Portfolio<'a> {
    /// Prepares the orders. `Err` holds two pinned items that overlap.
    pub fn new(items: &'a [Item]) -> Result<Self, (usize, usize)> {
        Ok(Self {
            items,
            features: features(items),
            pinned: place_pinned(items)?,
            next: 0,
            work: 0,
        })
    }

    fn layout(&mut self, name: String, key: Key, fit: Fit) -> Layout {
        let mut order: Vec<usize> = (0..self.items.len())
            .filter(|&i| self.items[i].pinned.is_none())
            .collect();
        order.sort_by_cached_key(|&i| (Reverse(key(&self.features[i])), self.features[i].rank));
        let mut shelf = self.pinned.clone();
        let mut bases: Vec<u64> = self.items.iter().map(|item| item.pinned.unwrap_or(0)).collect();
        for i in order {
            if !self.items[i].rects.is_empty() {
                bases[i] = shelf.find(&self.items[i], fit, &mut self.work);
                shelf.insert(&self.items[i], bases[i]);
            }
        }
        let top = |(item, base): (&Item, &u64)| if item.reserved { 0 } else { base + item.extent() };
        let live = self.items.iter().zip(&bases).filter(|(item, _)| !item.rects.is_empty());
        let peak = live.map(top).max().unwrap_or(0);
        Layout { name, bases, peak }
    }
}

impl Iterator for Portfolio<'_> {
    type Item = Layout;

    fn next(&mut self) -> Option<Layout> {
        let (name, key) = ORDERS.get(self.next / FITS.len())?;
        let (fit_name, fit) = FITS[self.next % FITS.len()];
        if self.next > 0 && self.work > WORK_LIMIT {
            return None;
        }
        self.next += 1;
        Some(self.layout(format!("{name}/{fit_name}"), *key, fit))
    }
}

impl Shelf {
    /// The base for `item`: a multiple of its alignment at which it meets nothing that is live with it.
    fn find(&self, item: &Item, fit: Fit, work: &mut u64) -> u64 {
        match item.rects.as_slice() {
            [only] if only.start == 0 => self.find_one(only, item.align, fit, work),
            rects => self.find_many(rects, item.align, fit, work),
        }
    }

    /// One rectangle at its base: a scan over the slabs in order of position.
    fn find_one(&self, rect: &Rect, align: u64, fit: Fit, work: &mut u64) -> u64 {
        let mut gap = Gap::new(fit);
        let mut free = 0u64;
        for (seen, s) in self.slabs.iter().enumerate() {
            if s.lo < rect.hi && rect.lo < s.hi {
                // The gap [free, s.start) holds the rectangle with this many bytes to spare.
                let slack = s.start.checked_sub(free).and_then(|room| room.checked_sub(rect.end));
                if slack.is_some_and(|slack| gap.offer(free, slack)) {
                    *work += seen as u64;
                    return free;
                }
                free = free.max(round_up(s.end, align));
            }
        }
        *work += self.slabs.len() as u64;
        gap.or(free)
    }

    /// Several rectangles: the bases each slab forbids, as half-open ranges, then a scan over those.
    fn find_many(&self, rects: &[Rect], align: u64, fit: Fit, work: &mut u64) -> u64 {
        let mut forbidden = Vec::new();
        for r in rects {
            *work += self.slabs.len() as u64;
            for s in self
                .slabs
                .iter()
                .filter(|s| s.lo < r.hi && r.lo < s.hi && s.end > r.start)
            {
                // base + r.end > s.start and base + r.start < s.end
                forbidden.push(((s.start + 1).saturating_sub(r.end), s.end - r.start));
            }
        }
        forbidden.sort_unstable();
        let mut gap = Gap::new(fit);
        let mut free = 0u64;
        for (from, to) in forbidden {
            if free < from && gap.offer(free, from - 1 - free) {
                return free;
            }
            free = free.max(round_up(to, align));
        }
        gap.or(free)
    }

    fn insert(&mut self, item: &Item, base: u64) {
        for r in &item.rects {
            let slab = Slab {
                start: base + r.start,
                end: base + r.end,
                lo: r.lo,
                hi: r.hi,
            };
            let at = self.slabs.partition_point(|s| *s < slab);
            self.slabs.insert(at, slab);
        }
    }
}

/// The best gap so far.
struct Gap {
    fit: Fit,
    best: Option<(u64, u64)>,
}

impl Gap {
    fn new(fit: Fit) -> Self {
        Self { fit, best: None }
    }

    /// Takes note of a gap at `at` with `slack` bytes to spare; true when the search is over.
    fn offer(&mut self, at: u64, slack: u64) -> bool {
        if self.best.is_none_or(|(least, _)| slack < least) {
            self.best = Some((slack, at));
        }
        self.fit == Fit::First || slack == 0
    }

    /// The best gap, or `top` when there was none.
    fn or(self, top: u64) -> u64 {
        self.best.map_or(top, |(_, at)| at)
    }
}

/// Puts the pinned items in place, or names two that overlap.
fn place_pinned(items: &[Item]) -> Result<Shelf, (usize, usize)> {
    let mut shelf = Shelf::default();
    let pinned: Vec<usize> = (0..items.len()).filter(|&i| items[i].pinned.is_some()).collect();
    for (n, &i) in pinned.iter().enumerate() {
        let base = items[i].pinned.unwrap_or(0);
        // Pins were held against the reserved ranges byte by byte; here both are grown to the placement unit.
        for &j in pinned[..n].iter().filter(|&&j| items[i].reserved == items[j].reserved) {
            let other = items[j].pinned.unwrap_or(0);
            let meets = |a: &Rect, b: &Rect| {
                a.lo < b.hi && b.lo < a.hi && base + a.start < other + b.end && other + b.start < base + a.end
            };
            if items[i]
                .rects
                .iter()
                .any(|a| items[j].rects.iter().any(|b| meets(a, b)))
            {
                return Err((j, i));
            }
        }
        shelf.insert(&items[i], base);
    }
    Ok(shelf)
}

/// Computes the features of all items in O(n log n).
fn features(items: &[Item]) -> Vec<Features> {
    let spans: Vec<(u32, u32)> = items.iter().map(Item::span).collect();
    let sizes: Vec<u64> = items.iter().map(Item::extent).collect();
    let total: u64 = sizes.iter().sum();
    let starts = Cumulative::new(spans.iter().map(|s| s.0).zip(sizes.iter().copied()));
    let ends = Cumulative::new(spans.iter().map(|s| s.1).zip(sizes.iter().copied()));
    let sections = Sections::new(&spans, &sizes);
    let mut by_geometry: Vec<usize> = (0..items.len()).collect();
    by_geometry.sort_by(|&a, &b| {
        let key = |i: usize| {
            (
                Reverse(sizes[i]),
                spans[i],
                &items[i].rects,
                items[i].align,
                items[i].members.first(),
            )
        };
        key(a).cmp(&key(b))
    });
    let mut rank = vec![0; items.len()];
    for (position, &i) in by_geometry.iter().enumerate() {
        rank[i] = position;
    }
    (0..items.len())
        .map(|i| {
            let (lo, hi) = spans[i];
            // Live together: started before our end, and not ended by our start.
            let ((begun, begun_bytes), (over, over_bytes)) = (starts.below(hi), ends.below(lo.saturating_add(1)));
            debug_assert!(begun_bytes <= total);
            Features {
                size: sizes[i],
                duration: u64::from(hi - lo),
                lo,
                hi,
                conflicts: begun.saturating_sub(over),
                load: begun_bytes.saturating_sub(over_bytes),
                section: sections.highest(lo, hi),
                rank: rank[i],
            }
        })
        .collect()
}

/// Counts and sums of everything at a key below a threshold.
struct Cumulative {
    keys: Vec<u32>,
    sums: Vec<u64>,
}

impl Cumulative {
    fn new(entries: impl Iterator<Item = (u32, u64)>) -> Self {
        let mut entries: Vec<_> = entries.collect();
        entries.sort_unstable();
        let mut sums = vec![0];
        sums.extend(entries.iter().scan(0u64, |sum, &(_, bytes)| {
            *sum += bytes;
            Some(*sum)
        }));
        Self {
            keys: entries.into_iter().map(|(key, _)| key).collect(),
            sums,
        }
    }

    /// Number and bytes of the entries with a key below `limit`.
    fn below(&self, limit: u32) -> (usize, u64) {
        let n = self.keys.partition_point(|&key| key < limit);
        (n, self.sums[n])
    }
}

/// Live bytes per stretch of time in which nothing starts or ends, with range maximum queries.
struct Sections {
    /// Clock value at which each section begins, ascending.
    times: Vec<u32>,
    /// `table[k][i]`: the maximum of sections `i..i + 2^k`.
    table: Vec<Vec<u64>>,
}

impl Sections {
    fn new(spans: &[(u32, u32)], sizes: &[u64]) -> Self {
        let mut times: Vec<u32> = spans.iter().flat_map(|&(lo, hi)| [lo, hi]).collect();
        times.sort_unstable();
        times.dedup();
        let at = |t: u32| times.partition_point(|&x| x < t);
        let (mut up, mut down) = (vec![0u64; times.len()], vec![0u64; times.len()]);
        for (&(lo, hi), &size) in spans.iter().zip(sizes).filter(|((lo, hi), _)| lo < hi) {
            up[at(lo)] += size;
            down[at(hi)] += size;
        }
        let mut live = 0u64;
        let loads: Vec<u64> = (0..times.len())
            .map(|i| {
                live = live + up[i] - down[i];
                live
            })
            .collect();
        let mut table = vec![loads];
        let mut width = 1;
        while 2 * width <= times.len() {
            let last = &table[table.len() - 1];
            let next = (0..=times.len() - 2 * width)
                .map(|i| last[i].max(last[i + width]))
                .collect();
            table.push(next);
            width *= 2;
        }
        Self { times, table }
    }

    /// The most bytes live at any time in `lo..hi`, both being times at which something starts or ends.
    fn highest(&self, lo: u32, hi: u32) -> u64 {
        let (a, b) = (
            self.times.partition_point(|&t| t < lo),
            self.times.partition_point(|&t| t < hi),
        );
        if a >= b {
            return 0;
        }
        let level = (b - a).ilog2() as usize;
        self.table[level][a].max(self.table[level][b - (1 << level)])
    }
}
