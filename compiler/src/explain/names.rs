//! What can be asked for, and what may have been meant.

use std::collections::BTreeSet;

use crate::compile::Planned;
use crate::diag::Diagnostic;
use crate::glob::any_layer;
use crate::layout::operand_name;
use crate::model::edits;

/// Names that are offered for one that is unknown.
const OFFERED: usize = 5;
/// Kinds of names that are listed when nothing is near.
const KINDS: usize = 40;

/// Every name of the model, its program and its weights.
pub fn all(planned: &Planned) -> BTreeSet<String> {
    let graph = &planned.model.graph;
    let origins = &planned.model.origins;
    let mut names: BTreeSet<String> = graph.ops.iter().map(|o| o.name.clone()).collect();
    names.extend(graph.tensors.iter().map(|t| t.name.clone()));
    names.extend(graph.caches.iter().map(|c| c.name.clone()));
    names.extend(origins.carried.iter().map(|(name, _)| name.clone()));
    names.extend(origins.ropes.iter().map(|(name, _)| name.clone()));
    names.extend(planned.report.weights.iter().map(|w| w.name.clone()));
    for entry in &planned.layout.entries {
        let program = &entry.entry;
        names.extend(
            program
                .graph
                .ops
                .iter()
                .flat_map(|o| o.fused_from.iter().chain([&o.name]))
                .cloned(),
        );
        names.extend(entry.places.keys().map(|o| operand_name(program, *o)));
        let away = program.sites.iter().filter_map(|s| s.outcome.as_ref().ok());
        names.extend(away.flatten().cloned());
    }
    names
}

/// The names that begin with `name` and a dot.
pub fn below<'a>(all: &'a BTreeSet<String>, name: &str) -> Vec<&'a String> {
    let inside = |n: &&String| n.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    let mut found: Vec<&String> = all.iter().filter(inside).collect();
    found.sort_by_key(|n| order(n));
    found
}

/// Sorts names with layer 2 before layer 10.
pub fn order(name: &str) -> Vec<(u64, &str)> {
    let part = |part| (str::parse(part).unwrap_or(u64::MAX), part);
    name.split('.').map(part).collect()
}

/// No such name: the nearest ones by edits, and how names look.
pub fn unknown(all: &BTreeSet<String>, name: &str) -> Diagnostic {
    let problem = Diagnostic::new(
        crate::codes::UNKNOWN_NODE,
        format!("no step, tensor, weight, cache or rope is called `{name}`"),
    );
    let limit = name.chars().count().div_ceil(3).max(2);
    let mut near: Vec<(usize, usize, &String)> = Vec::new();
    for (at, known) in all.iter().enumerate() {
        // A name without its layer is as good as one with it.
        let last = known.rsplit('.').next().unwrap_or(known);
        let distance = edits(name, known).min(edits(name, last).saturating_add(1));
        if distance <= limit {
            near.push((distance, at, known));
        }
    }
    near.sort_unstable();
    // One of each kind is enough: the others differ in the number of the layer.
    let mut kinds = BTreeSet::new();
    near.retain(|(_, _, known)| kinds.insert(any_layer(known)));
    let near: Vec<String> = near
        .iter()
        .take(OFFERED)
        .map(|(_, _, known)| format!("`{known}`"))
        .collect();
    if !near.is_empty() {
        return problem.help(format!("did you mean {}?", near.join(", ")));
    }
    let looks: BTreeSet<String> = all.iter().map(|n| any_layer(n)).collect();
    let looks: Vec<&str> = looks.iter().take(KINDS).map(String::as_str).collect();
    problem.help(format!("names look like {}", looks.join(", ")))
}
