//! What a violation is.

use std::fmt::{self, Display, Formatter};

use crate::graph::Op;

macro_rules! rules {
    ($($(#[$doc:meta])* $rule:ident),+ $(,)?) => {
        /// An invariant of the IR.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rule {
            $($(#[$doc])* $rule,)+
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &[Rule] = &[$(Rule::$rule),+];
        }
    };
}

rules! {
    /// Every id names an entry of its table.
    IdRange,
    /// As many operands, weights and outputs as the kind takes.
    Arity,
    /// A tensor is written by at most one op, once; inputs of the graph by none.
    WrittenTwice,
    /// A tensor is written, or an input, before it is read.
    ReadBeforeWrite,
    /// What an op overwrites is read by no op after it and kept by nobody.
    Clobbered,
    /// Rows agree; only `select_row` goes from `Tokens` to `Selected`; positions are known only of `Tokens`.
    Rows,
    /// Element types of activations: ids are u32, Q8 comes from `quantize` and is read by projections.
    ActType,
    /// Columns of tensors agree.
    Cols,
    /// A weight's shape agrees with the tensors around it.
    WeightShape,
    /// Norms and biases are f32 vectors, everything else is a matrix of whole blocks; Q8 rows meet quantised matrices.
    WeightType,
    /// Query heads, key/value heads and their elements divide as they must.
    Heads,
    /// A rotary table is well defined and fits the heads that it rotates.
    Rope,
    /// Each cache is written once as keys and once as values.
    CacheWrites,
    /// A cache is attended after it was written, and is attended.
    CacheReads,
    /// Every op has a live output or an effect.
    Dead,
    /// Every weight and every rotary table is used.
    Unused,
    /// Outputs exist, and are written.
    Outputs,
    /// Names are there, and unique.
    Names,
    /// Numbers that are no shapes are finite and in their domain.
    Parameter,
    /// Only of lowered graphs: each op is what a kernel computes.
    Lowered,
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// The invariant.
    pub rule: Rule,
    /// What breaks it: `op layers.0.q (linear)`, `tensor layers.0.q f32[T,64]`.
    pub place: String,
    /// How, with names and shapes.
    pub detail: String,
}

impl Display for Violation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.detail)
    }
}

impl std::error::Error for Violation {}

/// Violations being collected.
#[derive(Default)]
pub(super) struct Violations(Vec<Violation>);

impl Violations {
    pub(super) fn op(&mut self, rule: Rule, op: &Op, detail: String) {
        let place = format!("op {} ({})", op.name, op.kind.name());
        self.at(rule, place, detail);
    }

    pub(super) fn at(&mut self, rule: Rule, place: String, detail: String) {
        self.0.push(Violation { rule, place, detail });
    }

    pub(super) fn into_result(self) -> Result<(), Vec<Violation>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}
