//! The planner's output.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A layout, and how good it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solution {
    /// Byte offset of each buffer in its region, in the order of [`super::Problem::buffers`].
    pub offsets: Vec<u64>,
    /// The region of each buffer, as a position in [`Solution::regions`].
    pub region: Vec<usize>,
    /// Each region of the problem, in its order; one without a name if the problem names none.
    pub regions: Vec<RegionPlan>,
    /// Bytes the layout needs: the peaks of all regions together.
    pub peak: u64,
    /// The lower bounds of all regions together.
    pub lower_bound: u64,
    /// How `peak` relates to `lower_bound`: the least that holds for every region.
    pub status: Status,
    /// Every layout that was tried, in the order it was tried, region by region.
    pub candidates: Vec<Candidate>,
    /// [`RegionPlan::chosen`] of the region with the highest peak.
    pub chosen: usize,
    /// In-place pairs `(dst, src)` that share bytes in this layout, sorted.
    pub merged: Vec<(usize, usize)>,
    /// Bytes without any reuse: every buffer at its own place, rounded up to its alignment. Views count once.
    pub naive: u64,
    /// [`RegionPlan::peak_at`] of the region with the highest peak.
    pub peak_at: u32,
    /// Nodes that the search looked at; zero when the portfolio was enough.
    pub nodes: u64,
}

/// What one region needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionPlan {
    /// Its name.
    pub name: String,
    /// Bytes the layout needs: the highest end of a live buffer, rounded up to the placement unit.
    pub peak: u64,
    /// No layout of the buffers in this region, with the in-place merges that were considered, needs fewer bytes: the most
    /// that are live at one time; where the least peak is not known, what was proven beyond that. Counted in placement
    /// units, the smallest alignment of a live buffer (of a live whole, for views).
    pub lower_bound: u64,
    /// How `peak` relates to `lower_bound` and to the capacity.
    pub status: Status,
    /// The first clock value at which the most bytes are live.
    pub peak_at: u32,
    /// The layouts that were tried here, as positions in [`Solution::candidates`].
    pub candidates: Range<usize>,
    /// The one of them that was kept.
    pub chosen: usize,
    /// Set exactly when the peak is above the region's capacity.
    pub shortage: Option<Shortage>,
}

/// Why a region's capacity is not enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The region.
    pub region: String,
    /// Bytes it has.
    pub capacity: u64,
    /// A clock value at which it overflows.
    pub at: u32,
    /// The buffers that are live in it at that time, the largest first.
    pub live: Vec<Live>,
    /// With so many bytes more the layout that was found fits.
    pub short: u64,
    /// With fewer bytes more no layout of these buffers fits; zero when that is not known.
    pub least: u64,
}

/// A buffer that is live when memory is short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Its position in [`super::Problem::buffers`].
    pub buffer: usize,
    /// Its name.
    pub id: String,
    /// Its size.
    pub bytes: u64,
}

/// What is known about a layout's peak. Reports say it in these words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Status {
    /// The peak is the lower bound.
    #[default]
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

impl Status {
    /// Bytes above the budget.
    pub(super) fn over(self) -> u64 {
        match self {
            Self::OverBudget { by } => by,
            _ => 0,
        }
    }
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

/// How many of the live buffers [`Shortage`] names when it is shown.
const NAMED: usize = 5;

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (region, capacity, at, short) = (&self.region, self.capacity, self.at, self.short);
        write!(
            f,
            "region `{region}` of {capacity} bytes is {short} bytes short at {at}"
        )?;
        if self.least < short {
            write!(f, " (at least {} bytes)", self.least)?;
        }
        f.write_str("; live there:")?;
        for (i, live) in self.live.iter().take(NAMED).enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma} `{}` ({} bytes)", live.id, live.bytes)?;
        }
        match self.live.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// One layout of the portfolio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Order, fit and aliasing, e.g. `size/first`, after the region's name if there are several.
    pub name: String,
    /// Bytes it needs.
    pub peak: u64,
}
