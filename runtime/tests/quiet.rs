//! After `open`, nothing allocates and no thread starts.
//!
//! One test in a binary of its own: the counter sees every thread of the process.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use ck_runtime::{Config, Program, Runner};
use common::{Packed, pack, prompt};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

/// Threads of this process, where the system tells.
fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

#[test]
fn nothing_allocates_and_no_thread_starts_after_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = pack(dir.path(), &Packed::LAYOUT, &[]);
    let ids = prompt(19);
    for n in [1, 2, 3] {
        let before = threads();
        let mut runner = Runner::<Packed>::open(
            &path,
            Config {
                threads: Some(n),
                ..Config::default()
            },
        )
        .unwrap();
        let during = threads();
        assert_eq!(during, before.map(|before| before + n - 1));
        let allocations = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..20 {
            runner.prefill(&ids[..16]).unwrap();
            for &id in &ids[16..] {
                runner.decode(id).unwrap();
            }
            runner.reset();
            runner.prefill_each(&ids, |_, _| ()).unwrap();
            runner.reset();
        }
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), allocations, "{n} threads");
        assert_eq!(threads(), during);
    }
}
