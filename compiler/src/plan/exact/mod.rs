//! Exact search: the least peak, or a proof that a capacity is too small.

mod instance;
mod orders;
mod search;

use super::item::Item;
use instance::{Instance, Part, parts};
use orders::SEARCHES;
use search::{Search, Verdict};

/// The answer to "is there a layout within this capacity?".
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    /// The base of each block.
    Layout(Vec<u64>),
    /// There is none.
    Infeasible,
    /// The budget is spent.
    Unknown,
}

/// Blocks up to which one search is enough.
const FEW: usize = 16;

/// Every other search doubts no more than so many placements at first.
const DOUBTS: u32 = 2;

/// Searches for a layout within `capacity` in all orders by turns, each going on where it stopped. Takes the
/// nodes it looks at off `budget`.
fn decide_instance(instance: &Instance, capacity: u64, budget: &mut u64) -> Decision {
    // To refute, each search on its own has to look at everything, and few blocks are soon placed in any order.
    let count = if instance.blocks.len() <= FEW {
        1
    } else {
        SEARCHES.len()
    };
    let doubts = |n: usize| (count > 1 && n.is_multiple_of(2)).then_some(DOUBTS);
    let mut searches: Vec<Search<'_>> = SEARCHES[..count]
        .iter()
        .enumerate()
        .map(|(n, &(rule, order))| Search::new(instance, rule, order, capacity, doubts(n)))
        .collect();
    let mut turn = 2 * instance.blocks.len() as u64 + 100;
    while *budget > 0 {
        for search in &mut searches {
            let mut allowed = turn.min(*budget);
            let before = allowed;
            let verdict = search.run(&mut allowed);
            *budget -= before - allowed;
            match verdict {
                Verdict::Found => return Decision::Layout(search.bases().to_vec()),
                Verdict::Exhausted if instance.faithful => return Decision::Infeasible,
                Verdict::Exhausted => return Decision::Unknown,
                Verdict::Paused => {}
            }
        }
        turn += turn / 2;
    }
    Decision::Unknown
}

/// What a minimisation ends with.
#[derive(Clone, Debug)]
pub(super) struct Minimum {
    /// The best layout: its peak and the base of each item. `None` when nothing beats the incumbent.
    pub better: Option<(u64, Vec<u64>)>,
    /// No layout has a peak below this.
    pub floor: u64,
}

/// Parts of a budget: what the floor gets is one of so many, and what a capacity gets in the first round.
const FIRST: u64 = 4;
const LEAST: u64 = 12;

/// Lowers the peak of `incumbent`, a layout of `items`, until it meets `floor` or the budget is spent.
///
/// The floor comes first: a layout there needs no further proof. Then the capacities between floor and incumbent are
/// bisected in rounds, each with twice the share of the one before for every capacity.
pub(super) fn minimise(items: &[Item], floor: u64, incumbent: (u64, &[u64]), budget: &mut u64) -> Minimum {
    let mut best = Best::new(items, incumbent);
    let mut floor = floor;
    let step = instance::step(items);
    // Peaks between the multiples of the step do not exist.
    floor = floor.next_multiple_of(step);
    let first = (*budget / FIRST).max(1);
    let mut share = (*budget / LEAST).max(1);
    let left = *budget;
    // Below this nothing was found in this round; not all of it is proven.
    let mut tried = floor + step;
    if best.peak > floor && best.probe(floor, first, budget) == Some(false) {
        floor = tried;
    }
    // Whether more nodes could have changed an answer in this round.
    let mut open = left - *budget >= first;
    while floor < best.peak && *budget > 0 {
        if tried >= best.peak {
            if !open {
                break;
            }
            (tried, share, open) = (floor, 2 * share, false);
        }
        let middle = tried + (best.peak - tried) / step / 2 * step;
        let left = *budget;
        match best.probe(middle, share, budget) {
            Some(true) => {}
            Some(false) => {
                floor = floor.max(middle + step);
                tried = middle + step;
            }
            None => {
                open |= left - *budget >= share;
                tried = middle + step;
            }
        }
    }
    let better = (best.peak < incumbent.0).then_some((best.peak, best.bases));
    Minimum { better, floor }
}

/// The best layout so far.
struct Best<'a> {
    items: &'a [Item],
    parts: Vec<Part>,
    bases: Vec<u64>,
    peak: u64,
}

impl<'a> Best<'a> {
    fn new(items: &'a [Item], incumbent: (u64, &[u64])) -> Self {
        let mut bases = incumbent.1.to_vec();
        let parts = parts(items, &mut bases);
        Self {
            items,
            parts,
            bases,
            peak: incumbent.0,
        }
    }

    fn top(&self, part: &Part) -> u64 {
        let tops = part.items.iter().map(|&i| self.bases[i] + self.items[i].extent());
        tops.max().unwrap_or(part.ground)
    }

    /// Tries a capacity below the peak: whether there is a layout, if that was decided. Keeps the layout of each part that
    /// has one.
    fn probe(&mut self, capacity: u64, share: u64, budget: &mut u64) -> Option<bool> {
        let mut allowed = share.min(*budget);
        let before = allowed;
        let mut answer = Some(true);
        for at in 0..self.parts.len() {
            let part = &self.parts[at];
            if self.top(part) <= capacity {
                continue;
            }
            let decision = match Instance::new(self.items, &part.items) {
                Some(instance) if capacity >= part.ground => {
                    match decide_instance(&instance, capacity - part.ground, &mut allowed) {
                        Decision::Layout(bases) => {
                            for (&item, &base) in instance.item.iter().zip(&bases) {
                                self.bases[item] = part.ground + base;
                            }
                            Some(true)
                        }
                        Decision::Infeasible => Some(false),
                        Decision::Unknown => None,
                    }
                }
                Some(_) => Some(false),
                None => None,
            };
            if decision != Some(true) {
                answer = decision;
                break;
            }
        }
        *budget -= before - allowed;
        self.peak = self.parts.iter().map(|part| self.top(part)).max().unwrap_or(0);
        answer
    }
}

/// Whether `items` fit in `capacity`, which their layout `incumbent` does not: the bases, if so.
pub(super) fn decide(items: &[Item], capacity: u64, incumbent: (u64, &[u64]), budget: &mut u64) -> Minimum {
    let mut best = Best::new(items, incumbent);
    let all = *budget;
    match best.probe(capacity, all, budget) {
        Some(true) => Minimum {
            better: Some((best.peak, best.bases)),
            floor: 0,
        },
        Some(false) => Minimum {
            better: None,
            floor: capacity + 1,
        },
        None => Minimum { better: None, floor: 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::item::Rect;

    /// Numbers below `n`.
    fn below(random: &mut u64, n: u64) -> u64 {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        (*random >> 9) % n
    }

    fn item(lo: u32, hi: u32, end: u64, pinned: Option<u64>) -> Item {
        Item {
            members: Vec::new(),
            align: 1,
            pinned,
            rects: vec![Rect { start: 0, end, lo, hi }],
            reserved: false,
        }
    }

    /// Every search by itself, doubting at first or not, around what is pinned or not, comes to the same end.
    #[test]
    fn all_searches_agree() {
        let mut random = 7;
        let mut refuted = 0;
        for case in 0..400 {
            let n = 2 + below(&mut random, 6);
            let mut items: Vec<Item> = (0..n)
                .map(|_| {
                    let lo = below(&mut random, 6) as u32;
                    item(
                        lo,
                        lo + 1 + below(&mut random, 3) as u32,
                        1 + below(&mut random, 5),
                        None,
                    )
                })
                .collect();
            if case % 2 == 1 {
                items.push(item(1, 4, 2, Some(3)));
            }
            let all: Vec<usize> = (0..items.len()).collect();
            let instance = Instance::new(&items, &all).expect("a small instance");
            for capacity in 5..12 {
                let verdict = |&(rule, order): &(_, _), doubts| {
                    Search::new(&instance, rule, order, capacity, doubts).run(&mut 1_000_000)
                };
                let want = verdict(&SEARCHES[0], None);
                refuted += usize::from(want == Verdict::Exhausted);
                for search in SEARCHES {
                    for doubts in [None, Some(0), Some(DOUBTS)] {
                        assert_eq!(verdict(search, doubts), want, "{items:?} {capacity}");
                    }
                }
            }
        }
        assert!((100..2000).contains(&refuted), "{refuted}");
    }
}
