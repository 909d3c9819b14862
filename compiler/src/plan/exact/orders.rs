//! Static orders: which of the blocks that could come next is tried first.

use std::cmp::Reverse;

use super::instance::Block;

/// What an order compares, largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    /// The most bytes left to place in any section of its life.
    Total,
    /// Clock ticks from first to last use.
    Width,
    /// Sections from first to last use: a width that does not depend on how long anything takes.
    Span,
    /// Bytes times clock ticks.
    Area,
    /// Bytes.
    Size,
    /// Few sections between its life and the one with the most bytes left to place.
    Near,
    /// Early birth.
    First,
    /// Late death.
    Last,
}

/// Where the next block is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Everywhere: the lowest block.
    Lowest,
    /// In the section with the fewest bytes to spare: its lowest block.
    Tightest,
}

/// Features, the first deciding.
pub(super) type Order = &'static [Feature; 3];

use Feature::{Area, First, Last, Near, Size, Span, Total, Width};

/// The searches that take turns.
pub(super) const SEARCHES: &[(Rule, Order)] = &[
    (Rule::Lowest, &[Near, Total, Width]),
    (Rule::Lowest, &[First, Total, Width]),
    (Rule::Lowest, &[Last, Total, Width]),
    (Rule::Lowest, &[Total, Width, Area]),
    (Rule::Tightest, &[Total, Width, Area]),
    (Rule::Lowest, &[Total, Area, Width]),
    (Rule::Lowest, &[Width, Area, Total]),
    (Rule::Lowest, &[Total, Size, Width]),
    (Rule::Tightest, &[First, Total, Width]),
    (Rule::Tightest, &[Width, Area, Total]),
    (Rule::Lowest, &[Total, Span, Size]),
    (Rule::Tightest, &[Total, Span, Size]),
    (Rule::Lowest, &[Near, Total, Span]),
    (Rule::Lowest, &[Span, Size, Total]),
    (Rule::Tightest, &[Span, Size, Total]),
];

/// The section with the most bytes left to place, of those in `range`; the first of them.
pub(super) fn hottest(left: &[u64], range: (usize, usize)) -> usize {
    (range.0..range.1).max_by_key(|&s| (left[s], Reverse(s))).unwrap_or(0)
}

/// The key of a block in an order: compare ascending.
pub(super) fn key(order: Order, block: &Block, left: &[u64], hottest: usize) -> [Reverse<u128>; 3] {
    let (first, last) = block.span();
    order.map(|feature| {
        Reverse(match feature {
            Total => block.cover.iter().map(|c| left[c.0 as usize]).max().unwrap_or(0).into(),
            Width => block.length.into(),
            Span => (last - first) as u128,
            Area => u128::from(block.size) * u128::from(block.length),
            Size => block.size.into(),
            Near => u128::MAX - (first.saturating_sub(hottest) + (hottest + 1).saturating_sub(last)) as u128,
            First => u128::MAX - first as u128,
            Last => last as u128,
        })
    })
}
