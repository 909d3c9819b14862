//! What an emitted program says about itself: sizes, offsets and steps, all known before anything runs.

use ck_kernels::dtype::{ALIGN, ActType};
use ck_kernels::isa::Choices;
use ck_kernels::ops::Slot;
use ck_kernels::partition::Axis;

use crate::error::Error;

/// The memory and the steps of an emitted program, as its compiler planned them.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The model's name, also the stem of its weights file.
    pub model: &'static str,
    /// Identifies the plan; a weights file carries the hash of the plan that it was packed for.
    pub hash: [u8; 32],
    /// Bytes of the whole arena.
    pub arena_bytes: usize,
    /// Bytes of the packed weights. They are the arena's first bytes unless [`Layout::segments`] says otherwise.
    pub weights_bytes: usize,
    /// Positions there is room for.
    pub context: usize,
    /// The most tokens of one call of [`crate::Program::prefill`].
    pub batch: usize,
    /// Logits per token; ids are below this.
    pub vocab: usize,
    /// Where a call's ids are put: `batch` dense u32.
    pub ids: Slot,
    /// Where [`crate::Program::head`] leaves one row of `vocab` f32.
    pub logits: Slot,
    /// Start of the KV region.
    pub kv_offset: usize,
    /// Bytes of the KV region; 0 if the layers' caches stand apart from each other.
    pub kv_bytes: usize,
    /// Where pieces of the packed weights go when they are interleaved with activations (`layout: stride`).
    /// Empty: the packed weights are `0..weights_bytes` of the arena, mapped in place.
    pub segments: &'static [Segment],
    /// Which kernels take over from how many tokens on.
    pub choices: Choices,
    /// Every step of every entry, in program order.
    pub steps: &'static [StepInfo],
}

/// A piece of the packed weights with a place of its own in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Bytes from the start of the weights payload of the file.
    pub file_offset: usize,
    /// Bytes from the start of the arena.
    pub arena_offset: usize,
    /// Length.
    pub bytes: usize,
}

/// A step of an entry: one kernel call.
#[derive(Clone, Copy, Debug)]
pub struct StepInfo {
    /// The step's stable name, as in the layout report.
    pub id: &'static str,
    /// The entry it belongs to: `prefill`, `decode` or `head`.
    pub entry: &'static str,
    /// The kernel's name.
    pub kernel: &'static str,
    /// How the work is divided between workers.
    pub axis: Axis,
    /// Units along the axis that are divided: columns or heads; for [`Axis::Tokens`] the most tokens of a call.
    pub extent: usize,
    /// Why a barrier stands before the step, if one does.
    pub barrier: Option<&'static str>,
    /// Arena offset of the step's workspace.
    pub workspace_offset: usize,
    /// Bytes of the step's workspace, 0 if it has none.
    pub workspace_bytes: usize,
    /// Why all of it runs on worker 0, if it does.
    pub serial: Option<&'static str>,
    /// Floating-point operations for one token (a multiply-add counts 2), without attention over the cache, which
    /// grows with the position.
    pub flops_per_token: u64,
    /// Bytes of weights one call reads, whatever its number of tokens (of an embedding: one row).
    pub weight_bytes: u64,
}

impl Layout {
    /// Checks that the layout is one a [`crate::Runner`] can serve: what the runtime itself reads and writes lies in
    /// the arena, is aligned and apart. What kernels touch is checked by the compiler's plan verifier and, for bounds,
    /// by each kernel call.
    ///
    /// # Errors
    /// [`Error::Layout`], naming the first contradiction.
    pub fn check(&self) -> Result<(), Error> {
        let fail = |what: String| {
            Err(Error::Layout {
                model: self.model,
                what,
            })
        };
        for (name, n) in [("context", self.context), ("batch", self.batch), ("vocab", self.vocab)] {
            if n == 0 || u32::try_from(n).is_err() {
                return fail(format!("{name} is {n}"));
            }
        }
        if (self.ids.cols, self.ids.act) != (1, ActType::U32) {
            return fail(format!("the ids slot is {:?}, not one column of u32", self.ids));
        }
        if (self.logits.cols, self.logits.act) != (self.vocab, ActType::F32) {
            return fail(format!(
                "the logits slot is {:?}, not {} columns of f32",
                self.logits, self.vocab
            ));
        }
        let mut taken = vec![
            ("ids", self.ids.offset, self.batch * self.ids.stride()),
            ("logits", self.logits.offset, self.logits.stride()),
            ("kv", self.kv_offset, self.kv_bytes),
        ];
        if self.segments.is_empty() {
            taken.push(("weights", 0, self.weights_bytes));
        }
        for s in self.segments {
            if s.file_offset
                .checked_add(s.bytes)
                .is_none_or(|end| end > self.weights_bytes)
            {
                return fail(format!(
                    "{s:?} leaves the {} bytes of the packed weights",
                    self.weights_bytes
                ));
            }
            taken.push(("weights segment", s.arena_offset, s.bytes));
        }
        for &(name, offset, bytes) in &taken {
            if offset % ALIGN != 0 {
                return fail(format!("{name} starts at {offset}, not a multiple of {ALIGN}"));
            }
            if offset.checked_add(bytes).is_none_or(|end| end > self.arena_bytes) {
                return fail(format!(
                    "{name} at {offset}+{bytes} leaves the arena of {} bytes",
                    self.arena_bytes
                ));
            }
        }
        // The ids come first; they are dead once the embedding has read them, so that only the logits may share their
        // bytes.
        let apart = |a: &(&str, usize, usize), b: &(&str, usize, usize)| a.1 + a.2 <= b.1 || b.1 + b.2 <= a.1;
        let overlap = |a: &(&str, usize, usize), b: &(&str, usize, usize)| {
            fail(format!(
                "{} at {}+{} overlaps {} at {}+{}",
                a.0, a.1, a.2, b.0, b.1, b.2
            ))
        };
        taken.retain(|&(_, _, bytes)| bytes > 0);
        let (ids, rest) = taken.split_at_mut(1);
        if let Some(other) = rest.iter().find(|other| other.0 != "logits" && !apart(&ids[0], other)) {
            return overlap(&ids[0], other);
        }
        rest.sort_by_key(|&(_, offset, _)| offset);
        if let Some(pair) = rest.windows(2).find(|pair| !apart(&pair[0], &pair[1])) {
            return overlap(&pair[0], &pair[1]);
        }
        Ok(())
    }

    /// Sum over the steps of `entry`.
    pub(crate) fn sum(&self, entry: &str, value: fn(&StepInfo) -> u64) -> u64 {
        self.steps.iter().filter(|s| s.entry == entry).map(value).sum()
    }
}
