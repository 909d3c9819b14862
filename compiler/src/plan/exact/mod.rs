//! Exact search: the least peak, or a proof that a capacity is too small.

mod instance;
mod orders;
mod search;

use super::item::Item;
use instance::Instance;
use orders::ORDERS;
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

/// Searches for a layout within `capacity` in all orders by turns, each going on where it stopped. Takes the
/// nodes it looks at off `budget`.
fn decide_instance(instance: &Instance, capacity: u64, budget: &mut u64) -> Decision {
    let mut searches: Vec<Search<'_>> = ORDERS
        .iter()
        .map(|&order| Search::new(instance, order, capacity))
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

/// Lowers the peak of `incumbent`, a layout of `items`, until it meets `floor` or the budget is spent.
///
/// The floor comes first: a layout there needs no further proof. Then the capacities between floor and incumbent are
/// bisected, each with an equal share; what no share decided is tried again from the top with what is left.
pub(super) fn minimise(items: &[Item], floor: u64, incumbent: (u64, &[u64]), budget: &mut u64) -> Minimum {
    let mut best = Best {
        items,
        parts: Instance::parts(items),
        bases: incumbent.1.to_vec(),
        peak: incumbent.0,
    };
    let mut floor = floor;
    let Some(step) = best.instance(floor).map(|i| i.step()) else {
        return Minimum { better: None, floor };
    };
    // Peaks between the multiples of the step do not exist.
    floor = floor.next_multiple_of(step);
    // Below this nothing was found; not all of it is proven.
    let mut tried = floor;
    let first = *budget / 3;
    let share = (*budget / 8).max(1);
    if best.peak > floor && best.probe(floor, first, budget) == Some(false) {
        floor += step;
        tried = floor;
    } else if best.peak > floor {
        tried = floor + step;
    }
    while tried < best.peak && *budget > 0 {
        let middle = tried + (best.peak - tried) / step / 2 * step;
        match best.probe(middle, share, budget) {
            Some(true) => {}
            Some(false) => {
                floor = floor.max(middle + step);
                tried = middle + step;
            }
            None => tried = middle + step,
        }
    }
    // Once more, with all that is left, just below the best.
    while floor < best.peak && *budget > 0 {
        let left = *budget;
        match best.probe(best.peak - step, left, budget) {
            Some(true) => {}
            Some(false) => floor = best.peak,
            None => break,
        }
    }
    let better = (best.peak < incumbent.0).then_some((best.peak, best.bases));
    Minimum { better, floor }
}

/// The best layout so far.
struct Best<'a> {
    items: &'a [Item],
    /// Items that no other part overlaps in time.
    parts: Vec<Vec<usize>>,
    bases: Vec<u64>,
    peak: u64,
}

impl Best<'_> {
    fn top(&self, part: &[usize]) -> u64 {
        part.iter()
            .map(|&i| self.bases[i] + self.items[i].extent())
            .max()
            .unwrap_or(0)
    }

    /// The parts that do not fit in `capacity` as they are.
    fn instance(&self, capacity: u64) -> Option<Instance> {
        let mut wanted = vec![false; self.items.len()];
        for part in self.parts.iter().filter(|part| self.top(part) > capacity) {
            part.iter().for_each(|&i| wanted[i] = true);
        }
        Instance::new(self.items, |i| wanted[i])
    }

    /// Tries a capacity below the peak: whether there is a layout, if that was decided. Keeps the layout.
    fn probe(&mut self, capacity: u64, share: u64, budget: &mut u64) -> Option<bool> {
        let instance = self.instance(capacity)?;
        let mut allowed = share.min(*budget);
        let before = allowed;
        let decision = decide_instance(&instance, capacity, &mut allowed);
        *budget -= before - allowed;
        match decision {
            Decision::Layout(bases) => {
                for (&item, &base) in instance.item.iter().zip(&bases) {
                    self.bases[item] = base;
                }
                self.peak = self.parts.iter().map(|part| self.top(part)).max().unwrap_or(0);
                Some(true)
            }
            Decision::Infeasible => Some(false),
            Decision::Unknown => None,
        }
    }
}

/// Whether `items` fit in `capacity`, which their layout `incumbent` does not: the bases, if so.
pub(super) fn decide(items: &[Item], capacity: u64, incumbent: (u64, &[u64]), budget: &mut u64) -> Minimum {
    let mut best = Best {
        items,
        parts: Instance::parts(items),
        bases: incumbent.1.to_vec(),
        peak: incumbent.0,
    };
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
