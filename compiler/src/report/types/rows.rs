//! Fusions, steps, tensors, weights and moves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::report::unique;

/// One place where a fusion flag could act.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fusion {
    /// The flag's name, e.g. `NORM_QKV`.
    pub flag: String,
    /// The entry.
    pub entry: String,
    /// Where: the model path of the site, e.g. `layers.0.attn`.
    pub site: String,
    /// What became of it.
    pub outcome: FuseOutcome,
    /// Why it was refused; empty when applied.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Bytes of intermediates that are no longer written.
    pub bytes_saved: u64,
    /// Barriers that are no longer needed.
    pub barriers_saved: u64,
    /// Kernel calls that are no longer made: passes over the data.
    #[serde(default)]
    pub passes_saved: u64,
}

/// Whether a fusion was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FuseOutcome {
    /// The site is one kernel.
    Applied,
    /// The site stays as it was.
    #[default]
    Refused,
}

/// One kernel call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// A stable name from the model's path, unique within the entry. No step number in it.
    pub id: String,
    /// Position in the entry, from 0.
    pub index: u64,
    /// The entry.
    pub entry: String,
    /// The kernel's name.
    pub kernel: String,
    /// Ids of the operators that it does the work of; one for an unfused step.
    pub fused_from: Vec<String>,
    /// Ids of the tensors and weights it reads, in the order of the kernel's arguments.
    pub inputs: Vec<String>,
    /// Ids of the tensors it writes, in the order of the kernel's arguments.
    pub outputs: Vec<String>,
    /// The input whose bytes an output takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place_of: Option<String>,
    /// Inputs whose bytes it uses up as scratch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clobbers: Vec<String>,
    /// Which part of its operands one worker touches, and the operands. `all` of them; `rows/4`, its own rows, four of
    /// which stay together; `columns/32`, its own columns of every row; `heads/8`, its own of a cache's eight heads;
    /// `even/8`, an equal part in whole heads where the number of workers divides eight, and any of it elsewhere;
    /// `private`, a part of its own that is no part of any other step's division. An operand may have several. The step's scratch is called `ID.workspace`. Weights are
    /// read by all and not named.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "unique::deserialize"
    )]
    pub parts: BTreeMap<String, Vec<String>>,
    /// Floating-point operations at the upper bounds of all symbols.
    pub flops: u64,
    /// Bytes read at the upper bounds of all symbols.
    pub bytes_read: u64,
    /// Bytes written at the upper bounds of all symbols.
    pub bytes_written: u64,
    /// How the work is divided.
    pub partition: Partition,
    /// The barrier before it, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub barrier: Option<Barrier>,
    /// The barrier within it, if some numbers of workers do it in two halves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halves: Option<Barrier>,
    /// What its matmuls are expected to do; absent if it has none, or the table of costs has no rates for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Predicted>,
    /// Scratch bytes, all workers together.
    pub workspace_bytes: u64,
    /// Bytes live in the planned regions while it runs.
    pub live_bytes: u64,
}

/// What a step's matmuls are expected to do at the upper bounds, on the machine of the table of costs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predicted {
    /// The kernels they take: `few`, `many` or `tiles`; two, joined with `+`, where weight types differ.
    pub kernels: String,
    /// How long they take.
    pub nanoseconds: u64,
}

/// How a step's work is divided between workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Partition {
    /// Each worker takes a range of the axis.
    Axis {
        /// `rows`, `columns`, `heads`, `elements`.
        axis: String,
        /// Length of the axis at the upper bounds of all symbols.
        length: u64,
        /// Ranges begin at multiples of this.
        granule: u64,
    },
    /// One worker does it all.
    Serial {
        /// Why.
        reason: String,
    },
}

impl Default for Partition {
    fn default() -> Self {
        Self::Serial { reason: String::new() }
    }
}

/// Who takes what of an axis. [`Partition::Axis`] names it by its three numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Division {
    /// `rows`, `columns`, `heads`, `elements`.
    pub axis: String,
    /// Length of the axis.
    pub length: u64,
    /// Ranges begin at multiples of this.
    pub granule: u64,
    /// For 2, 4, 8, .. workers: where each one's range begins, and where the last one ends.
    pub ranges: Vec<Vec<u64>>,
}

/// Why workers wait for each other before a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Barrier {
    /// In words: what is read or overwritten, and who wrote or read it.
    pub reason: String,
    /// If the number of workers divides this, nobody waits: each has equal parts of what the steps around it touch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<u64>,
}

/// One slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensor {
    /// A stable name from the model's path. Unique together with `entry`.
    pub id: String,
    /// The entry it belongs to; empty for state that all entries share.
    pub entry: String,
    /// What it is for: `activations`, `kv`, `io`. It lives in the region of that name where there is one: not in a stride
    /// layout, nor in memories.
    pub region: String,
    /// With several memories: the one that it lives in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Element type.
    pub dtype: String,
    /// Extents at the upper bounds of all symbols.
    pub shape: Vec<u64>,
    /// Order of the elements, e.g. `row-major`.
    pub layout: String,
    /// First byte, from the arena's base.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
    /// Bytes; the offset is a multiple of it.
    pub align: u64,
    /// Index of the step that writes it first.
    pub first: u64,
    /// Index of the last step that reads or writes it.
    pub last: u64,
    /// The tensor it is a view of, or whose bytes it took over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_of: Option<String>,
    /// With several memories: how often each of its bytes is read or written by a prompt of `batch` tokens and `batch`
    /// decoded ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accesses: Option<u64>,
}

/// One weight in the packed file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightRow {
    /// Name in the model.
    pub name: String,
    /// Name in the weights file it comes from; several, joined with `+`, for a weight packed from several.
    pub source: String,
    /// Element type there.
    pub dtype_source: String,
    /// Element type in the packed file.
    pub dtype: String,
    /// Order of the elements in the packed file, e.g. `row-major`.
    pub packed_layout: String,
    /// Extents.
    pub shape: Vec<u64>,
    /// First byte, from the start of the packed weights.
    pub offset: u64,
    /// First byte from the arena's base, where the weights have no region of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<u64>,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of the packed bytes, lower-case hex; empty when planned without weights.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

/// A copy from one rank to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The entry.
    pub entry: String,
    /// The step before which it happens.
    pub step: String,
    /// The tensor.
    pub tensor: String,
    /// Sending rank.
    pub source_rank: u64,
    /// Offset in the sender's arena.
    pub source_offset: u64,
    /// Receiving rank.
    pub destination_rank: u64,
    /// Offset in the receiver's arena.
    pub destination_offset: u64,
    /// Bytes.
    pub bytes: u64,
}
