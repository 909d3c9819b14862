//! `bench`.

use std::time::Instant;

use super::args::Flag;
use super::profile::Section;
use super::{CHECK, Call, Failure, JSON, THREADS, WEIGHTS};
use crate::error::Error;
use crate::json::Json;
use crate::layout::Layout;
use crate::program::Program;
use crate::runner::Runner;

pub(super) const FLAGS: &[Flag] = &[
    Flag::value(
        "-p",
        "N",
        "tokens of the prompt; 0 leaves prefill out [default: 512, or the context]",
    ),
    Flag::value(
        "-n",
        "N",
        "tokens to decode; 0 leaves decode out [default: 128, or the context]",
    ),
    Flag::value(
        "--depth",
        "N",
        "tokens before those that are measured, made up, not computed [default: 0]",
    ),
    Flag::switch(
        "--profile",
        "say where the time of one more repetition goes, step by step",
    ),
    Flag::value("-r", "N", "repetitions, after one that does not count [default: 5]"),
    JSON,
    THREADS,
    WEIGHTS,
    CHECK,
];

/// What the cache of tokens that were not computed is filled with: a small number in every type of floats.
const FILL: u8 = 0x3c;

/// Tokens a second over the repetitions, and what they amount to.
struct Speed {
    name: &'static str,
    tokens: usize,
    median: f64,
    min: f64,
    max: f64,
    /// Weights read, at the median; without caches and activations.
    gb_per_s: f64,
    /// Arithmetic done, at the median; without attention over the cache.
    gflop_per_s: f64,
}

pub(super) fn run<P: Program>(call: &mut Call<'_>) -> Result<(), Failure> {
    let context = P::LAYOUT.context;
    let args = call.args;
    let tokens = |name: &str, default: usize| match args.number::<usize>(name)? {
        Some(n) if n > context => Err(Failure::usage(format!(
            "`{name} {n}`: the context has {context} tokens"
        ))),
        Some(n) => Ok(n),
        None => Ok(default.min(context)),
    };
    let depth = tokens("--depth", 0)?;
    let left = context - depth;
    let (prompt, decode) = (tokens("-p", 512.min(left))?, tokens("-n", 128.min(left))?);
    if prompt.max(decode) > left {
        return Err(Failure::usage(format!(
            "`--depth {depth}` leaves {left} tokens of the context"
        )));
    }
    let repetitions: usize = call.args.number("-r")?.unwrap_or(5);
    if repetitions == 0 || prompt + decode == 0 {
        return Err(Failure::usage(
            "nothing to measure: -r, and -p or -n, must be at least 1",
        ));
    }
    let mut runner = call.open::<P>()?;
    // A cache that was never touched is not in memory.
    runner.dirty(FILL);
    let prefill = |runner: &mut Runner<P>, ids: &[u32]| runner.prefill(ids).map(drop);
    let decode_all = |runner: &mut Runner<P>, ids: &[u32]| ids.iter().try_for_each(|&id| runner.decode(id).map(drop));
    let bodies: [(&'static str, usize, Body<P>); 2] = [("prefill", prompt, prefill), ("decode", decode, decode_all)];
    let mut speeds = Vec::new();
    let mut profile = Vec::new();
    for (name, tokens, work) in bodies.into_iter().filter(|body| body.1 > 0) {
        let ids = ids(tokens, P::LAYOUT.vocab);
        let work = |runner: &mut Runner<P>| {
            runner.pretend(depth)?;
            work(runner, &ids)
        };
        speeds.push(measure(&mut runner, repetitions, tokens, name, work)?);
        if call.args.has("--profile") {
            runner.profile();
            work(&mut runner)?;
            profile.extend(runner.take_profile().map(|profile| Section::of(name, tokens, &profile)));
        }
    }
    if call.args.has(JSON.name) {
        return call.print(&to_json(&runner, repetitions, &speeds, &profile));
    }
    let mut out = format!(
        "{}: {} threads, {}, {repetitions} repetitions\n\
         {:<8} {:>7} {:>12} {:>12} {:>12} {:>9} {:>10}\n",
        P::LAYOUT.model,
        runner.threads(),
        runner.isa(),
        "",
        "tokens",
        "median tok/s",
        "min",
        "max",
        "GB/s",
        "GFLOP/s",
    );
    for s in speeds {
        out += &format!(
            "{:<8} {:>7} {:>12.2} {:>12.2} {:>12.2} {:>9.2} {:>10.2}\n",
            s.name, s.tokens, s.median, s.min, s.max, s.gb_per_s, s.gflop_per_s
        );
    }
    profile.iter().for_each(|section| out += &section.to_string());
    call.print(&out)
}

/// What is measured, with the ids it is given.
type Body<P> = fn(&mut Runner<P>, &[u32]) -> Result<(), Error>;

fn to_json<P: Program>(runner: &Runner<P>, repetitions: usize, speeds: &[Speed], profile: &[Section]) -> String {
    Json::object(|json| {
        json.text("model", P::LAYOUT.model);
        json.text("isa", runner.isa());
        json.number("threads", runner.threads());
        json.number("repetitions", repetitions);
        for s in speeds {
            json.member(s.name, |json| {
                json.number("tokens", s.tokens);
                json.fraction("median_tok_per_s", s.median, 3);
                json.fraction("min_tok_per_s", s.min, 3);
                json.fraction("max_tok_per_s", s.max, 3);
                json.fraction("gb_per_s", s.gb_per_s, 3);
                json.fraction("gflop_per_s", s.gflop_per_s, 3);
                if let Some(section) = profile.iter().find(|section| section.name == s.name) {
                    section.to_json(json);
                }
            });
        }
    })
}

/// Ids from all over the vocabulary, the same every time.
fn ids(n: usize, vocab: usize) -> Vec<u32> {
    (0..n as u64)
        .map(|i| (i.wrapping_mul(2_654_435_761) % vocab as u64) as u32)
        .collect()
}

fn measure<P: Program>(
    runner: &mut Runner<P>,
    repetitions: usize,
    tokens: usize,
    name: &'static str,
    work: impl Fn(&mut Runner<P>) -> Result<(), Error>,
) -> Result<Speed, Error> {
    let mut rates = Vec::with_capacity(repetitions);
    for i in 0..=repetitions {
        let begin = Instant::now();
        work(runner)?;
        if i > 0 {
            rates.push(tokens as f64 / begin.elapsed().as_secs_f64());
        }
    }
    rates.sort_unstable_by(f64::total_cmp);
    let median = (rates[(rates.len() - 1) / 2] + rates[rates.len() / 2]) / 2.0;
    let (bytes, flops) = per_token(runner.layout(), name, tokens);
    Ok(Speed {
        name,
        tokens,
        median,
        min: rates[0],
        max: rates[rates.len() - 1],
        gb_per_s: median * bytes / 1e9,
        gflop_per_s: median * flops / 1e9,
    })
}

/// Bytes of weights and operations per token of `entry`, whose calls are as long as they can be: prefill reads the
/// weights once a chunk and needs the head once, decode both for every token.
fn per_token(layout: &Layout, entry: &str, tokens: usize) -> (f64, f64) {
    let (calls, heads) = if entry == "decode" {
        (tokens, tokens)
    } else {
        (tokens.div_ceil(layout.batch), 1)
    };
    let per_token = |calls: usize, heads: usize, value| {
        let total = layout.sum(entry, value) as f64 * calls as f64 + layout.sum("head", value) as f64 * heads as f64;
        total / tokens as f64
    };
    (
        per_token(calls, heads, |s| s.weight_bytes),
        per_token(tokens, heads, |s| s.flops_per_token),
    )
}
