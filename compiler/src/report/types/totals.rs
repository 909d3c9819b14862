//! Sums, regions, memories, and the cause of the peak.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::Status;
use crate::report::unique;

/// Sums over everything, and the cause of the peak.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Bytes of the whole reservation, weights included.
    pub arena_bytes: u64,
    /// Sum of the regions' lower bounds and of what alignment between regions costs.
    pub lower_bound_bytes: u64,
    /// Whether the two are known to meet.
    pub status: Status,
    /// Bytes if nothing were reused.
    pub naive_bytes: u64,
    /// Bytes that one more token of context costs.
    pub kv_bytes_per_token: u64,
    /// Packed bytes by element type.
    #[serde(deserialize_with = "unique::deserialize")]
    pub weights_bytes: BTreeMap<String, u64>,
    /// The parts of the arena. Sorted by offset, name.
    pub regions: Vec<Region>,
    /// Where the planned regions are fullest; absent when no step needs a byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<Peak>,
    /// Sizes that the description limits. Sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<Limit>,
    /// The memories of the description, the fastest first; absent when it names none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memories: Vec<Memory>,
}

/// What a running program takes besides its arena, at most: code, stacks, tokenizer tables, buffers of its command line.
pub const PROCESS_BYTES: u64 = 24 << 20;

impl Totals {
    /// Bytes that a process running the program can have resident, at most: every page of its arena touched.
    pub fn resident_bytes(&self) -> u64 {
        self.arena_bytes.saturating_add(PROCESS_BYTES)
    }
}

/// A size that the description limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// `arena`, `weights`, `kv`, `activations`, `scratch`.
    pub name: String,
    /// Bytes it may have.
    pub limit: u64,
    /// Bytes it has.
    pub bytes: u64,
}

/// What lives in one of several memories: the packed weights in the last one, and a region of its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Its name, and its region's.
    pub name: String,
    /// Bytes it has; absent for one without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u64>,
    /// Bytes that are needed of it.
    pub bytes: u64,
    /// Those of packed weights among them.
    pub weights_bytes: u64,
    /// The least that what lives here could need.
    pub lower_bound: u64,
    /// How `bytes` relates to `lower_bound` and to `capacity`.
    pub status: Status,
    /// Bytes read and written here, weights apart, by a prompt of `batch` tokens and `batch` decoded ones.
    pub accesses: u64,
}

/// A named part of the arena.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// `weights`, `kv`, `activations`, `scratch`, `gradients`, `optimizer`, `io`, or a memory's name.
    pub name: String,
    /// First byte, from the arena's base.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
    /// The most bytes live in it at once.
    pub lower_bound: u64,
    /// Bytes if nothing in it were reused.
    pub naive: u64,
    /// How `bytes` relates to `lower_bound`.
    pub status: Status,
    /// How it was laid out; absent for regions that are written down in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// How a planned region came about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The layout that was kept.
    pub chosen: String,
    /// Every layout that was tried and the bytes it needs.
    #[serde(deserialize_with = "unique::deserialize")]
    pub candidates: BTreeMap<String, u64>,
    /// Bytes of the layout that was kept.
    #[serde(default)]
    pub bytes: u64,
    /// No layout needs fewer bytes than this.
    #[serde(default)]
    pub lower_bound: u64,
    /// Bytes between the two.
    #[serde(default)]
    pub gap: u64,
    /// What is known about the gap.
    #[serde(default)]
    pub status: Status,
    /// Nodes that the exact search looked at; zero when the first layouts were enough.
    #[serde(default)]
    pub nodes: u64,
}

/// Where the planned regions are fullest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peak {
    /// The entry.
    pub entry: String,
    /// The step's id.
    pub step: String,
    /// Bytes live there.
    pub bytes: u64,
    /// The largest tensors that are live there. Sorted by bytes (largest first), id.
    pub live: Vec<Live>,
    /// What would lower the peak if it were smaller, at most five. Sorted by bytes it would fall by (most first), id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shrink: Vec<Shrink>,
}

/// A buffer that the peak depends on, with its like in every layer: the peak is as high in each of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shrink {
    /// The tensor, `*` for the number of the layer; several, joined with `+`, that share their bytes.
    pub id: String,
    /// How many buffers these are.
    pub buffers: u64,
    /// Bytes of one of them.
    pub bytes: u64,
    /// Bytes that the lower bound falls by if all of them had none.
    pub lowers_by: u64,
    /// Bytes that it falls by if only what shares its bytes at the peak had none.
    pub alone: u64,
}

/// One tensor that is live at the peak.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// The tensor's id.
    pub id: String,
    /// Its bytes.
    pub bytes: u64,
    /// Another tensor that is live there, and has the same bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_of: Option<String>,
}
