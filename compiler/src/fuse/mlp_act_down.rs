//! `MLP_ACT_DOWN`: activation and down projection become one kernel; the activated intermediate is never written.

use super::rewrite::{Replacement, Rewriter};
use super::{Flag, Reason};
use crate::graph::{OpKind, Part, Sink, Source};

pub(super) fn run(rw: &mut Rewriter) {
    let sites = rw.find(|k| matches!(k, OpKind::Glu { .. } | OpKind::ProjectGlu { .. }));
    for name in rw.names(&sites) {
        let act = rw.named(&name).expect("an activation is replaced only at its own site");
        if !rw.allowed(act) {
            continue;
        }
        let OpKind::Glu { gate } = rw.graph.ops[act].kind else {
            rw.refuse(act, Reason::Claimed(Flag::MlpGateUp));
            continue;
        };
        let out = rw.graph.ops[act].outputs[0];
        let consumers = rw.consumers(out);
        let down = consumers
            .iter()
            .copied()
            .find(|c| matches!(rw.graph.ops[*c].kind, OpKind::Linear { .. }));
        let Some(down) = down else {
            rw.refuse(
                act,
                Reason::NoKernel("the activation does not feed a projection".into()),
            );
            continue;
        };
        if let Err(reason) = rw.private(out, &[down]) {
            rw.refuse(act, reason);
            continue;
        }
        let bias = rw.graph.ops[down].kind == OpKind::Linear { bias: true };
        rw.replace(act, &[act, down], down, &[out], |graph| Replacement {
            kind: OpKind::Project {
                source: Source::Glu { gate },
                parts: vec![Part {
                    bias,
                    sink: Sink::Store,
                }],
            },
            inputs: graph.ops[act].inputs.clone(),
            weights: graph.ops[down].weights.clone(),
            outputs: graph.ops[down].outputs.clone(),
        });
    }
}
