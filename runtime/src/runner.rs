//! A compiled program with its memory and workers.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use ck_kernels::isa::{self, Isa};
use ck_kernels::ops::{Ctx, MAX_WORKERS};

use crate::arena::Arena;
use crate::error::Error;
use crate::layout::Layout;
use crate::pool::{Pool, Seat};
use crate::program::{Program, Worker};
use crate::report::Report;
use crate::weights::WeightsFile;

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
    fn threads(&self) -> Result<usize, Error> {
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

    fn isa(&self) -> Result<&'static Isa, Error> {
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

/// A program with its memory and workers: a sequence of tokens, its KV cache, and what comes next.
///
/// Every call checks its arguments before anything runs: after an error about arguments nothing has changed. After
/// [`Runner::open`] nothing allocates and no thread starts.
pub struct Runner<P> {
    arena: Arena,
    pool: Pool,
    isa: &'static Isa,
    layout: Layout,
    tokenizer: Arc<[u8]>,
    position: usize,
    /// A call failed half-way.
    poisoned: bool,
    program: PhantomData<fn() -> P>,
}

/// The part of a program that a call runs before the head.
#[derive(Clone, Copy)]
enum Body {
    Prefill,
    Decode,
    /// The result of the last body is still there.
    None,
}

/// A call, as every worker sees it.
#[derive(Clone, Copy)]
struct Call {
    base: *mut u8,
    len: usize,
    isa: &'static Isa,
    body: Body,
    tokens: usize,
    pos: usize,
    /// The row to make logits of.
    row: Option<usize>,
}

// SAFETY: an address and numbers. Who may touch what is behind the address is the plan's business, see `Worker::run`.
unsafe impl Sync for Call {}

impl Call {
    /// # Safety
    /// The arena at `base` is the one of `P`'s layout, alive and used only by the workers of this call; the CPU
    /// supports `isa`.
    unsafe fn run<P: Program>(&self, seat: &Seat<'_>) {
        let body = Ctx {
            ith: seat.ith(),
            nth: seat.nth(),
            isa: self.isa,
            base: self.base,
            len: self.len,
            tokens: self.tokens,
            pos: self.pos,
            row: 0,
        };
        // SAFETY: the caller's promise; `ith` and `nth` are the seat's.
        let worker = unsafe { Worker::new(body, seat) };
        match self.body {
            Body::Prefill => P::prefill(&worker),
            Body::Decode => P::decode(&worker),
            Body::None => {}
        }
        if let Some(row) = self.row {
            worker.barrier();
            let head = Ctx {
                tokens: 1,
                pos: self.pos + row,
                row,
                ..body
            };
            // SAFETY: as above.
            P::head(&unsafe { Worker::new(head, seat) });
        }
    }
}

impl<P: Program> Runner<P> {
    /// Opens the packed weights at `path`, reserves the arena and starts the workers.
    ///
    /// # Errors
    /// What [`WeightsFile::open`], [`Arena::new`] and [`Pool::new`] report, and [`Error::Isa`] if the instruction set
    /// asked for is unknown or this CPU lacks it.
    pub fn open(path: impl AsRef<Path>, config: Config) -> Result<Self, Error> {
        let layout = P::LAYOUT;
        let threads = config.threads()?;
        let isa = config.isa()?;
        let file = WeightsFile::open(path.as_ref(), config.check)?;
        let arena = Arena::new(&layout, &file)?;
        Ok(Self {
            arena,
            pool: Pool::new(threads)?,
            isa,
            layout,
            tokenizer: file.into_tokenizer().into(),
            position: 0,
            poisoned: false,
            program: PhantomData,
        })
    }

    /// Appends `ids`, in chunks of at most [`Layout::batch`] tokens, and returns the logits of the last one.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::TokenOutOfRange`], [`Error::TooLong`] before anything ran; [`Error::Poisoned`],
    /// [`Error::Panicked`].
    pub fn prefill(&mut self, ids: &[u32]) -> Result<&[f32], Error> {
        self.check(ids)?;
        let mut rest = ids;
        while let Some((chunk, more)) = self.next_chunk(rest) {
            self.step(chunk, more.is_empty().then(|| chunk.len() - 1))?;
            rest = more;
        }
        Ok(self.logits())
    }

    /// Like [`Runner::prefill`], but calls `each` with the index in `ids` and the logits of every token.
    ///
    /// # Errors
    /// Those of [`Runner::prefill`].
    pub fn prefill_each(&mut self, ids: &[u32], mut each: impl FnMut(usize, &[f32])) -> Result<(), Error> {
        self.check(ids)?;
        let mut rest = ids;
        while let Some((chunk, more)) = self.next_chunk(rest) {
            let done = ids.len() - rest.len();
            let pos = self.position;
            self.step(chunk, Some(0))?;
            each(done, self.logits());
            for row in 1..chunk.len() {
                self.launch(Body::None, chunk.len(), pos, Some(row))?;
                each(done + row, self.logits());
            }
            rest = more;
        }
        Ok(())
    }

    /// Appends one token and returns its logits.
    ///
    /// # Errors
    /// [`Error::TokenOutOfRange`]; [`Error::TooLong`] at the end of the context; [`Error::Poisoned`],
    /// [`Error::Panicked`].
    pub fn decode(&mut self, id: u32) -> Result<&[f32], Error> {
        self.prefill(&[id])
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

    /// The tokenizer's tables, for [`Tokenizer::new`](crate::tokenizer::Tokenizer::new).
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] if the weights file has none.
    pub fn tokenizer(&self) -> Result<Arc<[u8]>, Error> {
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
        let Layout { context, vocab, .. } = self.layout;
        if self.poisoned {
            return Err(Error::Poisoned);
        }
        if ids.is_empty() {
            return Err(Error::EmptyPrompt);
        }
        if let Some((index, &id)) = ids.iter().enumerate().find(|&(_, &id)| id as usize >= vocab) {
            return Err(Error::TokenOutOfRange { id, index, vocab });
        }
        if ids.len() > context - self.position {
            return Err(Error::TooLong {
                given: ids.len(),
                position: self.position,
                context,
            });
        }
        Ok(())
    }

    fn next_chunk<'i>(&self, ids: &'i [u32]) -> Option<(&'i [u32], &'i [u32])> {
        (!ids.is_empty()).then(|| ids.split_at(ids.len().min(self.layout.batch)))
    }

    /// Appends a chunk; one token takes the program's line for one token.
    fn step(&mut self, chunk: &[u32], row: Option<usize>) -> Result<(), Error> {
        let body = if chunk.len() == 1 { Body::Decode } else { Body::Prefill };
        // SAFETY: `Layout::check` (in `Arena::new`) saw `batch` ids at this offset inside the arena, aligned and
        // outside the weights; a chunk has at most `batch`. No worker runs, by `&mut self`.
        unsafe {
            let place = self.arena.base().add(self.layout.ids.offset).cast::<u32>();
            place.copy_from_nonoverlapping(std::ptr::NonNull::from(chunk).cast(), chunk.len());
        }
        self.launch(body, chunk.len(), self.position, row)?;
        self.position += chunk.len();
        Ok(())
    }

    /// One wake of the pool.
    fn launch(&mut self, body: Body, tokens: usize, pos: usize, row: Option<usize>) -> Result<(), Error> {
        let call = Call {
            base: self.arena.base().as_ptr(),
            len: self.arena.len(),
            isa: self.isa,
            body,
            tokens,
            pos,
            row,
        };
        // SAFETY: the arena was made for `P::LAYOUT`, lives in `self` and is used by nobody else until `run` returns,
        // by `&mut self`; `isa` comes from `isa::best` or `isa::by_name`, which look at the CPU.
        let job = |seat: &Seat<'_>| unsafe { call.run::<P>(seat) };
        let result = self.pool.run(&job);
        self.poisoned |= result.is_err();
        result
    }

    fn logits(&self) -> &[f32] {
        // SAFETY: `Layout::check` saw `vocab` f32 at this offset inside the arena, aligned; the memory is initialised
        // (zero at first), any bits are an f32, and nobody writes while `self` is borrowed.
        unsafe {
            let start = self.arena.base().add(self.layout.logits.offset).cast::<f32>();
            std::slice::from_raw_parts(start.as_ptr(), self.layout.vocab)
        }
    }
}

impl<P> fmt::Debug for Runner<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("model", &self.layout.model)
            .field("isa", &self.isa.name)
            .field("threads", &self.pool.workers())
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
