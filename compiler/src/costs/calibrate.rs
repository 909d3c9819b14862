//! A table of this machine: every tier it can run, every weight type, four calls each; or some of them.

use ck_kernels::dtype::DType;
use ck_kernels::isa::{self, Choices};
use ck_runtime::bench::{Bench, Matmul};
use ck_runtime::{Config, Error};

use super::{Costs, Rate, Row, TIERS, kernels};

/// Outputs and inputs of the matrix: an MLP's of a model of a billion weights.
const MATRIX: (usize, usize) = (8192, 2048);
/// Tokens of the calls that tell the kernel for few: bytes count in one, operations in the other.
const FEW: (usize, usize) = (1, 64);
/// Tokens of the calls that tell the kernel for many: whole tiles of every tier.
const MANY: (usize, usize) = (16, 512);
/// Times that a call is measured; the best counts, because others are disturbed.
const TIMES: usize = 3;

/// What to measure.
#[derive(Clone, Debug, Default)]
pub struct What {
    /// Workers; as many as the system offers, if not said.
    pub threads: Option<usize>,
    /// A tier; all that this machine has, if not said.
    pub tier: Option<&'static str>,
    /// Weight types; all, if there are none, and all of a tier that has no rows yet.
    pub dtypes: Vec<DType>,
}

impl What {
    /// The rows to measure, tier by tier: those of tiers that this machine has.
    fn rows(&self, known: &Costs) -> Vec<(&'static str, Vec<DType>)> {
        let here = |tier: &&str| isa::supported().any(|isa| isa.name == *tier);
        let tiers: Vec<&'static str> = match self.tier {
            // Refused by whoever starts its workers, if it is not here.
            Some(tier) => vec![tier],
            None => TIERS.into_iter().filter(here).collect(),
        };
        let asked = |tier: &str, dtype: &DType| {
            kernels(tier, *dtype) != (false, false)
                && (self.dtypes.is_empty() || self.dtypes.contains(dtype) || known.rates(tier).is_none())
        };
        let rows = tiers.into_iter().map(|tier| {
            let dtypes = DType::ALL.into_iter().filter(|dtype| asked(tier, dtype));
            (tier, dtypes.collect::<Vec<_>>())
        });
        rows.filter(|(_, dtypes)| !dtypes.is_empty()).collect()
    }
}

/// Measures rows of this machine; the others are those of `known`. `progress` hears what comes next, how many rows are done
/// and how many there are.
///
/// # Errors
/// What the runtime refuses: threads, memory, a tier that is not here.
pub fn calibrate(known: &Costs, what: &What, progress: &mut dyn FnMut(&str, usize, usize)) -> Result<Costs, Error> {
    let rows = what.rows(known);
    let total = rows.iter().map(|(_, dtypes)| dtypes.len()).sum();
    let (mut costs, mut done) = (known.clone(), 0);
    for (tier, dtypes) in &rows {
        let config = Config {
            threads: what.threads,
            isa: Some((*tier).to_owned()),
            check: false,
        };
        let mut bench = Bench::new(&config, Choices::all_from(usize::MAX))?;
        costs.workers = bench.threads();
        costs.barrier_ns = (bench.barrier()?.p50 as f64).max(1.0);
        let mut rates = known.rates(tier).copied().unwrap_or_default();
        for dtype in dtypes {
            progress(&format!("{tier} {}", dtype.name()), done, total);
            rates[*dtype as usize] = row(&mut bench, tier, *dtype)?;
            done += 1;
        }
        costs.tiers.retain(|(name, _)| name != tier);
        costs.tiers.push((*tier, rates));
    }
    costs
        .tiers
        .sort_by_key(|(tier, _)| TIERS.iter().position(|name| name == tier));
    // The best one is the last that is here.
    let best = TIERS
        .into_iter()
        .rfind(|tier| costs.rates(tier).is_some() && isa::supported().any(|isa| isa.name == *tier));
    costs.isa = best.unwrap_or(costs.isa);
    if total > 0 {
        costs.machine = machine(&costs, &rows, known);
    }
    Ok(costs)
}

/// In words, what was measured, and whose the other rows are.
fn machine(costs: &Costs, rows: &[(&str, Vec<DType>)], known: &Costs) -> String {
    let all = |tier: &str| {
        let has = |dtype: &DType| kernels(tier, *dtype) != (false, false);
        DType::ALL.into_iter().filter(has).count()
    };
    let names = rows.iter().map(|(tier, dtypes)| {
        let types: Vec<&str> = dtypes.iter().map(|dtype| dtype.name()).collect();
        match types.len() == all(tier) {
            true => (*tier).to_owned(),
            false => format!("{tier} ({})", types.join(", ")),
        }
    });
    let names: Vec<String> = names.collect();
    let measured = format!("measured with {} workers: {}", costs.workers, names.join(", "));
    let whole = |tier: &str| {
        rows.iter()
            .any(|(name, dtypes)| *name == tier && dtypes.len() == all(tier))
    };
    if costs.tiers.iter().all(|(tier, _)| whole(tier)) {
        return measured;
    }
    format!("{measured}; the rest of: {}", known.machine)
}

fn row(bench: &mut Bench, tier: &str, dtype: DType) -> Result<Row, Error> {
    let (rows, cols) = MATRIX;
    let bytes = dtype.packed_bytes(rows, cols) as f64;
    let ops = |tokens: usize| (2 * rows * cols * tokens) as f64;
    let mut seconds = |many_from: usize, tokens: usize| -> Result<f64, Error> {
        bench.choose(Choices::all_from(many_from));
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
        let (one, tile) = (seconds(usize::MAX, FEW.0)?, seconds(usize::MAX, FEW.1)?);
        Some(rate(bytes / one, ops(FEW.1) / tile))
    } else {
        None
    };
    let many = if has_many {
        let (less, more) = (seconds(1, MANY.0)?, seconds(1, MANY.1)?);
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
    fn rows_are_those_asked_for_and_all_of_a_tier_that_has_none() {
        let known = Costs::standard();
        let rows = |tier, dtypes: &[DType]| {
            let what = What {
                tier,
                dtypes: dtypes.to_vec(),
                ..What::default()
            };
            what.rows(known)
        };
        let one = [DType::F32];
        assert_eq!(rows(Some("avx2"), &one), [("avx2", one.to_vec())]);
        assert_eq!(rows(Some("amx"), &one), []);
        assert_eq!(rows(Some("neon"), &one), [("neon", DType::ALL.to_vec())]);
        let all = rows(None, &[]);
        assert!(
            all.iter()
                .all(|(tier, _)| isa::supported().any(|isa| isa.name == *tier))
        );
        let said = machine(known, &rows(Some("avx512"), &[DType::Q4_0, DType::Q8_0]), known);
        assert!(
            said.starts_with("measured with 2 workers: avx512 (q8_0, q4_0); the rest of: two"),
            "{said}"
        );
        let every: Vec<_> = known.tiers.iter().flat_map(|(tier, _)| rows(Some(tier), &[])).collect();
        assert_eq!(
            machine(known, &every, known),
            "measured with 2 workers: avx2, avx512, amx"
        );
    }

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
