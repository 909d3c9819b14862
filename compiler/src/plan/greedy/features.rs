//! What the orders look at.

use std::cmp::Reverse;

use crate::plan::item::Item;

/// One per item.
#[derive(Clone, Debug)]
pub(super) struct Features {
    /// Bytes from base to highest end.
    pub size: u64,
    /// Clock ticks from first to last use.
    pub duration: u64,
    /// First clock value.
    pub lo: u32,
    /// One past the last clock value.
    pub hi: u32,
    /// Items that are live at some time with this one.
    pub conflicts: usize,
    /// Their bytes together.
    pub load: u64,
    /// The most bytes live at any time of its life.
    pub section: u64,
    /// Position in an order that depends on geometry alone, so that renaming or reordering buffers changes nothing.
    pub rank: usize,
}

/// Computes the features of all items in O(n log n).
pub(super) fn features(items: &[Item]) -> Vec<Features> {
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
