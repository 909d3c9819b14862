//! `QKV_ROPE`: the three projections and the rotation become one kernel; keys and values land in the cache directly.

use super::Reason;
use super::rewrite::{Replacement, Rewriter};
use crate::graph::{CacheId, OpKind, Part, RopeId, Sink, Source, TensorId};

/// A projection, and the rotation behind it.
struct Leg {
    linear: usize,
    out: TensorId,
    rope: Option<(usize, RopeId, TensorId)>,
}

pub(super) fn run(rw: &mut Rewriter) {
    let sites = rw.find(|k| matches!(k, OpKind::Attend(_)));
    for name in rw.names(&sites) {
        let attend = rw.named(&name).expect("this pass keeps attention ops");
        if rw.allowed(attend)
            && let Err(reason) = site(rw, attend)
        {
            rw.refuse(attend, reason);
        }
    }
}

fn site(rw: &mut Rewriter, attend: usize) -> Result<(), Reason> {
    let OpKind::Attend(attention) = rw.graph.ops[attend].kind else {
        unreachable!("found as attention")
    };
    let cache = attention.cache;
    let keys = store(rw, &OpKind::CacheKeys(cache))?;
    let values = store(rw, &OpKind::CacheValues(cache))?;
    let q = leg(rw, rw.graph.ops[attend].inputs[0])?;
    let k = leg(rw, rw.graph.ops[keys].inputs[0])?;
    let v = leg(rw, rw.graph.ops[values].inputs[0])?;
    let (Some((q_rope, q_table, q_out)), Some((k_rope, k_table, k_out)), None) = (q.rope, k.rope, &v.rope) else {
        return Err(Reason::NoKernel(
            "queries and keys must be rotated, values must not".into(),
        ));
    };
    let input = &rw.graph.ops[q.linear].inputs;
    if rw.graph.ops[k.linear].inputs != *input || rw.graph.ops[v.linear].inputs != *input {
        return Err(Reason::NoKernel("q, k and v must be projections of one tensor".into()));
    }
    rw.private(q.out, &[q_rope])?;
    rw.private(k.out, &[k_rope])?;
    rw.private(k_out, &[keys])?;
    rw.private(v.out, &[values])?;
    let mut members = [q.linear, k.linear, v.linear, q_rope, k_rope, keys, values];
    members.sort_unstable();
    let part = |rw: &Rewriter, leg: &Leg, sink| Part {
        bias: rw.graph.ops[leg.linear].kind == OpKind::Linear { bias: true },
        sink,
    };
    let parts = vec![
        part(rw, &q, Sink::Rope(q_table)),
        part(rw, &k, Sink::RopeKeys(k_table, cache)),
        part(rw, &v, Sink::Values(cache)),
    ];
    rw.replace(attend, &members, q.linear, &[q.out, k.out, k_out, v.out], |graph| {
        Replacement {
            kind: OpKind::Project {
                source: Source::Rows,
                parts,
            },
            inputs: graph.ops[q.linear].inputs.clone(),
            weights: [&q, &k, &v]
                .iter()
                .flat_map(|l| graph.ops[l.linear].weights.clone())
                .collect(),
            outputs: vec![q_out],
        }
    });
    Ok(())
}

/// The op that fills one half of a cache.
fn store(rw: &Rewriter, kind: &OpKind) -> Result<usize, Reason> {
    rw.find(|k| k == kind)
        .first()
        .copied()
        .ok_or_else(|| Reason::NoKernel(format!("{} is filled elsewhere", cache_name(rw, kind))))
}

fn cache_name(rw: &Rewriter, kind: &OpKind) -> String {
    match kind {
        OpKind::CacheKeys(CacheId(id)) | OpKind::CacheValues(CacheId(id)) => {
            format!("`{}`", rw.graph.caches[*id as usize].name)
        }
        _ => "the cache".into(),
    }
}

/// The projection that `tensor` comes from, directly or through a rotation.
fn leg(rw: &Rewriter, tensor: TensorId) -> Result<Leg, Reason> {
    let not_projected = || Reason::NoKernel(format!("`{}` is not a projection", rw.graph.tensor(tensor).name));
    let producer = rw.producer(tensor).ok_or_else(not_projected)?;
    let op = &rw.graph.ops[producer];
    match op.kind {
        OpKind::Linear { .. } => Ok(Leg {
            linear: producer,
            out: tensor,
            rope: None,
        }),
        OpKind::Rope(table) => {
            let inner = leg(rw, op.inputs[0])?;
            match inner.rope {
                None => Ok(Leg {
                    rope: Some((producer, table, tensor)),
                    ..inner
                }),
                Some(_) => Err(not_projected()),
            }
        }
        _ => Err(not_projected()),
    }
}
