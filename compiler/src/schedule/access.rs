//! Which part of which operand a worker touches in a step: what barriers and in-place reuse are decided from.

use ck_kernels::dtype::GROUP;
use ck_kernels::partition::Axis;

use crate::graph::{CacheId, Graph, Op, OpKind, Sink, Source, TensorId};

/// Something with bytes of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operand {
    /// An activation.
    Tensor(TensorId),
    /// The keys of a layer.
    Keys(CacheId),
    /// The values of a layer.
    Values(CacheId),
    /// The scratch of the step at this position.
    Workspace(usize),
}

/// The part of an operand that one worker touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Any of it.
    All,
    /// Its own tokens' rows.
    Tokens {
        /// Tokens that stay together.
        granule: usize,
    },
    /// Its own columns of every row.
    Columns {
        /// Columns that stay together.
        granule: usize,
        /// Columns in all.
        cols: usize,
    },
    /// A part of its own that is no part of any other step's division.
    Private,
}

impl Pattern {
    /// Whether a worker that touches this part of some bytes in one step, and `other` of the same bytes in another,
    /// touches no byte that another worker touches.
    pub fn aligned(self, other: Pattern) -> bool {
        self == other && !matches!(self, Pattern::All | Pattern::Private)
    }
}

/// One operand of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// What.
    pub operand: Operand,
    /// Which part.
    pub pattern: Pattern,
    /// Whether it is written (it may be read, too).
    pub write: bool,
}

/// Everything a step touches outside the weights.
pub fn accesses(graph: &Graph, op: &Op, axis: Axis, step: usize, workspace: bool) -> Vec<Access> {
    let mut list = Vec::new();
    let own = |t: TensorId| match axis {
        Axis::Tokens { granule } => Pattern::Tokens { granule },
        Axis::Columns { granule } => Pattern::Columns {
            granule,
            cols: graph.tensor(t).cols,
        },
        Axis::Heads | Axis::Serial => Pattern::Private,
    };
    // A row's statistics, a projection's input: under `Columns` every worker reads whole rows.
    let whole_rows = |t: TensorId| match axis {
        Axis::Columns { .. } => Pattern::All,
        _ => own(t),
    };
    let mut read = |t: TensorId, pattern| {
        list.push(Access {
            operand: Operand::Tensor(t),
            pattern,
            write: false,
        });
    };
    match &op.kind {
        OpKind::Embedding | OpKind::EmbedNorm { .. } => read(op.inputs[0], whole_rows(op.inputs[0])),
        OpKind::RmsNorm { .. } | OpKind::AddNorm { .. } | OpKind::Linear { .. } => {
            op.inputs.iter().for_each(|t| read(*t, whole_rows(*t)));
        }
        OpKind::Project { .. } | OpKind::ProjectGlu { .. } => op.inputs.iter().for_each(|t| read(*t, whole_rows(*t))),
        OpKind::Rope(_) | OpKind::Glu { .. } | OpKind::Add | OpKind::Quantize => {
            op.inputs.iter().for_each(|t| read(*t, own(*t)));
        }
        OpKind::CacheKeys(_) | OpKind::CacheValues(_) => read(op.inputs[0], own(op.inputs[0])),
        OpKind::SelectRow => read(op.inputs[0], Pattern::All),
        OpKind::Attend(a) | OpKind::AttendProject { attention: a, .. } => {
            let q = op.inputs[0];
            let pattern = heads(graph, op, axis, q).unwrap_or_else(|| own(q));
            let clobbers = matches!(op.kind, OpKind::AttendProject { .. });
            list.push(Access {
                operand: Operand::Tensor(q),
                pattern,
                write: clobbers,
            });
            for operand in [Operand::Keys(a.cache), Operand::Values(a.cache)] {
                list.push(Access {
                    operand,
                    pattern: Pattern::All,
                    write: false,
                });
            }
        }
        OpKind::Attention(_) => unreachable!("attention is split before scheduling"),
    }
    let mut write = |operand, pattern| {
        list.push(Access {
            operand,
            pattern,
            write: true,
        });
    };
    for t in &op.outputs {
        let pattern = match &op.kind {
            // Under `Columns` a projection's kernel cuts the residual by groups, whatever it cuts its outputs by.
            OpKind::Project { source, .. } | OpKind::ProjectGlu { source, .. }
                if matches!(source, Source::AddNorm { .. } | Source::EmbedNorm { .. }) && *t == op.outputs[0] =>
            {
                match axis {
                    Axis::Columns { .. } => Pattern::Columns {
                        granule: GROUP,
                        cols: graph.tensor(*t).cols,
                    },
                    _ => own(*t),
                }
            }
            OpKind::Attend(_) => heads(graph, op, axis, *t).unwrap_or_else(|| own(*t)),
            _ => own(*t),
        };
        write(Operand::Tensor(*t), pattern);
    }
    match &op.kind {
        OpKind::CacheKeys(c) => write(Operand::Keys(*c), Pattern::Private),
        OpKind::CacheValues(c) => write(Operand::Values(*c), Pattern::Private),
        OpKind::Project { parts, .. } => {
            for part in parts {
                match part.sink {
                    Sink::RopeKeys(_, c) => write(Operand::Keys(c), Pattern::Private),
                    Sink::Values(c) => write(Operand::Values(c), Pattern::Private),
                    Sink::Store | Sink::Rope(_) => {}
                }
            }
        }
        _ => {}
    }
    if workspace {
        write(Operand::Workspace(step), Pattern::Private);
    }
    list
}

/// One token's heads are column ranges; several tokens' heads are cut by token as well.
fn heads(graph: &Graph, op: &Op, axis: Axis, t: TensorId) -> Option<Pattern> {
    let (OpKind::Attend(a), Axis::Heads) = (&op.kind, axis) else {
        return None;
    };
    Some(if graph.batch == 1 {
        Pattern::Columns {
            granule: graph.caches[a.cache.index()].head_dim,
            cols: graph.tensor(t).cols,
        }
    } else {
        Pattern::Private
    })
}
