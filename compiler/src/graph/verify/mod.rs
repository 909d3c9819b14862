//! The verifier: what every pass may assume of a [`Graph`] and must leave true.
//!
//! Tensors that no op touches are allowed: fusion leaves them behind, and ids stay stable.

mod lowered;
mod order;
mod shapes;
mod tables;
mod violation;

use violation::Violations;
pub use violation::{Rule, Violation};

use super::{Graph, Op};

/// Checks every invariant of the IR.
///
/// # Errors
/// All violations, in the order: tables, then ops, then the order of ops. Shapes of an op are checked only if all of its
/// ids exist and its operands are the right number.
pub fn verify(graph: &Graph) -> Result<(), Vec<Violation>> {
    check(graph, |_, _, _| {})
}

/// Checks every invariant of the IR, and that each op is what a kernel computes: for graphs that go on to be scheduled.
///
/// # Errors
/// As [`verify`].
pub fn verify_lowered(graph: &Graph) -> Result<(), Vec<Violation>> {
    check(graph, lowered::check)
}

fn check(graph: &Graph, also: fn(&Graph, &Op, &mut Violations)) -> Result<(), Vec<Violation>> {
    let mut found = Violations::default();
    tables::check(graph, &mut found);
    for op in &graph.ops {
        if well_formed(graph, op, &mut found) {
            shapes::check(graph, op, &mut found);
            also(graph, op, &mut found);
        }
    }
    order::check(graph, &mut found);
    found.into_result()
}

/// Ids in range and as many operands as the kind takes.
fn well_formed(graph: &Graph, op: &Op, found: &mut Violations) -> bool {
    let mut ok = true;
    let mut in_range = |what: &str, id: u32, len: usize| {
        if id as usize >= len {
            found.op(Rule::IdRange, op, format!("{what} id {id} of {len}"));
            ok = false;
        }
    };
    for id in op.inputs.iter().chain(&op.outputs) {
        in_range("tensor", id.0, graph.tensors.len());
    }
    for id in &op.weights {
        in_range("weight", id.0, graph.weights.len());
    }
    for effect in op.kind.effects() {
        in_range("cache", effect.cache().0, graph.caches.len());
    }
    for id in op.kind.ropes() {
        in_range("rope", id.0, graph.ropes.len());
    }
    let arity = op.kind.arity();
    for (what, has, takes) in [
        ("tensor operands", op.inputs.len(), arity.inputs),
        ("weights", op.weights.len(), arity.weights),
        ("outputs", op.outputs.len(), arity.outputs),
    ] {
        if has != takes {
            found.op(Rule::Arity, op, format!("{has} {what}, the kind has {takes}"));
            ok = false;
        }
    }
    if matches!(&op.kind, super::OpKind::Project { parts, .. } if parts.is_empty()) {
        found.op(Rule::Arity, op, "a projection without matrices".into());
        ok = false;
    }
    ok
}
