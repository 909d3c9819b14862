//! Decisions: small sums over a [`Costs`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ck_kernels::dtype::DType;
use ck_kernels::isa::Choices;
use ck_kernels::partition::Axis;

use super::{Costs, Rate, Row};
use crate::fuse::Division;
use crate::graph::{Graph, Op, OpKind, Source, Weight};
use crate::schedule::cost::matrices;

/// Tokens that a kernel for many multiplies at once, by tier.
fn tile(tier: &str) -> usize {
    match tier {
        "avx2" => 4,
        "amx" => 32,
        _ => 8,
    }
}

/// Which of a tier's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// That for few tokens.
    Few,
    /// That for many.
    Many,
    /// The matrix unit.
    Tiles,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Few => "few",
            Way::Many => "many",
            Way::Tiles => "tiles",
        })
    }
}

/// What the matmuls of a step are expected to do on the table's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predicted {
    /// The kernels that they take.
    pub ways: BTreeSet<Way>,
    /// How long they take.
    pub nanoseconds: u64,
}

/// Divisions of a step, as [`crate::schedule`] cuts them.
const TOKENS: Axis = Axis::Tokens { granule: 4 };
const COLUMNS: Axis = Axis::Columns { granule: 32 };

/// What another partition has to save: by less, they are equal when measured.
const MARGIN: f64 = 0.1;

/// The most tokens that thresholds look at: those of a large call.
const MOST: usize = 512;

/// What is left within a program of the operations a second that the kernel for few tokens reaches alone, where there is one
/// for many as well.
///
/// Alone, it takes one matrix again and again. In a program it unpacks one matrix after the other, anew for each tile of 8
/// tokens, and meets activations that other steps have evicted from the caches; the kernel for many unpacks once for 64
/// tokens and loses nothing. The number is the one with the least squares over seven types of weights and 32, 48 and 64
/// tokens of a worker on `avx512`, where the table as it is measured is wrong by 7.4 % in the mean, and with it by 4.4 %:
/// less than what the machine varies by. docs/performance.md has the measurements.
pub(super) const WITHIN: f64 = 0.93;

/// Nanoseconds of `n` tokens with `elements` weights in `bytes` on the kernel for few: a tile after the other.
fn few(rate: Rate, bytes: f64, elements: f64, n: usize) -> f64 {
    let pass = |tokens: usize| (bytes / rate.gb_per_s).max(2.0 * elements * tokens as f64 / rate.gop_per_s);
    let rest = [4, 2, 1].into_iter().filter(|tile| n & tile != 0).map(pass);
    (n / 8) as f64 * pass(8) + rest.sum::<f64>()
}

/// The same on the kernel for many.
fn many(rate: Rate, tile: usize, bytes: f64, elements: f64, n: usize) -> f64 {
    bytes / rate.gb_per_s + 2.0 * elements * n.next_multiple_of(tile) as f64 / rate.gop_per_s
}

/// The number of tokens from which on the second of two costs is taken where that loses least over all numbers up to
/// [`MOST`], each loss counted in parts of the better cost; `usize::MAX` if that is none of them.
fn threshold(costs: impl Fn(usize) -> (f64, f64)) -> usize {
    let loss: Vec<(f64, f64)> = (1..=MOST)
        .map(|n| {
            let (first, second) = costs(n);
            let best = first.min(second).max(f64::MIN_POSITIVE);
            (first / best, second / best)
        })
        .collect();
    let total = |from: usize| -> f64 {
        let (below, above) = loss.split_at(from - 1);
        below.iter().map(|l| l.0).sum::<f64>() + above.iter().map(|l| l.1).sum::<f64>()
    };
    let best = (1..=MOST + 1).min_by(|a, b| total(*a).total_cmp(&total(*b)));
    best.filter(|from| *from <= MOST).unwrap_or(usize::MAX)
}

impl Row {
    /// What the kernel for few tokens reaches within a program.
    fn within(&self) -> Option<Rate> {
        let part = if self.many.is_some() { WITHIN } else { 1.0 };
        self.few.map(|rate| Rate {
            gop_per_s: part * rate.gop_per_s,
            ..rate
        })
    }
}

impl Costs {
    /// From how many tokens on a tier's kernel for many pays.
    fn many_from(&self, tier: &str, dtype: DType) -> usize {
        let Some(row) = self.rates(tier).map(|rates| rates[dtype as usize]) else {
            return usize::MAX;
        };
        let (Some(a), Some(b)) = (row.within(), row.many) else {
            return usize::MAX;
        };
        let bytes = dtype.block_bytes() as f64 / dtype.block_len() as f64;
        threshold(|n| (few(a, bytes, 1.0, n), many(b, tile(tier), bytes, 1.0, n)))
    }

    /// What a program with these weights takes: types, and elements of each.
    pub fn choices(&self, weights: &[(DType, usize)]) -> Choices {
        let many = |tier| DType::ALL.map(|dtype| self.many_from(tier, dtype));
        let choices = Choices {
            avx2: many("avx2"),
            avx512: many("avx512"),
            tiles: usize::MAX,
        };
        let total = |tier: &str, tokens: usize| -> f64 {
            let each = weights.iter().filter_map(|&(dtype, elements)| {
                let elements = elements as f64;
                let bytes = elements * dtype.block_bytes() as f64 / dtype.block_len() as f64;
                self.kernel(tier, &choices, dtype, bytes, elements, tokens)
            });
            each.map(|(_, nanoseconds)| nanoseconds).sum()
        };
        let tiles = threshold(|n| {
            let tokens = self.share(n);
            (total("avx512", tokens), total("amx", tokens))
        });
        Choices { tiles, ..choices }
    }

    /// The types and sizes of a graph's matrices, for [`Costs::choices`].
    pub fn choices_of(&self, graph: &Graph) -> Choices {
        let mut weights: BTreeMap<DType, usize> = BTreeMap::new();
        for weight in graph.weights.iter().filter(|w| !w.vector) {
            *weights.entry(weight.dtype).or_default() += weight.rows * weight.cols;
        }
        self.choices(&weights.into_iter().collect::<Vec<_>>())
    }

    /// The most tokens of a worker, of `n` divided by tokens.
    fn share(&self, n: usize) -> usize {
        let share = |ith| TOKENS.share(n, 0, ith, self.workers).tokens.len();
        (0..self.workers).map(share).max().unwrap_or(n)
    }

    /// The kernel that a tier takes for so many tokens of a worker, and its nanoseconds; the matrix unit, whatever their
    /// number.
    fn kernel(
        &self,
        tier: &str,
        choices: &Choices,
        dtype: DType,
        bytes: f64,
        elements: f64,
        n: usize,
    ) -> Option<(Way, f64)> {
        if tier == "amx" {
            return match self.rates(tier)?[dtype as usize].many {
                Some(rate) => Some((Way::Tiles, many(rate, tile(tier), bytes, elements, n))),
                // Types that have no place on tiles.
                None => self.kernel("avx512", choices, dtype, bytes, elements, n),
            };
        }
        let row = self.rates(tier)?[dtype as usize];
        match row.many.filter(|_| n >= choices.many_from(tier, dtype)) {
            Some(rate) => Some((Way::Many, many(rate, tile(tier), bytes, elements, n))),
            None => Some((Way::Few, few(row.within()?, bytes, elements, n))),
        }
    }
}

/// A table, and what a program takes by it.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'a> {
    /// The table.
    pub costs: &'a Costs,
    /// Thresholds between kernels.
    pub choices: Choices,
}

impl Chosen<'_> {
    /// Nanoseconds of a matrix with `n` tokens, divided by `axis`.
    ///
    /// By columns, each worker has a part of the weights and all tokens. By tokens, each has its tokens and all weights, and
    /// a worker's part of the rates: as many passes as there are workers.
    fn matrix(&self, weight: &Weight, axis: Axis, n: usize) -> Option<(Way, f64)> {
        let costs = self.costs;
        let (bytes, elements) = (
            weight.dtype.packed_bytes(weight.rows, weight.cols) as f64,
            (weight.rows * weight.cols) as f64,
        );
        let (tokens, times) = match axis {
            Axis::Tokens { .. } => (costs.share(n), costs.workers as f64),
            Axis::Columns { .. } | Axis::Heads => (n, 1.0),
            Axis::Serial => (n, costs.workers as f64),
        };
        let tier = match costs.isa {
            "amx" if n < self.choices.tiles => "avx512",
            isa => isa,
        };
        let (way, nanoseconds) = costs.kernel(tier, &self.choices, weight.dtype, bytes, elements, tokens)?;
        Some((way, times * nanoseconds))
    }

    /// What the matmuls of an op are expected to take; `None` if there are none, or no rates for them.
    pub fn predict(&self, graph: &Graph, op: &Op, axis: Axis) -> Option<Predicted> {
        let (ways, nanoseconds) = self.sum(graph, op, axis)?;
        Some(Predicted {
            ways,
            nanoseconds: nanoseconds.round() as u64,
        })
    }

    fn sum(&self, graph: &Graph, op: &Op, axis: Axis) -> Option<(BTreeSet<Way>, f64)> {
        let (mut ways, mut sum) = (BTreeSet::new(), 0.0);
        for weight in matrices(op) {
            let weight = graph.weight(*weight);
            if !weight.vector {
                let (way, nanoseconds) = self.matrix(weight, axis, graph.batch)?;
                ways.insert(way);
                sum += nanoseconds;
            }
        }
        (!ways.is_empty()).then_some((ways, sum))
    }

    /// How the work of an op is divided where the entry is divided by tokens: by columns if that saves a [`MARGIN`] and the
    /// barriers before and after it, and its rows are there already. One that makes its rows (a norm, attention) owns
    /// them, and would have to make all of them on every worker.
    pub fn division(&self, graph: &Graph, op: &Op) -> Division {
        let rows_are_there = match &op.kind {
            OpKind::Linear { .. } => true,
            OpKind::Project { source, .. } | OpKind::ProjectGlu { source, .. } => *source == Source::Rows,
            _ => false,
        };
        let time = |axis| self.sum(graph, op, axis).map(|(_, nanoseconds)| nanoseconds);
        match (time(TOKENS), time(COLUMNS)) {
            (Some(a), Some(b)) if rows_are_there && b + 2.0 * self.costs.barrier_ns < (1.0 - MARGIN) * a => {
                Division::Columns
            }
            _ => Division::Tokens,
        }
    }
}
