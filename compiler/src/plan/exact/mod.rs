//! Exact search: the least peak, or a proof that a capacity is too small.

mod cores;
mod instance;
mod orders;
mod search;

use std::cell::OnceCell;

use super::item::Item;
use cores::Cores;
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

/// Searches for a layout of an instance within a capacity, in all orders by turns, each going on where it stopped.
struct Turns<'i> {
    instance: &'i Instance,
    searches: Vec<Search<'i>>,
    /// Nodes of a turn.
    turn: u64,
}

impl<'i> Turns<'i> {
    fn new(instance: &'i Instance, capacity: u64) -> Self {
        // To refute, each search on its own has to look at everything, and few blocks are soon placed in any order.
        let count = if instance.blocks.len() <= FEW {
            1
        } else {
            SEARCHES.len()
        };
        let doubts = |n: usize| (count > 1 && n.is_multiple_of(2)).then_some(DOUBTS);
        let searches = SEARCHES[..count].iter().enumerate();
        Self {
            instance,
            searches: searches
                .map(|(n, &(rule, order))| Search::new(instance, rule, order, capacity, doubts(n)))
                .collect(),
            turn: 2 * instance.blocks.len() as u64 + 100,
        }
    }

    /// Goes on until `budget` nodes are spent, which it takes off.
    fn run(&mut self, budget: &mut u64) -> Decision {
        while *budget > 0 {
            for search in &mut self.searches {
                let mut allowed = self.turn.min(*budget);
                let before = allowed;
                let verdict = search.run(&mut allowed);
                *budget -= before - allowed;
                match verdict {
                    Verdict::Found => return Decision::Layout(search.bases().to_vec()),
                    Verdict::Exhausted if self.instance.faithful => return Decision::Infeasible,
                    Verdict::Exhausted => return Decision::Unknown,
                    Verdict::Paused => {}
                }
            }
            self.turn += self.turn / 2;
        }
        Decision::Unknown
    }
}

/// What a minimisation ends with.
#[derive(Clone, Debug)]
pub(super) struct Minimum {
    /// The best layout: its peak and the base of each item. `None` when nothing beats the incumbent.
    pub better: Option<(u64, Vec<u64>)>,
    /// No layout has a peak below this.
    pub floor: u64,
}

/// Parts of a budget: what a capacity gets until cores are looked at and what those get, twice; and what a capacity gets in
/// the first round.
const STAGES: [(u64, u64); 2] = [(64, 256), (4, 16)];
const LEAST: u64 = 12;

/// Lowers the peak of `incumbent`, a layout of `items`, until it meets `floor` or the budget is spent.
///
/// The floor comes first: a layout there needs no further proof. Then the capacities between floor and incumbent are
/// bisected in rounds, each with twice the share of the one before for every capacity.
pub(super) fn minimise(items: &[Item], floor: u64, incumbent: (u64, &[u64]), budget: &mut u64) -> Minimum {
    let mut best = Best::new(items, incumbent);
    let instances = best.instances();
    let step = instance::step(items);
    let all = *budget;
    // Peaks between the multiples of the step do not exist.
    let mut floor = floor.next_multiple_of(step);
    let mut attempt = Attempt::new(floor);
    // Whether nothing was looked for at the floor yet.
    let mut fresh = true;
    let mut cores = None;
    for (nodes, part) in STAGES {
        if best.peak > floor {
            let share = (all / nodes).saturating_sub(all - *budget);
            fresh = best.go_on(&mut attempt, &instances, share, budget) == Some(false);
            if fresh {
                floor += step;
            }
        }
        if best.peak > floor {
            let cores = cores.get_or_insert_with(|| Cores::new(items, best.bases.clone(), floor));
            let raised = cores.raise(floor, best.peak, all / part, budget).next_multiple_of(step);
            fresh |= raised > floor;
            floor = raised;
        }
        if fresh {
            attempt = Attempt::new(floor);
        }
    }
    let mut share = (all / LEAST).max(1);
    // Below this nothing was found in this round; not all of it is proven.
    let mut tried = if fresh { floor } else { floor + step };
    // Whether more nodes could have changed an answer in this round.
    let mut open = all - *budget >= all / STAGES[1].0;
    while floor < best.peak && *budget > 0 {
        if tried >= best.peak {
            if !open {
                break;
            }
            (tried, share, open) = (floor, 2 * share, false);
        }
        let middle = tried + (best.peak - tried) / step / 2 * step;
        let left = *budget;
        match best.go_on(&mut Attempt::new(middle), &instances, share, budget) {
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

    /// Room for the instance of each part.
    fn instances(&self) -> Instances {
        self.parts.iter().map(|_| OnceCell::new()).collect()
    }

    /// Goes on with an attempt, for `share` nodes: whether there is a layout, if that was decided. Keeps the layout of each
    /// part that has one.
    fn go_on<'i>(
        &mut self,
        attempt: &mut Attempt<'i>,
        instances: &'i Instances,
        share: u64,
        budget: &mut u64,
    ) -> Option<bool> {
        let mut allowed = share.min(*budget);
        *budget -= allowed;
        let answer = loop {
            let Some(part) = self.parts.get(attempt.part) else {
                break Some(true);
            };
            if self.top(part) <= attempt.capacity {
                (attempt.part, attempt.turns) = (attempt.part + 1, None);
                continue;
            }
            let Some(room) = attempt.capacity.checked_sub(part.ground) else {
                break Some(false);
            };
            let instance = instances[attempt.part].get_or_init(|| Instance::new(self.items, &part.items));
            let Some(instance) = instance else { break None };
            let turns = attempt.turns.get_or_insert_with(|| Turns::new(instance, room));
            match turns.run(&mut allowed) {
                Decision::Layout(bases) => {
                    for (&item, &base) in instance.item.iter().zip(&bases) {
                        self.bases[item] = part.ground + base;
                    }
                }
                Decision::Infeasible => break Some(false),
                Decision::Unknown => break None,
            }
        };
        *budget += allowed;
        self.peak = self.parts.iter().map(|part| self.top(part)).max().unwrap_or(0);
        answer
    }
}

/// The instance of each part, made when it is first searched; `None` where that is too large.
type Instances = Vec<OnceCell<Option<Instance>>>;

/// A search of all parts for a layout within a capacity, one after another.
struct Attempt<'i> {
    capacity: u64,
    /// The part that is searched, and how far that is.
    part: usize,
    turns: Option<Turns<'i>>,
}

impl Attempt<'_> {
    fn new(capacity: u64) -> Self {
        Self {
            capacity,
            part: 0,
            turns: None,
        }
    }
}

/// Whether `items` fit in `capacity`, which their layout `incumbent` does not: the bases, if so.
pub(super) fn decide(items: &[Item], capacity: u64, incumbent: (u64, &[u64]), budget: &mut u64) -> Minimum {
    let mut best = Best::new(items, incumbent);
    let instances = best.instances();
    let mut attempt = Attempt::new(capacity);
    let (nodes, part) = STAGES[1];
    let all = *budget;
    let mut answer = best.go_on(&mut attempt, &instances, all / nodes, budget);
    if answer.is_none() {
        let mut cores = Cores::new(items, best.bases.clone(), capacity);
        answer = match cores.raise(capacity, capacity + 1, all / part, budget) {
            floor if floor > capacity => Some(false),
            _ => best.go_on(&mut attempt, &instances, all, budget),
        };
    }
    match answer {
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

/// A bound that no layout is below, at least `floor`. `layout` is one.
pub(super) fn bound(items: &[Item], floor: u64, layout: (u64, Vec<u64>), mut budget: u64) -> u64 {
    let all = budget;
    let raised = Cores::new(items, layout.1, floor).raise(floor, layout.0, all, &mut budget);
    raised.next_multiple_of(instance::step(items))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::greedy::Portfolio;
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

    /// Four items that live at once, each at a multiple of 64 although it has 16 bytes, amid others that fit under them.
    #[test]
    fn a_core_proves_what_the_search_of_everything_does_not() {
        let mut random = 3;
        let mut items: Vec<Item> = (0..4u32).map(|i| item(36 + i, 50 - i, 16, None)).collect();
        items.iter_mut().for_each(|item| item.align = 64);
        let mut live = [0; 90];
        live[36..50].fill(64);
        for _ in 0..4000 {
            let lo = below(&mut random, 80) as usize;
            let hi = lo + 1 + below(&mut random, 10) as usize;
            let bytes = 16 * (1 + below(&mut random, 3));
            if live[lo..hi].iter().all(|now| now + bytes <= 128) {
                live[lo..hi].iter_mut().for_each(|now| *now += bytes);
                items.push(Item {
                    align: 16,
                    ..item(lo as u32, hi as u32, bytes, None)
                });
            }
        }
        let layout = Portfolio::new(&items).unwrap().next(208).unwrap();
        let (incumbent, nodes) = ((layout.peak, layout.bases.as_slice()), 100_000);
        let mut best = Best::new(&items, incumbent);
        let mut budget = nodes;
        let answer = best.go_on(&mut Attempt::new(128), &best.instances(), nodes, &mut budget);
        assert_eq!((answer, budget), (None, 0), "{} {}", items.len(), layout.peak);
        let found = minimise(&items, 128, incumbent, &mut { nodes });
        assert_eq!((found.floor, found.better.map_or(layout.peak, |b| b.0)), (208, 208));
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
