//! The layout report: one set of types, three renderings, and a comparison by meaning.
//!
//! [`Report`] is filled by the compile pipeline and read back by `ckc diff`. This module knows what a report says, not
//! how it came about: no graph, no planner, no kernels.

mod types;

pub use types::{
    Barrier, Entry, FuseOutcome, Fusion, Header, Live, Move, Options, Partition, Peak, Plan, Region, Report, SCHEMA,
    Status, Step, Tensor, Totals, WeightRow,
};
