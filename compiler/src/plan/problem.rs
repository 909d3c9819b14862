//! The planner's input.

use std::ops::Range;

/// What is to be placed, and which buffers may, must or must not share bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// The buffers; everything below and [`super::Solution`] refer to them by position.
    pub buffers: Vec<Buffer>,
    /// Who may or must share bytes. Order carries no meaning.
    pub aliases: Vec<Alias>,
    /// Keep apart: the two buffers of a pair never share a byte, even if they are never live together. Stronger than any
    /// [`Alias::InPlace`]. A buffer that never holds a byte is apart from everything.
    pub apart: Vec<(usize, usize)>,
    /// Choices of which one branch is taken: its buffers never meet those of the other branches.
    pub exclusive: Vec<Choice>,
    /// The memories, the fastest first. Empty means one without a name, a capacity or reserved ranges.
    pub regions: Vec<Region>,
}

/// Branches of which exactly one runs, each time the clock passes.
///
/// Two buffers in different branches may share bytes although their lifetimes intersect. Anything else that is live then
/// conflicts with both. A buffer may stand in branches of several choices, which nests them: it is live when all of them
/// go its way. The lower bound is the most bytes that are live in one combination of branches. It is exact where at most
/// [`Choice::COMBINATIONS`] of them are possible at one time; beyond, it is taken over some of them, which between them
/// hold every pair of buffers that can meet, and still never exceeds the least peak.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The buffers of each branch. No buffer is in two.
    pub branches: Vec<Vec<usize>>,
}

impl Choice {
    /// Combinations of branches that are looked at one by one.
    pub const COMBINATIONS: usize = 64;
}

/// A memory with addresses of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// A name, unique in the problem.
    pub name: String,
    /// Bytes there are; a layout with a higher peak is not valid. `None` means without end.
    pub capacity: Option<u64>,
    /// Byte ranges that nothing may use, in any order, possibly overlapping. They count towards the peak only where a
    /// buffer lies above them.
    pub reserved: Vec<Range<u64>>,
}

/// One block of bytes with a lifetime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// A name, unique in the problem. Used in errors; never decides a layout.
    pub id: String,
    /// Bytes. Zero is fine: such a buffer conflicts with nothing.
    pub size: u64,
    /// Bytes; a power of two. The offset is a multiple of it.
    pub align: u64,
    /// When the bytes must hold their value: half-open intervals on an abstract clock, in any order, possibly
    /// overlapping. Two buffers whose intervals intersect never share a byte unless an [`Alias`] or a [`Choice`] says so.
    pub live: Vec<Range<u32>>,
    /// The offset is given and not to be chosen. With several regions the region must be given as well.
    pub pinned: Option<u64>,
    /// The region it must lie in, as a position in [`Problem::regions`]; `None` leaves it to the planner.
    pub region: Option<usize>,
    /// How many times each of its bytes is read or written. What is left to the planner goes where the sum of
    /// `size * accesses * region` over all buffers is low: many accesses a byte into the first region.
    pub accesses: u64,
}

/// Sharing between two buffers, by their position in [`Problem::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// `dst` *may* start `delta` bytes from the start of `src` and overwrite it while both are live: the caller promises
    /// that the step which writes `dst` reads each byte of `src` before it writes that byte, on every worker. A pair may
    /// be declared at several distances.
    InPlace {
        /// The buffer that is written.
        dst: usize,
        /// The buffer whose bytes it takes over.
        src: usize,
        /// `offset(dst) - offset(src)`. Below zero, `dst` starts first.
        delta: i64,
    },
    /// `part` *must* lie inside `whole`, `delta` bytes from its start: a reshape, a slice, a piece of a concatenation.
    /// Lifetimes stay apart: while only a part is live, the other bytes of the whole are free for others. Buffers tied
    /// together by views may overlap each other at any time; keeping their values apart is the caller's business. A whole
    /// may have any number of parts, and be a part itself.
    View {
        /// The inner buffer.
        part: usize,
        /// The outer buffer.
        whole: usize,
        /// Bytes from the start of `whole` to the start of `part`.
        delta: u64,
    },
}

impl Buffer {
    /// A buffer with one lifetime, free to be placed anywhere.
    pub fn new(id: impl Into<String>, size: u64, align: u64, live: Range<u32>) -> Self {
        Self {
            id: id.into(),
            size,
            align,
            live: vec![live],
            pinned: None,
            region: None,
            accesses: 0,
        }
    }

    /// Whether it ever holds a byte that matters.
    pub(super) fn occupies(&self) -> bool {
        self.size > 0 && self.live.iter().any(|r| !r.is_empty())
    }
}
