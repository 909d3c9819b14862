//! The runtime report: what the layout report cannot know, because only the machine does.

use std::fmt::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ck_kernels::partition::{Axis, split};

use crate::arena::Arena;
use crate::error::{Error, Hex};
use crate::json::Json;
use crate::layout::{Layout, StepInfo};
use crate::pool::{Pool, Seat};

/// What a machine made of a program.
#[derive(Clone, Debug)]
pub struct Report {
    layout: Layout,
    /// The instruction set in use.
    pub isa: &'static str,
    /// Active workers, the caller included.
    pub threads: usize,
    /// Bytes of weights mapped from the file; the rest of them was read.
    pub mapped_bytes: usize,
    /// From the caller's wake to its return, of a job that does nothing.
    pub dispatch: Latency,
    /// One barrier of all workers, seen from worker 0.
    pub barrier: Latency,
}

/// How long something took, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
}

impl Latency {
    /// `samples` is not empty.
    fn of(samples: &mut [u64]) -> Latency {
        samples.sort_unstable();
        let at = |percent: usize| samples[(samples.len() - 1) * percent / 100];
        Latency {
            p50: at(50),
            p99: at(99),
        }
    }
}

/// The most samples of a latency, and the time after which fewer have to do.
const SAMPLES: usize = 2000;
const PATIENCE: Duration = Duration::from_millis(100);
/// Not counted: the first ones wake sleeping threads and load the caches.
const WARM_UP: usize = 100;
/// Barriers of one job, between two looks at the clock.
const BARRIERS: u32 = 16;

/// Samples `job`, whose time in nanoseconds counts.
fn sample(mut job: impl FnMut() -> Result<u64, Error>) -> Result<Latency, Error> {
    let begin = Instant::now();
    let mut samples = Vec::with_capacity(SAMPLES);
    for i in 0..WARM_UP + SAMPLES {
        let nanos = job()?;
        let late = begin.elapsed() > PATIENCE;
        if late || i >= WARM_UP {
            samples.push(nanos);
        }
        if late {
            break;
        }
    }
    Ok(Latency::of(&mut samples))
}

/// One barrier of all workers of `pool`, seen from worker 0.
pub(crate) fn barrier(pool: &mut Pool) -> Result<Latency, Error> {
    // Only worker 0 looks at the clock.
    let nanos = AtomicU64::new(0);
    sample(|| {
        pool.run(&|seat: &Seat<'_>| {
            let begin = (seat.ith() == 0).then(Instant::now);
            (0..BARRIERS).for_each(|_| seat.barrier());
            if let Some(begin) = begin {
                nanos.store(
                    begin.elapsed().as_nanos() as u64 / u64::from(BARRIERS),
                    Ordering::Relaxed,
                );
            }
        })?;
        Ok(nanos.load(Ordering::Relaxed))
    })
}

impl Report {
    pub(crate) fn new(layout: &Layout, isa: &'static str, arena: &Arena, pool: &mut Pool) -> Result<Self, Error> {
        let dispatch = sample(|| {
            let begin = Instant::now();
            pool.run(&|_: &Seat<'_>| ())?;
            Ok(begin.elapsed().as_nanos() as u64)
        })?;
        let barrier = barrier(pool)?;
        Ok(Report {
            layout: *layout,
            isa,
            threads: pool.workers(),
            mapped_bytes: arena.mapped_bytes(),
            dispatch,
            barrier,
        })
    }

    /// The units of each worker in `step`, for as many tokens as [`StepInfo::extent`] says.
    pub fn ranges(&self, step: &StepInfo) -> Vec<Range<usize>> {
        let part = |granule| (0..self.threads).map(move |ith| split(step.extent, granule, ith, self.threads));
        match step.axis {
            Axis::Tokens { granule } | Axis::Columns { granule } => part(granule).collect(),
            Axis::Heads => part(1).collect(),
            Axis::Serial => (0..self.threads)
                .map(|ith| 0..if ith == 0 { step.extent } else { 0 })
                .collect(),
        }
    }

    /// The report as JSON, `"schema": "ckc-runtime/1"`.
    pub fn to_json(&self) -> String {
        let Layout {
            model,
            hash,
            arena_bytes,
            weights_bytes,
            context,
            batch,
            vocab,
            ..
        } = self.layout;
        Json::object(|json| {
            json.text("schema", "ckc-runtime/1");
            json.text("model", model);
            json.text("layout_hash", &Hex(&hash).to_string());
            json.text("isa", self.isa);
            json.number("threads", self.threads);
            json.number("context", context);
            json.number("batch", batch);
            json.number("vocab", vocab);
            json.member("arena", |json| {
                json.number("bytes", arena_bytes);
                json.number("weights_bytes", weights_bytes);
                json.number("weights_mapped_bytes", self.mapped_bytes);
                json.number("weights_segments", self.layout.segments.len());
                json.number("kv_offset", self.layout.kv_offset);
                json.number("kv_bytes", self.layout.kv_bytes);
                json.number("ids_offset", self.layout.ids.offset);
                json.number("logits_offset", self.layout.logits.offset);
            });
            for (key, latency) in [("dispatch_ns", self.dispatch), ("barrier_ns", self.barrier)] {
                json.member(key, |json| {
                    json.number("p50", latency.p50);
                    json.number("p99", latency.p99);
                });
            }
            json.list("steps", self.layout.steps, |json, step| {
                json.text("id", step.id);
                json.text("entry", step.entry);
                json.text("kernel", step.kernel);
                json.text("dispatch", if step.serial.is_some() { "serial" } else { "pool" });
                json.optional("serial", step.serial);
                json.text("axis", axis_name(step.axis));
                json.row(
                    "ranges",
                    self.ranges(step).iter().map(|r| format!("[{}, {}]", r.start, r.end)),
                );
                json.optional("barrier", step.barrier);
                json.number("workspace_offset", step.workspace_offset);
                json.number("workspace_bytes", step.workspace_bytes);
            });
        })
    }
}

fn axis_name(axis: Axis) -> &'static str {
    match axis {
        Axis::Tokens { .. } => "tokens",
        Axis::Columns { .. } => "columns",
        Axis::Heads => "heads",
        Axis::Serial => "serial",
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let l = &self.layout;
        writeln!(f, "{} (layout {})", l.model, Hex(&l.hash[..8]))?;
        writeln!(f, "  context {}, batch {}, vocab {}", l.context, l.batch, l.vocab)?;
        writeln!(f, "  isa {}, threads {}", self.isa, self.threads)?;
        writeln!(f, "  arena    {:>12} bytes", l.arena_bytes)?;
        write!(f, "  weights  {:>12} bytes", l.weights_bytes)?;
        match l.segments.len() {
            0 => writeln!(f, " at 0, {} mapped from the file", self.mapped_bytes)?,
            n => writeln!(f, " in {n} segments, copied")?,
        }
        writeln!(f, "  kv       {:>12} bytes at {}", l.kv_bytes, l.kv_offset)?;
        for (what, latency) in [("dispatch", self.dispatch), ("barrier ", self.barrier)] {
            writeln!(f, "  {what} {:>12} ns median, {} ns p99", latency.p50, latency.p99)?;
        }
        let mut entry = "";
        for step in l.steps {
            if step.entry != entry {
                entry = step.entry;
                writeln!(f, "{entry}")?;
            }
            if let Some(why) = step.barrier {
                writeln!(f, "  -- barrier: {why}")?;
            }
            let mut parts = String::new();
            for r in self.ranges(step) {
                write!(parts, " {}..{}", r.start, r.end)?;
            }
            write!(
                f,
                "  {:<32} {:<24} {}{parts}",
                step.id,
                step.kernel,
                axis_name(step.axis)
            )?;
            if step.workspace_bytes > 0 {
                write!(f, "  workspace {} at {}", step.workspace_bytes, step.workspace_offset)?;
            }
            if let Some(why) = step.serial {
                write!(f, "  serial: {why}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
