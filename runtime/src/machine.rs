//! Memory and workers for a program, whatever the program is.
//!
//! [`Machine`] is a [`Runner`](crate::Runner) without its program: what runs is given with every call. An emitted
//! program comes as a type, through the runner; a compiler that checks its own output gives [`Lines`] that it made at
//! run time, and runs them over the same arena, pool and kernels.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use ck_kernels::dtype::{ALIGN, ActType};
use ck_kernels::isa::{self, Choices, Isa};
use ck_kernels::ops::{Cache, Ctx, MAX_WORKERS, Slot};
use ck_kernels::partition::split;
use ck_kernels::quant::half::f16_to_f32;

use crate::arena::Arena;
use crate::bench::Way;
use crate::error::Error;
use crate::layout::{Layout, Segment};
use crate::pool::{Pool, Seat};
use crate::profile::Profile;
use crate::program::{Lines, Worker};
use crate::report::Report;
use crate::weights::{Tables, WeightsFile};

/// What a user may choose when a program is opened. The results are the same bits whatever `threads` is.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Workers, the calling thread included: `1..=`[`MAX_WORKERS`]. Default: what the system offers this process.
    pub threads: Option<usize>,
    /// Instruction set by name: `scalar`, `avx2`, ... Default: environment variable `CKC_ISA`, else the best there is.
    pub isa: Option<String>,
    /// Whether to verify the weights' checksum even where they are large, see
    /// [`ALWAYS_CHECKED`](crate::weights::ALWAYS_CHECKED).
    pub check: bool,
}

impl Config {
    pub(crate) fn threads(&self) -> Result<usize, Error> {
        match self.threads {
            Some(n) if n == 0 || n > MAX_WORKERS => Err(Error::Threads {
                given: n,
                max: MAX_WORKERS,
            }),
            Some(n) => Ok(n),
            None => Ok(std::thread::available_parallelism()
                .map_or(1, usize::from)
                .min(MAX_WORKERS)),
        }
    }

    pub(crate) fn isa(&self) -> Result<&'static Isa, Error> {
        let name = match &self.isa {
            Some(name) => name.clone(),
            None => match std::env::var_os("CKC_ISA") {
                Some(name) => name.to_string_lossy().into_owned(),
                None => return Ok(isa::best()),
            },
        };
        isa::by_name(&name).map_err(|source| Error::Isa { name, source })
    }
}

/// An arena with weights, workers, and a sequence of tokens in the KV cache.
///
/// Every call checks its arguments before anything runs: after an error about arguments nothing has changed. After
/// [`Machine::open`] nothing allocates and no thread starts, except where a function says so.
pub struct Machine {
    arena: Arena,
    pool: Pool,
    isa: &'static Isa,
    layout: Layout,
    tokenizer: Arc<Tables>,
    position: usize,
    /// A call failed half-way.
    poisoned: bool,
    profile: Option<Profile>,
}

/// The part of a program that a call runs before the head.
#[derive(Clone, Copy)]
enum Body {
    Prefill,
    Decode,
    /// The result of the last body is still there.
    None,
}

/// What every worker of a call starts from.
#[derive(Clone, Copy)]
struct Place<'a> {
    base: *mut u8,
    len: usize,
    isa: &'static Isa,
    choices: &'a Choices,
    tokens: usize,
    pos: usize,
}

// SAFETY: an address and numbers. Who may touch what is behind the address is the plan's business, see `Worker::run`.
unsafe impl Sync for Place<'_> {}

impl<'a> Place<'a> {
    fn ctx(&self, seat: &Seat<'_>) -> Ctx<'a> {
        Ctx {
            ith: seat.ith(),
            nth: seat.nth(),
            isa: self.isa,
            choices: self.choices,
            base: self.base,
            len: self.len,
            tokens: self.tokens,
            pos: self.pos,
            row: 0,
        }
    }
}

impl Machine {
    /// Opens the packed weights at `path`, reserves the arena of `layout` and starts the workers.
    ///
    /// # Errors
    /// What [`WeightsFile::open`], [`Arena::new`] and [`Pool::new`] report, and [`Error::Isa`] if the instruction set
    /// asked for is unknown or this CPU lacks it.
    pub fn open(layout: Layout, path: &Path, config: &Config) -> Result<Machine, Error> {
        let threads = config.threads()?;
        let isa = config.isa()?;
        let file = WeightsFile::open(path, config.check)?;
        let arena = Arena::new(&layout, &file)?;
        Ok(Machine {
            arena,
            pool: Pool::new(threads)?,
            isa,
            layout,
            tokenizer: file.into_tokenizer().into(),
            position: 0,
            poisoned: false,
            profile: None,
        })
    }

    /// Appends `ids`, in chunks of at most [`Layout::batch`] tokens, and returns the logits of the last one.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::TokenOutOfRange`], [`Error::TooLong`] before anything ran; [`Error::Poisoned`],
    /// [`Error::Panicked`].
    pub fn prefill(&mut self, lines: &impl Lines, ids: &[u32]) -> Result<&[f32], Error> {
        self.check(ids)?;
        let mut rest = ids;
        while let Some((chunk, more)) = self.next_chunk(rest) {
            self.step(lines, chunk, more.is_empty().then(|| chunk.len() - 1))?;
            rest = more;
        }
        Ok(self.logits())
    }

    /// Like [`Machine::prefill`], but calls `each` with the index in `ids` and the logits of every token.
    ///
    /// # Errors
    /// Those of [`Machine::prefill`].
    pub fn prefill_each(
        &mut self,
        lines: &impl Lines,
        ids: &[u32],
        mut each: impl FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        self.check(ids)?;
        let mut rest = ids;
        while let Some((chunk, more)) = self.next_chunk(rest) {
            let done = ids.len() - rest.len();
            let pos = self.position;
            self.step(lines, chunk, Some(0))?;
            each(done, self.logits());
            for row in 1..chunk.len() {
                self.launch(lines, Body::None, chunk.len(), pos, Some(row))?;
                each(done + row, self.logits());
            }
            rest = more;
        }
        Ok(())
    }

    /// Runs `job` on every worker, with one wake, as a call of `tokens` tokens of which the first is at `pos`, and
    /// returns when all are done. `ids`, if given, are put where programs look for them; else what is there stays.
    ///
    /// This is what is below [`Machine::prefill`]: the sequence's position is neither looked at nor moved. As for
    /// [`Worker::run`], that the job's steps and barriers are free of races is the promise of whoever planned them.
    ///
    /// # Errors
    /// [`Error::TokenOutOfRange`], [`Error::TooLong`] before anything ran; [`Error::Panicked`].
    ///
    /// # Panics
    /// If `tokens` is not in `1..=`[`Layout::batch`], or there are not as many `ids`.
    pub fn call(
        &mut self,
        tokens: usize,
        pos: usize,
        ids: Option<&[u32]>,
        job: &(impl Fn(&Worker<'_>) + Sync),
    ) -> Result<(), Error> {
        let Layout { batch, context, .. } = self.layout;
        assert!(
            (1..=batch).contains(&tokens),
            "{tokens} tokens in a call of at most {batch}"
        );
        if pos.checked_add(tokens).is_none_or(|end| end > context) {
            return Err(Error::TooLong {
                given: tokens,
                position: pos.min(context),
                context,
            });
        }
        if let Some(ids) = ids {
            assert!(ids.len() == tokens, "{} ids for {tokens} tokens", ids.len());
            self.in_vocabulary(ids)?;
            // SAFETY: `Layout::check` (in `Arena::new`) saw `batch` ids at this offset inside the arena, aligned and
            // outside the weights; there are at most `batch`. No worker runs, by `&mut self`.
            unsafe {
                let place = self.arena.base().add(self.layout.ids.offset).cast::<u32>();
                place.copy_from_nonoverlapping(std::ptr::NonNull::from(ids).cast(), ids.len());
            }
        }
        let place = Place {
            base: self.arena.base().as_ptr(),
            len: self.arena.len(),
            isa: self.isa.for_tokens(tokens, &self.layout.choices),
            choices: &self.layout.choices,
            tokens,
            pos,
        };
        let profile = self.profile.as_ref();
        let job = |seat: &Seat<'_>| {
            // SAFETY: the arena was made for this layout, lives in `self` and is used by nobody else until `run`
            // returns, by `&mut self`; `isa` comes from `isa::best` or `isa::by_name`, which look at the CPU; `ith` and
            // `nth` are the seat's.
            let worker = unsafe { Worker::new(place.ctx(seat), seat) };
            job(&worker.timed(profile.map(|profile| profile.clock(seat.ith()))));
        };
        let result = self.pool.run(&job);
        self.poisoned |= result.is_err();
        result
    }

    /// Starts a new sequence. Clears the mark of a call that failed half-way.
    pub fn reset(&mut self) {
        self.position = 0;
        self.poisoned = false;
    }

    /// Tokens in the cache.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The program's memory and steps.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Workers, the caller included.
    pub fn threads(&self) -> usize {
        self.pool.workers()
    }

    /// The instruction set's name.
    pub fn isa(&self) -> &'static str {
        self.isa.name
    }

    /// Whether activations in front of quantised weights are rounded to bf16 in calls of many tokens, for a matrix unit.
    pub fn rounds_to_bf16(&self) -> bool {
        self.isa.few.is_some()
    }

    /// The tokenizer's tables, for [`Tokenizer::new`](crate::tokenizer::Tokenizer::new).
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] if the weights file has none.
    pub fn tokenizer(&self) -> Result<Arc<Tables>, Error> {
        if self.tokenizer.is_empty() {
            return Err(Error::NoTokenizer {
                model: self.layout.model,
            });
        }
        Ok(Arc::clone(&self.tokenizer))
    }

    /// What this machine made of the program. Measures the pool's latencies, for at most some tenths of a second.
    ///
    /// # Errors
    /// [`Error::Panicked`], which no measurement does.
    pub fn report(&mut self) -> Result<Report, Error> {
        Report::new(&self.layout, self.isa.name, &self.arena, &mut self.pool)
    }

    /// From now on takes the time of every step, and costs some; allocates.
    pub fn profile(&mut self) {
        self.profile = Some(Profile::new(self.layout.steps, self.pool.workers()));
    }

    /// What was measured since [`Machine::profile`], and no more of it.
    pub fn take_profile(&mut self) -> Option<Profile> {
        self.profile.take()
    }

    /// Reads the weights on all workers, each its own part, `streams` parts side by side, prefetched `ahead` bytes, and
    /// does nothing with them: what a decoded token could be at best. Returns bytes and seconds.
    ///
    /// # Errors
    /// [`Error::Panicked`], which no measurement does.
    pub(crate) fn read_weights(&mut self, (streams, ahead): Way) -> Result<(usize, f64), Error> {
        let whole = [Segment {
            file_offset: 0,
            arena_offset: 0,
            bytes: self.layout.weights_bytes,
        }];
        let segments = match self.layout.segments {
            [] => &whole,
            segments => segments,
        };
        let place = Place {
            base: self.arena.base().as_ptr(),
            len: self.arena.len(),
            isa: self.isa,
            choices: &self.layout.choices,
            tokens: 1,
            pos: 0,
        };
        let begin = Instant::now();
        self.pool.run(&|seat: &Seat<'_>| {
            for segment in segments {
                let place = &place;
                let part = split(segment.bytes, ALIGN, seat.ith(), seat.nth());
                // SAFETY: `Layout::check` (in `Arena::new`) saw the segment inside the arena; nobody writes weights; the
                // CPU has the instruction set.
                unsafe {
                    let from = place.base.add(segment.arena_offset + part.start);
                    (place.isa.peak.read)(from, part.len(), streams, ahead);
                }
            }
        })?;
        let bytes = segments.iter().map(|segment| segment.bytes).sum();
        Ok((bytes, begin.elapsed().as_secs_f64()))
    }

    /// Starts a new sequence of `depth` tokens that were never computed: the cache holds what happens to be there. For
    /// measurements alone.
    ///
    /// # Errors
    /// [`Error::TooLong`] if the context is shorter.
    pub fn pretend(&mut self, depth: usize) -> Result<(), Error> {
        if depth > self.layout.context {
            return Err(Error::TooLong {
                given: depth,
                position: 0,
                context: self.layout.context,
            });
        }
        self.reset();
        self.position = depth;
        Ok(())
    }

    /// Fills everything but the weights with `byte` and starts a new sequence: a test of whether results depend on what
    /// was in memory before.
    pub fn dirty(&mut self, byte: u8) {
        self.arena.dirty(byte);
        self.reset();
    }

    /// Whether `ids` can be appended, as every call finds out first.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::TokenOutOfRange`], [`Error::TooLong`], [`Error::Poisoned`].
    pub fn check(&self, ids: &[u32]) -> Result<(), Error> {
        let context = self.layout.context;
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        if ids.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        self.in_vocabulary(ids)?;
        if ids.len() > context - self.position {
            return Err(Error::TooLong {
                given: ids.len(),
                position: self.position,
                context,
            });
        }
        Ok(())
    }

    fn in_vocabulary(&self, ids: &[u32]) -> Result<(), Error> {
        let vocab = self.layout.vocab;
        match ids.iter().enumerate().find(|&(_, &id)| id as usize >= vocab) {
            Some((index, &id)) => Err(Error::TokenOutOfRange { id, index, vocab }),
            None => Ok(()),
        }
    }

    fn next_chunk<'i>(&self, ids: &'i [u32]) -> Option<(&'i [u32], &'i [u32])> {
        (!ids.is_empty()).then(|| ids.split_at(ids.len().min(self.layout.batch)))
    }

    /// Appends a chunk; one token takes the program's line for one token.
    fn step(&mut self, lines: &impl Lines, chunk: &[u32], row: Option<usize>) -> Result<(), Error> {
        let body = if chunk.len() == 1 { Body::Decode } else { Body::Prefill };
        self.call(chunk.len(), self.position, Some(chunk), &job(lines, body, row))?;
        self.position += chunk.len();
        Ok(())
    }

    fn launch(
        &mut self,
        lines: &impl Lines,
        body: Body,
        tokens: usize,
        pos: usize,
        row: Option<usize>,
    ) -> Result<(), Error> {
        self.call(tokens, pos, None, &job(lines, body, row))
    }

    /// The row of logits that the last head left.
    pub fn logits(&self) -> &[f32] {
        // SAFETY: `Layout::check` saw `vocab` f32 at this offset inside the arena, aligned; the memory is initialised
        // (zero at first), any bits are an f32, and nobody writes while `self` is borrowed.
        unsafe {
            let start = self.arena.base().add(self.layout.logits.offset).cast::<f32>();
            std::slice::from_raw_parts(start.as_ptr(), self.layout.vocab)
        }
    }

    /// `bytes` bytes of the arena from `offset` on, as the last call left them.
    ///
    /// # Panics
    /// If the range leaves the arena.
    pub fn bytes(&self, offset: usize, bytes: usize) -> &[u8] {
        assert!(
            offset.checked_add(bytes).is_some_and(|end| end <= self.arena.len()),
            "{bytes} bytes at {offset} leave the arena"
        );
        // SAFETY: inside the arena, whose memory is initialised (zero at first, or weights); nobody writes while `self`
        // is borrowed.
        unsafe { std::slice::from_raw_parts(self.arena.base().as_ptr().add(offset), bytes) }
    }

    /// The first `rows` rows of a tensor as floats, without the padding between them; allocates. Quantised rows are
    /// dequantised: they are all that the last call wrote.
    ///
    /// # Panics
    /// If the rows leave the arena, or are of a type that no tensor of floats has.
    pub fn rows(&self, slot: &Slot, rows: usize) -> Vec<f32> {
        let stride = slot.stride();
        let bytes = self.bytes(slot.offset, rows * stride);
        let isa = self.isa.for_tokens(rows, &self.layout.choices);
        let row = |row: &[u8]| -> Vec<f32> {
            match slot.act {
                ActType::F32 => floats(&row[..4 * slot.cols]).collect(),
                ActType::Q8 => {
                    let mut floats = vec![0.0; slot.cols];
                    // SAFETY: a whole row, quantised by the same table: as many rows choose it here as there.
                    unsafe { (isa.dequantize_row)(row.as_ptr(), slot.cols, floats.as_mut_ptr()) };
                    floats
                }
                ActType::U32 | ActType::F16 => panic!("rows of {} are no rows of floats", slot.act.name()),
            }
        };
        bytes.chunks_exact(stride).flat_map(row).collect()
    }

    /// Keys and values of the positions `pos..pos + n`, each as rows of `kv_heads * head_dim`; allocates.
    ///
    /// # Panics
    /// If the cache leaves the arena or has no such positions.
    pub fn cache_rows(&self, cache: &Cache, pos: usize, n: usize) -> [Vec<f32>; 2] {
        const LANES: usize = ck_kernels::dtype::GROUP;
        assert!(pos + n <= cache.context, "positions outside the cache");
        let (head_dim, head) = (cache.head_dim, cache.context * cache.head_dim);
        let read = |offset: usize, at: &dyn Fn(usize, usize) -> usize| {
            let half = self.bytes(offset, cache.half_bytes());
            let all: Vec<f32> = match cache.act {
                ActType::F16 => halves(half).collect(),
                _ => floats(half).collect(),
            };
            let row = |p| (0..cache.kv_heads).flat_map(move |h| (0..head_dim).map(move |d| (p, h, d)));
            (pos..pos + n)
                .flat_map(row)
                .map(|(p, h, d)| all[h * head + at(p, d)])
                .collect()
        };
        [
            read(cache.k, &|p, d| (p / LANES * head_dim + d) * LANES + p % LANES),
            read(cache.v, &|p, d| p * head_dim + d),
        ]
    }
}

fn job(lines: &impl Lines, body: Body, row: Option<usize>) -> impl Fn(&Worker<'_>) + Sync {
    move |w: &Worker<'_>| {
        match body {
            Body::Prefill => {
                w.enter("prefill");
                lines.prefill(w);
            }
            Body::Decode => {
                w.enter("decode");
                lines.decode(w);
            }
            Body::None => {}
        }
        if let Some(row) = row {
            w.enter("head");
            w.barrier();
            lines.head(&w.of_row(row));
        }
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))
}

fn halves(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks().0.iter().map(|b| f16_to_f32(u16::from_le_bytes(*b)))
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine")
            .field("model", &self.layout.model)
            .field("isa", &self.isa.name)
            .field("threads", &self.pool.workers())
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
