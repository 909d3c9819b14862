//! Debug runs: canaries between buffers, poison in what is dead or not yet written, both looked at after every step.
//!
//! A program that was compiled with `debug:` calls [`Worker::watch`](crate::Worker::watch) where another calls
//! [`Worker::run`](crate::Worker::run), with tables that its compiler wrote ([`Entry`]). Around every step all workers
//! meet at a barrier and worker 0 looks, alone:
//!
//! - before the step, that nothing is born over what is alive; then the newborn get their canaries and their poison;
//! - after it, at the canaries of everything alive, at what the step had to leave alone, and at what it wrote: is it
//!   written, is it a number, and did the rows behind the last token stay as they were; then the dead get their poison.
//!
//! The first thing that is wrong ends the call with [`Error::Debug`](crate::Error::Debug). A program without `debug:`
//! has none of this: no table, no call, no check.

mod finding;
mod inspect;
mod poison;

use std::ops::Range;

use ck_kernels::ops::{Cache, Slot};

pub use finding::{Fault, Finding};
pub(crate) use inspect::Inspector;
pub use poison::{F16, F32, WORD};

/// Bytes of a canary.
pub const CANARY: usize = 64;

/// What a debug run watches in one entry of a program.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// `prefill`, `decode` or `head`.
    pub name: &'static str,
    /// Whether there are canaries: [`CANARY`] bytes behind every buffer.
    pub canaries: bool,
    /// Whether what is dead or not yet written is poisoned.
    pub poison: bool,
    /// Whether a call at position 0 starts a sequence: the caches are empty then.
    pub starts: bool,
    /// Keys and values.
    pub caches: &'static [Watched],
    /// What else is alive whatever runs: weights, ids, logits, the first canary of each region.
    pub resident: &'static [Watched],
    /// What an entry before this one has left here.
    pub given: &'static [Watched],
    /// By step.
    pub steps: &'static [Step],
}

/// What happens to memory in one step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The step's stable name.
    pub id: &'static str,
    /// What is written for the first time.
    pub born: &'static [Watched],
    /// Which of the newborn take the bytes of something that is alive: `(new, old)`. They are not poisoned.
    pub in_place: &'static [(Watched, Watched)],
    /// What the step writes, scratch excluded.
    pub writes: &'static [Watched],
    /// What is alive during the step besides what is in all of them; a canary stands behind each.
    pub live: &'static [Watched],
    /// What is never used again.
    pub dies: &'static [Watched],
}

/// Something with bytes of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Its name, as in the layout report.
    pub name: &'static str,
    /// Its bytes, and what a kernel leaves in them.
    pub what: What,
}

/// What some bytes hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An activation with that many rows. A call of fewer tokens leaves the last ones alone.
    Rows(Slot, usize),
    /// The keys of a cache.
    Keys(Cache),
    /// The values of a cache.
    Values(Cache),
    /// Bytes at an offset that a kernel uses as it likes.
    Scratch(usize, usize),
    /// Bytes at an offset that nobody writes, and no canary behind them.
    Fixed(usize, usize),
}

impl Watched {
    /// An activation.
    pub const fn rows(name: &'static str, slot: Slot, rows: usize) -> Watched {
        let what = What::Rows(slot, rows);
        Watched { name, what }
    }

    /// The keys of a cache.
    pub const fn keys(name: &'static str, cache: Cache) -> Watched {
        let what = What::Keys(cache);
        Watched { name, what }
    }

    /// The values of a cache.
    pub const fn values(name: &'static str, cache: Cache) -> Watched {
        let what = What::Values(cache);
        Watched { name, what }
    }

    /// The workspace of a step; or, without bytes, the canary before a region's first buffer.
    pub const fn scratch(name: &'static str, offset: usize, bytes: usize) -> Watched {
        let what = What::Scratch(offset, bytes);
        Watched { name, what }
    }

    /// Weights.
    pub const fn fixed(name: &'static str, offset: usize, bytes: usize) -> Watched {
        let what = What::Fixed(offset, bytes);
        Watched { name, what }
    }

    /// Its bytes in the arena, without the canary.
    pub fn bytes(&self) -> Range<usize> {
        let (offset, bytes) = match self.what {
            What::Rows(slot, rows) => (slot.offset, slot.stride().saturating_mul(rows)),
            What::Keys(cache) => (cache.k, cache.half_bytes()),
            What::Values(cache) => (cache.v, cache.half_bytes()),
            What::Scratch(offset, bytes) | What::Fixed(offset, bytes) => (offset, bytes),
        };
        offset..offset.saturating_add(bytes)
    }

    /// The bytes of the canary behind it, if it has one.
    fn canary(&self) -> Option<Range<usize>> {
        let end = self.bytes().end;
        (!matches!(self.what, What::Fixed(..))).then(|| end..end.saturating_add(CANARY))
    }
}

/// A byte of the canary that starts at `start`. A canary tells where it belongs, so that a copy of another one is found.
fn canary_byte(start: usize, i: usize) -> u8 {
    let word = 0xC0DE_CA4A_C0DE_CA4A ^ (start + i / 8 * 8) as u64;
    word.to_le_bytes()[i % 8]
}

#[cfg(test)]
mod tests;
