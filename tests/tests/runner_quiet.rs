//! After a runner is open, nothing allocates and no thread starts.

use ck_tests::{Counting, pack_shipped};
use shakespeare::{Config, Runner};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Threads of this process; `None` where the system does not say.
fn threads() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

#[test]
fn prefill_and_64_decodes_allocate_nothing_and_start_no_thread() {
    let weights = pack_shipped(env!("CARGO_TARGET_TMPDIR").as_ref());
    for workers in [1, 2, 3] {
        let config = Config {
            threads: Some(workers),
            ..Config::default()
        };
        let mut runner = Runner::open(&weights, config).unwrap();
        let ids: Vec<u32> = (0..300).map(|i| i * 3 % 1024).collect();
        let before = threads();
        let (sum, calls) = Counting::calls(|| {
            let mut sum = runner.prefill(&ids).unwrap()[0];
            for id in 0..64 {
                sum += runner.decode(id).unwrap()[1];
            }
            sum
        });
        assert!(sum.is_finite());
        assert_eq!(calls, 0, "allocations with {workers} workers");
        assert_eq!(threads(), before, "threads with {workers} workers");
    }
}
