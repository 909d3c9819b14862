//! A name stands for one thing, and for something.

use std::collections::BTreeSet;

use super::Say;
use super::view::View;
use crate::report::types::REGIONS;

/// What may have a budget.
const BUDGETS: &[&str] = &["arena", "weights", "kv", "activations", "scratch"];

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    let r = view.report;
    let header = &r.header;
    unique(
        "header.entries",
        header.entries.iter().map(|e| ("", e.name.as_str())),
        say,
    );
    unique(
        "totals.regions",
        r.totals.regions.iter().map(|r| ("", r.name.as_str())),
        say,
    );
    unique(
        "totals.memories",
        r.totals.memories.iter().map(|m| ("", m.name.as_str())),
        say,
    );
    unique(
        "totals.budgets",
        r.totals.budgets.iter().map(|b| ("", b.name.as_str())),
        say,
    );
    unique("steps", r.steps.iter().map(|s| (s.entry.as_str(), s.id.as_str())), say);
    unique(
        "tensors",
        r.tensors.iter().map(|t| (t.entry.as_str(), t.id.as_str())),
        say,
    );
    unique("weights", r.weights.iter().map(|w| ("", w.name.as_str())), say);

    let memories: BTreeSet<&str> = r.totals.memories.iter().map(|m| m.name.as_str()).collect();
    let entries: BTreeSet<&str> = header.entries.iter().map(|e| e.name.as_str()).collect();
    let steps: BTreeSet<(&str, &str)> = r.steps.iter().map(|s| (s.entry.as_str(), s.id.as_str())).collect();
    for (i, region) in r.totals.regions.iter().enumerate() {
        if !REGIONS.contains(&region.name.as_str()) && !memories.contains(region.name.as_str()) {
            say(
                format!("totals.regions[{i}].name"),
                format!("no region is called `{}`", region.name),
            );
        }
    }
    for (i, budget) in r.totals.budgets.iter().enumerate() {
        if !BUDGETS.contains(&budget.name.as_str()) {
            let message = format!("no budget is called `{}`", budget.name);
            say(format!("totals.budgets[{i}].name"), message);
        }
    }
    let mut entry = |place: String, name: &str| {
        if !entries.contains(name) {
            say(place, format!("no entry is called `{name}`"));
        }
    };
    for (i, fusion) in r.fusions.iter().enumerate() {
        entry(format!("fusions[{i}].entry"), &fusion.entry);
    }
    for (i, step) in r.steps.iter().enumerate() {
        entry(format!("steps[{i}].entry"), &step.entry);
    }
    for (i, tensor) in r.tensors.iter().enumerate().filter(|(_, t)| !t.entry.is_empty()) {
        entry(format!("tensors[{i}].entry"), &tensor.entry);
    }
    for (i, step) in r.steps.iter().enumerate() {
        let lists = [
            ("inputs", &step.inputs),
            ("outputs", &step.outputs),
            ("clobbers", &step.clobbers),
        ];
        for (list, names) in lists {
            for (at, name) in names.iter().enumerate() {
                if view.find(&step.entry, name).is_none() {
                    say(
                        format!("steps[{i}].{list}[{at}]"),
                        format!("`{}` names `{name}`, and no tensor or weight is called so", step.id),
                    );
                }
            }
        }
        let inputs: BTreeSet<&String> = step.inputs.iter().collect();
        for name in step.in_place_of.iter().chain(&step.clobbers) {
            if !inputs.contains(name) {
                say(format!("steps[{i}]"), format!("`{name}` is no input of `{}`", step.id));
            }
        }
    }
    for (i, tensor) in r.tensors.iter().enumerate() {
        if !REGIONS.contains(&tensor.region.as_str()) {
            say(
                format!("tensors[{i}].region"),
                format!("no region is called `{}`", tensor.region),
            );
        }
        if let Some(memory) = tensor.memory.as_ref().filter(|m| !memories.contains(m.as_str())) {
            say(
                format!("tensors[{i}].memory"),
                format!("no memory is called `{memory}`"),
            );
        }
        if !tensor.entry.is_empty() && view.tensor("", &tensor.id).is_some() {
            let message = format!("`{}` of {} is shared by all entries, too", tensor.id, tensor.entry);
            say(format!("tensors[{i}].id"), message);
        }
    }
    if let Some(peak) = &r.totals.peak {
        if !steps.contains(&(peak.entry.as_str(), peak.step.as_str())) {
            say(
                "totals.peak".into(),
                format!("{} has no step `{}`", peak.entry, peak.step),
            );
        }
        for (i, live) in peak.live.iter().enumerate() {
            if view.tensor(&peak.entry, &live.id).is_none() {
                say(
                    format!("totals.peak.live[{i}]"),
                    format!("no tensor is called `{}`", live.id),
                );
            }
        }
    }
    for (i, m) in r.moves.iter().enumerate() {
        if !steps.contains(&(m.entry.as_str(), m.step.as_str())) || view.tensor(&m.entry, &m.tensor).is_none() {
            let message = format!("{} has no step `{}` or no tensor `{}`", m.entry, m.step, m.tensor);
            say(format!("moves[{i}]"), message);
        }
    }
}

fn unique<'a>(list: &str, names: impl Iterator<Item = (&'a str, &'a str)>, say: &mut Say<'_>) {
    let mut seen = BTreeSet::new();
    for (i, (entry, name)) in names.enumerate() {
        if name.is_empty() {
            say(format!("{list}[{i}]"), "the name is empty".into());
        }
        if !seen.insert((entry, name)) {
            let of = if entry.is_empty() {
                String::new()
            } else {
                format!(" of {entry}")
            };
            say(format!("{list}[{i}]"), format!("two rows are called `{name}`{of}"));
        }
    }
}
