//! `ckc verify`: the fused and planned program against the interpreter, step by step.
//!
//! The oracle is the interpreter on the unfused graph with the weights as they are packed. The program runs in this
//! process ([`Program`]), with a wake of the pool for every step, and every tensor and cache row that a step writes is
//! compared at once, before a later step may reuse its bytes. Then the program runs again as runners run it, one wake
//! and the planned barriers a call, and must give the same bits.

mod difference;
mod outcome;
mod program;
mod steps;
mod weights;

use std::path::Path;

use ck_runtime::{Config, Machine};

use crate::codes;
use crate::compile::Planned;
use crate::diag::Diagnostic;
use crate::graph::interpret::{Interpreter, Select};
pub use difference::{Difference, Tolerance};
pub use outcome::{Compared, Outcome};
pub use program::{Program, open};
use steps::Stepwise;
pub use weights::PackedWeights;

/// Tokens of the prompt that is used when none is given, and how many of them are decoded one by one.
const PROMPT: usize = 24;
const DECODED: usize = 4;

/// What is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Token ids; a fixed pseudo-random prompt if empty.
    pub ids: Vec<u32>,
    /// Workers.
    pub threads: usize,
}

/// Runs a model's program against the interpreter. That they differ is an outcome, not an error.
///
/// # Errors
/// Weights that are not there or do not fit, ids that the model does not take, a machine that cannot run the program.
pub fn verify(planned: &mut Planned, options: &Options) -> Result<Outcome, Vec<Diagnostic>> {
    if !planned.model.weights.exists() {
        let message = format!("there are no weights at `{}`", planned.model.weights.display());
        let help = format!("make random ones with `ckc synth {}`", planned.model.source.name);
        return Err(vec![Diagnostic::new(codes::NO_WEIGHTS, message).help(help)]);
    }
    let ids = prompt(planned, &options.ids)?;
    let folder = tempfile::tempdir().map_err(|e| failed(format!("cannot make a temporary folder: {e}")))?;
    let path = folder.path().join("weights.ckw");
    planned.pack(&path, &mut |_, _| {})?;
    let planned = &*planned;
    let calls = calls(ids.len(), planned.model.graph.batch);

    let weights = PackedWeights::open(planned, &path).map_err(failed)?;
    let interpreter = Interpreter::new(&planned.model.graph, &weights, Select::All).map_err(failed)?;
    let program = Program::new(&planned.layout);
    let machine = |threads| machine(planned, &path, threads);
    let first = machine(options.threads)?;
    let tolerance = Tolerance::of(&planned.model.graph, first.rounds_to_bf16());
    let mut outcome = Outcome::new(tolerance, ids.len());
    let mut stepwise = Stepwise {
        planned,
        program: &program,
        machine: first,
        interpreter,
    };
    let mut logits = Vec::with_capacity(calls.len());
    for call in &calls {
        logits.push(stepwise.run(call.start, &ids[call.clone()], &mut outcome)?);
    }
    drop(stepwise);

    let mut threads = vec![1, options.threads];
    threads.dedup();
    for threads in threads {
        let mut machine = machine(threads)?;
        // Nothing may depend on what was in memory before.
        machine.dirty(0xFF);
        for (call, want) in calls.iter().zip(&logits) {
            let got = machine.prefill(&program, &ids[call.clone()]).map_err(failed)?;
            let same = got.iter().zip(want).all(|(a, b)| a.to_bits() == b.to_bits());
            if !same {
                outcome.other_bits(threads, call.clone());
            }
        }
    }
    Ok(outcome)
}

fn machine(planned: &Planned, path: &Path, threads: usize) -> Result<Machine, Vec<Diagnostic>> {
    let config = Config {
        threads: Some(threads),
        ..Config::default()
    };
    open(planned, path, &config).map_err(failed)
}

fn failed(what: impl std::fmt::Display) -> Vec<Diagnostic> {
    vec![Diagnostic::from_lines(codes::NOT_RUN, &what.to_string())]
}

/// The ids to run: those given, if the model takes them.
fn prompt(planned: &Planned, given: &[u32]) -> Result<Vec<u32>, Vec<Diagnostic>> {
    let (context, vocab) = (planned.model.graph.context, planned.layout.logits.cols);
    if given.is_empty() {
        // Steps of a multiplicative congruence: all over the vocabulary, with some repetition.
        let id = |i: usize| (i * i * 7919 + i * 104_729 + 17) % vocab;
        return Ok((0..PROMPT.min(context)).map(|i| id(i) as u32).collect());
    }
    if let Some(id) = given.iter().find(|id| **id as usize >= vocab) {
        return Err(failed(format!(
            "token id {id} is out of range: ids are 0 to {}",
            vocab - 1
        )));
    }
    if given.len() > context {
        return Err(failed(format!(
            "{} ids do not fit a context of {context} positions",
            given.len()
        )));
    }
    Ok(given.to_vec())
}

/// The calls that `n` ids are given in: two chunks, as far as `batch` allows, then one by one.
fn calls(n: usize, batch: usize) -> Vec<std::ops::Range<usize>> {
    let decoded = DECODED.min(n / 2);
    let prompt = n - decoded;
    let cut = prompt * 2 / 5;
    let mut calls = Vec::new();
    for part in [0..cut, cut..prompt] {
        let starts = part.clone().step_by(batch);
        calls.extend(starts.map(|start| start..part.end.min(start + batch)));
    }
    calls.extend((prompt..n).map(|i| i..i + 1));
    calls
}

#[cfg(test)]
mod tests {
    use super::calls;

    #[test]
    fn calls_cover_the_ids_in_order_within_the_batch() {
        for n in 1..40 {
            for batch in 1..20 {
                let calls = calls(n, batch);
                let mut at = 0;
                for call in calls {
                    assert!(
                        call.start == at && (1..=batch).contains(&call.len()),
                        "{n} {batch}: {call:?}"
                    );
                    at = call.end;
                }
                assert_eq!(at, n);
            }
        }
        assert_eq!(calls(24, 64)[..2], [0..8, 8..20]);
    }
}
