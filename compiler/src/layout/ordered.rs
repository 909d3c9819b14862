//! Which order of steps an entry is emitted in.

use super::EntryLayout;
use crate::schedule::order::Ordered;

/// How the steps of an entry were ordered. Bytes are those live by steps alone: where workers may be steps apart, they
/// stay live up to the next barrier, and the plan's own bound can be higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepOrder {
    /// Whether it is another order than the source's.
    pub changed: bool,
    /// The most bytes live in the source's order.
    pub source: u64,
    /// The most bytes live in this order.
    pub bound: u64,
    /// No order has fewer.
    pub least: u64,
}

/// An entry planned in the source's order, and in another one.
pub(super) struct Orders {
    pub source: EntryLayout,
    pub other: Option<EntryLayout>,
    /// What the search found, if there was one.
    pub found: Option<Ordered>,
}

impl Orders {
    /// The other order, if its plan is smaller.
    fn smaller(&self) -> Option<&EntryLayout> {
        let peak = self.source.solution.peak;
        self.other.as_ref().filter(|other| other.solution.peak < peak)
    }

    /// The fewest bytes it can be planned in.
    fn least(&self) -> u64 {
        self.smaller().unwrap_or(&self.source).solution.peak
    }
}

/// Picks an order for each entry: the smaller one where it makes the region of all of them smaller, or where it costs no
/// barrier; else the source's.
pub(super) fn choose(entries: Vec<Orders>) -> Vec<EntryLayout> {
    let region = entries.iter().map(Orders::least).max().unwrap_or(0);
    let barriers = |e: &EntryLayout| e.barriers.iter().flatten().count();
    let pick = |orders: Orders| {
        let too_large = orders.source.solution.peak > region;
        let worth = |other: &EntryLayout| too_large || barriers(other) <= barriers(&orders.source);
        let changed = orders.smaller().is_some_and(worth);
        let order = orders.found.map(|found| StepOrder {
            changed,
            source: found.source,
            bound: if changed { found.peak } else { found.source },
            least: found.least,
        });
        let picked = orders.other.filter(|_| changed).unwrap_or(orders.source);
        EntryLayout { order, ..picked }
    };
    entries.into_iter().map(pick).collect()
}
