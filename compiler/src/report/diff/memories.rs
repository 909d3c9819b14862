//! Memories: what each of them has, needs and serves, and which tensors live in another one now.

use std::collections::BTreeMap;

use super::group::{Row, group};
use super::{Amount, Fact, Kind, paired};
use crate::report::text::percent;
use crate::report::types::{Memory, Report, Tensor, Totals};

/// Gives the memories of the old report the names that they have in the new one: those in the same position of which
/// neither name is in the other report.
pub(super) fn rename(old: &mut Report, new: &Report) -> Vec<Fact> {
    let named = |t: &Totals, name: &str| t.memories.iter().any(|m| m.name == name);
    let pairs = old.totals.memories.iter().zip(&new.totals.memories);
    let pairs = pairs.filter(|(a, b)| !named(&new.totals, &a.name) && !named(&old.totals, &b.name));
    let names: BTreeMap<String, String> = pairs.map(|(a, b)| (a.name.clone(), b.name.clone())).collect();
    let change = |name: &mut String| {
        if let Some(now) = names.get(name) {
            name.clone_from(now);
        }
    };
    let totals = &mut old.totals;
    totals.memories.iter_mut().for_each(|m| change(&mut m.name));
    totals.regions.iter_mut().for_each(|r| change(&mut r.name));
    old.tensors
        .iter_mut()
        .for_each(|t| t.memory.iter_mut().for_each(change));
    let fact = |(from, to)| Fact::new(Kind::Memory, format!("renamed: {from} -> {to}"));
    names.iter().map(fact).collect()
}

fn by_name(t: &Totals) -> BTreeMap<&str, &Memory> {
    t.memories.iter().map(|m| (m.name.as_str(), m)).collect()
}

/// Bytes above what a memory has.
fn over(m: &Memory) -> u64 {
    m.bytes.saturating_sub(m.capacity.unwrap_or(u64::MAX))
}

/// Memories that the new report overfills by more than the old one did.
pub(super) fn limits(old: &Totals, new: &Totals) -> Vec<Fact> {
    let before = by_name(old);
    let worse = |m: &&Memory| over(m) > before.get(m.name.as_str()).map_or(0, |m| over(m));
    let fact = |m: &Memory| {
        let (name, bytes, by) = (&m.name, m.bytes, over(m));
        let has = m.capacity.unwrap_or(u64::MAX);
        Fact::new(
            Kind::Budget,
            format!("memory {name} needs {bytes} B, over the {has} B that it has by {by} B"),
        )
    };
    new.memories.iter().filter(worse).map(fact).collect()
}

type Field = (&'static str, fn(&Memory) -> Option<u64>);

/// The numbers of a memory, by what a reader calls them.
const FIELDS: &[Field] = &[
    ("", |m| Some(m.bytes)),
    (" capacity", |m| m.capacity),
    (" headroom", |m| m.capacity.map(|c| c.saturating_sub(m.bytes))),
    (" accesses", |m| Some(m.accesses)),
];

/// What each memory needs, has, has left and serves.
pub(super) fn amounts(old: &Totals, new: &Totals) -> Vec<Amount> {
    let mut all = Vec::new();
    for (name, a, b) in paired(&by_name(old), &by_name(new)) {
        for (field, value) in FIELDS {
            let of = |m: Option<&&Memory>| m.and_then(|m| value(m));
            let (a, b) = (of(a), of(b));
            // What has no limit on one side has no number there.
            if field.is_empty() || (a.is_some() && b.is_some()) {
                all.push(Amount::bytes(
                    format!("memory {name}{field}"),
                    a.unwrap_or(0),
                    b.unwrap_or(0),
                ));
            }
        }
    }
    all
}

/// Memories that are new, gone, resized or otherwise full, and what share of the accesses they serve.
pub(super) fn facts(old: &Totals, new: &Totals) -> Vec<Fact> {
    let size = |m: &Memory| m.capacity.map_or_else(|| "no limit".to_owned(), |c| format!("{c} B"));
    let all = |t: &Totals| t.memories.iter().map(|m| m.accesses).fold(0, u64::saturating_add);
    let share = |m: &Memory, t: &Totals| percent(m.accesses, all(t));
    let mut facts = Vec::new();
    let mut say = |text: String| facts.push(Fact::new(Kind::Memory, text));
    for (name, a, b) in paired(&by_name(old), &by_name(new)) {
        match (a, b) {
            (Some(a), Some(b)) => {
                if a.capacity != b.capacity {
                    say(format!("resized: {name}, {} -> {}", size(a), size(b)));
                }
                let (x, y) = (share(a, old), share(b, new));
                if x != y {
                    say(format!("{name} serves {y} of the accesses, {x} before"));
                }
            }
            (Some(a), None) => say(format!(
                "removed: {name}, {}, of which {} B were needed",
                size(a),
                a.bytes
            )),
            (None, Some(b)) => say(format!(
                "added: {name}, {}, of which {} B are needed, serves {} of the accesses",
                size(b),
                b.bytes,
                share(b, new)
            )),
            (None, None) => {}
        }
    }
    let order = |t: &Totals| t.memories.iter().map(|m| m.name.clone()).collect::<Vec<_>>();
    let (mut a, mut b) = (order(old), order(new));
    let (then, now) = (a.join(", "), b.join(", "));
    a.sort();
    b.sort();
    if a == b && then != now {
        say(format!("order, the fastest first: {then} -> {now}"));
    }
    facts
}

/// Tensors of both reports that live in another memory.
pub(super) fn rehomed(old: &Report, new: &Report) -> Vec<Fact> {
    fn homes(report: &Report) -> BTreeMap<(&str, &str), &Tensor> {
        let tensors = report.tensors.iter().filter(|t| t.memory.is_some());
        tensors.map(|t| ((t.entry.as_str(), t.id.as_str()), t)).collect()
    }
    let mut rows = Vec::new();
    for (_, a, b) in paired(&homes(old), &homes(new)) {
        let Some((a, b)) = a.zip(b).filter(|(a, b)| a.memory != b.memory) else {
            continue;
        };
        rows.push(Row {
            name: b.id.clone(),
            entry: b.entry.clone(),
            detail: format!("{} -> {}", a.home(), b.home()),
            delta: i128::from(b.bytes),
        });
    }
    let groups = group(rows);
    let fact = |g: &super::group::Group| {
        let text = format!("{}: {}, {}", g.detail, g.subject("tensors"), g.bytes(false));
        g.fact(Kind::Rehomed, text)
    };
    groups.iter().map(fact).collect()
}
