//! `MLP_GATE_UP`: gate and up projections and the activation become one kernel; neither projection is written.

use super::Reason;
use super::rewrite::{Replacement, Rewriter};
use crate::graph::{OpKind, Source};

pub(super) fn run(rw: &mut Rewriter) {
    let sites = rw.find(|k| matches!(k, OpKind::Glu { .. }));
    for name in rw.names(&sites) {
        let glu = rw.named(&name).expect("a glu is replaced only at its own site");
        if !rw.allowed(glu) {
            continue;
        }
        let OpKind::Glu { gate: kind } = rw.graph.ops[glu].kind else {
            unreachable!("found as a glu")
        };
        let [gate, up] = rw.graph.ops[glu].inputs[..] else {
            unreachable!("verified arity")
        };
        let (Some(g), Some(u)) = (rw.producer(gate), rw.producer(up)) else {
            rw.refuse(glu, Reason::NoKernel("gate or up is an input of the program".into()));
            continue;
        };
        let (gop, uop) = (&rw.graph.ops[g], &rw.graph.ops[u]);
        let plain = |k: &OpKind| matches!(k, OpKind::Linear { bias: false });
        if !plain(&gop.kind) || !plain(&uop.kind) || gop.inputs != uop.inputs || g == u {
            let what = "gate and up must be two projections of one tensor, without bias";
            rw.refuse(glu, Reason::NoKernel(what.into()));
            continue;
        }
        if let Err(reason) = rw.private(gate, &[glu]).and_then(|()| rw.private(up, &[glu])) {
            rw.refuse(glu, reason);
            continue;
        }
        let mut members = [g, u, glu];
        members.sort_unstable();
        rw.replace(glu, &members, glu, &[gate, up], |graph| Replacement {
            kind: OpKind::ProjectGlu {
                source: Source::Rows,
                gate: kind,
            },
            inputs: graph.ops[g].inputs.clone(),
            weights: vec![graph.ops[g].weights[0], graph.ops[u].weights[0]],
            outputs: graph.ops[glu].outputs.clone(),
        });
    }
}
