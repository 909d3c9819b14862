//! The arena: where every byte of a program is.
//!
//! A [`Layout`] joins the entries of [`crate::schedule`] with the offsets of [`crate::plan`]. It is what the emitter
//! writes down, the report describes and the packer fills.

pub mod call;
pub mod debug;
pub mod describe;
pub mod hint;
mod memories;
mod occupancy;
mod ordered;
mod packed;
pub mod residence;
mod stride;
mod traffic;

use std::collections::BTreeMap;
use std::ops::Range;

use ck_kernels::dtype::{ALIGN, ActType};
use ck_kernels::ops::Slot;
use debug::DebugMode;

use crate::graph::{CacheId, Graph, Rows, TensorId};
use crate::plan::{PlanError, Solution, Status};
use crate::report::Plan;
use crate::schedule::access::Operand;
use crate::schedule::barrier::{self, Barrier, Touch};
use crate::schedule::order;
use crate::schedule::{Entry, Step};
use hint::Hint;
pub use occupancy::{Merged, merged_buffers, merged_operands, state};

/// Regions start on a page, so that the packed weights can be mapped in place.
pub const PAGE: u64 = 4096;

/// Whether fused-away tensors have a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Kind {
    /// Regions one after the other; activations share bytes; fused-away tensors have none.
    #[default]
    Packed,
    /// Weights and activations interleaved in execution order, every tensor in a place of its own; what is fused away
    /// is stepped over.
    Stride,
}

impl Kind {
    /// The name used on the command line, in YAML and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Packed => "packed",
            Kind::Stride => "stride",
        }
    }
}

use ordered::Orders;
pub use ordered::StepOrder;

/// A memory that the arena has a part in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The name of its region.
    pub name: String,
    /// What it holds at most, bytes; without a limit if none is given.
    pub capacity: Option<u64>,
}

/// What can be asked of a layout.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Packed or stride.
    pub kind: Kind,
    /// Whether an entry's steps may be put into an order of fewer bytes. Over several memories they stay as they are.
    pub order: order::Kind,
    /// What the program does to find faults of its own.
    pub debug: DebugMode,
    /// The memories, the fastest first; one without a limit if there are none.
    pub memories: &'a [Memory],
    /// Of all packed layouts of equal size, one near these places is taken.
    pub hint: &'a Hint,
}

/// A named part of the arena.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// `weights`, `kv`, `io`, `activations`; `interleaved` in a stride layout; the memories' names, if there are any,
    /// beside `weights` in a packed one.
    pub name: String,
    /// Its bytes in the arena.
    pub bytes: Range<u64>,
    /// The least it could be.
    pub lower_bound: u64,
    /// What it would be without reuse.
    pub naive: u64,
}

/// What the program needs of a memory.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryPlan {
    /// Name and capacity.
    pub memory: Memory,
    /// Bytes of packed weights in it: in the last memory.
    pub weights: u64,
    /// Bytes of everything in it; above the capacity if there is a shortage.
    pub bytes: u64,
    /// The least that `bytes` could be.
    pub lower_bound: u64,
    /// How the two relate to each other and to the capacity.
    pub status: Status,
    /// How what shares bytes in it was placed; nothing in a stride layout.
    pub plan: Option<Plan>,
    /// Bytes read and written here, weights apart, over [`traffic::runs`] of all entries.
    pub accesses: u128,
    /// The fewest accesses a byte of anything here.
    pub coolest: Option<u64>,
    /// Why the program does not fit.
    pub shortage: Option<Shortage>,
}

/// Where a memory overflows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// The entry.
    pub entry: &'static str,
    /// The step.
    pub step: String,
    /// What is live in the memory in that step, and its bytes, the largest first.
    pub live: Vec<(String, u64)>,
    /// Bytes that are missing.
    pub short: u64,
}

/// A piece of the weights payload: a matrix, a vector or a rope table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes from the start of the payload of the packed file.
    pub payload: u64,
    /// Bytes from the start of the arena.
    pub arena: u64,
    /// Length.
    pub bytes: u64,
}

/// One entry with its places.
#[derive(Clone, Debug)]
pub struct EntryLayout {
    /// Steps and graph.
    pub entry: Entry,
    /// Offset in the arena of every activation and workspace it touches.
    pub places: BTreeMap<Operand, u64>,
    /// The barrier before each step.
    pub barriers: Vec<Option<Barrier>>,
    /// How its activations were planned.
    pub solution: Solution,
    /// Live range of each planned operand, in steps.
    pub live: BTreeMap<Operand, Range<u32>>,
    /// Pairs `(written, read)` that share bytes because the one is written in place of the other.
    pub merged: Vec<(Operand, Operand)>,
    /// How its steps were ordered; nothing if they had to stay as they are.
    pub order: Option<StepOrder>,
    /// With several memories: how often each byte of an operand is read or written, over [`traffic::runs`] of all entries.
    pub accesses: BTreeMap<Operand, u64>,
}

/// Where every byte of a program is.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Packed or stride.
    pub kind: Kind,
    /// The entries, in the order they are emitted.
    pub entries: Vec<EntryLayout>,
    /// The parts of the arena, by offset.
    pub regions: Vec<Region>,
    /// The memories, the fastest first; none if the description names none.
    pub memories: Vec<MemoryPlan>,
    /// Rope tables, by [`crate::graph::RopeId`].
    pub ropes: Vec<Piece>,
    /// Weights, by [`crate::graph::WeightId`].
    pub weights: Vec<Piece>,
    /// Offsets of keys and values in the arena, by [`CacheId`].
    pub caches: Vec<(u64, u64)>,
    /// Bytes of the payload of the packed file.
    pub payload_bytes: u64,
    /// Bytes of the arena.
    pub arena_bytes: u64,
    /// Token ids.
    pub ids: Slot,
    /// Logits of one row.
    pub logits: Slot,
    /// Positions the caches hold: the context, rounded up to the tile of the keys.
    pub cache_positions: usize,
    /// What the program does to find faults of its own.
    pub debug: DebugMode,
}

/// Why there is no layout.
#[derive(Clone, Debug, PartialEq)]
pub enum LayoutError {
    /// The planner's word.
    Plan(PlanError),
    /// The verifier found the plan wrong: a bug of the compiler.
    Verify {
        /// The entry.
        entry: &'static str,
        /// What is wrong with it.
        violations: Vec<String>,
    },
    /// The sizes add up to more than any address space.
    TooLarge,
}

impl std::fmt::Display for LayoutError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LayoutError::Plan(error) => write!(f, "{error}"),
            LayoutError::Verify { entry, violations } => {
                write!(f, "the plan of `{entry}` is wrong (this is a bug in ckc):")?;
                violations.iter().try_for_each(|v| write!(f, "\n  {v}"))
            }
            LayoutError::TooLarge => write!(f, "the model needs more bytes than an address can name"),
        }
    }
}

impl std::error::Error for LayoutError {}

impl From<PlanError> for LayoutError {
    fn from(error: PlanError) -> LayoutError {
        LayoutError::Plan(error)
    }
}

impl Layout {
    /// The memory that a byte of the arena is in, if the description names memories. Weights are in the last one.
    pub fn memory_of(&self, offset: u64) -> Option<&MemoryPlan> {
        let region = self.regions.iter().find(|r| r.bytes.contains(&offset))?;
        let named = self.memories.iter().find(|m| m.memory.name == region.name);
        named.or(self.memories.last())
    }

    /// Bytes of keys and values, with their canaries.
    pub fn kv_bytes(&self) -> u64 {
        let model = &self.entries[0].entry.graph;
        let half = |c| align(cache_half_bytes(model, CacheId(c as u32)) + self.debug.canary());
        let halves = (0..self.caches.len()).map(half);
        halves.map(|half| 2 * half).sum()
    }

    /// Bytes of ids and logits, with their canaries.
    pub fn io_bytes(&self) -> u64 {
        let batch = self.entries[0].entry.graph.batch;
        let buffer = |bytes: usize| align(bytes as u64 + self.debug.canary());
        buffer(batch * self.ids.stride()) + buffer(self.logits.stride())
    }

    /// Bytes of activations and workspaces: in all memories; in a stride layout with what pads them.
    pub fn activations_bytes(&self) -> u64 {
        let planned: u64 = match self.kind {
            Kind::Packed => self.memories.iter().map(|m| m.bytes - m.weights).sum(),
            Kind::Stride => self.arena_bytes.saturating_sub(self.payload_bytes),
        };
        planned.saturating_sub(self.kv_bytes() + self.io_bytes())
    }

    /// Accesses to what is planned in all memories.
    pub fn accesses(&self) -> u128 {
        self.memories.iter().map(|m| m.accesses).sum()
    }
}

/// Lays out the entries of a model.
///
/// # Errors
/// Sizes beyond the address space, or a plan that its verifier rejects.
pub fn lay_out(model: &Graph, entries: Vec<Entry>, settings: &Settings<'_>) -> Result<Layout, LayoutError> {
    let Settings { order, debug, .. } = *settings;
    match settings.kind {
        Kind::Packed if settings.memories.is_empty() => packed::lay_out(model, entries, order, debug, settings.hint),
        Kind::Packed => memories::lay_out(model, entries, settings.memories, debug, settings.hint),
        Kind::Stride => stride::lay_out(model, entries, settings.memories, debug),
    }
}

/// Positions the caches hold.
pub fn cache_positions(model: &Graph) -> usize {
    model.context.next_multiple_of(ck_kernels::dtype::GROUP)
}

/// Bytes of one half (keys or values) of a cache.
pub fn cache_half_bytes(model: &Graph, cache: CacheId) -> u64 {
    let c = &model.caches[cache.index()];
    let element = match c.act {
        ActType::F16 => 2,
        _ => 4,
    };
    (c.kv_heads * c.head_dim * element) as u64 * cache_positions(model) as u64
}

/// Bytes of a rope table: a cosine and a sine for each pair and position.
pub fn rope_bytes(model: &Graph, rope: usize) -> u64 {
    (model.ropes[rope].dims * 4) as u64 * model.context as u64
}

/// Bytes of a packed weight.
pub fn weight_bytes(model: &Graph, weight: usize) -> u64 {
    let w = &model.weights[weight];
    if w.vector {
        w.cols as u64 * 4
    } else {
        w.dtype.packed_bytes(w.rows, w.cols) as u64
    }
}

/// Bytes of an activation in an entry.
pub fn tensor_bytes(graph: &Graph, tensor: TensorId) -> u64 {
    let t = graph.tensor(tensor);
    let rows = match t.rows {
        Rows::Tokens => graph.batch,
        Rows::Selected => 1,
    };
    (rows * t.act.row_bytes(t.cols)) as u64
}

/// Bytes of an operand of an entry. The head reads a row of the body's result, which is as the body wrote it: rows for as
/// many tokens as a call may have.
pub fn operand_bytes(entry: &Entry, model: &Graph, operand: Operand) -> u64 {
    match operand {
        Operand::Tensor(t) if entry.graph.inputs.contains(&t) && !model.inputs.contains(&t) => tensor_bytes(model, t),
        Operand::Tensor(t) => tensor_bytes(&entry.graph, t),
        Operand::Keys(c) | Operand::Values(c) => cache_half_bytes(model, c),
        Operand::Workspace(step) => entry.steps[step].workspace as u64,
    }
}

/// The name of an operand: the tensor's, the cache's, or the step's for a workspace.
pub fn operand_name(entry: &Entry, operand: Operand) -> String {
    let graph = &entry.graph;
    match operand {
        Operand::Tensor(t) => graph.tensor(t).name.clone(),
        Operand::Keys(c) => format!("{}.keys", graph.caches[c.index()].name),
        Operand::Values(c) => format!("{}.values", graph.caches[c.index()].name),
        Operand::Workspace(step) => format!("{}.workspace", graph.ops[entry.steps[step].op].name),
    }
}

/// Rounds up to the alignment of every tensor.
fn align(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGN as u64)
}

/// Rope tables, then weights in order of first use, each on a cache line: the payload of the packed file.
/// Returns the pieces with `arena == payload`, and the length.
fn payload(model: &Graph) -> (Vec<Piece>, Vec<Piece>, u64) {
    let mut end = 0;
    let mut piece = |bytes: u64| {
        let payload = end;
        end += align(bytes);
        Piece {
            payload,
            arena: payload,
            bytes,
        }
    };
    let ropes = (0..model.ropes.len()).map(|r| piece(rope_bytes(model, r))).collect();
    let weights = (0..model.weights.len())
        .map(|w| piece(weight_bytes(model, w)))
        .collect();
    (ropes, weights, end)
}

/// Checks that every size of the model fits an address with room to spare, so that sums below cannot overflow.
fn check_sizes(model: &Graph, entries: &[Entry]) -> Result<(), LayoutError> {
    const LIMIT: u128 = 1 << 46;
    let row = |t: &crate::graph::Tensor| t.act.row_bytes(t.cols) as u128;
    let activations: u128 = model.tensors.iter().map(|t| row(t) * model.batch as u128).sum();
    let weights: u128 = model.weights.iter().map(|w| w.rows as u128 * w.cols as u128 * 4).sum();
    let caches: u128 = model
        .caches
        .iter()
        .map(|c| (c.kv_heads * c.head_dim) as u128 * 8 * cache_positions(model) as u128)
        .sum();
    let ropes: u128 = model
        .ropes
        .iter()
        .map(|r| r.dims as u128 * 4 * model.context as u128)
        .sum();
    let scratch: u128 = entries.iter().flat_map(|e| &e.steps).map(|s| s.workspace as u128).sum();
    if activations + weights + caches + ropes + scratch < LIMIT {
        Ok(())
    } else {
        Err(LayoutError::TooLarge)
    }
}

/// The barriers of an entry whose operands have these places.
fn place_barriers(entry: &Entry, model: &Graph, place: impl Fn(Operand) -> u64) -> Vec<Option<Barrier>> {
    let touch = |step: &Step| {
        let bytes = |o| place(o)..place(o) + operand_bytes(entry, model, o);
        step.accesses
            .iter()
            .map(|a| Touch {
                access: *a,
                bytes: bytes(a.operand),
            })
            .collect()
    };
    let touches: Vec<Vec<Touch>> = entry.steps.iter().map(touch).collect();
    barrier::place(&touches)
}

/// The slot of the token ids and of the logits at these offsets.
fn io_slots(model: &Graph, ids: u64, logits: u64) -> (Slot, Slot) {
    let vocab = model.outputs.first().map_or(1, |t| model.tensor(*t).cols);
    let slot = |offset: u64, cols, act| Slot {
        offset: offset as usize,
        cols,
        act,
    };
    (slot(ids, 1, ActType::U32), slot(logits, vocab, ActType::F32))
}
