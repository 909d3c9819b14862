//! Why the interpreter refuses.

use std::fmt::{self, Display, Formatter};

use super::WeightError;
use crate::graph::verify::Violation;

/// Why a graph could not be interpreted.
#[derive(Debug)]
pub enum InterpretError {
    /// The graph breaks invariants of the IR.
    Invalid(Vec<Violation>),
    /// No tokens were given.
    Empty,
    /// A token id without a row in the embedding table.
    UnknownId {
        /// The op that looks it up.
        op: String,
        /// Which token of the call.
        token: usize,
        /// The id.
        id: u32,
        /// Rows of the table.
        vocabulary: usize,
    },
    /// More positions than the context holds.
    PastContext {
        /// Positions in use.
        position: usize,
        /// Tokens of the call.
        tokens: usize,
        /// Positions there are.
        context: usize,
    },
    /// As many values as the graph has inputs were due.
    InputCount {
        /// Values given.
        given: usize,
        /// Inputs of the graph.
        inputs: usize,
    },
    /// An input of another type or length than its tensor.
    Input {
        /// The tensor, with its shape.
        tensor: String,
        /// What was given.
        given: String,
    },
    /// A weight could not be read.
    Weight {
        /// The tensor in the weights file.
        source: String,
        /// Why.
        cause: WeightError,
    },
    /// A factor of a rotary embedding that frequencies cannot be divided by.
    RopeFactor {
        /// The tensor in the weights file.
        source: String,
        /// Which element.
        index: usize,
        /// Its value.
        value: f32,
    },
}

impl Display for InterpretError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            InterpretError::Invalid(violations) => {
                f.write_str("the graph is not valid")?;
                violations.iter().try_for_each(|violation| write!(f, "\n  {violation}"))
            }
            InterpretError::Empty => f.write_str("no tokens to run"),
            InterpretError::UnknownId {
                op,
                token,
                id,
                vocabulary,
            } => write!(f, "{op}: token {token} has id {id}, the table has {vocabulary} rows"),
            InterpretError::PastContext {
                position,
                tokens,
                context,
            } => write!(
                f,
                "{tokens} tokens at position {position} do not fit the context of {context}"
            ),
            InterpretError::InputCount { given, inputs } => write!(f, "{given} values for {inputs} inputs"),
            InterpretError::Input { tensor, given } => write!(f, "{given} for input {tensor}"),
            InterpretError::Weight { source, cause } => write!(f, "weight {source}: {cause}"),
            InterpretError::RopeFactor { source, index, value } => {
                write!(f, "rotary factor {index} of {source} is {value}")
            }
        }
    }
}

impl std::error::Error for InterpretError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            InterpretError::Weight { cause, .. } => Some(cause.as_ref()),
            _ => None,
        }
    }
}
