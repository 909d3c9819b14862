//! A table of this machine: every tier it can run, every weight type, four calls each.

use ck_kernels::dtype::DType;
use ck_kernels::isa::{self, Choices};
use ck_runtime::bench::{Bench, Matmul};
use ck_runtime::{Config, Error};

use super::{Costs, Rate, Rates, Row, TIERS, kernels};

/// Outputs and inputs of the matrix: an MLP's of a model of a billion weights.
const MATRIX: (usize, usize) = (8192, 2048);
/// Tokens of the calls that tell the kernel for few: bytes count in one, operations in the other.
const FEW: (usize, usize) = (1, 64);
/// Tokens of the calls that tell the kernel for many: whole tiles of every tier.
const MANY: (usize, usize) = (16, 512);
/// Times that a call is measured; the best counts, because others are disturbed.
const TIMES: usize = 3;

/// Measures every tier of this machine; rows of the others are those of `known`. `progress` hears what comes next, how many
/// rows are done and how many there are.
///
/// # Errors
/// What the runtime refuses: threads, memory.
pub fn calibrate(
    known: &Costs,
    threads: Option<usize>,
    progress: &mut dyn FnMut(&str, usize, usize),
) -> Result<Costs, Error> {
    let here = |tier: &str| isa::supported().any(|isa| isa.name == tier);
    let tiers: Vec<&'static str> = TIERS.into_iter().filter(|tier| here(tier)).collect();
    let total = tiers.len() * DType::ALL.len();
    let mut costs = known.clone();
    for (done, tier) in tiers.iter().enumerate() {
        let config = Config {
            threads,
            isa: Some((*tier).to_owned()),
            check: false,
        };
        let mut bench = Bench::new(&config, from(usize::MAX))?;
        costs.workers = bench.threads();
        costs.barrier_ns = (bench.barrier()?.p50 as f64).max(1.0);
        let mut rates = Rates::default();
        for (at, dtype) in DType::ALL.into_iter().enumerate() {
            progress(&format!("{tier} {}", dtype.name()), done * DType::ALL.len() + at, total);
            rates[dtype as usize] = row(&mut bench, tier, dtype)?;
        }
        costs.tiers.retain(|(name, _)| name != tier);
        costs.tiers.push((tier, rates));
    }
    // The best one is the last that is here.
    if let Some(best) = TIERS.into_iter().rfind(|tier| tiers.contains(tier)) {
        costs.isa = best;
        costs.machine = format!("measured with {} workers, {best}", costs.workers);
    }
    costs
        .tiers
        .sort_by_key(|(tier, _)| TIERS.iter().position(|name| name == tier));
    Ok(costs)
}

/// Kernels for many from that number of tokens on.
fn from(tokens: usize) -> Choices {
    Choices {
        many: [tokens; DType::ALL.len()],
        tiles: tokens,
    }
}

fn row(bench: &mut Bench, tier: &str, dtype: DType) -> Result<Row, Error> {
    let (rows, cols) = MATRIX;
    let bytes = dtype.packed_bytes(rows, cols) as f64;
    let ops = |tokens: usize| (2 * rows * cols * tokens) as f64;
    let mut seconds = |choices: Choices, tokens: usize| -> Result<f64, Error> {
        bench.choose(choices);
        let matmul = Matmul {
            dtype,
            rows,
            cols,
            tokens,
        };
        let mut best = f64::INFINITY;
        for _ in 0..TIMES {
            // The matrix has whole blocks of every type, and fits.
            best = bench.matmul(&matmul)?.map_or(best, |speed| best.min(speed.seconds));
        }
        Ok(best)
    };
    let (has_few, has_many) = kernels(tier, dtype);
    let few = if has_few {
        let (one, tile) = (seconds(from(usize::MAX), FEW.0)?, seconds(from(usize::MAX), FEW.1)?);
        Some(rate(bytes / one, ops(FEW.1) / tile))
    } else {
        None
    };
    let many = if has_many {
        let (less, more) = (seconds(from(1), MANY.0)?, seconds(from(1), MANY.1)?);
        Some(line((MANY.0 as f64, less), (MANY.1 as f64, more), bytes, ops(1)))
    } else {
        None
    };
    Ok(Row { few, many })
}

/// The rates that two calls' `(tokens, seconds)` lie on: a fixed time for the bytes, and one a token. Noise may make either
/// vanish; neither takes less than a hundredth of its call.
fn line(less: (f64, f64), more: (f64, f64), bytes: f64, ops: f64) -> Rate {
    let token = ((more.1 - less.1) / (more.0 - less.0)).max(more.1 / more.0 / 100.0);
    let fixed = (less.1 - less.0 * token).max(less.1 / 100.0);
    rate(bytes / fixed, ops / token)
}

/// In the table's units, to a tenth.
fn rate(bytes_per_s: f64, ops_per_s: f64) -> Rate {
    let giga = |x: f64| (x / 1e8).round().max(1.0) / 10.0;
    Rate {
        gb_per_s: giga(bytes_per_s),
        gop_per_s: giga(ops_per_s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_calls_tell_what_is_fixed_and_what_each_token_takes() {
        // 1 ms for 10 MB, 0.01 ms for a token of a million operations.
        let at = |tokens: f64| (tokens, 1e-3 + tokens * 1e-5);
        let made = line(at(16.0), at(64.0), 1e7, 1e6);
        assert_eq!(
            made,
            Rate {
                gb_per_s: 10.0,
                gop_per_s: 100.0
            }
        );
        // Noise: the larger call was the faster one.
        let odd = line((16.0, 2e-3), (64.0, 1e-3), 1e7, 1e6);
        assert!(odd.gb_per_s > 0.0 && odd.gop_per_s.is_finite(), "{odd:?}");
    }
}
