//! The lower bound: the most bytes that are live at one time.

use super::item::Item;

/// The most live bytes, and the first clock value at which they are live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bound {
    /// Bytes, with the reserved ranges they lie around; also at least the end of every pinned item.
    pub bytes: u64,
    /// Clock value.
    pub at: u32,
}

/// The lower bound of the items: sections of time, reserved ranges and pins.
pub(super) fn lower_bound(items: &[Item]) -> Bound {
    let mut best = Bound::default();
    for (at, live) in profile(items) {
        if live > best.bytes {
            best = Bound { bytes: live, at };
        }
    }
    best.bytes = around(items, best.bytes);
    for item in items.iter().filter(|item| !item.reserved && !item.rects.is_empty()) {
        best.bytes = best.bytes.max(item.pinned.map_or(0, |base| base + item.extent()));
    }
    best
}

/// The least peak of `bytes` bytes that lie around the reserved ranges.
pub(super) fn around(items: &[Item], mut bytes: u64) -> u64 {
    // They are ascending.
    for wall in items.iter().filter(|item| item.reserved) {
        if bytes > wall.pinned.unwrap_or(0) && !pinned_into(items, wall) {
            bytes += wall.extent();
        }
    }
    bytes
}

/// Whether a pinned item reaches into the reserved range `wall`, both being grown to the placement unit: their own bytes
/// do not meet, but in the units at the edge both count.
pub(super) fn pinned_into(items: &[Item], wall: &Item) -> bool {
    let start = wall.pinned.unwrap_or(0);
    let into = |item: &Item, base: u64| base < start + wall.extent() && start < base + item.extent();
    let mut pins = items.iter().filter(|item| !item.reserved);
    pins.any(|item| item.pinned.is_some_and(|base| into(item, base)))
}

/// What is live from each clock value on at which that changes, ascending. Bytes of one item that are live twice (a view
/// and its whole) count once.
pub(super) fn profile(items: &[Item]) -> Vec<(u32, u64)> {
    // (time, 0 = ends | 1 = starts, item, rectangle): at equal times ends come first, intervals being half-open.
    let mut events = Vec::new();
    for (i, item) in items.iter().enumerate().filter(|(_, item)| !item.reserved) {
        for (r, rect) in item.rects.iter().enumerate() {
            events.push((rect.lo, 1u8, i, r));
            events.push((rect.hi, 0u8, i, r));
        }
    }
    events.sort_unstable();
    let mut active: Vec<Vec<usize>> = vec![Vec::new(); items.len()];
    let mut covered = vec![0u64; items.len()];
    let mut live = 0u64;
    let mut out: Vec<(u32, u64)> = Vec::new();
    for &(at, kind, i, r) in &events {
        match kind {
            0 => active[i].retain(|&other| other != r),
            _ => active[i].push(r),
        }
        let now = union_length(&items[i], &mut active[i]);
        live = live - covered[i] + now;
        covered[i] = now;
        match out.last_mut() {
            Some(last) if last.0 == at => last.1 = live,
            _ => out.push((at, live)),
        }
    }
    out
}

/// Bytes covered by the rectangles `active` of `item`. Sorts `active` by position.
fn union_length(item: &Item, active: &mut [usize]) -> u64 {
    active.sort_unstable();
    let (mut total, mut reached) = (0u64, 0u64);
    // `item.rects` is sorted by start, so ascending indices are ascending starts.
    for &r in active.iter() {
        let rect = &item.rects[r];
        let from = rect.start.max(reached);
        total += rect.end.saturating_sub(from);
        reached = reached.max(rect.end);
    }
    total
}
