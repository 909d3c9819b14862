//! The arena's memory from `mmap`.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;

use crate::weights::{PAGE, WeightsFile};

// Values of <asm-generic/mman.h> and <asm-generic/errno-base.h>, the same on every 64-bit architecture that Rust
// supports but mips64.
const PROT_READ: c_int = 1;
const PROT_WRITE: c_int = 2;
const MAP_PRIVATE: c_int = 0x02;
const MAP_FIXED: c_int = 0x10;
const MAP_ANONYMOUS: c_int = 0x20;
const MAP_NORESERVE: c_int = 0x4000;
const MADV_WILLNEED: c_int = 3;
const MADV_HUGEPAGE: c_int = 14;
const ENODEV: c_int = 19;
const EINVAL: c_int = 22;

// SAFETY: the signatures of POSIX, with the 64-bit `off_t` of LP64.
unsafe extern "C" {
    fn mmap(addr: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void;
    fn munmap(addr: *mut c_void, len: usize) -> c_int;
    fn madvise(addr: *mut c_void, len: usize, advice: c_int) -> c_int;
}

/// A huge page. The kernel maps a file's huge page as one only where address and file offset agree modulo its size.
const HUGE: usize = 2 << 20;

/// One anonymous mapping, possibly with a file over its beginning.
pub(crate) struct Memory {
    base: NonNull<u8>,
    len: usize,
    mapped: usize,
    /// The mapping's own beginning and length: up to [`HUGE`] bytes before `base` and after its end are never touched.
    whole: (NonNull<u8>, usize),
}

// SAFETY: plain memory that nothing else owns; who may touch it when follows from the borrows of `Arena`.
unsafe impl Send for Memory {}
// SAFETY: shared access only reads addresses.
unsafe impl Sync for Memory {}

impl Memory {
    /// `len` zero bytes, aligned to a page.
    pub(crate) fn reserve(len: usize) -> io::Result<Memory> {
        if len == 0 {
            return Ok(Memory {
                base: NonNull::<Aligned>::dangling().cast(),
                len,
                mapped: 0,
                whole: (NonNull::dangling(), 0),
            });
        }
        let reserved = len.checked_add(HUGE).filter(|bytes| isize::try_from(*bytes).is_ok());
        let reserved = reserved.ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a new anonymous mapping where the kernel likes, no existing memory is concerned.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                reserved,
                PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                -1,
                0,
            )
        };
        let start = match NonNull::new(start.cast::<u8>()) {
            // MAP_FAILED is the address -1.
            Some(start) if start.as_ptr() as isize != -1 => start,
            _ => return Err(io::Error::last_os_error()),
        };
        // The first address that agrees with the payload's offset in the file: less than HUGE bytes on.
        let skip = PAGE.wrapping_sub(start.as_ptr() as usize) % HUGE;
        // SAFETY: `skip < HUGE`, and the mapping has HUGE bytes more than `len`.
        let base = unsafe { start.add(skip) };
        // SAFETY: our own mapping; advice only, so that its failure does not matter.
        unsafe { madvise(base.as_ptr().cast(), len, MADV_HUGEPAGE) };
        Ok(Memory {
            base,
            len,
            mapped: 0,
            whole: (start, reserved),
        })
    }

    /// Maps the whole pages among the first `bytes` of the payload over the beginning; returns how many bytes that
    /// were. None where that cannot be done, for example because the system's pages are larger than the file's.
    pub(super) fn map_weights(&mut self, file: &WeightsFile, bytes: usize) -> io::Result<usize> {
        let whole = bytes.min(self.len) / PAGE * PAGE;
        if whole == 0 {
            return Ok(0);
        }
        // SAFETY: `whole <= len`, so that only pages of our own mapping are replaced; nothing borrows them, by
        // `&mut self`. The file has these bytes (`WeightsFile::open` compared its length); that nobody shortens it
        // meanwhile is the user's part.
        let base = unsafe {
            mmap(
                self.base.as_ptr().cast(),
                whole,
                PROT_READ,
                MAP_PRIVATE | MAP_FIXED,
                file.file().as_raw_fd(),
                PAGE as i64,
            )
        };
        if base != self.base.as_ptr().cast() {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                // Found out before anything is replaced; after other errors our own pages may be gone.
                Some(EINVAL | ENODEV) => Ok(0),
                _ => Err(error),
            };
        }
        for advice in [MADV_HUGEPAGE, MADV_WILLNEED] {
            // SAFETY: our own mapping; advice only, so that its failure does not matter.
            unsafe { madvise(base, whole, advice) };
        }
        self.mapped = whole;
        Ok(whole)
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn mapped(&self) -> usize {
        self.mapped
    }

    /// All bytes; writing to mapped ones is not possible and ends the process.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: our own mapping (or a dangling, aligned address for no bytes), initialised by the kernel, borrowed
        // as long as `self`.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the mapping of `reserve`, with all that was mapped over it; nothing borrows it any more.
            unsafe { munmap(self.whole.0.as_ptr().cast(), self.whole.1) };
        }
    }
}

/// A part of a file, mapped: read when it is looked at.
pub(crate) struct FileMap {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: memory that nobody writes, owned by this value.
unsafe impl Send for FileMap {}
// SAFETY: as above.
unsafe impl Sync for FileMap {}

impl FileMap {
    /// Maps `range` of a file, which has these bytes; it starts at a multiple of [`PAGE`]. None where that cannot be done,
    /// for example because the system's pages are larger.
    pub(crate) fn new(file: &File, range: &Range<u64>) -> io::Result<Option<FileMap>> {
        let length = range.end - range.start;
        let (Ok(len), Ok(offset)) = (usize::try_from(length), i64::try_from(range.start)) else {
            return Ok(None);
        };
        if len == 0 {
            return Ok(None);
        }
        // SAFETY: a new mapping where the kernel likes, no existing memory is concerned.
        let base = unsafe {
            mmap(
                std::ptr::null_mut(),
                len,
                PROT_READ,
                MAP_PRIVATE,
                file.as_raw_fd(),
                offset,
            )
        };
        match NonNull::new(base.cast::<u8>()) {
            // MAP_FAILED is the address -1.
            Some(base) if base.as_ptr() as isize != -1 => Ok(Some(FileMap { base, len })),
            _ => {
                let error = io::Error::last_os_error();
                match error.raw_os_error() {
                    Some(EINVAL | ENODEV) => Ok(None),
                    _ => Err(error),
                }
            }
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: our own mapping of that length, borrowed as long as `self`. That nobody writes into the file or shortens
        // it meanwhile is the user's part, as for the weights.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl Drop for FileMap {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`; nothing borrows it any more.
        unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// The alignment of an arena without bytes.
#[repr(align(4096))]
struct Aligned;
