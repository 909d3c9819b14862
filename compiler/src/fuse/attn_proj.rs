//! `ATTN_PROJ`: attention and its output projection become one kernel, where a worker has whole rows of the attention
//! output, that is where the work is divided by tokens.

use super::rewrite::{Replacement, Rewriter};
use super::{Division, Reason};
use crate::graph::OpKind;

pub(super) fn run(rw: &mut Rewriter) {
    let sites = rw.find(|k| matches!(k, OpKind::Attend(_)));
    for name in rw.names(&sites) {
        let attend = rw.named(&name).expect("attention is replaced only at its own site");
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
    let (q, out) = (rw.graph.ops[attend].inputs[0], rw.graph.ops[attend].outputs[0]);
    let linear = rw
        .consumers(out)
        .into_iter()
        .find(|c| matches!(rw.graph.ops[*c].kind, OpKind::Linear { .. }));
    let linear = linear.ok_or_else(|| Reason::NoKernel("the attention does not feed a projection".into()))?;
    rw.private(out, &[linear])?;
    // The kernel keeps the attention output in the rows of q.
    rw.private(q, &[attend])?;
    if rw.division == Division::Columns {
        return Err(Reason::PartitionNeedsBuffer {
            tensor: rw.graph.tensor(out).name.clone(),
        });
    }
    let bias = rw.graph.ops[linear].kind == OpKind::Linear { bias: true };
    rw.replace(attend, &[attend, linear], attend, &[out], |graph| Replacement {
        kind: OpKind::AttendProject { attention, bias },
        inputs: vec![q],
        weights: graph.ops[linear].weights.clone(),
        outputs: graph.ops[linear].outputs.clone(),
    });
    Ok(())
}
