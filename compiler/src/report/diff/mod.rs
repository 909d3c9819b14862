//! Two reports compared by meaning: what a reviewer has to know, and not which lines differ.
//!
//! ```text
//! two reports ── layers ──> which layer is which; the old report in the new one's numbers
//!                             ├── totals ─> arena, regions, memories, entries, the peak and why it moved
//!                             └── rows ───> fusions, barriers, steps, tensors, weights: one [`Fact`] a pattern
//! ```
//!
//! Rows are matched by their stable names, after layers were matched by what they hold. Offsets are compared within
//! their region, so that a weight that grew does not make everything behind it look changed.

mod group;
mod layers;
mod memories;
mod names;
mod render;
mod rows;
mod totals;

use std::collections::BTreeMap;

use serde::Serialize;

use super::types::Report;
use layers::Layers;

/// Limits that a change may not pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffOptions {
    /// Bytes by which the arena may grow; without it any growth is reported and none is refused.
    pub max_arena_growth: Option<u64>,
}

/// What the comparison comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The arena did not grow.
    SameOrBetter,
    /// The arena grew, within the limits or without one.
    Larger,
    /// The arena grew by more than [`DiffOptions::max_arena_growth`], or a budget or a memory of the model is exceeded.
    OverBudget,
}

impl Verdict {
    /// The exit code of `ckc diff`.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::SameOrBetter | Self::Larger => 0,
            Self::OverBudget => 3,
        }
    }
}

/// The differences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// What it comes to.
    pub verdict: Verdict,
    /// Whether the reports are equal in every byte.
    pub identical: bool,
    /// The model of the new report.
    pub model: String,
    /// Bytes by which the arena may grow, if that was limited.
    pub max_arena_growth: Option<u64>,
    /// Arena bytes; always there.
    pub arena: Amount,
    /// The other totals that differ.
    pub totals: Vec<Amount>,
    /// Everything else that differs, most important first.
    pub facts: Vec<Fact>,
}

/// A number with another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// The field.
    pub name: String,
    /// Value before.
    pub old: u64,
    /// Value now.
    pub new: u64,
    /// ` B` for bytes.
    #[serde(skip)]
    pub unit: &'static str,
}

/// What a fact is about, most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A limit that is exceeded.
    Budget,
    /// What was asked for: options, model, compiler.
    Option,
    /// Layers that are new, gone or renumbered.
    Layer,
    /// What a memory has, or which memories there are.
    Memory,
    /// Tensors that live in another memory.
    Rehomed,
    /// The proof of a peak.
    Status,
    /// The fullest step.
    Peak,
    /// Applied before, not applied now.
    FusionLost,
    /// Applied now, not before.
    FusionGained,
    /// Workers wait where they did not.
    BarrierGained,
    /// Workers do not wait where they did.
    BarrierLost,
    /// A step's kernel.
    Kernel,
    /// How a step's work is divided.
    Partition,
    /// Steps that are gone.
    StepRemoved,
    /// Steps that are new.
    StepAdded,
    /// Steps that do, read or write something else.
    StepChanged,
    /// Tensors that take more bytes.
    TensorGrown,
    /// Tensors that are new.
    TensorAdded,
    /// Tensors that take fewer bytes.
    TensorShrunk,
    /// Tensors that are gone.
    TensorRemoved,
    /// Tensors that are something else in as many bytes.
    TensorChanged,
    /// Weights with other bytes, type or contents.
    WeightChanged,
    /// Weights that are new.
    WeightAdded,
    /// Weights that are gone.
    WeightRemoved,
    /// Offsets within a region.
    Moved,
    /// What is left.
    Note,
}

/// One thing that is true of one or many rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// What it is about.
    pub kind: Kind,
    /// In words.
    pub text: String,
    /// Rows that it speaks of.
    pub count: u64,
    /// Bytes that these rows take more or fewer; 0 where bytes are not the point.
    pub bytes: i64,
    /// The rows, entry first.
    pub names: Vec<String>,
}

impl Fact {
    fn new(kind: Kind, text: String) -> Self {
        Self {
            kind,
            text,
            count: 1,
            bytes: 0,
            names: Vec::new(),
        }
    }
}

/// Compares two reports.
pub fn diff(old: &Report, new: &Report, options: DiffOptions) -> Diff {
    let (mut old, mut new) = (old.clone(), new.clone());
    old.normalise();
    new.normalise();
    let arena = Amount::bytes("arena", old.totals.arena_bytes, new.totals.arena_bytes);
    let identical = old == new;
    let renamed = memories::rename(&mut old, &new);
    let mut facts = totals::limits(&old, &new, options);
    facts.extend(memories::limits(&old.totals, &new.totals));
    let verdict = match arena.new > arena.old {
        _ if !facts.is_empty() => Verdict::OverBudget,
        true => Verdict::Larger,
        false => Verdict::SameOrBetter,
    };
    let totals = totals::amounts(&old, &new);
    facts.extend(totals::settings(&old.header, &new.header));
    facts.extend(renamed);
    facts.extend(memories::facts(&old.totals, &new.totals));
    let layers = Layers::align(&old, &new);
    facts.extend(rows::layers(&old, &new, &layers));
    let before = layers.renamed(&old);
    facts.extend(totals::statuses(&old.totals, &new.totals));
    facts.extend(totals::peak(&before, &new));
    facts.extend(rows::facts(&before, &layers.without_added(&new), &new));
    if facts.is_empty() && totals.is_empty() && arena.old == arena.new && !identical {
        let about = if old.header.yaml_sha256 == new.header.yaml_sha256 {
            "only details of the report differ"
        } else {
            "the description was edited without effect on the layout"
        };
        facts.push(Fact::new(Kind::Note, about.to_owned()));
    }
    facts.sort_by_key(|f| f.kind);
    Diff {
        verdict,
        identical,
        model: new.header.model,
        max_arena_growth: options.max_arena_growth,
        arena,
        totals,
        facts,
    }
}

impl Diff {
    /// What the comparison comes to.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The comparison as JSON, newline at the end.
    pub fn to_json(&self) -> String {
        // Plain structs with string keys: serialising them has no way to fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl Amount {
    fn bytes(name: impl Into<String>, old: u64, new: u64) -> Self {
        Self {
            name: name.into(),
            old,
            new,
            unit: " B",
        }
    }

    fn count(name: impl Into<String>, old: u64, new: u64) -> Self {
        Self {
            unit: "",
            ..Self::bytes(name, old, new)
        }
    }
}

/// Pairs the values of two maps by key; `None` where a map lacks the key.
fn paired<'a, K: Ord, V>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> Vec<(&'a K, Option<&'a V>, Option<&'a V>)> {
    let mut keys: Vec<&K> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().map(|k| (k, old.get(k), new.get(k))).collect()
}
