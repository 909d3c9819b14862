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
    /// Its own of a cache's heads.
    Heads {
        /// Key/value heads in all.
        heads: usize,
    },
    /// An equal part, in whole key/value heads with the query heads that share them; any of it where the number of workers
    /// does not divide that of key/value heads.
    Even {
        /// Key/value heads in all.
        heads: usize,
    },
    /// A part of its own that is no part of any other step's division.
    Private,
}

/// With which numbers of workers a byte that one worker touches in one step is another worker's in another step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meeting {
    /// With none.
    Never,
    /// With those that do not divide this number.
    Unless(usize),
    /// With any.
    Always,
}

impl Meeting {
    /// With which numbers of workers either is true; with any, if no one number tells.
    pub fn or(self, other: Meeting) -> Meeting {
        match (self, other) {
            (Meeting::Never, x) | (x, Meeting::Never) => x,
            (a, b) if a == b => a,
            _ => Meeting::Always,
        }
    }
}

impl Pattern {
    /// Whether a worker that touches this part of some bytes in one step, and `other` of the same bytes in another,
    /// touches no byte that another worker touches, however many there are.
    pub fn aligned(self, other: Pattern) -> bool {
        self.meets(other) == Meeting::Never
    }

    /// When a worker that touches this part of some bytes in one step, and one that touches `other` of the same bytes in
    /// another, are not certain to be the same.
    pub fn meets(self, other: Pattern) -> Meeting {
        match (self, other) {
            (Pattern::All | Pattern::Private, _) => Meeting::Always,
            (Pattern::Even { heads }, cut) | (cut, Pattern::Even { heads }) if cut.even(heads) => {
                Meeting::Unless(heads)
            }
            _ if self == other => Meeting::Never,
            _ => Meeting::Always,
        }
    }

    /// Whether workers whose number divides `heads` have equal parts.
    fn even(self, heads: usize) -> bool {
        match self {
            Pattern::Even { heads: own } => own == heads,
            Pattern::Heads { heads: own } => own.is_multiple_of(heads),
            Pattern::Columns { granule, cols } => cols.is_multiple_of(granule * heads),
            Pattern::All | Pattern::Tokens { .. } | Pattern::Private => false,
        }
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
            let even = Pattern::Even {
                heads: graph.caches[a.cache.index()].kv_heads,
            };
            let clobbers = matches!(op.kind, OpKind::AttendProject { .. });
            let pattern = match workspace {
                // Whoever looks at a chunk for a head reads its query.
                true if matches!(op.kind, OpKind::Attend(_)) => even,
                // Divided by work first, and by tokens then.
                _ if clobbers => Pattern::Private,
                _ => heads(graph, op, axis, q).unwrap_or_else(|| own(q)),
            };
            list.push(Access {
                operand: Operand::Tensor(q),
                pattern,
                write: clobbers,
            });
            let pattern = match axis {
                // One token's heads: a worker reads those that its own queries share.
                Axis::Heads if graph.batch == 1 => even,
                _ => Pattern::All,
            };
            for operand in [Operand::Keys(a.cache), Operand::Values(a.cache)] {
                list.push(Access {
                    operand,
                    pattern,
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
        OpKind::CacheKeys(c) => write(Operand::Keys(*c), cached(graph, axis, *c)),
        OpKind::CacheValues(c) => write(Operand::Values(*c), cached(graph, axis, *c)),
        OpKind::Project { parts, .. } => {
            for part in parts {
                match part.sink {
                    Sink::RopeKeys(_, c) => write(Operand::Keys(c), cached(graph, axis, c)),
                    Sink::Values(c) => write(Operand::Values(c), cached(graph, axis, c)),
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

/// What is written of a cache: cut at heads, a worker's columns are its heads.
fn cached(graph: &Graph, axis: Axis, cache: CacheId) -> Pattern {
    let cache = &graph.caches[cache.index()];
    match axis {
        Axis::Columns { granule } if granule == cache.head_dim => Pattern::Heads { heads: cache.kv_heads },
        _ => Pattern::Private,
    }
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

#[cfg(test)]
mod tests {
    use ck_kernels::dtype::{ActType, DType};
    use ck_kernels::ops::{Cache, Pairing, Part, Rope, Sink, Slot, Weight};
    use ck_kernels::partition::split;

    use super::*;

    /// What [`Pattern::Even`] promises, asked of the kernels: the columns of q, k and v are whole heads, and the same heads
    /// as attention's where the number of workers divides them.
    #[test]
    fn equal_parts_are_what_the_kernels_take() {
        for (heads, kv_heads, head_dim) in [(32, 8, 64), (9, 3, 64), (14, 2, 64), (12, 12, 80), (6, 6, 16)] {
            let cache = Cache {
                k: 0,
                v: 0,
                kv_heads,
                head_dim,
                context: 16,
                act: ActType::F16,
            };
            let rope = Rope {
                table: 0,
                positions: 16,
                head_dim,
                dims: head_dim,
                pairing: Pairing::Halves,
            };
            let out = Slot {
                offset: 0,
                cols: heads * head_dim,
                act: ActType::F32,
            };
            let part = |heads: usize, sink| Part {
                weight: Weight {
                    offset: 0,
                    rows: heads * head_dim,
                    cols: 64,
                    dtype: DType::F32,
                },
                bias: None,
                sink,
            };
            let q = part(heads, Sink::Rope { rope, out });
            let k = part(kv_heads, Sink::RopeKeys { rope, cache });
            let v = part(kv_heads, Sink::Values { cache });
            let axis = Axis::Columns { granule: head_dim };
            for nth in (1..=64).filter(|nth| kv_heads % nth == 0) {
                for ith in 0..nth {
                    let own = split(kv_heads, 1, ith, nth);
                    let columns = own.start * head_dim..own.end * head_dim;
                    assert_eq!(k.share(axis, 1, ith, nth).cols, columns);
                    assert_eq!(v.share(axis, 1, ith, nth).cols, columns);
                    let group = heads / kv_heads;
                    assert_eq!(split(heads, 1, ith, nth), own.start * group..own.end * group);
                    let columns = columns.start * group..columns.end * group;
                    assert_eq!(q.share(axis, 1, ith, nth).cols, columns);
                }
            }
        }
    }
}
