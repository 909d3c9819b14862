//! Static orders: which of the blocks that could come next is tried first.

use super::instance::Block;

/// What an order compares, largest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feature {
    /// The most bytes left to place in any section of its life.
    Total,
    /// Clock ticks from first to last use.
    Width,
    /// Bytes times clock ticks.
    Area,
}

/// Features, the first deciding.
pub(super) type Order = &'static [Feature];

use Feature::{Area, Total, Width};

/// All orders, by the name that reports show. The first ones win most often.
pub(super) const ORDERS: &[(&str, Order)] = &[
    ("total-width-area", &[Total, Width, Area]),
    ("total-area-width", &[Total, Area, Width]),
    ("width-area-total", &[Width, Area, Total]),
];

/// The key of a block in an order: compare ascending.
pub(super) fn key(order: Order, block: &Block, left: &[u64]) -> [std::cmp::Reverse<u128>; 3] {
    let value = |feature: &Feature| match feature {
        Total => block.cover.iter().map(|c| left[c.0 as usize]).max().unwrap_or(0).into(),
        Width => block.length.into(),
        Area => u128::from(block.size) * u128::from(block.length),
    };
    let mut out = [std::cmp::Reverse(0); 3];
    for (slot, feature) in out.iter_mut().zip(order) {
        *slot = std::cmp::Reverse(value(feature));
    }
    out
}
