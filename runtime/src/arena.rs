//! One reservation, one base pointer.
//!
//! On 64-bit Linux the arena is one anonymous mapping: pages cost nothing until they are touched. Whole pages of packed
//! weights are mapped over its beginning, read-only and straight from the file. Elsewhere, and where the system
//! refuses (a page size above the file's), the weights are read into the arena.

use std::fmt;
use std::ptr::NonNull;

use crate::error::Error;
use crate::layout::{Layout, Segment};
use crate::weights::WeightsFile;

#[cfg(all(target_os = "linux", target_pointer_width = "64", not(miri)))]
#[path = "arena/linux.rs"]
mod memory;
#[cfg(not(all(target_os = "linux", target_pointer_width = "64", not(miri))))]
#[path = "arena/portable.rs"]
mod memory;

pub(crate) use memory::{FileMap, Memory};

/// The memory of a program: weights in place, everything else zero.
pub struct Arena {
    memory: Memory,
    /// Where the weights are, in ascending order; not to be written.
    weights: Vec<Segment>,
}

impl Arena {
    /// Reserves the arena of `layout` and puts the weights of `file` into it.
    ///
    /// # Errors
    /// [`Error::WrongLayout`] if the file was packed for another layout, [`Error::Weights`] if it has another amount of
    /// weights, [`Error::Memory`], [`Error::Io`].
    pub fn new(layout: &Layout, file: &WeightsFile) -> Result<Arena, Error> {
        file.expect_layout(layout)?;
        layout.check()?;
        let no_memory = |source| Error::Memory {
            bytes: layout.arena_bytes,
            source,
        };
        let mut memory = Memory::reserve(layout.arena_bytes).map_err(no_memory)?;
        let mut weights = layout.segments.to_vec();
        if weights.is_empty() {
            weights.push(Segment {
                file_offset: 0,
                arena_offset: 0,
                bytes: layout.weights_bytes,
            });
            let mapped = memory.map_weights(file, layout.weights_bytes).map_err(no_memory)?;
            file.read(mapped, &mut memory.bytes_mut()[mapped..layout.weights_bytes])?;
        } else {
            weights.sort_by_key(|s| s.arena_offset);
            for s in &weights {
                let place = &mut memory.bytes_mut()[s.arena_offset..s.arena_offset + s.bytes];
                file.read(s.file_offset, place)?;
            }
        }
        Ok(Arena { memory, weights })
    }

    /// The first byte, aligned to a page.
    pub fn base(&self) -> NonNull<u8> {
        self.memory.base()
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether the arena has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of weights that are mapped from the file; the rest of the weights was read.
    pub fn mapped_bytes(&self) -> usize {
        self.memory.mapped()
    }

    /// Fills everything but the weights with `byte`: a program's results must not depend on what was there before.
    pub fn dirty(&mut self, byte: u8) {
        let mut start = 0;
        let end = Segment {
            file_offset: 0,
            arena_offset: self.len(),
            bytes: 0,
        };
        for s in self.weights.iter().chain([&end]) {
            if start < s.arena_offset {
                // SAFETY: a gap between weights, inside the arena; `Layout::check` keeps segments apart, and whole
                // pages of mapped weights are part of the weights. Nobody else uses the arena, by `&mut self`.
                unsafe { self.base().add(start).write_bytes(byte, s.arena_offset - start) };
            }
            start = s.arena_offset + s.bytes;
        }
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("bytes", &self.len())
            .field("mapped_bytes", &self.mapped_bytes())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
