//! What `ckc verify` found.

use std::fmt::{self, Write};
use std::ops::Range;

use super::{Difference, Tolerance};
use crate::codes;
use crate::diag::Diagnostic;

/// One tensor, or half of a cache, after one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared {
    /// `prefill`, `decode` or `head`.
    pub entry: &'static str,
    /// The positions of the call.
    pub positions: Range<usize>,
    /// The step.
    pub step: String,
    /// Its kernel.
    pub kernel: &'static str,
    /// What it wrote.
    pub tensor: String,
    /// How far that is from what the interpreter says.
    pub difference: Difference,
    /// How far it may be.
    pub tolerance: Tolerance,
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.positions;
        write!(
            f,
            "`{}`, written by step `{}` (kernel {}) of {} at positions {start}..{end}",
            self.tensor, self.step, self.kernel, self.entry
        )
    }
}

/// Everything that was compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// In the order of execution.
    pub compared: Vec<Compared>,
    /// How far logits may be from what the interpreter says.
    pub tolerance: Tolerance,
    /// Tokens that were run.
    pub tokens: usize,
    /// Calls that gave other bits when run as a whole: workers, and the positions.
    pub other_bits: Vec<(usize, Range<usize>)>,
}

impl Outcome {
    pub(super) fn new(tolerance: Tolerance, tokens: usize) -> Outcome {
        Outcome {
            compared: Vec::new(),
            tolerance,
            tokens,
            other_bits: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, compared: Compared) {
        self.compared.push(compared);
    }

    pub(super) fn other_bits(&mut self, threads: usize, positions: Range<usize>) {
        self.other_bits.push((threads, positions));
    }

    /// The first tensor that differs by more than is allowed.
    pub fn first_difference(&self) -> Option<&Compared> {
        self.compared.iter().find(|c| !c.tolerance.allows(&c.difference))
    }

    /// What is wrong with the program, if anything is.
    pub fn problem(&self) -> Option<Diagnostic> {
        if let Some(first) = self.first_difference() {
            let Difference { max_abs, relative, .. } = first.difference;
            let message = format!(
                "{first}, differs from the interpreter: largest difference {max_abs:.3e}, relative L2 {relative:.3e}; \
                 allowed is {}",
                first.tolerance
            );
            return Some(Diagnostic::new(codes::DIFFERS, message).help("`--verbose` prints every tensor up to there"));
        }
        let (threads, Range { start, end }) = self.other_bits.first()?;
        let message = format!(
            "the logits at position {} have other bits with {threads} workers and the planned barriers (call of \
             positions {start}..{end}) than step by step",
            end - 1
        );
        Some(
            Diagnostic::new(codes::OTHER_BITS, message)
                .help("a barrier is missing, or two tensors that are in use share bytes"),
        )
    }

    /// A line for every tensor that was compared.
    pub fn table(&self) -> String {
        let mut out = String::new();
        let width = |f: fn(&Compared) -> &str| self.compared.iter().map(|c| f(c).len()).max().unwrap_or(0);
        let (step, tensor) = (width(|c| &c.step), width(|c| &c.tensor));
        let kernel = width(|c| c.kernel);
        let mut call = None;
        for c in &self.compared {
            let now = (c.entry, &c.positions);
            if call != Some(now) {
                let Range { start, end } = c.positions;
                writeln!(out, "{} {start}..{end}", c.entry).expect("a string");
                call = Some(now);
            }
            let bad = if c.tolerance.allows(&c.difference) {
                ""
            } else {
                "  <- differs"
            };
            let Difference { max_abs, relative, .. } = c.difference;
            writeln!(
                out,
                "  {:step$}  {:kernel$}  {:tensor$}  max abs {max_abs:9.3e}  rel L2 {relative:9.3e}{bad}",
                c.step, c.kernel, c.tensor
            )
            .expect("a string");
        }
        out
    }
}

/// One line: what was compared and the largest differences.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let worst =
            |value: fn(&Difference) -> f64| self.compared.iter().map(|c| value(&c.difference)).fold(0.0, f64::max);
        write!(
            f,
            "{} tensors of {} tokens agree with the interpreter: max abs {:.3e}, rel L2 {:.3e} (logits: at most {}); the same \
             bits with the planned barriers",
            self.compared.len(),
            self.tokens,
            worst(|d| d.max_abs),
            worst(|d| d.relative),
            self.tolerance
        )
    }
}
