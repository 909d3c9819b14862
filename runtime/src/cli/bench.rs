//! `bench`.

use std::time::Instant;

use super::args::Flag;
use super::profile::Section;
use super::{CHECK, Call, Failure, JSON, THREADS, WEIGHTS};
use crate::bench::{WAYS, Way};
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
    CEILING,
    Flag::value("-r", "N", "repetitions, after one that does not count [default: 5]"),
    JSON,
    THREADS,
    WEIGHTS,
    CHECK,
];

const CEILING: Flag = Flag::switch(
    "--ceiling",
    "read the weights after each decoded token and do nothing with them: how near decode comes",
);

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
    /// What `--ceiling` found.
    ceiling: Option<Ceiling>,
}

/// Decode beside reading the weights and nothing else, token by token in turn.
struct Ceiling {
    /// Bytes read a second, at the median, in the best way there is.
    gb_per_s: f64,
    /// Weights that decode reads a second as a part of that, in per cent, median of the repetitions.
    percent: f64,
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
    let way = call.args.has(CEILING.name).then(|| best_way(&mut runner)).transpose()?;
    let bodies: [(&'static str, usize, Body<P>); 2] = [("prefill", prompt, prefill), ("decode", decode, decode_each)];
    let mut speeds = Vec::new();
    let mut profile = Vec::new();
    for (name, tokens, work) in bodies.into_iter().filter(|body| body.1 > 0) {
        let ids = ids(tokens, P::LAYOUT.vocab);
        let work = |runner: &mut Runner<P>, way| {
            runner.pretend(depth)?;
            work(runner, &ids, way)
        };
        work(&mut runner, way)?;
        let laps = (0..repetitions)
            .map(|_| work(&mut runner, way))
            .collect::<Result<Vec<_>, _>>()?;
        speeds.push(Speed::of(name, tokens, &laps, runner.layout()));
        if call.args.has("--profile") {
            runner.profile();
            work(&mut runner, None)?;
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
        if let Some(ceiling) = s.ceiling {
            out += &format!(
                "  of {:.2} GB/s, which reading the weights alone reached in turn with it: {:.1} %\n",
                ceiling.gb_per_s, ceiling.percent
            );
        }
    }
    profile.iter().for_each(|section| out += &section.to_string());
    call.print(&out)
}

/// What is measured, with the ids it is given, and how the weights are read in between, if they are.
type Body<P> = fn(&mut Runner<P>, &[u32], Option<Way>) -> Result<Lap, Error>;

/// Seconds that one repetition took, and bytes a second that reading alone reached meanwhile.
struct Lap {
    seconds: f64,
    read: Option<f64>,
}

fn prefill<P: Program>(runner: &mut Runner<P>, ids: &[u32], _: Option<Way>) -> Result<Lap, Error> {
    let begin = Instant::now();
    runner.prefill(ids)?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Lap { seconds, read: None })
}

fn decode_each<P: Program>(runner: &mut Runner<P>, ids: &[u32], way: Option<Way>) -> Result<Lap, Error> {
    let mut seconds = 0.0;
    let (mut bytes, mut reading) = (0.0, 0.0);
    for &id in ids {
        let begin = Instant::now();
        runner.decode(id)?;
        seconds += begin.elapsed().as_secs_f64();
        if let Some(way) = way {
            let (read, seconds) = runner.read_weights(way)?;
            bytes += read as f64;
            reading += seconds;
        }
    }
    let read = way.map(|_| bytes / reading);
    Ok(Lap { seconds, read })
}

/// The best of three readings in each way.
fn best_way<P: Program>(runner: &mut Runner<P>) -> Result<Way, Error> {
    let mut best = (f64::INFINITY, WAYS[0]);
    for way in [WAYS; 3].concat() {
        let (_, seconds) = runner.read_weights(way)?;
        if seconds < best.0 {
            best = (seconds, way);
        }
    }
    Ok(best.1)
}

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
                if let Some(ceiling) = &s.ceiling {
                    json.fraction("read_gb_per_s", ceiling.gb_per_s, 3);
                    json.fraction("percent_of_read", ceiling.percent, 1);
                }
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

impl Speed {
    fn of(name: &'static str, tokens: usize, laps: &[Lap], layout: &Layout) -> Speed {
        let (bytes, flops) = per_token(layout, name, tokens);
        let rates: Vec<f64> = laps.iter().map(|lap| tokens as f64 / lap.seconds).collect();
        let reads: Option<Vec<f64>> = laps.iter().map(|lap| lap.read).collect();
        let middle = median(rates.clone());
        Speed {
            name,
            tokens,
            median: middle,
            min: rates.iter().copied().fold(f64::INFINITY, f64::min),
            max: rates.iter().copied().fold(0.0, f64::max),
            gb_per_s: middle * bytes / 1e9,
            gflop_per_s: middle * flops / 1e9,
            ceiling: reads.map(|reads| Ceiling {
                percent: median(
                    rates
                        .iter()
                        .zip(&reads)
                        .map(|(rate, read)| 100.0 * rate * bytes / read)
                        .collect(),
                ),
                gb_per_s: median(reads) / 1e9,
            }),
        }
    }
}

/// Of at least one number.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    (numbers[(numbers.len() - 1) / 2] + numbers[numbers.len() / 2]) / 2.0
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
