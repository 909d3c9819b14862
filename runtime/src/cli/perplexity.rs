//! `perplexity`.

use std::path::Path;

use super::args::Flag;
use super::text::{encode, open, read_text};
use super::{CHECK, Call, Failure, THREADS, WEIGHTS};
use crate::program::Program;

pub(super) const FLAGS: &[Flag] = &[
    Flag::value("--file", "F", "the text"),
    Flag::value(
        "--context",
        "N",
        "tokens of a window, at least 2 [default: the model's context]",
    ),
    THREADS,
    WEIGHTS,
    CHECK,
];

pub(super) fn run<P: Program>(call: &mut Call<'_>) -> Result<(), Failure> {
    let path = call
        .args
        .raw("--file")
        .ok_or_else(|| Failure::usage("`perplexity` needs --file F"))?;
    let context = P::LAYOUT.context;
    let window = call.args.number("--context")?.unwrap_or(context);
    if !(2..=context).contains(&window) {
        return Err(Failure::usage(format!("`--context {window}`: must be 2 to {context}")));
    }
    let text = read_text(Path::new(path))?;
    let mut runner = call.open::<P>()?;
    let tables = runner.tokenizer()?;
    let ids = encode(&open(&tables)?, &text)?;
    if ids.len() < 2 {
        return Err(Failure::run(format!(
            "the text has {} tokens, at least 2 are needed",
            ids.len()
        )));
    }
    let (mut sum, mut scored, mut windows) = (0.0, 0usize, 0usize);
    // A last window of one token has nothing to score.
    for part in ids.chunks(window).filter(|part| part.len() > 1) {
        runner.reset();
        // The last token is only scored; an id out of range must not get that far.
        runner.check(part)?;
        runner.prefill_each(&part[..part.len() - 1], |i, logits| {
            sum += nll(logits, part[i + 1] as usize);
            scored += 1;
        })?;
        windows += 1;
    }
    let perplexity = (sum / scored as f64).exp();
    call.print(&format!(
        "tokens {}, scored {scored}, windows {windows} of {window}, perplexity {perplexity:.4}\n",
        ids.len()
    ))
}

/// Negative log-likelihood of `target`: `log(sum(exp(logits))) - logits[target]`, with the maximum taken out of the
/// sum.
fn nll(logits: &[f32], target: usize) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    sum.ln() + max - f64::from(logits[target])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likelihoods() {
        let uniform = [3.0f32; 8];
        assert!((nll(&uniform, 5) - 8f64.ln()).abs() < 1e-12);
        // Far beyond what exp can take.
        assert!((nll(&[1e4, 0.0], 0)).abs() < 1e-12);
        assert!((nll(&[1e4, 0.0], 1) - 1e4).abs() < 1e-9);
        assert!((nll(&[1.0, 2.0], 0) - (1.0 + 1f64.exp()).ln()).abs() < 1e-7);
        assert!(nll(&[f32::NAN, 1.0], 1).is_nan());
    }
}
