//! Rules of ops together: single assignment, caches, liveness.

use super::{Rule, Violations};
use crate::graph::{Effect, Graph, TensorId};

pub(super) fn check(graph: &Graph, found: &mut Violations) {
    single_assignment(graph, found);
    caches(graph, found);
    live(graph, found);
    used(graph, found);
}

/// The name of a tensor that may be out of range.
fn describe(graph: &Graph, id: TensorId) -> String {
    match graph.tensors.get(id.index()) {
        Some(tensor) => tensor.to_string(),
        None => format!("id {} of {}", id.0, graph.tensors.len()),
    }
}

fn single_assignment(graph: &Graph, found: &mut Violations) {
    let len = graph.tensors.len();
    let in_range = |id: &&TensorId| id.index() < len;
    let mut written = vec![false; len];
    let mut clobbered: Vec<Option<&str>> = vec![None; len];
    let place = || format!("graph {}", graph.name);
    for id in &graph.inputs {
        match written.get_mut(id.index()) {
            None => found.at(Rule::IdRange, place(), format!("input {}", describe(graph, *id))),
            Some(true) => found.at(
                Rule::WrittenTwice,
                place(),
                format!("input {} twice", describe(graph, *id)),
            ),
            Some(slot) => *slot = true,
        }
    }
    for op in &graph.ops {
        for id in op.inputs.iter().filter(in_range) {
            let tensor = graph.tensor(*id);
            if !written[id.index()] {
                found.op(
                    Rule::ReadBeforeWrite,
                    op,
                    format!("reads {tensor} before any op writes it"),
                );
            } else if let Some(by) = clobbered[id.index()] {
                found.op(Rule::Clobbered, op, format!("reads {tensor} that {by} overwrote"));
            }
        }
        if let Some(id) = op.kind.clobbers().and_then(|i| op.inputs.get(i)).filter(in_range) {
            if graph.inputs.contains(id) || graph.outputs.contains(id) {
                let tensor = graph.tensor(*id);
                found.op(
                    Rule::Clobbered,
                    op,
                    format!("overwrites {tensor}, an input or output of the graph"),
                );
            }
            clobbered[id.index()] = Some(&op.name);
        }
        for id in op.outputs.iter().filter(in_range) {
            if std::mem::replace(&mut written[id.index()], true) {
                found.op(Rule::WrittenTwice, op, format!("writes {} again", graph.tensor(*id)));
            }
        }
    }
    if graph.outputs.is_empty() {
        found.at(Rule::Outputs, place(), "no outputs".into());
    }
    for id in &graph.outputs {
        match written.get(id.index()) {
            None => found.at(Rule::IdRange, place(), format!("output {}", describe(graph, *id))),
            Some(false) => found.at(
                Rule::Outputs,
                place(),
                format!("output {} is never written", describe(graph, *id)),
            ),
            Some(true) => {}
        }
    }
}

#[derive(Clone, Copy, Default)]
struct CacheUse {
    keys: usize,
    values: usize,
    reads: usize,
}

fn caches(graph: &Graph, found: &mut Violations) {
    let mut uses = vec![CacheUse::default(); graph.caches.len()];
    for op in &graph.ops {
        for effect in op.kind.effects() {
            let Some(cache) = uses.get_mut(effect.cache().index()) else {
                continue;
            };
            match effect {
                Effect::WriteKeys(_) => cache.keys += 1,
                Effect::WriteValues(_) => cache.values += 1,
                Effect::Read(id) => {
                    cache.reads += 1;
                    if cache.keys == 0 || cache.values == 0 {
                        let missing = if cache.keys == 0 { "keys" } else { "values" };
                        let name = &graph.caches[id.index()].name;
                        found.op(
                            Rule::CacheReads,
                            op,
                            format!("attends {name} before its {missing} are written"),
                        );
                    }
                }
            }
            if matches!(effect, Effect::WriteKeys(_) | Effect::WriteValues(_)) && cache.reads > 0 {
                let name = &graph.caches[effect.cache().index()].name;
                found.op(Rule::CacheReads, op, format!("writes {name} after it was attended"));
            }
        }
    }
    for (cache, used) in graph.caches.iter().zip(&uses) {
        for (what, times) in [("keys", used.keys), ("values", used.values)] {
            if times != 1 {
                found.at(
                    Rule::CacheWrites,
                    format!("cache {}", cache.name),
                    format!("{what} written {times} times"),
                );
            }
        }
        if used.reads == 0 {
            found.at(
                Rule::CacheReads,
                format!("cache {}", cache.name),
                "never attended".into(),
            );
        }
    }
}

/// Backwards: an op lives if it has an effect on a cache, or writes what a later live op or the outside reads.
fn live(graph: &Graph, found: &mut Violations) {
    let mut wanted = vec![false; graph.tensors.len()];
    for id in &graph.outputs {
        if let Some(wanted) = wanted.get_mut(id.index()) {
            *wanted = true;
        }
    }
    let mut dead = Vec::new();
    for op in graph.ops.iter().rev() {
        let writes_state = op
            .kind
            .effects()
            .iter()
            .any(|effect| !matches!(effect, Effect::Read(_)));
        let is_live = writes_state || op.outputs.iter().any(|id| wanted.get(id.index()) == Some(&true));
        if !is_live {
            dead.push(op);
            continue;
        }
        for id in &op.inputs {
            if let Some(wanted) = wanted.get_mut(id.index()) {
                *wanted = true;
            }
        }
    }
    for op in dead.into_iter().rev() {
        let outputs: Vec<String> = op.outputs.iter().map(|id| describe(graph, *id)).collect();
        found.op(Rule::Dead, op, format!("nothing needs {}", outputs.join(", ")));
    }
}

fn used(graph: &Graph, found: &mut Violations) {
    let mut weights = vec![false; graph.weights.len()];
    let mut ropes = vec![false; graph.ropes.len()];
    for op in &graph.ops {
        for id in &op.weights {
            if let Some(used) = weights.get_mut(id.index()) {
                *used = true;
            }
        }
        for id in op.kind.ropes() {
            if let Some(used) = ropes.get_mut(id.index()) {
                *used = true;
            }
        }
    }
    for (weight, _) in graph.weights.iter().zip(&weights).filter(|(_, used)| !**used) {
        found.at(Rule::Unused, format!("weight {weight}"), "no op uses it".into());
    }
    for (i, _) in ropes.iter().enumerate().filter(|(_, used)| !**used) {
        found.at(Rule::Unused, format!("rope{i}"), "no op uses it".into());
    }
}
