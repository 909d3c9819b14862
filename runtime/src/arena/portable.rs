//! The arena's memory from the global allocator.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use crate::weights::{PAGE, WeightsFile};

/// One zeroed allocation.
pub(crate) struct Memory {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: plain memory that nothing else owns; who may touch it when follows from the borrows of `Arena`.
unsafe impl Send for Memory {}
// SAFETY: shared access only reads addresses.
unsafe impl Sync for Memory {}

impl Memory {
    /// `len` zero bytes, aligned to a page.
    pub(crate) fn reserve(len: usize) -> io::Result<Memory> {
        let layout = Layout::from_size_align(len, PAGE).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let base = if len == 0 {
            std::ptr::without_provenance_mut(PAGE)
        } else {
            // SAFETY: the size is not zero.
            unsafe { alloc_zeroed(layout) }
        };
        let base = NonNull::new(base).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Memory { base, layout })
    }

    /// Nothing can be mapped here.
    pub(super) fn map_weights(&mut self, _: &WeightsFile, _: usize) -> io::Result<usize> {
        Ok(0)
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.layout.size()
    }

    pub(super) fn mapped(&self) -> usize {
        0
    }

    /// All bytes.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: our own zeroed allocation (or an aligned address for no bytes), borrowed as long as `self`.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.layout.size() > 0 {
            // SAFETY: allocated in `reserve` with this layout.
            unsafe { dealloc(self.base.as_ptr(), self.layout) };
        }
    }
}

/// A part of a file, mapped; there is none here.
pub(crate) enum FileMap {}

impl FileMap {
    /// Nothing can be mapped here.
    pub(crate) fn new(_: &File, _: &Range<u64>) -> io::Result<Option<FileMap>> {
        Ok(None)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match *self {}
    }
}
