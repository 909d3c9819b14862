//! How long each step of a program takes, worker by worker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::layout::StepInfo;

/// Times of all steps on all workers, summed over the calls since profiling began.
#[derive(Debug)]
pub struct Profile {
    steps: &'static [StepInfo],
    /// `[worker][step]`.
    cells: Vec<Cell>,
}

/// Nanoseconds that one worker spent on one step. Only that worker writes.
#[derive(Debug, Default)]
struct Cell {
    calls: AtomicU64,
    run: AtomicU64,
    /// At the barrier before the step.
    wait: AtomicU64,
}

/// Nanoseconds that a step took, summed over its calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Calls.
    pub calls: u64,
    /// In the kernel, on the worker that was longest in it.
    pub run: u64,
    /// At the barrier before it, on the worker that waited least: what the barrier itself costs.
    pub wait: u64,
}

impl Profile {
    pub(crate) fn new(steps: &'static [StepInfo], workers: usize) -> Profile {
        let cells = (0..workers * steps.len()).map(|_| Cell::default()).collect();
        Profile { steps, cells }
    }

    /// The steps with their times, in program order.
    pub fn times(&self) -> impl Iterator<Item = (&'static StepInfo, Time)> {
        let at = |value: fn(&Cell) -> &AtomicU64, step: usize| {
            let of_step = self.cells.iter().skip(step).step_by(self.steps.len().max(1));
            of_step.map(move |cell| value(cell).load(Ordering::Relaxed))
        };
        self.steps.iter().enumerate().map(move |(i, step)| {
            let time = Time {
                calls: at(|c| &c.calls, i).max().unwrap_or(0),
                run: at(|c| &c.run, i).max().unwrap_or(0),
                wait: at(|c| &c.wait, i).min().unwrap_or(0),
            };
            (step, time)
        })
    }

    /// The clock of worker `ith`.
    pub(crate) fn clock(&self, ith: usize) -> Clock<'_> {
        Clock {
            profile: self,
            ith,
            next: 0.into(),
        }
    }
}

/// A worker's place in the program while it is profiled.
#[derive(Clone)]
pub(crate) struct Clock<'a> {
    profile: &'a Profile,
    ith: usize,
    /// The step that comes next.
    next: std::cell::Cell<usize>,
}

impl Clock<'_> {
    /// What comes next is the first step of `entry`.
    pub(crate) fn enter(&self, entry: &str) {
        let first = self.profile.steps.iter().position(|step| step.entry == entry);
        self.next.set(first.unwrap_or(self.profile.steps.len()));
    }

    /// Runs the next step.
    pub(crate) fn run(&self, step: impl FnOnce()) {
        let nanos = time(step);
        if let Some(cell) = self.cell() {
            cell.calls.fetch_add(1, Ordering::Relaxed);
            cell.run.fetch_add(nanos, Ordering::Relaxed);
        }
        self.next.set(self.next.get() + 1);
    }

    /// Waits before the next step.
    pub(crate) fn wait(&self, barrier: impl FnOnce()) {
        let nanos = time(barrier);
        if let Some(cell) = self.cell() {
            cell.wait.fetch_add(nanos, Ordering::Relaxed);
        }
    }

    /// Of the next step; none behind the last one, and in a program whose lines are not those of its layout.
    fn cell(&self) -> Option<&Cell> {
        let steps = self.profile.steps.len();
        let step = self.next.get();
        (step < steps).then(|| &self.profile.cells[self.ith * steps + step])
    }
}

/// Nanoseconds.
fn time(work: impl FnOnce()) -> u64 {
    let begin = Instant::now();
    work();
    begin.elapsed().as_nanos() as u64
}
