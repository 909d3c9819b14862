//! What peers in Rust reach on this machine: `gemm` and `candle`, measured as `ckc bench kernels` and a runner's `bench`
//! measure this project.

mod kernels;
mod model;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Anything that keeps a measurement from being made.
type Error = Box<dyn std::error::Error>;

#[derive(Parser)]
#[command(version, about = "Measure the gemm crate and candle on this machine")]
struct Args {
    #[command(subcommand)]
    what: Measure,
}

#[derive(Subcommand)]
enum Measure {
    /// Matmuls over weights that stream from memory: f32 by gemm, f32 and quantised by candle
    Kernels {
        #[command(flatten)]
        how: How,
        /// Tokens of a call
        #[arg(long, value_name = "N", value_delimiter = ',', value_parser = extent, default_value = "1,512")]
        tokens: Vec<usize>,
    },
    /// A Llama model in a GGUF file, by candle-transformers
    Model {
        /// The file
        #[arg(value_name = "FILE.gguf")]
        file: PathBuf,
        #[command(flatten)]
        how: How,
        /// Tokens of prefill
        #[arg(short = 'p', value_name = "N", value_parser = extent, default_value_t = 512)]
        prompt: usize,
        /// Tokens of decode, from an empty cache
        #[arg(short = 'n', value_name = "N", value_parser = extent, default_value_t = 32)]
        decode: usize,
    },
}

/// How to measure.
#[derive(clap::Args)]
struct How {
    /// Threads [default: as many as the system offers]
    #[arg(long, value_name = "N", value_parser = extent)]
    threads: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl How {
    /// Sets the number of threads of everything that is measured, and says it.
    fn start(&self) -> usize {
        let threads = self
            .threads
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        for name in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"] {
            // SAFETY: called by `main` before anything starts a thread. Candle reads the number from nowhere else.
            unsafe { std::env::set_var(name, threads.to_string()) };
        }
        threads
    }
}

/// A number from 1 to a million or so: products of three of them stay far below 2^64.
fn extent(text: &str) -> Result<usize, String> {
    const MOST: usize = 1 << 20;
    let n = text.parse().ok().filter(|n| (1..=MOST).contains(n));
    n.ok_or_else(|| format!("a number from 1 to {MOST} is needed"))
}

fn run(what: &Measure) -> Result<String, Error> {
    match what {
        Measure::Kernels { how, tokens } => {
            let report = kernels::measure(how.start(), tokens)?;
            Ok(if how.json { json(&report)? } else { report.to_text() })
        }
        Measure::Model {
            file,
            how,
            prompt,
            decode,
        } => {
            let report = model::measure(file, how.start(), *prompt, *decode)
                .map_err(|e| format!("cannot measure {}: {e}", file.display()))?;
            Ok(if how.json { json(&report)? } else { report.to_text() })
        }
    }
}

/// Pretty, with a newline at the end.
fn json(report: &impl serde::Serialize) -> Result<String, Error> {
    Ok(serde_json::to_string_pretty(report)? + "\n")
}

fn main() -> ExitCode {
    match run(&Args::parse().what) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
