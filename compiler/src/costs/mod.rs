//! What kernels cost on a machine, and what follows from it: which kernel, and which partition.
//!
//! A [`Costs`] is one small table ([`table`] reads and writes its YAML; `default.yaml` is the one that counts unless
//! `--costs` names another), with two kinds of rates for each tier and weight type:
//! - `few`: the kernel that unpacks weights as they come from memory. It takes tiles of 8, 4, 2 and 1 tokens, each of which
//!   passes all weights: `max(bytes / gb_per_s, operations / gop_per_s)`. Within a program, where there is another kernel
//!   for many, a part of these operations is left: `choose.rs` says which and why.
//! - `many`: the kernel that unpacks weights for many tokens at once and then multiplies whole tiles of them:
//!   `bytes / gb_per_s` a call, and `operations / gop_per_s`, tiles filled up.
//!
//! Rates are those of all workers together. What is made of them is in [`choose`]: thresholds between kernels, which are
//! constants of the program, the partition of a step, and the time that the report predicts. Nothing here measures or
//! looks at the machine that compiles.

pub mod calibrate;
mod choose;
mod table;

use std::sync::LazyLock;

use ck_kernels::dtype::DType;

pub use choose::{Chosen, Predicted, Way};
pub use table::{read, schema, write};

/// The committed table.
const DEFAULT: &str = include_str!("default.yaml");

/// Tiers that may have rows, in the order of the file. Scalar code is a meaning, not a speed.
pub const TIERS: [&str; 5] = ["avx2", "avx512", "amx", "neon", "dotprod"];

/// Tiers that every table has: a program may meet them, and the thresholds between their kernels are its constants.
const NEEDED: [&str; 3] = ["avx2", "avx512", "amx"];

/// What kernels cost on a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    /// What machine that is, in words.
    pub machine: String,
    /// The tier that partitions are chosen and times predicted for.
    pub isa: &'static str,
    /// Workers that the rates are those of.
    pub workers: usize,
    /// Nanoseconds of a barrier.
    pub barrier_ns: f64,
    /// Rates by tier, in the order of [`TIERS`].
    pub tiers: Vec<(&'static str, Rates)>,
}

/// A tier's rates by [`DType`].
pub type Rates = [Row; DType::ALL.len()];

/// The kernels of a tier for a weight type.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    /// For few tokens.
    pub few: Option<Rate>,
    /// For many tokens.
    pub many: Option<Rate>,
}

/// What a kernel reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Packed weights read, or unpacked, a second.
    pub gb_per_s: f64,
    /// Operations a second, two a multiply-add.
    pub gop_per_s: f64,
}

/// Which kernels a tier has for a weight type: for few tokens, for many. Few tokens meet no tiles: they are AVX-512's.
pub fn kernels(tier: &str, dtype: DType) -> (bool, bool) {
    match tier {
        "avx2" | "avx512" => (true, dtype.quantised()),
        "amx" => (false, dtype.quantised() || dtype == DType::BF16),
        _ => (true, false),
    }
}

impl Costs {
    /// The committed table.
    ///
    /// # Panics
    /// If it has mistakes: a test reads it.
    pub fn standard() -> &'static Costs {
        static COSTS: LazyLock<Costs> = LazyLock::new(|| {
            let (costs, problems) = table::parse("default.yaml", DEFAULT);
            assert!(problems.is_empty(), "{problems:?}");
            costs.expect("no problems")
        });
        &COSTS
    }

    /// The rates of a tier.
    fn rates(&self, tier: &str) -> Option<&Rates> {
        self.tiers
            .iter()
            .find(|(name, _)| *name == tier)
            .map(|(_, rates)| rates)
    }
}

#[cfg(test)]
mod tests;
