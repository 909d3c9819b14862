//! An allocator that counts: for tests of how much is allocated, each in a test binary of its own.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static CALLS: AtomicUsize = AtomicUsize::new(0);
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Counts calls and live bytes of all threads. Declare it as the test binary's `#[global_allocator]`; what runs beside
/// a measurement is measured with it, so such a binary has one test.
pub struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting touches atomics only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Relaxed);
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller's promise about `layout` is the one that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: `pointer` came from `alloc` above, so from the system's allocator, with the same layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

impl Counting {
    /// What `work` returns, and how many allocations it made.
    pub fn calls<T>(work: impl FnOnce() -> T) -> (T, usize) {
        let before = CALLS.load(Relaxed);
        let result = work();
        (result, CALLS.load(Relaxed) - before)
    }

    /// What `work` returns, and the most bytes it had allocated at once.
    pub fn peak<T>(work: impl FnOnce() -> T) -> (T, usize) {
        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        let result = work();
        (result, PEAK.load(Relaxed).saturating_sub(before))
    }
}
