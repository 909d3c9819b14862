use std::sync::atomic::AtomicU64;

use super::*;

/// A deterministic sequence, different for every `(a, b)`.
fn mix(a: u64, b: u64) -> u64 {
    let mut x = a.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ b.wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    x ^= x >> 29;
    x.wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 32
}

/// Keeps the worker busy for a time that differs between workers and rounds.
fn toil(seat: &Seat<'_>, round: u64) {
    for _ in 0..mix(seat.ith() as u64, round) % 300 {
        std::hint::spin_loop();
    }
}

#[test]
fn every_worker_runs_every_job_exactly_once() {
    for nth in [1, 2, 3, 7] {
        let mut pool = Pool::new(nth).unwrap();
        let runs: Vec<AtomicU64> = (0..nth).map(|_| AtomicU64::new(0)).collect();
        for round in 0..2000 {
            pool.run(&|seat: &Seat<'_>| {
                assert_eq!(seat.nth(), nth);
                toil(seat, round);
                runs[seat.ith()].fetch_add(1, Ordering::Relaxed);
            })
            .unwrap();
            for (ith, n) in runs.iter().enumerate() {
                assert_eq!(n.load(Ordering::Relaxed), round + 1, "worker {ith} of {nth}");
            }
        }
    }
}

/// Each worker publishes with plain stores what the others read after the barrier: a prefix chain over all workers.
#[test]
fn what_was_written_before_a_barrier_is_visible_after() {
    for nth in [1, 2, 3, 7] {
        let mut pool = Pool::new(nth).unwrap();
        let cells: Vec<AtomicU64> = (0..nth).map(|_| AtomicU64::new(0)).collect();
        for round in 0..200u64 {
            pool.run(&|seat: &Seat<'_>| {
                for step in 0..10 {
                    let stamp = round * 10 + step + 1;
                    toil(seat, stamp);
                    cells[seat.ith()].store(stamp, Ordering::Relaxed);
                    seat.barrier();
                    for cell in &cells {
                        assert_eq!(cell.load(Ordering::Relaxed), stamp);
                    }
                    seat.barrier();
                }
            })
            .unwrap();
        }
    }
}

#[test]
fn a_panic_of_any_worker_reaches_the_caller_and_the_pool_goes_on() {
    for nth in [1, 2, 3, 7] {
        let mut pool = Pool::new(nth).unwrap();
        for guilty in 0..nth {
            for at in 0..3 {
                let result = pool.run(&|seat: &Seat<'_>| {
                    for step in 0..3 {
                        toil(seat, step);
                        if (seat.ith(), step) == (guilty, at) {
                            // No hook, no noise in the test's output.
                            resume_unwind(Box::new(format!("step {step}")));
                        }
                        seat.barrier();
                    }
                });
                match result {
                    Err(Error::Panicked { worker, message }) => {
                        assert_eq!((worker, message), (guilty, format!("step {at}")));
                    }
                    other => panic!("{other:?}"),
                }
                let sum = AtomicU64::new(0);
                pool.run(&|seat: &Seat<'_>| {
                    seat.barrier();
                    sum.fetch_add(1, Ordering::Relaxed);
                    seat.barrier();
                    assert_eq!(sum.load(Ordering::Relaxed), nth as u64);
                })
                .unwrap();
            }
        }
    }
}

#[test]
fn when_all_panic_the_caller_gets_one_of_them() {
    let mut pool = Pool::new(3).unwrap();
    for _ in 0..100 {
        let result = pool.run(&|seat: &Seat<'_>| resume_unwind(Box::new(seat.ith().to_string())));
        assert!(
            matches!(&result, Err(Error::Panicked { worker, message }) if *message == worker.to_string()),
            "{result:?}"
        );
    }
}

#[test]
fn sleeping_workers_wake_up() {
    let mut pool = Pool::new(3).unwrap();
    let count = AtomicU64::new(0);
    for _ in 0..20 {
        // Longer than anyone's patience.
        let begin = std::time::Instant::now();
        while begin.elapsed() < std::time::Duration::from_millis(1) {
            std::thread::yield_now();
        }
        pool.run(&|seat: &Seat<'_>| {
            if seat.ith() == 1 {
                let begin = std::time::Instant::now();
                while begin.elapsed() < std::time::Duration::from_millis(1) {
                    std::thread::yield_now();
                }
            }
            seat.barrier();
            count.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
    }
    assert_eq!(count.load(Ordering::Relaxed), 60);
}

#[test]
fn numbers_that_no_plan_serves_are_refused() {
    for nth in [0, ck_kernels::ops::MAX_WORKERS + 1, usize::MAX] {
        assert!(matches!(Pool::new(nth), Err(Error::Threads { given, .. }) if given == nth));
    }
}

#[test]
fn dropping_a_pool_ends_its_threads() {
    for nth in [1, 2, 7] {
        for jobs in 0..3 {
            let mut pool = Pool::new(nth).unwrap();
            for _ in 0..jobs {
                pool.run(&|seat: &Seat<'_>| seat.barrier()).unwrap();
            }
            let shared = pool.crew.as_ref().map(|crew| Arc::downgrade(&crew.shared));
            drop(pool);
            assert!(shared.is_none_or(|shared| shared.upgrade().is_none()));
        }
    }
}
