//! The planner's input and output.

use std::fmt;
use std::ops::Range;

/// What is to be placed, and which buffers may or must share bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// The buffers; [`Alias`] and [`Solution`] refer to them by position.
    pub buffers: Vec<Buffer>,
    /// Who may or must share bytes. Order carries no meaning.
    pub aliases: Vec<Alias>,
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
    /// overlapping. Two buffers whose intervals intersect never share a byte unless an [`Alias`] says so.
    pub live: Vec<Range<u32>>,
    /// The offset is given and not to be chosen.
    pub pinned: Option<u64>,
}

/// Sharing between two buffers, by their position in [`Problem::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// `dst` *may* start at the offset of `src` and overwrite it while both are live: the caller promises that the step
    /// which writes `dst` reads each byte of `src` before it writes that byte, on every worker.
    InPlace {
        /// The buffer that is written.
        dst: usize,
        /// The buffer whose bytes it takes over.
        src: usize,
    },
    /// `part` *must* lie inside `whole`, `delta` bytes from its start: a reshape, a slice, a piece of a concatenation.
    /// Lifetimes stay apart: while only a part is live, the other bytes of the whole are free for others. Buffers tied
    /// together by views may overlap each other at any time; keeping their values apart is the caller's business.
    View {
        /// The inner buffer.
        part: usize,
        /// The outer buffer.
        whole: usize,
        /// Bytes from the start of `whole` to the start of `part`.
        delta: u64,
    },
}

/// A layout, and how good it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solution {
    /// Byte offset of each buffer, in the order of [`Problem::buffers`].
    pub offsets: Vec<u64>,
    /// Bytes the layout needs: the highest end of a live buffer, rounded up to the placement unit.
    pub peak: u64,
    /// No layout of this problem with the in-place merges that were considered needs fewer bytes. Counted in placement
    /// units, the smallest alignment of a live buffer (of a live whole, for views).
    pub lower_bound: u64,
    /// How `peak` relates to `lower_bound`.
    pub status: Status,
    /// Every layout that was tried, in the order it was tried.
    pub candidates: Vec<Candidate>,
    /// The position in `candidates` of the one that was kept.
    pub chosen: usize,
    /// In-place pairs `(dst, src)` that share bytes in this layout, sorted.
    pub merged: Vec<(usize, usize)>,
    /// Bytes without any reuse: every buffer at its own place, rounded up to its alignment. Views count once.
    pub naive: u64,
    /// The first clock value at which the most bytes are live.
    pub peak_at: u32,
    /// Nodes that the search looked at; zero when the portfolio was enough.
    pub nodes: u64,
}

/// What is known about a layout's peak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The peak is the lower bound.
    Optimal,
    /// The peak is above the lower bound, and a complete search found nothing below it.
    OptimalSearch,
    /// A valid layout; nobody has shown that it cannot be `gap` bytes smaller.
    Feasible {
        /// `peak - lower_bound`, bytes; above zero.
        gap: u64,
    },
    /// There is no layout within the capacity that was asked for; the one given needs more.
    Infeasible,
    /// No layout within the capacity that was asked for was found; the one given needs more.
    OverBudget {
        /// `peak - capacity`, bytes; above zero.
        by: u64,
    },
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Optimal => f.write_str("optimal (bound)"),
            Self::OptimalSearch => f.write_str("optimal (search)"),
            Self::Infeasible => f.write_str("infeasible: proven"),
            Self::OverBudget { by } => write!(f, "over budget by {by}"),
            Self::Feasible { gap } => write!(f, "feasible (gap {gap} bytes)"),
        }
    }
}

/// One layout of the portfolio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Order, fit and aliasing, e.g. `size/first`.
    pub name: String,
    /// Bytes it needs.
    pub peak: u64,
}

/// Why a problem has no layout, or is not a problem at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// Two buffers have this id.
    DuplicateId(String),
    /// The alignment is zero or not a power of two.
    BadAlign {
        /// The buffer.
        id: String,
        /// Its alignment.
        align: u64,
    },
    /// An interval ends before it starts.
    BadInterval {
        /// The buffer.
        id: String,
        /// The interval.
        interval: Range<u32>,
    },
    /// Sizes, alignments and pins together reach [`PlanError::LIMIT`].
    TooLarge {
        /// The buffer at which the sum passed the limit.
        id: String,
    },
    /// An alias names a buffer that does not exist.
    NoSuchBuffer {
        /// The position it names.
        index: usize,
    },
    /// A part does not fit inside its whole.
    ViewOutside {
        /// The inner buffer.
        part: String,
        /// The outer buffer.
        whole: String,
    },
    /// A part cannot have its alignment at this delta, or two views put one buffer at two places.
    ViewMisplaced {
        /// The inner buffer.
        part: String,
        /// The outer buffer.
        whole: String,
    },
    /// A pin contradicts the buffer's own alignment or the pin of a buffer it must alias.
    BadPin {
        /// The pinned buffer.
        id: String,
        /// Its offset.
        offset: u64,
    },
    /// Two pinned buffers are live together and share bytes.
    PinsOverlap {
        /// One of them.
        a: String,
        /// The other.
        b: String,
    },
}

impl PlanError {
    /// All sizes and alignments together must stay below this many bytes, so that no offset can overflow.
    pub const LIMIT: u64 = 1 << 62;
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateId(id) => write!(f, "two buffers are called `{id}`"),
            Self::BadAlign { id, align } => write!(f, "buffer `{id}`: alignment {align} is not a power of two"),
            Self::BadInterval { id, interval } => {
                write!(
                    f,
                    "buffer `{id}`: lifetime {}..{} ends before it starts",
                    interval.start, interval.end
                )
            }
            Self::TooLarge { id } => write!(f, "buffer `{id}`: the sizes add up to 2^62 bytes or more"),
            Self::NoSuchBuffer { index } => write!(f, "an alias names buffer number {index}, which does not exist"),
            Self::ViewOutside { part, whole } => write!(f, "view `{part}` does not fit inside `{whole}`"),
            Self::ViewMisplaced { part, whole } => {
                write!(
                    f,
                    "view `{part}` of `{whole}`: its place contradicts its alignment or another view"
                )
            }
            Self::BadPin { id, offset } => {
                write!(
                    f,
                    "buffer `{id}`: pinned at {offset}, which contradicts its alignment or a buffer it aliases"
                )
            }
            Self::PinsOverlap { a, b } => write!(f, "pinned buffers `{a}` and `{b}` are live together and overlap"),
        }
    }
}

impl std::error::Error for PlanError {}

impl Problem {
    /// Checks everything that does not need the aliases to be resolved.
    pub(super) fn check(&self) -> Result<(), PlanError> {
        let mut ids: Vec<&str> = self.buffers.iter().map(|b| b.id.as_str()).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|w| w[0] == w[1]) {
            return Err(PlanError::DuplicateId(pair[0].to_owned()));
        }
        let mut total = 0u64;
        for b in &self.buffers {
            if !b.align.is_power_of_two() {
                return Err(PlanError::BadAlign {
                    id: b.id.clone(),
                    align: b.align,
                });
            }
            if let Some(interval) = b.live.iter().find(|r| r.start > r.end) {
                return Err(PlanError::BadInterval {
                    id: b.id.clone(),
                    interval: interval.clone(),
                });
            }
            let terms = [b.size, b.align, b.align, b.pinned.unwrap_or(0)];
            let sum = terms.iter().try_fold(total, |sum, &t| sum.checked_add(t));
            total = sum
                .filter(|&sum| sum < PlanError::LIMIT)
                .ok_or_else(|| PlanError::TooLarge { id: b.id.clone() })?;
            if let Some(offset) = b.pinned.filter(|p| p % b.align != 0) {
                return Err(PlanError::BadPin {
                    id: b.id.clone(),
                    offset,
                });
            }
        }
        self.check_aliases()
    }

    fn check_aliases(&self) -> Result<(), PlanError> {
        let known = |index: usize| self.buffers.get(index).ok_or(PlanError::NoSuchBuffer { index });
        for alias in &self.aliases {
            match *alias {
                Alias::InPlace { dst, src } => {
                    known(dst)?;
                    known(src)?;
                }
                Alias::View { part, whole, delta } => {
                    let (p, w) = (known(part)?, known(whole)?);
                    if delta.checked_add(p.size).is_none_or(|end| end > w.size) {
                        return Err(PlanError::ViewOutside {
                            part: p.id.clone(),
                            whole: w.id.clone(),
                        });
                    }
                }
            }
        }
        Ok(())
    }
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
        }
    }

    /// Whether it ever holds a byte that matters.
    pub(super) fn occupies(&self) -> bool {
        self.size > 0 && self.live.iter().any(|r| !r.is_empty())
    }
}
