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

/// Sweeps over time, adding up what is live. Bytes of one item that are live twice (a view and its whole) count once.
pub(super) fn lower_bound(items: &[Item]) -> Bound {
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
    let (mut live, mut best) = (0u64, Bound::default());
    for &(at, kind, i, r) in &events {
        match kind {
            0 => active[i].retain(|&other| other != r),
            _ => active[i].push(r),
        }
        let now = union_length(&items[i], &mut active[i]);
        live = live - covered[i] + now;
        covered[i] = now;
        if live > best.bytes {
            best = Bound { bytes: live, at };
        }
    }
    // What is live must find room between the reserved ranges, which are ascending.
    for item in items.iter().filter(|item| item.reserved) {
        let start = item.pinned.unwrap_or(0);
        if best.bytes > start {
            best.bytes += item.extent();
        }
    }
    for item in items.iter().filter(|item| !item.reserved && !item.rects.is_empty()) {
        best.bytes = best.bytes.max(item.pinned.map_or(0, |base| base + item.extent()));
    }
    best
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
