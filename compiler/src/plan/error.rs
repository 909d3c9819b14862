//! What is wrong with a problem.

use std::fmt;
use std::ops::Range;

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
    /// Two pinned buffers share bytes, and are live together or to be kept apart.
    PinsOverlap {
        /// One of them.
        a: String,
        /// The other.
        b: String,
    },
    /// A pinned buffer lies in a reserved range.
    PinReserved {
        /// The buffer.
        id: String,
        /// The range.
        reserved: Range<u64>,
    },
    /// A pinned buffer leaves open in which of several regions it is pinned.
    PinWithoutRegion {
        /// The buffer.
        id: String,
    },
    /// Two buffers are to be kept apart, and views make them share bytes; or a buffer from itself.
    ApartTogether {
        /// One of them.
        a: String,
        /// The other.
        b: String,
    },
    /// A buffer is in two branches of one choice.
    TwoBranches {
        /// The buffer.
        id: String,
    },
    /// More buffers of different branches are live at one time than can be told apart.
    TooManyBranches {
        /// The first clock value at which that is so.
        at: u32,
    },
    /// Two regions have this name.
    DuplicateRegion(String),
    /// A buffer is to lie in a region that does not exist.
    NoSuchRegion {
        /// The buffer.
        id: String,
        /// The position it names.
        region: usize,
    },
    /// A view and its whole are to lie in different regions.
    RegionsDiffer {
        /// The inner buffer.
        part: String,
        /// The outer buffer.
        whole: String,
    },
    /// A reserved range ends before it starts, or reaches [`PlanError::LIMIT`].
    BadReserved {
        /// The region.
        region: String,
        /// The range.
        reserved: Range<u64>,
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
            Self::NoSuchBuffer { index } => write!(f, "buffer number {index} is named and does not exist"),
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
            Self::PinsOverlap { a, b } => write!(f, "pinned buffers `{a}` and `{b}` overlap and may not"),
            Self::PinReserved { id, reserved } => {
                let Range { start, end } = reserved;
                write!(f, "pinned buffer `{id}` lies in the reserved range {start}..{end}")
            }
            Self::PinWithoutRegion { id } => {
                write!(
                    f,
                    "buffer `{id}` is pinned; with several regions it must name its region"
                )
            }
            Self::ApartTogether { a, b } if a == b => write!(f, "buffer `{a}` is to be kept apart from itself"),
            Self::ApartTogether { a, b } => {
                write!(
                    f,
                    "buffers `{a}` and `{b}` are to be kept apart, and views make them share bytes"
                )
            }
            Self::TwoBranches { id } => write!(f, "buffer `{id}` is in two branches of one choice"),
            Self::TooManyBranches { at } => write!(f, "too many branches are live together at {at}"),
            Self::DuplicateRegion(name) => write!(f, "two regions are called `{name}`"),
            Self::NoSuchRegion { id, region } => {
                write!(
                    f,
                    "buffer `{id}` is to lie in region number {region}, which does not exist"
                )
            }
            Self::RegionsDiffer { part, whole } => {
                write!(
                    f,
                    "view `{part}` and its whole `{whole}` are to lie in different regions"
                )
            }
            Self::BadReserved { region, reserved } => {
                let Range { start, end } = reserved;
                write!(
                    f,
                    "region `{region}`: {start}..{end} is not a range of bytes below 2^62"
                )
            }
        }
    }
}

impl std::error::Error for PlanError {}
