//! How fast this machine is, and how near the kernels come.
//!
//! [`Ceilings`] are measured by loops that do nothing else, on the same workers, the same memory and in the same minute
//! as the kernels that are compared with them. Kernels run as a program runs them: on every worker of a pool, over an
//! arena, with a barrier behind each.

mod attention;
mod ceilings;
mod matmul;

use std::time::Instant;

use ck_kernels::isa::{Choices, Isa};
use ck_kernels::ops::Ctx;

pub use attention::Attend;
pub use ceilings::Ceilings;
pub(crate) use ceilings::{WAYS, Way};
pub use matmul::Matmul;

use crate::arena::Memory;
use crate::error::Error;
use crate::machine::Config;
use crate::pool::{Pool, Seat};
use crate::program::Worker;

/// Bytes of memory: no cache of a core holds them, so that what comes by again comes from memory.
const STREAM: usize = 512 << 20;
/// What memory is filled with: a small number in every type of floats, and a common byte.
const FILL: u8 = 0x3c;
/// Samples of which the median counts, after one that does not.
const SAMPLES: usize = 7;

/// Workers and memory to measure with.
pub struct Bench {
    pool: Pool,
    isa: &'static Isa,
    choices: Choices,
    memory: Memory,
}

/// What a kernel did.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// Seconds of one call.
    pub seconds: f64,
    /// Bytes of weights or cache a second, each counted once a call.
    pub bytes: f64,
    /// Operations a second, two per multiply-add.
    pub ops: f64,
}

/// The memory, as every worker of a job sees it.
#[derive(Clone, Copy)]
struct Place {
    base: *mut u8,
    len: usize,
    isa: &'static Isa,
    choices: Choices,
}

// SAFETY: an address and numbers; workers touch what is behind it by the rules of `Kernel::run` and `Peak::read`.
unsafe impl Sync for Place {}

impl Place {
    /// A worker of a call of `tokens` tokens, the first at `pos`.
    ///
    /// # Safety
    /// As [`Worker::new`]: the memory is that of a bench, which lives and is used by nothing but the workers of this job.
    unsafe fn worker<'a>(&'a self, seat: &'a Seat<'a>, tokens: usize, pos: usize) -> Worker<'a> {
        let ctx = Ctx {
            ith: seat.ith(),
            nth: seat.nth(),
            isa: self.isa.for_tokens(tokens, &self.choices),
            choices: &self.choices,
            base: self.base,
            len: self.len,
            tokens,
            pos,
            row: 0,
        };
        // SAFETY: the caller's contract; `isa` was chosen by `Config`, which looks at the CPU.
        unsafe { Worker::new(ctx, seat) }
    }
}

impl Bench {
    /// Starts workers and fills half a gigabyte of memory. Kernels are chosen as by a program with these `choices`.
    ///
    /// # Errors
    /// [`Error::Threads`], [`Error::Spawn`], [`Error::Isa`]; [`Error::Memory`] if there is not as much.
    pub fn new(config: &Config, choices: Choices) -> Result<Bench, Error> {
        let isa = config.isa()?;
        let pool = Pool::new(config.threads()?)?;
        let mut memory = Memory::reserve(STREAM).map_err(|source| Error::Memory { bytes: STREAM, source })?;
        memory.bytes_mut().fill(FILL);
        Ok(Bench {
            pool,
            isa,
            choices,
            memory,
        })
    }

    /// Workers, the caller included.
    pub fn threads(&self) -> usize {
        self.pool.workers()
    }

    /// The instruction set's name.
    pub fn isa(&self) -> &'static str {
        self.isa.name
    }

    /// From now on chooses kernels as a program with these `choices`.
    pub fn choose(&mut self, choices: Choices) {
        self.choices = choices;
    }

    fn place(&self) -> Place {
        Place {
            base: self.memory.base().as_ptr(),
            len: self.memory.len(),
            isa: self.isa,
            choices: self.choices,
        }
    }

    /// The median of the seconds that `job` takes on all workers.
    fn median(&mut self, job: &(impl Fn(&Seat<'_>) + Sync)) -> Result<f64, Error> {
        let mut samples = Vec::with_capacity(SAMPLES);
        for i in 0..=SAMPLES {
            let begin = Instant::now();
            self.pool.run(job)?;
            if i > 0 {
                samples.push(begin.elapsed().as_secs_f64());
            }
        }
        samples.sort_unstable_by(f64::total_cmp);
        Ok(samples[SAMPLES / 2])
    }

    /// The speed of one of the `calls` calls that `job` makes, each of which takes `bytes` and `ops`.
    fn speed(
        &mut self,
        calls: usize,
        bytes: usize,
        ops: usize,
        job: &(impl Fn(&Seat<'_>) + Sync),
    ) -> Result<Speed, Error> {
        let seconds = self.median(job)? / calls as f64;
        Ok(Speed {
            seconds,
            bytes: bytes as f64 / seconds,
            ops: ops as f64 / seconds,
        })
    }
}
