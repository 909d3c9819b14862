//! `ckc bench`: what this machine can do, and how near the kernels come.
//!
//! Measuring is the runtime's ([`ck_runtime::bench`]); here are the shapes, and the tables. Every speed stands beside the
//! ceiling it is up against, measured by the same workers just before.

use std::fmt::Write;

use ck_runtime::bench::{Attend, Bench, Ceilings, Matmul, Speed};
use ck_runtime::kernels::dtype::DType;
use ck_runtime::kernels::isa::Choices;
use ck_runtime::{Config, Error};
use serde::Serialize;

/// What kernels are measured at.
#[derive(Clone, Debug)]
pub struct Shapes {
    /// Types of weights.
    pub dtypes: Vec<DType>,
    /// Outputs and inputs of the matrices.
    pub matrices: Vec<(usize, usize)>,
    /// Rows of activations of a call.
    pub tokens: Vec<usize>,
    /// Tokens before the call, for attention.
    pub depths: Vec<usize>,
    /// Heads, key/value heads, elements of a head, for attention.
    pub heads: (usize, usize, usize),
    /// From how many tokens on which kernels are used.
    pub choices: Choices,
}

/// A machine's ceilings, in units that people read.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    isa: &'static str,
    threads: usize,
    read_gb_per_s: f64,
    float_gflop_per_s: f64,
    int8_gop_per_s: f64,
    /// If there is a matrix unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    tiles_gflop_per_s: Option<f64>,
    barrier_ns_p50: u64,
    barrier_ns_p99: u64,
}

/// A kernel at one shape.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    kernel: &'static str,
    dtype: &'static str,
    shape: String,
    tokens: usize,
    microseconds: f64,
    gb_per_s: f64,
    gop_per_s: f64,
    /// The higher of its shares of the ceilings that hold for it.
    percent: f64,
    of: &'static str,
}

/// What `ckc bench kernels` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    machine: Machine,
    kernels: Vec<Row>,
    /// What was asked for and not measured: a type whose rows cannot have that length, or more than fits the memory.
    left_out: Vec<String>,
}

impl Machine {
    fn new(bench: &Bench, ceilings: &Ceilings) -> Self {
        Self {
            isa: bench.isa(),
            threads: bench.threads(),
            read_gb_per_s: giga(ceilings.read),
            float_gflop_per_s: giga(ceilings.float),
            int8_gop_per_s: giga(ceilings.int8),
            tiles_gflop_per_s: ceilings.tiles.map(giga),
            barrier_ns_p50: ceilings.barrier.p50,
            barrier_ns_p99: ceilings.barrier.p99,
        }
    }
}

/// To three digits behind the point.
fn giga(x: f64) -> f64 {
    (x / 1e6).round() / 1e3
}

/// Measures the ceilings.
///
/// # Errors
/// What the runtime refuses: threads, instruction set, memory.
pub fn machine(config: &Config) -> Result<Machine, Error> {
    let mut bench = Bench::new(config, Choices::all_from(usize::MAX))?;
    let ceilings = bench.ceilings()?;
    Ok(Machine::new(&bench, &ceilings))
}

/// Measures the ceilings, then the kernels; `progress` hears of each row. Shapes that a type cannot have, or that are too
/// large for the memory of the bench, are left out, and named.
///
/// # Errors
/// What the runtime refuses: threads, instruction set, memory.
pub fn kernels(config: &Config, shapes: &Shapes, progress: &mut dyn FnMut(&Row)) -> Result<Report, Error> {
    let mut bench = Bench::new(config, shapes.choices)?;
    let ceilings = bench.ceilings()?;
    let mut kernels = Vec::new();
    let mut left_out = Vec::new();
    let mut add = |row: Row| {
        progress(&row);
        kernels.push(row);
    };
    for &dtype in &shapes.dtypes {
        for &(rows, cols) in &shapes.matrices {
            for &tokens in &shapes.tokens {
                let m = Matmul {
                    dtype,
                    rows,
                    cols,
                    tokens,
                };
                let shape = format!("{rows}x{cols}");
                let arithmetic = bench.arithmetic_of(dtype, tokens, &ceilings);
                match bench.matmul(&m)? {
                    Some(speed) => add(row(
                        "matmul",
                        dtype.name(),
                        shape,
                        tokens,
                        speed,
                        arithmetic,
                        ceilings.read,
                    )),
                    None => left_out.push(format!("matmul {} {shape}, {tokens} tokens", dtype.name())),
                }
            }
        }
    }
    let (heads, kv_heads, head_dim) = shapes.heads;
    for &depth in &shapes.depths {
        for &tokens in &shapes.tokens {
            let a = Attend {
                heads,
                kv_heads,
                head_dim,
                depth,
                tokens,
            };
            let shape = format!("{heads}/{kv_heads}x{head_dim} at {depth}");
            let float = ("float", ceilings.float);
            match bench.attention(&a)? {
                Some(speed) => add(row("attention", "f16", shape, tokens, speed, float, ceilings.read)),
                None => left_out.push(format!("attention {shape}, {tokens} tokens")),
            }
        }
    }
    Ok(Report {
        machine: Machine::new(&bench, &ceilings),
        kernels,
        left_out,
    })
}

fn row(
    kernel: &'static str,
    dtype: &'static str,
    shape: String,
    tokens: usize,
    speed: Speed,
    (name, arithmetic): (&'static str, f64),
    read: f64,
) -> Row {
    let (by_read, by_arithmetic) = (speed.bytes / read, speed.ops / arithmetic);
    let (share, of) = if by_read >= by_arithmetic {
        (by_read, "read")
    } else {
        (by_arithmetic, name)
    };
    Row {
        kernel,
        dtype,
        shape,
        tokens,
        microseconds: (speed.seconds * 1e7).round() / 10.0,
        gb_per_s: giga(speed.bytes),
        gop_per_s: giga(speed.ops),
        percent: (share * 1000.0).round() / 10.0,
        of,
    }
}

impl Machine {
    /// As lines.
    pub fn to_text(&self) -> String {
        format!(
            "{} threads, {}\n  read    {:>9.1} GB/s\n  float   {:>9.1} GFLOP/s\n  int8    {:>9.1} GOP/s\n{}  \
             barrier {:>9} ns median, {} ns p99\n",
            self.threads,
            self.isa,
            self.read_gb_per_s,
            self.float_gflop_per_s,
            self.int8_gop_per_s,
            self.tiles_gflop_per_s
                .map_or_else(String::new, |tiles| format!("  tiles   {tiles:>9.1} GFLOP/s\n")),
            self.barrier_ns_p50,
            self.barrier_ns_p99
        )
    }
}

impl Row {
    /// As a line.
    pub fn to_text(&self) -> String {
        format!(
            "{:<9} {:<5} {:<20} {:>6} {:>11.1} {:>9.1} {:>9.1} {:>6.1} % of {}\n",
            self.kernel,
            self.dtype,
            self.shape,
            self.tokens,
            self.microseconds,
            self.gb_per_s,
            self.gop_per_s,
            self.percent,
            self.of
        )
    }
}

impl Report {
    /// As a table.
    pub fn to_text(&self) -> String {
        let mut text = self.machine.to_text();
        let _ = writeln!(
            text,
            "{:<9} {:<5} {:<20} {:>6} {:>11} {:>9} {:>9}",
            "kernel", "type", "shape", "tokens", "us", "GB/s", "GOP/s"
        );
        self.kernels.iter().for_each(|row| text += &row.to_text());
        for what in &self.left_out {
            let _ = writeln!(
                text,
                "left out  {what}: rows are no whole blocks, or too large to measure"
            );
        }
        text
    }
}
