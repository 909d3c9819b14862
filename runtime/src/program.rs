//! The seam between emitted code and the runtime: [`Program`] is what the compiler writes, [`Worker`] what it writes
//! to.

use std::marker::PhantomData;

use ck_kernels::ops::{Ctx, Kernel};

use crate::debug::{Entry, Finding, Inspector};
use crate::layout::Layout;
use crate::pool::Seat;
use crate::profile::Clock;

/// An emitted program: three straight lines of kernel calls over one arena.
///
/// Every worker runs the whole line, each on its own part of every step. [`Worker::barrier`] must stand wherever a step
/// reads or overwrites what another worker touched since the last one; the compiler decides that and its verifier
/// proves it.
pub trait Program: 'static {
    /// The memory and the steps.
    const LAYOUT: Layout;

    /// The body for `T` tokens, `1..=batch`: ids to final hidden rows, keys and values into the cache.
    fn prefill(w: &Worker<'_>);

    /// The body for one token.
    fn decode(w: &Worker<'_>);

    /// The logits of one row of the body's result: selects row `ctx.row` of it
    /// ([`SelectRow`](ck_kernels::ops::SelectRow)), and makes [`Layout::logits`] of that by final norm and output
    /// projection. A call of one token: `ctx.tokens` is 1, `ctx.pos` the row's position. Comes once or several times
    /// after one body, so that it must leave the body's result as it is.
    fn head(w: &Worker<'_>);
}

/// The three lines of a program as a value: what [`Machine`](crate::machine::Machine) runs. See [`Program`].
pub trait Lines: Sync {
    /// The body for several tokens.
    fn prefill(&self, w: &Worker<'_>);

    /// The body for one token.
    fn decode(&self, w: &Worker<'_>);

    /// The logits of one row.
    fn head(&self, w: &Worker<'_>);
}

/// The lines of an emitted program.
pub(crate) struct Emitted<P>(PhantomData<fn() -> P>);

impl<P> Emitted<P> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<P: Program> Lines for Emitted<P> {
    fn prefill(&self, w: &Worker<'_>) {
        P::prefill(w);
    }

    fn decode(&self, w: &Worker<'_>) {
        P::decode(w);
    }

    fn head(&self, w: &Worker<'_>) {
        P::head(w);
    }
}

/// One worker of a call: what emitted code sees of the runtime.
pub struct Worker<'a> {
    ctx: Ctx<'a>,
    seat: &'a Seat<'a>,
    /// `None` unless the program is profiled.
    clock: Option<Clock<'a>>,
}

impl<'a> Worker<'a> {
    /// # Safety
    /// `ctx.base..+ctx.len` is the arena that the program's layout describes, valid for the whole call and used by
    /// nothing but the workers of this call; `ctx.isa` is supported by this CPU; `ctx.ith` and `ctx.nth` are `seat`'s.
    pub(crate) unsafe fn new(ctx: Ctx<'a>, seat: &'a Seat<'a>) -> Self {
        Self { ctx, seat, clock: None }
    }

    /// The same worker, timed.
    pub(crate) fn timed(self, clock: Option<Clock<'a>>) -> Self {
        Self { clock, ..self }
    }

    /// Says that the steps of `entry` come next.
    pub(crate) fn enter(&self, entry: &str) {
        if let Some(clock) = &self.clock {
            clock.enter(entry);
        }
    }

    /// The same worker in the call of one token that makes the logits of row `row` of this call: see
    /// [`Program::head`].
    pub fn of_row(&self, row: usize) -> Worker<'a> {
        Worker {
            ctx: Ctx {
                isa: self.ctx.isa.for_tokens(1, self.ctx.choices),
                tokens: 1,
                pos: self.ctx.pos + row,
                row,
                ..self.ctx
            },
            seat: self.seat,
            clock: self.clock.clone(),
        }
    }

    /// Runs this worker's part of a step. Where the kernel has two halves in this call, all workers meet between them.
    ///
    /// This function is the trust boundary between emitted code, which forbids `unsafe`, and kernels, which work on raw
    /// memory. What is checked here and now: every operand lies inside the arena ([`Ctx::at`]). What is trusted: that
    /// two workers never touch the same bytes between two barriers unless both read. The compiler's plan verifier
    /// establishes that on every compile; a program written by hand must establish it by itself.
    ///
    /// # Panics
    /// If an operand leaves the arena.
    pub fn run(&self, kernel: impl Kernel) {
        // SAFETY: by the contract of `new`, the arena is valid and ours and the CPU supports `isa`. Freedom from
        // races is the plan's promise, see above.
        let run = || unsafe {
            kernel.run(&self.ctx);
            if kernel.halves(&self.ctx) {
                self.seat.barrier();
                kernel.run_second(&self.ctx);
            }
        };
        match &self.clock {
            None => run(),
            Some(clock) => clock.run(run),
        }
    }

    /// [`Worker::run`] of step `index` of `entry` in a debug run: nobody else works while worker 0 looks at memory before
    /// and after it. See [`crate::debug`].
    ///
    /// What is wrong unwinds the job, and comes out of the call as [`Error::Debug`](crate::Error::Debug).
    ///
    /// # Panics
    /// If there is no such step, or an operand leaves the arena.
    pub fn watch(&self, entry: &Entry, index: usize, kernel: impl Kernel) {
        let kept = self.look(entry, index, |inspector| {
            if index == 0 {
                inspector.enter()?;
            }
            inspector.before()
        });
        self.run(kernel);
        self.look(entry, index, |inspector| {
            inspector.after(kept.as_deref().unwrap_or_default())
        });
    }

    /// Between two barriers, on worker 0.
    fn look<T>(
        &self,
        entry: &Entry,
        index: usize,
        inspect: impl Fn(&Inspector<'_>) -> Result<T, Box<Finding>>,
    ) -> Option<T> {
        self.barrier();
        let found = (self.ctx.ith == 0).then(|| {
            // SAFETY: by the contract of `new`, the arena is valid and used by the workers of this call alone. All of
            // them are between the same two barriers, where only worker 0 does anything.
            let inspector = unsafe { Inspector::new(entry, &entry.steps[index], &self.ctx) };
            inspect(&inspector).unwrap_or_else(|finding| std::panic::resume_unwind(finding))
        });
        self.barrier();
        found
    }

    /// Waits until every worker of the call has come this far. What they wrote before is visible after.
    pub fn barrier(&self) {
        match &self.clock {
            None => self.seat.barrier(),
            Some(clock) => clock.wait(|| self.seat.barrier()),
        }
    }

    /// [`Worker::barrier`] where the number of workers does not divide `heads`: where it does, each has equal parts of
    /// what comes before and after, and meets nobody.
    pub fn barrier_unless(&self, heads: usize) {
        if !heads.is_multiple_of(self.ctx.nth) {
            self.barrier();
        }
    }

    /// This worker, `0..nth`; 0 is the calling thread.
    pub fn ith(&self) -> usize {
        self.ctx.ith
    }

    /// Workers in the call.
    pub fn nth(&self) -> usize {
        self.ctx.nth
    }

    /// Tokens of the call.
    pub fn tokens(&self) -> usize {
        self.ctx.tokens
    }

    /// Position of the call's first token.
    pub fn pos(&self) -> usize {
        self.ctx.pos
    }
}
