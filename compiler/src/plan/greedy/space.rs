//! Which bytes are taken when: a tree over time whose nodes hold the taken stretches of bytes.
//!
//! A node stands for a range of ticks. `cover` is what is taken during all of it by rectangles that are stored at this
//! node, `within` what is taken at any time of it. A rectangle is stored at the few nodes that its lifetime consists of,
//! so that placing and asking look at a logarithmic number of lists. Stretches that touch are joined: over long times a
//! list is nearly solid and short.

use crate::plan::item::{Item, Rect, round_up};

/// How a place is chosen among the free ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// The lowest.
    First,
    /// The one that leaves the fewest bytes over; the lowest of those.
    Best,
}

/// Taken bytes: ascending, apart.
type Stretches = Vec<(u64, u64)>;

#[derive(Clone, Debug, Default)]
struct Node {
    cover: Stretches,
    within: Stretches,
}

/// The bytes taken by placed items.
#[derive(Clone, Debug, Default)]
pub(super) struct Space {
    /// Clock values at which something starts or ends, ascending: the ticks lie between them.
    times: Vec<u32>,
    /// The position of the first tick in `nodes`, a power of two.
    leaves: usize,
    /// A binary tree by position: the children of `n` are `2n` and `2n + 1`, ticks are the last half.
    nodes: Vec<Node>,
}

/// One list that a rectangle must not meet.
struct Obstacle<'a> {
    /// What is taken and not yet passed.
    rest: &'a [(u64, u64)],
    /// The rectangle's bytes, from the base.
    start: u64,
    end: u64,
}

impl Space {
    /// Free at all times; made for rectangles of these items.
    pub fn new(items: &[Item]) -> Self {
        let mut times: Vec<u32> = items.iter().flat_map(|i| &i.rects).flat_map(|r| [r.lo, r.hi]).collect();
        times.sort_unstable();
        times.dedup();
        let leaves = times.len().next_power_of_two();
        let nodes = vec![Node::default(); 2 * leaves];
        Self { times, leaves, nodes }
    }

    /// Becomes a copy of `other`, which was made for the same items. Keeps what it has allocated.
    pub fn copy(&mut self, other: &Space) {
        for (mine, theirs) in self.nodes.iter_mut().zip(&other.nodes) {
            mine.cover.clone_from(&theirs.cover);
            mine.within.clone_from(&theirs.within);
        }
    }

    /// Visits the nodes that a lifetime consists of, with `true`, and all nodes above those, with `false`.
    fn walk(&self, rect: &Rect, mut visit: impl FnMut(usize, bool)) {
        let leaf = |t: u32| self.times.partition_point(|&x| x < t) + self.leaves;
        let (first, end) = (leaf(rect.lo), leaf(rect.hi));
        let (mut l, mut r) = (first, end);
        while l < r {
            if l % 2 == 1 {
                visit(l, true);
                l += 1;
            }
            if r % 2 == 1 {
                r -= 1;
                visit(r, true);
            }
            (l, r) = (l / 2, r / 2);
        }
        // Above are those nodes over the first and the last tick that reach beyond the lifetime.
        let (mut l, mut r, mut level) = (first / 2, (end - 1) / 2, 1);
        while l > 0 {
            let beyond = |node: usize| node << level < first || (node + 1) << level > end;
            if beyond(l) {
                visit(l, false);
            }
            if r != l && beyond(r) {
                visit(r, false);
            }
            (l, r, level) = (l / 2, r / 2, level + 1);
        }
    }

    /// Takes the bytes of `item` at `base`. Adds to `work` what it changes.
    pub fn insert(&mut self, item: &Item, base: u64, work: &mut u64) {
        for rect in &item.rects {
            let stretch = (base + rect.start, base + rect.end);
            let mut nodes = std::mem::take(&mut self.nodes);
            self.walk(rect, |node, whole| {
                *work += 1;
                take(&mut nodes[node].within, stretch);
                if whole {
                    take(&mut nodes[node].cover, stretch);
                }
            });
            self.nodes = nodes;
        }
    }

    /// The base for `item`: a multiple of its alignment at which it meets nothing that is taken during its lifetime.
    /// Adds to `work` what it looks at.
    pub fn find(&self, item: &Item, fit: Fit, work: &mut u64) -> u64 {
        let mut obstacles = self.obstacles(item);
        let mut best: Option<(u64, u64)> = None;
        let mut free = 0;
        loop {
            free = rise(&mut obstacles, free, item.align, work);
            // How far it could move up before it meets something.
            let slack = obstacles
                .iter()
                .filter_map(|o| o.rest.first().map(|next| next.0 - (free + o.end)))
                .min();
            let Some(slack) = slack else {
                return best.map_or(free, |(_, at)| at);
            };
            if fit == Fit::First || slack == 0 {
                return free;
            }
            if best.is_none_or(|(least, _)| slack < least) {
                best = Some((slack, free));
            }
            free = round_up(free + slack + 1, item.align);
        }
    }

    /// Whether `item` can have `base`.
    pub fn admits(&self, item: &Item, base: u64) -> bool {
        rise(&mut self.obstacles(item), base, 1, &mut 0) == base
    }

    fn obstacles(&self, item: &Item) -> Vec<Obstacle<'_>> {
        let mut out = Vec::with_capacity(64);
        for rect in &item.rects {
            self.walk(rect, |node, whole| {
                let node = &self.nodes[node];
                let rest = if whole { &node.within } else { &node.cover };
                if !rest.is_empty() {
                    out.push(Obstacle {
                        rest,
                        start: rect.start,
                        end: rect.end,
                    });
                }
            });
        }
        out
    }
}

/// The lowest base from `free` on, a multiple of `align`, that meets none of the obstacles. Drops what lies below it.
fn rise(obstacles: &mut [Obstacle<'_>], mut free: u64, align: u64, work: &mut u64) -> u64 {
    let (mut at, mut calm) = (0, 0);
    while calm < obstacles.len() {
        let o = &mut obstacles[at];
        *work += 1;
        let low = free + o.start;
        if o.rest.first().is_some_and(|s| s.1 <= low) {
            let near = o.rest.len().min(8);
            let passed = match o.rest[near - 1].1 <= low {
                true => o.rest.partition_point(|s| s.1 <= low),
                false => o.rest[..near].partition_point(|s| s.1 <= low),
            };
            o.rest = &o.rest[passed..];
        }
        match o.rest.first() {
            Some(&(start, end)) if start < free + o.end => {
                free = round_up(end - o.start, align);
                calm = 0;
            }
            _ => {
                calm += 1;
                at = (at + 1) % obstacles.len();
            }
        }
    }
    free
}

/// Adds a stretch, joining it with what it touches.
fn take(list: &mut Stretches, (start, end): (u64, u64)) {
    let from = list.partition_point(|s| s.1 < start);
    let to = from + list[from..].partition_point(|s| s.0 <= end);
    if from == to {
        list.insert(from, (start, end));
    } else {
        list[from] = (start.min(list[from].0), end.max(list[to - 1].1));
        list.drain(from + 1..to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item(rects: Vec<(u64, u64, u32, u32)>, shift: u32) -> Item {
        let rect = |(start, height, lo, length): (u64, u64, u32, u32)| Rect {
            start,
            end: start + height,
            lo,
            hi: lo + length,
        };
        Item {
            members: Vec::new(),
            align: 1 << shift,
            pinned: None,
            rects: rects.into_iter().map(rect).collect(),
            reserved: false,
        }
    }

    fn items() -> impl Strategy<Value = Vec<Item>> {
        let rect = (0..3u64, 1..5u64, 0..12u32, 1..9u32);
        let one = (prop::collection::vec(rect, 1..3), 0..3u32).prop_map(|(rects, shift)| item(rects, shift));
        prop::collection::vec(one, 1..14)
    }

    proptest! {
        /// The place is the lowest, or the tightest, of all that are free by definition.
        #[test]
        fn finds_the_place_that_a_scan_finds(items in items(), best in any::<bool>()) {
            let mut space = Space::new(&items);
            let mut placed: Vec<(&Item, u64)> = Vec::new();
            for item in &items {
                let free = |base: u64| !placed.iter().any(|&other| super::super::overlap((item, base), other));
                let slack = |base: u64| (1..200).take_while(|by| free(base + by)).count();
                // Only the lowest base of a gap is looked at.
                let begins = |base: u64| base == 0 || (base - item.align..base).any(|below| !free(below));
                let bases = (0..200).step_by(item.align as usize).filter(|&base| free(base) && begins(base));
                let want = match best {
                    false => bases.min(),
                    true => bases.min_by_key(|&base| (slack(base), base)),
                };
                let fit = if best { Fit::Best } else { Fit::First };
                let got = space.find(item, fit, &mut 0);
                prop_assert!(space.admits(item, got));
                prop_assert_eq!(Some(got), want);
                space.insert(item, got, &mut 0);
                placed.push((item, got));
            }
        }
    }
}
