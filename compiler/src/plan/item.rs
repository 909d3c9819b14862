//! Items: sets of buffers whose distances are fixed, so that one offset places all of them.

/// A stretch of bytes over a stretch of time, relative to its item's base. Bytes are multiples of the placement unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rect {
    /// First byte, from the item's base.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// First clock value.
    pub lo: u32,
    /// One past the last clock value.
    pub hi: u32,
}

/// Buffers that move together.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// Each buffer with its distance from the base, in bytes (not rounded to the unit).
    pub members: Vec<(usize, u64)>,
    /// The base is a multiple of this.
    pub align: u64,
    /// The base, if it is not to be chosen.
    pub pinned: Option<u64>,
    /// What the item occupies, and when. Sorted; empty when it never occupies anything.
    pub rects: Vec<Rect>,
    /// Not a buffer but bytes that nothing may use: pinned, without members, and no part of a peak.
    pub reserved: bool,
}

impl Item {
    /// Bytes from the base to the highest end.
    pub fn extent(&self) -> u64 {
        self.rects.iter().map(|r| r.end).max().unwrap_or(0)
    }

    /// First and one-past-last clock value at which it occupies anything.
    pub fn span(&self) -> (u32, u32) {
        let lo = self.rects.iter().map(|r| r.lo).min().unwrap_or(0);
        let hi = self.rects.iter().map(|r| r.hi).max().unwrap_or(0);
        (lo, hi)
    }
}

/// The reserved ranges as items, ascending, grown outwards to `unit` and joined. Every base and end is a multiple of the
/// unit, so nothing is lost.
pub(super) fn reserved(ranges: &[std::ops::Range<u64>], unit: u64) -> Vec<Item> {
    let mut sorted: Vec<(u64, u64)> = ranges
        .iter()
        .filter(|r| !r.is_empty())
        .map(|r| (round_down(r.start, unit), round_up(r.end, unit)))
        .collect();
    sorted.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (start, end) in sorted {
        match joined.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    let item = |(start, end)| Item {
        members: Vec::new(),
        align: unit,
        pinned: Some(start),
        rects: vec![Rect {
            start: 0,
            end: end - start,
            lo: 0,
            hi: u32::MAX,
        }],
        reserved: true,
    };
    joined.into_iter().map(item).collect()
}

/// Sorts, and joins rectangles of the same bytes whose times touch: a chain of in-place steps becomes one rectangle.
pub(super) fn coalesce(mut rects: Vec<Rect>) -> Vec<Rect> {
    rects.sort_unstable();
    let mut out: Vec<Rect> = Vec::with_capacity(rects.len());
    for r in rects {
        match out.last_mut() {
            Some(last) if last.start == r.start && last.end == r.end && r.lo <= last.hi => last.hi = last.hi.max(r.hi),
            _ => out.push(r),
        }
    }
    out
}

/// `x` rounded up to a multiple of the power of two `align`. Cannot overflow below [`super::PlanError::LIMIT`].
pub(super) fn round_up(x: u64, align: u64) -> u64 {
    (x + (align - 1)) & !(align - 1)
}

/// `x` rounded down to a multiple of the power of two `align`.
pub(super) fn round_down(x: u64, align: u64) -> u64 {
    x & !(align - 1)
}
