//! Taking a norm into the projections behind it, and what stands in front of a norm into the norm.

use super::{Replacement, Rewriter};
use crate::fuse::Reason;
use crate::graph::{OpKind, Part, Sink, Source, WeightId};

/// Which projections read a norm.
#[derive(Clone, Copy, PartialEq)]
pub(in crate::fuse) enum Reader {
    /// q, k, v.
    Attention,
    /// gate, up.
    Mlp,
}

/// Whose projection the op is, if it is one.
fn reader(rw: &Rewriter, op: usize) -> Option<Reader> {
    let op = &rw.graph.ops[op];
    match &op.kind {
        OpKind::ProjectGlu { .. } => Some(Reader::Mlp),
        OpKind::Project { parts, .. } => {
            let cached = |p: &Part| matches!(p.sink, Sink::RopeKeys(..) | Sink::Values(_));
            parts.iter().any(cached).then_some(Reader::Attention)
        }
        OpKind::Linear { .. } => rw
            .consumers(op.outputs[0])
            .into_iter()
            .find_map(|c| match rw.graph.ops[c].kind {
                OpKind::Rope(_) | OpKind::CacheKeys(_) | OpKind::CacheValues(_) | OpKind::Attend(_) => {
                    Some(Reader::Attention)
                }
                OpKind::Glu { .. } => Some(Reader::Mlp),
                _ => None,
            }),
        _ => None,
    }
}

/// Fuses every norm that feeds projections of this kind, and nothing else, into them.
pub(in crate::fuse) fn take_norms(rw: &mut Rewriter, wanted: Reader) {
    let sites = rw.find(|k| matches!(k, OpKind::RmsNorm { .. }));
    for name in rw.names(&sites) {
        let norm = rw.named(&name).expect("a norm is replaced only at its own site");
        let out = rw.graph.ops[norm].outputs[0];
        let consumers = rw.consumers(out);
        let readers: Vec<usize> = consumers
            .into_iter()
            .filter(|c| reader(rw, *c) == Some(wanted))
            .collect();
        if readers.is_empty() || !rw.allowed(norm) {
            continue;
        }
        if let Err(reason) = rw.private(out, &readers).and_then(|()| one_kernel(rw, &readers)) {
            rw.refuse(norm, reason);
            continue;
        }
        let OpKind::RmsNorm { eps } = rw.graph.ops[norm].kind else {
            unreachable!("found as a norm")
        };
        let mut members = vec![norm];
        members.extend(&readers);
        rw.replace(norm, &members, readers[0], &[out], |graph| {
            let source = Source::Norm { eps };
            let first = &graph.ops[readers[0]];
            let kind = match &first.kind {
                OpKind::Project { parts, .. } => OpKind::Project {
                    source,
                    parts: parts.clone(),
                },
                OpKind::ProjectGlu { gate, .. } => OpKind::ProjectGlu { source, gate: *gate },
                _ => OpKind::Project {
                    source,
                    parts: readers
                        .iter()
                        .map(|r| Part {
                            bias: graph.ops[*r].kind == OpKind::Linear { bias: true },
                            sink: Sink::Store,
                        })
                        .collect(),
                },
            };
            let mut weights: Vec<WeightId> = graph.ops[norm].weights.clone();
            weights.extend(readers.iter().flat_map(|r| graph.ops[*r].weights.iter().copied()));
            Replacement {
                kind,
                inputs: graph.ops[norm].inputs.clone(),
                weights,
                outputs: readers.iter().flat_map(|r| graph.ops[*r].outputs.clone()).collect(),
            }
        });
    }
}

/// Whether one kernel can stand for all the readers: one projection, or several plain ones.
fn one_kernel(rw: &Rewriter, readers: &[usize]) -> Result<(), Reason> {
    let plain = |op: &usize| match &rw.graph.ops[*op].kind {
        OpKind::Linear { .. } => true,
        OpKind::Project { source, .. } | OpKind::ProjectGlu { source, .. } => {
            readers.len() == 1 && *source == Source::Rows
        }
        _ => false,
    };
    if readers.iter().all(plain) {
        Ok(())
    } else {
        Err(Reason::NoKernel("several different projections read the norm".into()))
    }
}

/// What may stand in front of a norm.
#[derive(Clone, Copy, PartialEq)]
pub(in crate::fuse) enum Front {
    /// An embedding.
    Embedding,
    /// A residual add.
    Add,
}

/// Fuses the op of that name with the norm that reads its output, whether the norm stands alone or is already the
/// prologue of a projection. The output itself is still written: the residual goes on from it.
pub(in crate::fuse) fn take_front(rw: &mut Rewriter, name: &str, front: Front) {
    let op = rw.named(name).expect("a front is replaced only at its own site");
    if !rw.allowed(op) {
        return;
    }
    let out = rw.graph.ops[op].outputs[0];
    let consumers = rw.consumers(out);
    let takes_norm = |kind: &OpKind| {
        let source = match kind {
            OpKind::RmsNorm { .. } => return true,
            OpKind::Project { source, .. } | OpKind::ProjectGlu { source, .. } => source,
            _ => return false,
        };
        matches!(source, Source::Norm { .. })
    };
    let Some(norm) = consumers.iter().copied().find(|c| takes_norm(&rw.graph.ops[*c].kind)) else {
        if let Some(other) = consumers.first() {
            let reason = Reason::ConsumerOutside {
                tensor: rw.graph.tensor(out).name.clone(),
                consumer: rw.graph.ops[*other].name.clone(),
            };
            rw.refuse(op, reason);
        }
        return;
    };
    // The fused op stands where the norm stood, so nobody may read the residual before.
    if let Some(early) = consumers.iter().find(|c| **c < norm) {
        let reason = Reason::ConsumerOutside {
            tensor: rw.graph.tensor(out).name.clone(),
            consumer: rw.graph.ops[*early].name.clone(),
        };
        rw.refuse(op, reason);
        return;
    }
    rw.replace(op, &[op, norm], norm, &[], |graph| {
        let (first, second) = (&graph.ops[op], &graph.ops[norm]);
        let source = |source: &Source| match (source, front) {
            (Source::Norm { eps }, Front::Embedding) => Source::EmbedNorm { eps: *eps },
            (Source::Norm { eps }, Front::Add) => Source::AddNorm { eps: *eps },
            (other, _) => *other,
        };
        let kind = match (&second.kind, front) {
            (OpKind::RmsNorm { eps }, Front::Embedding) => OpKind::EmbedNorm { eps: *eps },
            (OpKind::RmsNorm { eps }, Front::Add) => OpKind::AddNorm { eps: *eps },
            (OpKind::Project { source: s, parts }, _) => OpKind::Project {
                source: source(s),
                parts: parts.clone(),
            },
            (OpKind::ProjectGlu { source: s, gate }, _) => OpKind::ProjectGlu {
                source: source(s),
                gate: *gate,
            },
            _ => unreachable!("chosen because it starts with a norm"),
        };
        let concat = |a: &[WeightId], b: &[WeightId]| a.iter().chain(b).copied().collect();
        Replacement {
            kind,
            inputs: first.inputs.clone(),
            weights: concat(&first.weights, &second.weights),
            outputs: first.outputs.iter().chain(&second.outputs).copied().collect(),
        }
    });
}
