//! What the machine can do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use ck_kernels::dtype::DType;
use ck_kernels::partition::split;

use super::Bench;
use crate::error::Error;
use crate::pool::Seat;
use crate::report::{Latency, barrier};

/// How memory is read: parts side by side, and bytes that each is prefetched ahead.
pub(crate) type Way = (usize, usize);

/// Which is best differs by machine.
pub(crate) const WAYS: [Way; 6] = [(1, 1024), (1, 4096), (2, 2048), (2, 4096), (4, 1024), (8, 512)];
/// Rounds of arithmetic in a sample: some milliseconds.
const ROUNDS: usize = 1 << 20;

/// What the machine can do with the workers of a bench.
#[derive(Clone, Copy, Debug)]
pub struct Ceilings {
    /// Bytes read from memory a second by all workers, each its own part, in the best of several ways.
    pub read: f64,
    /// Operations a second on floats in registers, two per multiply-add.
    pub float: f64,
    /// The same for products of bytes.
    pub int8: f64,
    /// The same for bf16 on the matrix unit, if the instruction set has one.
    pub tiles: Option<f64>,
    /// A barrier of all workers.
    pub barrier: Latency,
}

impl Bench {
    /// The ceiling that holds for the arithmetic of a matmul: what it is called, and how high it is.
    pub fn arithmetic_of(&self, dtype: DType, tokens: usize, ceilings: &Ceilings) -> (&'static str, f64) {
        match ceilings.tiles {
            Some(tiles) if self.isa.on_tiles(dtype, tokens, &self.choices) => ("tiles", tiles),
            _ if dtype.quantised() => ("int8", ceilings.int8),
            _ => ("float", ceilings.float),
        }
    }

    /// Measures the ceilings; takes a second or two.
    ///
    /// # Errors
    /// [`Error::Panicked`], which no measurement does.
    pub fn ceilings(&mut self) -> Result<Ceilings, Error> {
        let mut read = 0.0_f64;
        for way in WAYS {
            read = read.max(self.read(way)?);
        }
        let peak = &self.isa.peak;
        Ok(Ceilings {
            read,
            float: self.arithmetic(peak.float)?,
            int8: self.arithmetic(peak.int8)?,
            tiles: peak.tiles.map(|tiles| self.arithmetic(tiles)).transpose()?,
            barrier: self.barrier()?,
        })
    }

    /// Measures a barrier of all workers.
    ///
    /// # Errors
    /// [`Error::Panicked`], which no measurement does.
    pub fn barrier(&mut self) -> Result<Latency, Error> {
        barrier(&mut self.pool)
    }

    /// Bytes a second.
    fn read(&mut self, (streams, ahead): Way) -> Result<f64, Error> {
        let place = self.place();
        let seconds = self.median(&|seat: &Seat<'_>| {
            let place = &place;
            let part = split(place.len, 64, seat.ith(), seat.nth());
            // SAFETY: a part of the memory, which nobody writes; the CPU has the instruction set.
            unsafe { (place.isa.peak.read)(place.base.add(part.start), part.len(), streams, ahead) };
        })?;
        Ok(place.len as f64 / seconds)
    }

    /// Operations a second.
    fn arithmetic(&mut self, work: unsafe fn(usize) -> u64) -> Result<f64, Error> {
        let done = AtomicU64::new(0);
        // More than one round, so that the clock of the CPU has time to settle; the best counts, as it is a ceiling.
        let mut best = 0.0_f64;
        for _ in 0..16 {
            done.store(0, Ordering::Relaxed);
            let begin = Instant::now();
            self.pool.run(&|_: &Seat<'_>| {
                // SAFETY: the CPU has the instruction set.
                let ops = unsafe { work(ROUNDS) };
                done.fetch_add(ops, Ordering::Relaxed);
            })?;
            best = best.max(done.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64());
        }
        Ok(best)
    }
}
