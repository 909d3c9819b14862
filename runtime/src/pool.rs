//! Persistent workers, one wake per entry, a barrier.
//!
//! A [`Pool`] of `nth` workers has `nth - 1` threads, started once; the calling thread is worker 0 and computes too.
//! Every worker takes part in every job, and a job is over when every worker is: nobody can be late for the next one.
//! Nothing here allocates or starts a thread after [`Pool::new`] (a panic does).
//!
//! Whoever waits - for a job, at a barrier, for the others to finish - spins for some microseconds, then offers its
//! core to others, then sleeps. So a wait costs a cache line's trip while cores are free, and little while they are
//! not.
//!
//! When a worker panics, the others leave the job at their next barrier, and the caller gets [`Error::Panicked`]. The
//! pool remains usable; what the job was to compute is lost.

mod gate;

use std::any::Any;
use std::cell::UnsafeCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::debug::Finding;
use crate::error::Error;
use gate::Gate;

/// In [`Shared::start`]: no more jobs.
const STOP: u32 = 1;
/// Difference between two generations in [`Shared::start`], above [`STOP`].
const NEXT: u32 = 2;
/// In [`Barrier::phase`]: a worker panicked, leave the job.
const POISON: u32 = 1 << 31;

/// Bytes of a worker's stack, of which only what is used counts. Kernels keep what waits between their loops there, more than
/// a megabyte on a matrix unit.
const STACK: usize = 4 << 20;

/// A fixed number of workers that run one job at a time.
pub struct Pool {
    nth: usize,
    /// `None` for a pool of one, which has nobody to share with.
    crew: Option<Crew>,
}

struct Crew {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// Keeps what different threads write on different cache lines; 128 because x86 prefetches lines in pairs.
#[repr(align(128))]
struct Line<T>(T);

struct Shared {
    nth: u32,
    /// Generation of the job, and [`STOP`]: one word, so that no worker can see one without the other.
    start: Line<Gate>,
    /// Written by the caller while no job runs, read by the workers while one does.
    job: UnsafeCell<Job>,
    barrier: Line<Barrier>,
    /// Threads still in the job.
    running: Line<Gate>,
    /// The first panic of a job.
    panic: Mutex<Option<Error>>,
}

// SAFETY: `job` is the only part that is not `Sync` by itself. It is written only by the caller, between jobs, when
// every thread has announced through `running` that it is done with it (release/acquire), and read only by threads
// that have seen `start` move after the write (release/acquire). What it points to is `Sync`, see `Job::new`.
unsafe impl Sync for Shared {}
// SAFETY: as above; `Job` is two addresses.
unsafe impl Send for Shared {}

/// Both on one cache line: who arrives last finds the gate where the count is.
struct Barrier {
    /// Workers that arrived at the current barrier.
    arrived: AtomicU32,
    /// Barriers passed (31 bits, wrapping), and [`POISON`].
    phase: Gate,
}

/// A borrowed closure without its lifetime.
#[derive(Clone, Copy)]
struct Job {
    data: *const (),
    call: unsafe fn(*const (), &Seat<'_>),
}

impl Job {
    /// What stands in the slot before the first job.
    const NONE: Job = Job {
        data: std::ptr::null(),
        call: |_, _| {},
    };

    fn new<F: Fn(&Seat<'_>) + Sync>(f: &F) -> Job {
        Job {
            data: std::ptr::from_ref(f).cast(),
            // SAFETY: `data` is the `f` of above, alive as `run` demands.
            call: |data, seat| unsafe { (*data.cast::<F>())(seat) },
        }
    }

    /// # Safety
    /// The closure that this was made of is still borrowed.
    unsafe fn run(self, seat: &Seat<'_>) {
        // SAFETY: `call` was made for this `data`, which is alive.
        unsafe { (self.call)(self.data, seat) }
    }
}

/// A worker's place in the job that it is running.
pub struct Seat<'a> {
    ith: usize,
    nth: usize,
    /// `None` in a pool of one.
    shared: Option<&'a Shared>,
}

impl Seat<'_> {
    /// This worker, `0..nth`; 0 is the calling thread.
    pub fn ith(&self) -> usize {
        self.ith
    }

    /// Workers in the job.
    pub fn nth(&self) -> usize {
        self.nth
    }

    /// Waits until every worker of the job has come this far. What they wrote before is visible after.
    ///
    /// Every worker must call it equally often. If one panics instead, this unwinds the job.
    pub fn barrier(&self) {
        if let Some(shared) = self.shared {
            shared.barrier();
        }
    }
}

/// What unwinds a job whose result is lost already.
struct Abandoned;

impl Pool {
    /// Starts `nth - 1` threads. They sleep until there is a job.
    ///
    /// # Errors
    /// [`Error::Threads`] if `nth` is not in `1..=`[`MAX_WORKERS`](ck_kernels::ops::MAX_WORKERS), [`Error::Spawn`] if
    /// the system refuses a thread.
    pub fn new(nth: usize) -> Result<Pool, Error> {
        let max = ck_kernels::ops::MAX_WORKERS;
        if nth == 0 || nth > max {
            return Err(Error::Threads { given: nth, max });
        }
        if nth == 1 {
            return Ok(Pool { nth, crew: None });
        }
        let shared = Arc::new(Shared {
            nth: nth as u32,
            start: Line(Gate::new(0)),
            job: UnsafeCell::new(Job::NONE),
            barrier: Line(Barrier {
                arrived: AtomicU32::new(0),
                phase: Gate::new(0),
            }),
            running: Line(Gate::new(0)),
            panic: Mutex::new(None),
        });
        // If a thread cannot be started, dropping `crew` ends those before it.
        let mut crew = Crew {
            shared,
            threads: Vec::with_capacity(nth - 1),
        };
        for ith in 1..nth {
            let shared = Arc::clone(&crew.shared);
            let thread = std::thread::Builder::new()
                .name(format!("ck-worker-{ith}"))
                .stack_size(STACK)
                .spawn(move || shared.work(ith))
                .map_err(|source| Error::Spawn { worker: ith, source })?;
            crew.threads.push(thread);
        }
        let mut pool = Pool { nth, crew: Some(crew) };
        // A thread allocates while it starts: wait until all are up.
        pool.run(&|_: &Seat<'_>| ())?;
        Ok(pool)
    }

    /// Workers, the caller included.
    pub fn workers(&self) -> usize {
        self.nth
    }

    /// Runs `job` once on every worker, with one wake, and returns when all are done.
    ///
    /// # Errors
    /// [`Error::Panicked`] with the first panic, if a worker panicked.
    pub fn run<F: Fn(&Seat<'_>) + Sync>(&mut self, job: &F) -> Result<(), Error> {
        let Some(Crew { shared, .. }) = &self.crew else {
            let seat = Seat {
                ith: 0,
                nth: 1,
                shared: None,
            };
            return catch_unwind(AssertUnwindSafe(|| job(&seat))).map_err(|payload| failure(0, payload));
        };
        // SAFETY: `&mut self` means that no job runs: every thread left the last one before `run` returned (or never
        // had one) and touches `job` only after `start` moves, below.
        unsafe { *shared.job.get() = Job::new(job) };
        shared.running.0.set(shared.nth - 1);
        shared
            .start
            .0
            .publish(|generation| generation.fetch_add(NEXT, Ordering::SeqCst));
        shared.take_part(0, Job::new(job));
        shared.running.0.wait(|left| left == 0);
        if shared.barrier.0.phase.get() & POISON == 0 {
            return Ok(());
        }
        // All threads wait for the next generation, so that the barrier can be put back together.
        shared.barrier.0.arrived.store(0, Ordering::Relaxed);
        shared.barrier.0.phase.set(0);
        let first = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(first.unwrap_or_else(|| failure(0, Box::new(()))))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("workers", &self.nth)
            .finish_non_exhaustive()
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.shared
            .start
            .0
            .publish(|generation| generation.fetch_or(STOP, Ordering::SeqCst));
        for thread in self.threads.drain(..) {
            // A worker catches the panics of its jobs, so that there is nothing to pass on.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// A thread's life.
    fn work(&self, ith: usize) {
        let mut seen = 0;
        loop {
            let now = self.start.0.wait(|generation| generation != seen);
            if now & STOP != 0 {
                return;
            }
            seen = now;
            // SAFETY: `start` moved, so that the caller has written the job and will not touch it again before this
            // thread announces its end below.
            let job = unsafe { *self.job.get() };
            self.take_part(ith, job);
            self.running.0.publish(|left| left.fetch_sub(1, Ordering::SeqCst));
        }
    }

    /// Runs `job` as worker `ith`; a panic poisons the job for all.
    fn take_part(&self, ith: usize, job: Job) {
        let seat = Seat {
            ith,
            nth: self.nth as usize,
            shared: Some(self),
        };
        // SAFETY: `Pool::run` holds the borrow of the closure until all workers are through here.
        let result = catch_unwind(AssertUnwindSafe(|| unsafe { job.run(&seat) }));
        let Err(payload) = result else { return };
        if !payload.is::<Abandoned>() {
            let failure = failure(ith, payload);
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(failure);
        }
        self.barrier
            .0
            .phase
            .publish(|phase| phase.fetch_or(POISON, Ordering::SeqCst));
    }

    fn barrier(&self) {
        let Barrier { arrived, phase } = &self.barrier.0;
        // The phase cannot move on between this load and our arrival, because it takes our arrival to move it.
        let now = phase.get();
        if now & POISON == 0 {
            if arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.nth {
                // Everyone is here: nobody counts before the phase moves, and nobody can panic, so that storing it
                // loses no poison.
                arrived.store(0, Ordering::Relaxed);
                phase.publish(|phase| phase.store((now + 1) & !POISON, Ordering::SeqCst));
                return;
            }
            if phase.wait(|later| later != now) & POISON == 0 {
                return;
            }
        }
        resume_unwind(Box::new(Abandoned));
    }
}

/// What unwound a job: what a debug run found, or a panic with its text.
fn failure(worker: usize, payload: Box<dyn Any + Send>) -> Error {
    let payload = match payload.downcast::<Finding>() {
        Ok(finding) => return Error::Debug(finding),
        Err(payload) => payload,
    };
    let message = match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => payload
            .downcast_ref::<&str>()
            .map_or_else(|| "no message".into(), |text| (*text).into()),
    };
    Error::Panicked { worker, message }
}

#[cfg(test)]
mod tests;
