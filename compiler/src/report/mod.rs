//! The layout report: one set of types, three renderings, and a comparison by meaning.
//!
//! [`Report`] is filled by the compile pipeline and read back by `ckc diff`. This module knows what a report says, not
//! how it came about: no graph, no planner, no kernels.

mod budget;
mod chart;
pub mod check;
pub mod codes;
mod diff;
mod html;
mod json;
mod load;
mod text;
mod types;
mod unique;

pub use check::{Violation, check};
pub use diff::{Amount, Diff, DiffOptions, Fact, Kind, Verdict, diff};
pub use html::to_html;
pub use json::{ReadError, from_json, to_json};
pub use load::load;
pub(crate) use text::percent;
pub use text::to_text;
pub(crate) use types::order_words;
pub use types::{
    Barrier, Costs, Division, Entry, FuseOutcome, Fusion, Header, Limit, Live, ManyFrom, Memory, Move, Options,
    Partition, Peak, Plan, Predicted, REGIONS, Region, Report, SCHEMA, Shrink, Step, StepOrder, Tensor, Totals,
    WeightRow,
};

/// Whether a peak is known to be the least possible.
pub use crate::plan::Status;

#[cfg(test)]
mod tests;
