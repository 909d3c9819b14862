//! What every kind of op takes, gives and does to state: one table for the verifier, the interpreter and the passes.

use super::{Attention, CacheId, OpKind, Part, RopeId, Sink, Source, WeightId};

/// How many operands and results an op has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arity {
    /// Tensor operands.
    pub inputs: usize,
    /// Weight operands.
    pub weights: usize,
    /// Tensors defined.
    pub outputs: usize,
}

impl Arity {
    const fn new(inputs: usize, weights: usize, outputs: usize) -> Arity {
        Arity {
            inputs,
            weights,
            outputs,
        }
    }

    fn plus(self, weights: usize, outputs: usize) -> Arity {
        Arity::new(self.inputs, self.weights + weights, self.outputs + outputs)
    }
}

/// What an op does to the KV caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The keys of the call's tokens join the cache.
    WriteKeys(CacheId),
    /// The values of the call's tokens join the cache.
    WriteValues(CacheId),
    /// The cache is attended.
    Read(CacheId),
}

impl Effect {
    /// The cache concerned.
    pub fn cache(self) -> CacheId {
        match self {
            Effect::WriteKeys(cache) | Effect::WriteValues(cache) | Effect::Read(cache) => cache,
        }
    }
}

impl Source {
    /// Operands of the prologue itself; its weights and outputs come before those of the matrices.
    pub fn arity(&self) -> Arity {
        match self {
            Source::Rows => Arity::new(1, 0, 0),
            Source::Norm { .. } => Arity::new(1, 1, 0),
            Source::AddNorm { .. } => Arity::new(2, 1, 1),
            Source::EmbedNorm { .. } => Arity::new(1, 2, 1),
            Source::Glu { .. } => Arity::new(2, 0, 0),
        }
    }

    /// The name used in dumps and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Source::Rows => "rows",
            Source::Norm { .. } => "norm",
            Source::AddNorm { .. } => "add_norm",
            Source::EmbedNorm { .. } => "embed_norm",
            Source::Glu { .. } => "glu",
        }
    }
}

impl Sink {
    /// Whether the part's outputs are a tensor of the graph.
    pub fn stores(&self) -> bool {
        matches!(self, Sink::Store | Sink::Rope(_))
    }

    /// The rotation, if any.
    pub fn rope(&self) -> Option<RopeId> {
        match *self {
            Sink::Rope(rope) | Sink::RopeKeys(rope, _) => Some(rope),
            Sink::Store | Sink::Values(_) => None,
        }
    }

    /// The cache it writes, if any.
    pub fn effect(&self) -> Option<Effect> {
        match *self {
            Sink::RopeKeys(_, cache) => Some(Effect::WriteKeys(cache)),
            Sink::Values(cache) => Some(Effect::WriteValues(cache)),
            Sink::Store | Sink::Rope(_) => None,
        }
    }
}

impl Part {
    /// Weights of the part: the matrix, and its bias.
    pub fn weights(&self) -> usize {
        1 + usize::from(self.bias)
    }
}

impl OpKind {
    /// The name used in dumps and messages.
    pub fn name(&self) -> &'static str {
        match self {
            OpKind::Embedding => "embedding",
            OpKind::RmsNorm { .. } => "rmsnorm",
            OpKind::Linear { .. } => "linear",
            OpKind::Rope(_) => "rope",
            OpKind::Attention(_) => "attention",
            OpKind::Glu { .. } => "glu",
            OpKind::Add => "add",
            OpKind::SelectRow => "select_row",
            OpKind::Quantize => "quantize",
            OpKind::CacheKeys(_) => "cache_keys",
            OpKind::CacheValues(_) => "cache_values",
            OpKind::Attend(_) => "attend",
            OpKind::EmbedNorm { .. } => "embed_norm",
            OpKind::AddNorm { .. } => "add_norm",
            OpKind::Project { .. } => "project",
            OpKind::ProjectGlu { .. } => "project_glu",
            OpKind::AttendProject { .. } => "attend_project",
        }
    }

    /// How many operands and results the op has.
    pub fn arity(&self) -> Arity {
        match self {
            OpKind::Embedding | OpKind::RmsNorm { .. } => Arity::new(1, 1, 1),
            OpKind::Linear { bias } | OpKind::AttendProject { bias, .. } => Arity::new(1, 1 + usize::from(*bias), 1),
            OpKind::Rope(_) | OpKind::SelectRow | OpKind::Quantize | OpKind::Attend(_) => Arity::new(1, 0, 1),
            OpKind::Attention(_) => Arity::new(3, 0, 1),
            OpKind::Glu { .. } | OpKind::Add => Arity::new(2, 0, 1),
            OpKind::CacheKeys(_) | OpKind::CacheValues(_) => Arity::new(1, 0, 0),
            OpKind::EmbedNorm { .. } => Arity::new(1, 2, 2),
            OpKind::AddNorm { .. } => Arity::new(2, 1, 2),
            OpKind::Project { source, parts } => source.arity().plus(
                parts.iter().map(Part::weights).sum(),
                parts.iter().filter(|part| part.sink.stores()).count(),
            ),
            OpKind::ProjectGlu { source, .. } => source.arity().plus(2, 1),
        }
    }

    /// What the op does to the caches, in order.
    pub fn effects(&self) -> Vec<Effect> {
        match self {
            OpKind::Attention(a) => vec![
                Effect::WriteKeys(a.cache),
                Effect::WriteValues(a.cache),
                Effect::Read(a.cache),
            ],
            OpKind::CacheKeys(cache) => vec![Effect::WriteKeys(*cache)],
            OpKind::CacheValues(cache) => vec![Effect::WriteValues(*cache)],
            OpKind::Attend(a) | OpKind::AttendProject { attention: a, .. } => vec![Effect::Read(a.cache)],
            OpKind::Project { parts, .. } => parts.iter().filter_map(|part| part.sink.effect()).collect(),
            _ => Vec::new(),
        }
    }

    /// The rotary tables the op reads, in order.
    pub fn ropes(&self) -> Vec<RopeId> {
        match self {
            OpKind::Rope(rope) => vec![*rope],
            OpKind::Project { parts, .. } => parts.iter().filter_map(|part| part.sink.rope()).collect(),
            _ => Vec::new(),
        }
    }

    /// The attention the op computes, if any.
    pub fn attention(&self) -> Option<&Attention> {
        match self {
            OpKind::Attention(a) | OpKind::Attend(a) | OpKind::AttendProject { attention: a, .. } => Some(a),
            _ => None,
        }
    }

    /// The prologue of a fused projection, if it is one.
    pub fn source(&self) -> Option<Source> {
        match self {
            OpKind::Project { source, .. } | OpKind::ProjectGlu { source, .. } => Some(*source),
            _ => None,
        }
    }

    /// The operand that the op overwrites: nothing may read it afterwards.
    pub fn clobbers(&self) -> Option<usize> {
        matches!(self, OpKind::AttendProject { .. }).then_some(0)
    }

    /// The matrices that multiply rows (embedding tables are looked up, not multiplied), given the op's weights.
    pub fn matrices(&self, weights: &[WeightId]) -> Vec<WeightId> {
        let mut at = self.source().map_or(0, |source| source.arity().weights);
        let mut take = |n: usize| {
            let id = weights.get(at).copied();
            at += n;
            id
        };
        match self {
            OpKind::Linear { .. } | OpKind::AttendProject { .. } => take(1).into_iter().collect(),
            OpKind::Project { parts, .. } => parts.iter().filter_map(|part| take(part.weights())).collect(),
            OpKind::ProjectGlu { .. } => [take(1), take(1)].into_iter().flatten().collect(),
            _ => Vec::new(),
        }
    }
}
