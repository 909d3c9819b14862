//! Lower bound <= bytes <= naive, and the status says how the first two compare.

use std::collections::{BTreeMap, BTreeSet};

use super::Say;
use super::view::View;
use crate::report::Status;
use crate::report::types::Totals;

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    let t = &view.report.totals;
    let over = Over::new(t);
    let mut judge = |place: String, bytes: u64, bound: u64, naive: u64, status: Status, by: &[u64]| {
        if bound > bytes {
            say(
                format!("{place}.lower_bound"),
                format!("{bound} is above the {bytes} bytes that suffice"),
            );
            return;
        }
        if naive < bytes {
            say(
                format!("{place}.naive"),
                format!("{naive} bytes without reuse, and {bytes} with it"),
            );
        }
        if let Some(wrong) = untrue(status, bytes, bound, by) {
            say(format!("{place}.status"), wrong);
        }
    };
    judge(
        "totals".into(),
        t.arena_bytes,
        t.lower_bound_bytes,
        t.naive_bytes,
        t.status,
        &over.totals(),
    );
    for (i, r) in t.regions.iter().enumerate() {
        judge(
            format!("totals.regions[{i}]"),
            r.bytes,
            r.lower_bound,
            r.naive,
            r.status,
            &over.region(&r.name),
        );
    }
    let canary = view.canary();
    let plans = t.regions.iter().enumerate().filter_map(|(i, r)| {
        let place = format!("totals.regions[{i}].plan");
        r.plan
            .as_ref()
            .map(|plan| (place, plan, r.bytes.saturating_sub(canary), over.memory(&r.name)))
    });
    let entries = view.report.header.entries.iter().enumerate();
    let own = entries.filter_map(|(i, e)| {
        e.plan
            .as_ref()
            .map(|p| (format!("header.entries[{i}].plan"), p, e.peak_bytes, Vec::new()))
    });
    for (place, plan, bytes, by) in plans.chain(own) {
        if plan.candidates.get(&plan.chosen) != Some(&bytes) || plan.bytes != bytes {
            let message = format!("`{}` is no candidate with {bytes} bytes", plan.chosen);
            say(format!("{place}.chosen"), message);
        }
        if plan.lower_bound.checked_add(plan.gap) != Some(plan.bytes) {
            let message = format!(
                "{} is not what {} bytes over a bound of {} are",
                plan.gap, plan.bytes, plan.lower_bound
            );
            say(format!("{place}.gap"), message);
        } else if let Some(wrong) = untrue(plan.status, plan.bytes, plan.lower_bound, &by) {
            say(format!("{place}.status"), wrong);
        }
    }
    // In a stride layout nothing is reused: there the peaks are those of the packed form.
    let Some(room) = t.regions.iter().find(|r| r.name == "activations") else {
        return;
    };
    let mut judged = BTreeSet::new();
    for (i, entry) in view.report.header.entries.iter().enumerate() {
        // Rows of one name are told of elsewhere.
        if !judged.insert(&entry.name) {
            continue;
        }
        if entry.peak_bytes > room.bytes {
            let message = format!("{} is more than the activations have", entry.peak_bytes);
            say(format!("header.entries[{i}].peak_bytes"), message);
        }
        let steps = view.lines.get(entry.name.as_str()).into_iter().flat_map(|l| &l.steps);
        for step in steps.filter(|s| view.report.steps[**s].live_bytes > entry.peak_bytes) {
            let live = view.report.steps[*step].live_bytes;
            let message = format!("{live} is more than the peak of {}, {}", entry.name, entry.peak_bytes);
            say(format!("steps[{step}].live_bytes"), message);
        }
    }
}

/// Why a status is not that of so many bytes, which are no fewer than the bound, and over a limit by one of `by`.
fn untrue(status: Status, bytes: u64, bound: u64, by: &[u64]) -> Option<String> {
    let holds = match status {
        Status::OverBudget { by: told } => by.contains(&told),
        _ if !by.is_empty() => false,
        Status::Optimal => bytes == bound,
        Status::OptimalSearch => bytes > bound,
        Status::Feasible { gap } => gap > 0 && bytes - bound == gap,
        // Of a capacity that nothing here speaks of.
        Status::Infeasible => false,
    };
    (!holds).then(|| {
        let limit = by.first().map_or(String::new(), |by| format!(", {by} over a limit"));
        format!("`{status}` is not what {bytes} bytes over a bound of {bound} are{limit}")
    })
}

/// What is larger than a limit, and by how much.
struct Over<'a> {
    budgets: BTreeMap<&'a str, u64>,
    memories: BTreeMap<&'a str, u64>,
}

impl<'a> Over<'a> {
    fn new(totals: &'a Totals) -> Over<'a> {
        let by = |bytes: u64, limit: u64| bytes.saturating_sub(limit);
        let budgets = totals.budgets.iter().map(|b| (b.name.as_str(), by(b.bytes, b.limit)));
        let limited = totals.memories.iter().map(|m| (m, m.capacity.unwrap_or(u64::MAX)));
        let memories = limited.map(|(m, capacity)| (m.name.as_str(), by(m.bytes, capacity)));
        Over {
            budgets: budgets.filter(|(_, by)| *by > 0).collect(),
            memories: memories.collect(),
        }
    }

    /// What may be said of everything: all that memories lack, else a budget.
    fn totals(&self) -> Vec<u64> {
        let short = self.memories.values().fold(0, |sum: u64, by| sum.saturating_add(*by));
        match short {
            0 => self.budgets.values().copied().collect(),
            by => vec![by],
        }
    }

    /// What may be said of a region: what its memory lacks, or its budget.
    fn region(&self, name: &str) -> Vec<u64> {
        match self.memories.contains_key(name) {
            true => self.memory(name),
            false => self.budgets.get(name).copied().into_iter().collect(),
        }
    }

    /// What a memory lacks.
    fn memory(&self, name: &str) -> Vec<u64> {
        let by = self.memories.get(name).copied();
        by.filter(|by| *by > 0).into_iter().collect()
    }
}
