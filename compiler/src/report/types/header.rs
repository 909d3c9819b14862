//! What was compiled, by what, how.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Plan;
use crate::report::unique;

/// Whether a number says nothing.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What was compiled, by what, how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`super::SCHEMA`].
    pub schema: String,
    /// Version of the compiler.
    pub ckc_version: String,
    /// The model's name.
    pub model: String,
    /// SHA-256 of the canonical YAML, lower-case hex.
    pub yaml_sha256: String,
    /// What the program was made for, e.g. `any` or `x86_64`.
    pub target: String,
    /// What changes the layout besides the YAML.
    pub options: Options,
    /// What was chosen by the costs of kernels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub costs: Option<Costs>,
    /// The entries, in the order they are emitted.
    pub entries: Vec<Entry>,
}

/// The table of costs that counted, and the thresholds between kernels that follow from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// The table's machine, in words.
    pub machine: String,
    /// The instruction set that partitions were chosen and times predicted for.
    pub isa: String,
    /// Workers, likewise.
    pub workers: u64,
    /// By weight type; types that never take a kernel for many are left out.
    #[serde(deserialize_with = "unique::deserialize")]
    pub many_from: BTreeMap<String, ManyFrom>,
    /// Tokens from which on a matrix unit is used; absent if never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiles_from: Option<u64>,
}

/// Tokens from which on the kernel for many takes over, by instruction set; absent if never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManyFrom {
    /// On `avx2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avx2: Option<u64>,
    /// On `avx512`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avx512: Option<u64>,
}

impl ManyFrom {
    /// The thresholds that there are, each with the name of its instruction set.
    pub fn each(self) -> impl Iterator<Item = (&'static str, u64)> {
        let named = [("avx2", self.avx2), ("avx512", self.avx512)];
        named.into_iter().filter_map(|(isa, tokens)| Some((isa, tokens?)))
    }
}

/// What changes the layout besides the YAML.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// `infer` or `train`.
    pub mode: String,
    /// Upper bound of the sequence length, tokens.
    pub context: u64,
    /// Upper bound of the tokens in one call of `prefill`.
    pub batch: u64,
    /// Fusion flags that are allowed, in the order of their bits.
    pub fuse: Vec<String>,
    /// `packed` or `stride`.
    pub layout: String,
    /// Element type of the key/value cache.
    pub kv_dtype: String,
    /// Element type asked for at pack time, or `stored`.
    pub weights_dtype: String,
    /// Largest number of workers that the layout has room for.
    pub max_threads: u64,
    /// `canaries`, `poison`, `no_reuse`: what the program does to find faults of its own. Canaries are part of all sizes
    /// but those of tensors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub debug: Vec<String>,
}

/// One program over the shared state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// `prefill`, `decode`, `train_step`.
    pub name: String,
    /// Kernel calls.
    pub steps: u64,
    /// Barriers that all workers wait at, however many there are.
    pub barriers: u64,
    /// Barriers that are passed without waiting where the number of workers divides a number: see
    /// [`super::Barrier::unless`].
    #[serde(default, skip_serializing_if = "none")]
    pub barriers_unless: u64,
    /// The most bytes its steps need live at once in the regions that it shares with other entries.
    pub peak_bytes: u64,
    /// How its steps were ordered; absent when they stay in the source's order unsearched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<StepOrder>,
    /// Floating-point operations at the upper bounds of all symbols.
    pub flops: u64,
    /// Bytes read at the upper bounds of all symbols.
    pub bytes_read: u64,
    /// Bytes written at the upper bounds of all symbols.
    pub bytes_written: u64,
    /// Nanoseconds that its matmuls are expected to take at the upper bounds, on the machine of the table of costs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub predicted_ns: u64,
    /// How its part of the planned regions was laid out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
}

/// Whether a count is of nothing.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn none(count: &u64) -> bool {
    *count == 0
}

impl Entry {
    /// How many barriers, in words.
    pub fn barrier_words(&self) -> String {
        match self.barriers_unless {
            0 => format!("{} barriers", self.barriers),
            some => format!("{} barriers, {some} more unless workers divide heads", self.barriers),
        }
    }
}

/// How the steps of an entry were ordered. The bytes are those live by steps alone, without what barriers add.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepOrder {
    /// Whether it is another order than the source's.
    pub changed: bool,
    /// The most bytes live at once in the source's order.
    pub source_bound: u64,
    /// The most bytes live at once in this order.
    pub bound: u64,
    /// No order that the data allow has fewer.
    pub least: u64,
}
