//! Fusion: one file per flag, one line in [`PASSES`], one reason enum.
//!
//! A pass rewrites values: it replaces ops by one op that is defined as their composition, so the verifier and the
//! interpreter check it like any other graph. It never looks at offsets, workers or instruction sets.
//!
//! # Precedence
//! Passes run in the order of [`PASSES`]. Norms are never contested: a projection that has taken its norm
//! (`NORM_QKV`, `NORM_MLP`) can still take the add or the embedding in front of it (`ADD_NORM`, `EMBED_NORM`), which
//! then becomes part of the same prologue. Only the MLP's activation has two claimants, and `MLP_GATE_UP` goes first:
//! it computes each activation once, where `MLP_ACT_DOWN` would compute it on every worker.

mod add_norm;
mod attn_proj;
mod embed_norm;
mod flags;
mod mlp_act_down;
mod mlp_gate_up;
mod norm_mlp;
mod norm_qkv;
mod qkv_rope;
mod rewrite;

use std::fmt;

use crate::glob;
use crate::graph::Graph;
pub use flags::{Flag, Flags};
use rewrite::Rewriter;

/// What the user allows: flags for the model, and for sites by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Allowed unless a site says otherwise.
    pub flags: Flags,
    /// Site patterns (`*` matches any run of characters) and what is allowed there; the last match counts.
    pub sites: Vec<(String, Flags)>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            flags: Flags::ALL,
            sites: Vec::new(),
        }
    }
}

impl Config {
    /// Whether `flag` is allowed at the site.
    pub fn allows(&self, flag: Flag, site: &str) -> bool {
        let set = self
            .sites
            .iter()
            .rev()
            .find(|(pattern, _)| glob::matches(pattern, site));
        set.map_or(self.flags, |(_, flags)| *flags).contains(flag)
    }
}

/// Why a site was left as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The tensor that would be fused away is read elsewhere.
    ConsumerOutside {
        /// The tensor.
        tensor: String,
        /// An op that reads it.
        consumer: String,
    },
    /// No kernel does this.
    NoKernel(String),
    /// The work is divided so that other workers need the tensor.
    PartitionNeedsBuffer {
        /// The tensor.
        tensor: String,
    },
    /// The tensor is an output of the program.
    RequestedOutput {
        /// The tensor.
        tensor: String,
    },
    /// A flag with precedence took the op.
    Claimed(Flag),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::ConsumerOutside { tensor, consumer } => {
                write!(f, "consumer outside: `{tensor}` is also read by `{consumer}`")
            }
            Reason::NoKernel(what) => write!(f, "no kernel: {what}"),
            Reason::PartitionNeedsBuffer { tensor } => {
                write!(
                    f,
                    "partition needs the buffer: workers read each other's part of `{tensor}`"
                )
            }
            Reason::RequestedOutput { tensor } => write!(f, "requested output: `{tensor}`"),
            Reason::Claimed(flag) => write!(f, "claimed by {flag}"),
        }
    }
}

/// What happened at one site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The flag.
    pub flag: Flag,
    /// The op at which the pattern is anchored, by its stable name.
    pub site: String,
    /// `Ok`: applied, with the tensors that are never written now. `Err`: refused.
    pub outcome: Result<Vec<String>, Reason>,
}

/// How the program that will run the graph divides its work: some fusions depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Division {
    /// Every worker takes some tokens: prefill.
    Tokens,
    /// Every worker takes some columns: decode.
    Columns,
}

/// Rewrites every site of one flag.
type Pass = fn(&mut Rewriter);

/// The passes, in order of precedence. Adding a fusion is one file and one line.
const PASSES: [(Flag, Pass); 8] = [
    (Flag::MlpGateUp, mlp_gate_up::run),
    (Flag::QkvRope, qkv_rope::run),
    (Flag::NormQkv, norm_qkv::run),
    (Flag::NormMlp, norm_mlp::run),
    (Flag::MlpActDown, mlp_act_down::run),
    (Flag::AttnProj, attn_proj::run),
    (Flag::EmbedNorm, embed_norm::run),
    (Flag::AddNorm, add_norm::run),
];

/// Runs the allowed passes on a lowered graph.
///
/// Returns the fused graph, every site in order of pass and program, and the graph after each pass that was allowed
/// (for the report's before and after).
pub fn fuse(graph: &Graph, config: &Config, division: Division) -> Fused {
    let mut rewriter = Rewriter::new(graph.clone(), config, division);
    let mut stages = Vec::new();
    for (flag, pass) in PASSES {
        rewriter.begin(flag);
        let before = rewriter.sites.len();
        pass(&mut rewriter);
        rewriter.end();
        if rewriter.sites[before..].iter().any(|s| s.outcome.is_ok()) {
            stages.push((flag, rewriter.graph.clone()));
        }
    }
    Fused {
        graph: rewriter.graph,
        sites: rewriter.sites,
        stages,
    }
}

/// What [`fuse`] made.
pub struct Fused {
    /// The fused graph.
    pub graph: Graph,
    /// Every site that a pass looked at.
    pub sites: Vec<Site>,
    /// The graph after each pass that changed it.
    pub stages: Vec<(Flag, Graph)>,
}
