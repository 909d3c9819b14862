//! `generate`.

use std::time::{Duration, Instant};

use super::args::Flag;
use super::text::{encode, open, tokenizer_error};
use super::{CHECK, Call, Failure, THREADS, WEIGHTS};
use crate::program::Program;
use crate::sample::{SampleError, Sampler, SamplerConfig};
use crate::tokenizer::Decoder;

pub(super) const FLAGS: &[Flag] = &[
    Flag::value(
        "--prompt",
        "TEXT",
        "the text to continue; it is not repeated in the output",
    ),
    Flag::value(
        "-n",
        "N",
        "the most tokens to generate; fewer if the text ends or the context does [default: 128]",
    ),
    Flag::value(
        "--temp",
        "F",
        "temperature; 0 always takes the most likely token [default: 0]",
    ),
    Flag::value(
        "--top-k",
        "N",
        "keep the N most likely tokens; 0 keeps all [default: 0]",
    ),
    Flag::value(
        "--top-p",
        "F",
        "keep the most likely tokens that reach this probability together [default: 1]",
    ),
    Flag::value(
        "--min-p",
        "F",
        "keep tokens at least this likely, relative to the most likely one [default: 0]",
    ),
    Flag::value(
        "--repeat-penalty",
        "F",
        "make the last 64 tokens less likely; 1 does not [default: 1]",
    ),
    Flag::value("--seed", "N", "the same seed gives the same text [default: 0]"),
    THREADS,
    WEIGHTS,
    CHECK,
];

pub(super) fn run<P: Program>(call: &mut Call<'_>) -> Result<(), Failure> {
    let args = call.args;
    let prompt = args
        .text("--prompt")?
        .ok_or_else(|| Failure::usage("`generate` needs --prompt TEXT"))?;
    let n: usize = args.number("-n")?.unwrap_or(128);
    let default = SamplerConfig::default();
    let config = SamplerConfig {
        temperature: args.number("--temp")?.unwrap_or(default.temperature),
        top_k: args.number("--top-k")?.unwrap_or(default.top_k),
        top_p: args.number("--top-p")?.unwrap_or(default.top_p),
        min_p: args.number("--min-p")?.unwrap_or(default.min_p),
        repeat_penalty: args.number("--repeat-penalty")?.unwrap_or(default.repeat_penalty),
        seed: args.number("--seed")?.unwrap_or(default.seed),
        ..default
    };
    // A setting out of range is a wrong command line: found before anything is opened.
    Sampler::new(0, config.clone()).map_err(|error| Failure::usage(error.to_string()))?;

    let mut runner = call.open::<P>()?;
    let tables = runner.tokenizer()?;
    let tokenizer = open(&tables)?;
    // Ids that the tokenizer does not know are padding of the matrix: they have no text.
    let known = tokenizer.vocab_len().min(runner.layout().vocab);
    let mut sampler = Sampler::new(known, config).map_err(failed)?;
    let ids = encode(&tokenizer, prompt)?;
    ids.iter().for_each(|&id| sampler.accept(id));

    let begin = Instant::now();
    let logits = runner.prefill(&ids)?;
    let prefill = begin.elapsed();
    let mut decoder = Decoder::continuing(true);
    let mut text = String::new();
    let mut next = if n > 0 {
        Some(sampler.sample(&logits[..known]).map_err(failed)?)
    } else {
        None
    };
    let first = call.start.elapsed();
    let mut generated = 0;
    let mut decode = Duration::ZERO;
    while let Some(id) = next.filter(|&id| !tokenizer.is_eos(id)) {
        generated += 1;
        sampler.accept(id);
        decoder.push(&tokenizer, id, &mut text).map_err(tokenizer_error)?;
        call.print(&text)?;
        text.clear();
        if generated == n || runner.position() == runner.layout().context {
            break;
        }
        let begin = Instant::now();
        let logits = runner.decode(id)?;
        next = Some(sampler.sample(&logits[..known]).map_err(failed)?);
        decode += begin.elapsed();
    }
    decoder.finish(&mut text);
    text.push('\n');
    call.print(&text)?;

    let decoded = runner.position() - ids.len();
    let full = generated < n && !next.is_some_and(|id| tokenizer.is_eos(id));
    // The text is out; where standard error is closed, nobody asked for the speed.
    let _ = writeln!(
        call.err,
        "prompt {} tokens, {:.2} tok/s; decode {decoded} tokens, {:.2} tok/s; first token {:.3} s after start{}",
        ids.len(),
        rate(ids.len(), prefill),
        rate(decoded, decode),
        first.as_secs_f64(),
        if full {
            "; stopped because the context is full"
        } else {
            ""
        },
    );
    Ok(())
}

/// A sampler that refuses logits: the model's numbers are broken.
fn failed(error: SampleError) -> Failure {
    Failure::run(format!("cannot choose the next token: {error}"))
}

/// Tokens a second, 0 for none.
fn rate(tokens: usize, time: Duration) -> f64 {
    if tokens == 0 {
        0.0
    } else {
        tokens as f64 / time.as_secs_f64()
    }
}
