//! A compiled program with its memory and workers.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use crate::bench::Way;
use crate::error::Error;
use crate::layout::Layout;
pub use crate::machine::Config;
use crate::machine::Machine;
use crate::profile::Profile;
use crate::program::{Emitted, Program};
use crate::report::Report;
use crate::weights::Tables;

/// A program with its memory and workers: a sequence of tokens, its KV cache, and what comes next.
///
/// Every call checks its arguments before anything runs: after an error about arguments nothing has changed. After
/// [`Runner::open`] nothing allocates and no thread starts.
pub struct Runner<P> {
    machine: Machine,
    program: PhantomData<fn() -> P>,
}

impl<P: Program> Runner<P> {
    /// Opens the packed weights at `path`, reserves the arena and starts the workers.
    ///
    /// # Errors
    /// What [`Machine::open`] reports.
    pub fn open(path: impl AsRef<Path>, config: Config) -> Result<Self, Error> {
        Ok(Self {
            machine: Machine::open(P::LAYOUT, path.as_ref(), &config)?,
            program: PhantomData,
        })
    }

    /// Appends `ids`, in chunks of at most [`Layout::batch`] tokens, and returns the logits of the last one.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::TokenOutOfRange`], [`Error::TooLong`] before anything ran; [`Error::Poisoned`],
    /// [`Error::Panicked`].
    pub fn prefill(&mut self, ids: &[u32]) -> Result<&[f32], Error> {
        self.machine.prefill(&Emitted::<P>::new(), ids)
    }

    /// Like [`Runner::prefill`], but calls `each` with the index in `ids` and the logits of every token.
    ///
    /// # Errors
    /// Those of [`Runner::prefill`].
    pub fn prefill_each(&mut self, ids: &[u32], each: impl FnMut(usize, &[f32])) -> Result<(), Error> {
        self.machine.prefill_each(&Emitted::<P>::new(), ids, each)
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
        self.machine.reset();
    }

    /// Tokens in the cache.
    pub fn position(&self) -> usize {
        self.machine.position()
    }

    /// The program's memory and steps.
    pub fn layout(&self) -> &Layout {
        self.machine.layout()
    }

    /// Workers, the caller included.
    pub fn threads(&self) -> usize {
        self.machine.threads()
    }

    /// The instruction set's name.
    pub fn isa(&self) -> &'static str {
        self.machine.isa()
    }

    /// The tokenizer's tables, for [`Tokenizer::new`](crate::tokenizer::Tokenizer::new).
    ///
    /// # Errors
    /// [`Error::NoTokenizer`] if the weights file has none.
    pub fn tokenizer(&self) -> Result<Arc<Tables>, Error> {
        self.machine.tokenizer()
    }

    /// What this machine made of the program. Measures the pool's latencies, for at most some tenths of a second.
    ///
    /// # Errors
    /// [`Error::Panicked`], which no measurement does.
    pub fn report(&mut self) -> Result<Report, Error> {
        self.machine.report()
    }

    /// From now on takes the time of every step, and costs some; allocates.
    pub fn profile(&mut self) {
        self.machine.profile();
    }

    /// What was measured since [`Runner::profile`], and no more of it.
    pub fn take_profile(&mut self) -> Option<Profile> {
        self.machine.take_profile()
    }

    /// See [`Machine::read_weights`].
    pub(crate) fn read_weights(&mut self, way: Way) -> Result<(usize, f64), Error> {
        self.machine.read_weights(way)
    }

    /// See [`Machine::pretend`].
    ///
    /// # Errors
    /// [`Error::TooLong`] if the context is shorter.
    pub fn pretend(&mut self, depth: usize) -> Result<(), Error> {
        self.machine.pretend(depth)
    }

    /// Fills everything but the weights with `byte` and starts a new sequence: a test of whether results depend on what
    /// was in memory before.
    pub fn dirty(&mut self, byte: u8) {
        self.machine.dirty(byte);
    }

    /// Whether `ids` can be appended, as every call finds out first.
    ///
    /// # Errors
    /// [`Error::EmptyPrompt`], [`Error::TokenOutOfRange`], [`Error::TooLong`], [`Error::Poisoned`].
    pub fn check(&self, ids: &[u32]) -> Result<(), Error> {
        self.machine.check(ids)
    }
}

impl<P> fmt::Debug for Runner<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner")
            .field("machine", &self.machine)
            .finish_non_exhaustive()
    }
}
