//! What a layout report says. Field order is the key order of `layout.json`.
//!
//! Rules that make a report worth diffing: numbers are integers; every list is sorted (see [`Report::normalise`]); names
//! and ids are derived from the model's own paths and never contain a step number; nothing depends on time, host or path.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::unique;
use crate::plan::{self, Status};

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

/// What was compiled, by what, how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`SCHEMA`].
    pub schema: String,
    /// Version of the compiler.
    pub ckc_version: String,
    /// The model's name.
    pub model: String,
    /// SHA-256 of the canonical YAML, lower-case hex.
    pub yaml_sha256: String,
    /// What the program was made for, e.g. `any` or `x86_64`.
    pub target: String,
    /// What changes the layout besides the YAML.
    pub options: Options,
    /// The entries, in the order they are emitted.
    pub entries: Vec<Entry>,
}

/// What changes the layout besides the YAML.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// `infer` or `train`.
    pub mode: String,
    /// Upper bound of the sequence length, tokens.
    pub context: u64,
    /// Upper bound of the tokens in one call of `prefill`.
    pub batch: u64,
    /// Fusion flags that are allowed, in the order of their bits.
    pub fuse: Vec<String>,
    /// `packed` or `stride`.
    pub layout: String,
    /// Element type of the key/value cache.
    pub kv_dtype: String,
    /// Element type asked for at pack time, or `stored`.
    pub weights_dtype: String,
    /// Largest number of workers that the layout has room for.
    pub max_threads: u64,
    /// `canaries`, `poison`, `no_reuse`: what the program does to find faults of its own. Canaries are part of all sizes
    /// but those of tensors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub debug: Vec<String>,
}

/// One program over the shared state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// `prefill`, `decode`, `train_step`.
    pub name: String,
    /// Kernel calls.
    pub steps: u64,
    /// Barriers.
    pub barriers: u64,
    /// The most bytes its steps need live at once in the regions that it shares with other entries.
    pub peak_bytes: u64,
    /// How its steps were ordered; absent when they stay in the source's order unsearched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<StepOrder>,
    /// Floating-point operations at the upper bounds of all symbols.
    pub flops: u64,
    /// Bytes read at the upper bounds of all symbols.
    pub bytes_read: u64,
    /// Bytes written at the upper bounds of all symbols.
    pub bytes_written: u64,
    /// How its part of the planned regions was laid out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// How the steps of an entry were ordered. The bytes are those live by steps alone, without what barriers add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepOrder {
    /// Whether it is another order than the source's.
    pub changed: bool,
    /// The most bytes live at once in the source's order.
    pub source_bound: u64,
    /// The most bytes live at once in this order.
    pub bound: u64,
    /// No order that the data allow has fewer.
    pub least: u64,
}

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
    /// which stay together; `columns/32`, its own columns of every row; `private`, a part of its own that is no part of
    /// any other step's division. An operand may have several. The step's scratch is called `ID.workspace`. Weights are
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
    /// Scratch bytes, all workers together.
    pub workspace_bytes: u64,
    /// Bytes live in the planned regions while it runs.
    pub live_bytes: u64,
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

impl Limit {
    /// `kept`, or by how much it is exceeded.
    pub fn verdict(&self) -> String {
        match self.bytes.checked_sub(self.limit) {
            None | Some(0) => "kept".to_owned(),
            Some(by) => Status::OverBudget { by }.to_string(),
        }
    }
}

impl Tensor {
    /// The name of the part of the arena that it lives in: its memory, or its region.
    pub fn home(&self) -> &str {
        self.memory.as_ref().unwrap_or(&self.region)
    }
}

impl std::fmt::Display for StepOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.changed {
            true => write!(f, "changed, bound {} -> {}", self.source_bound, self.bound)?,
            false => write!(f, "source, bound {}", self.bound)?,
        }
        match (self.least == self.bound, self.changed) {
            (true, true) => f.write_str(", proved"),
            (true, false) => f.write_str(", optimal (search)"),
            (false, _) => write!(f, ", no order below {}", self.least),
        }
    }
}

/// An entry's order in a line, for all renderings.
pub(crate) fn order_words(order: Option<StepOrder>) -> String {
    order.map_or_else(|| "source, not searched".to_owned(), |order| order.to_string())
}

impl std::fmt::Display for FuseOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
        })
    }
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Axis { axis, length, granule } => write!(f, "{axis} {length}/{granule}"),
            Self::Serial { reason } => write!(f, "serial ({reason})"),
        }
    }
}

impl From<&plan::Solution> for Plan {
    fn from(solution: &plan::Solution) -> Self {
        let chosen = solution
            .candidates
            .get(solution.chosen)
            .map_or_else(String::new, |c| c.name.clone());
        Self {
            chosen,
            candidates: solution.candidates.iter().map(|c| (c.name.clone(), c.peak)).collect(),
            bytes: solution.peak,
            lower_bound: solution.lower_bound,
            gap: solution.peak.saturating_sub(solution.lower_bound),
            status: solution.status,
            nodes: solution.nodes,
        }
    }
}

impl Report {
    /// Sorts every list as the field docs say. Renderings call it, so that a caller cannot forget.
    pub fn normalise(&mut self) {
        let order: BTreeMap<&str, usize> = self.header.entries.iter().map(|e| e.name.as_str()).zip(0..).collect();
        let entry = |name: &str| order.get(name).copied().unwrap_or(usize::MAX);
        self.totals
            .regions
            .sort_by(|a, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
        if let Some(peak) = &mut self.totals.peak {
            peak.live
                .sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.id.cmp(&b.id)));
            peak.shrink
                .sort_by(|a, b| b.lowers_by.cmp(&a.lowers_by).then_with(|| a.id.cmp(&b.id)));
        }
        self.totals.budgets.sort_by(|a, b| a.name.cmp(&b.name));
        self.fusions
            .sort_by(|a, b| (&a.entry, &a.site, &a.flag).cmp(&(&b.entry, &b.site, &b.flag)));
        self.steps
            .sort_by(|a, b| (entry(&a.entry), &a.entry, a.index).cmp(&(entry(&b.entry), &b.entry, b.index)));
        self.partitions
            .sort_by(|a, b| (&a.axis, a.length, a.granule).cmp(&(&b.axis, b.length, b.granule)));
        self.tensors
            .sort_by(|a, b| (&a.region, &a.entry, &a.id).cmp(&(&b.region, &b.entry, &b.id)));
        self.weights
            .sort_by(|a, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
        self.moves.sort_by(|a, b| {
            let key = |m: &Move| (m.entry.clone(), m.step.clone(), m.tensor.clone(), m.destination_rank);
            key(a).cmp(&key(b))
        });
    }
}
