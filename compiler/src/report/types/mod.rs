//! What a layout report says. Field order is the key order of `layout.json`.
//!
//! Rules that make a report worth diffing: numbers are integers; every list is sorted (see [`Report::normalise`]); names
//! and ids are derived from the model's own paths and never contain a step number; nothing depends on time, host or path.

mod header;
mod order;
mod rows;
mod totals;
mod words;

use serde::{Deserialize, Serialize};

pub use header::*;
pub use rows::*;
pub use totals::*;
pub(crate) use words::order_words;

/// The value of [`Header::schema`] that this version writes and reads.
pub const SCHEMA: &str = "ckc-layout/1";

/// The names of regions, in the order of the page's colours. A memory has another name.
pub const REGIONS: [&str; 8] = [
    "weights",
    "kv",
    "activations",
    "scratch",
    "gradients",
    "optimizer",
    "io",
    "interleaved",
];

/// A whole layout report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// What was compiled, by what, how.
    pub header: Header,
    /// Sums, and the cause of the peak.
    pub totals: Totals,
    /// Every fusion site, applied or refused. Sorted by entry, site, flag.
    pub fusions: Vec<Fusion>,
    /// Every kernel call. Sorted by entry (in the order of [`Header::entries`]), index.
    pub steps: Vec<Step>,
    /// Every way in which a step is divided, with who takes what. Sorted by axis, length, granule.
    #[serde(default)]
    pub partitions: Vec<Division>,
    /// Every slot outside the weights region. Sorted by region, entry, id.
    pub tensors: Vec<Tensor>,
    /// Every packed weight. Sorted by offset, name.
    pub weights: Vec<WeightRow>,
    /// Copies between ranks. Sorted by entry, step, tensor, destination rank.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<Move>,
}
