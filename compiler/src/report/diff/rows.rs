//! Rows of two reports, matched by name.

use std::collections::{BTreeMap, BTreeSet};

use super::group::{Group, Row, group};
use super::layers::Layers;
use super::names::pattern;
use super::{Fact, Kind, memories, paired};
use crate::report::text::shape;
use crate::report::types::{FuseOutcome, Fusion, Partition, Report, Step, Tensor, WeightRow};

/// Layers that were added, removed and renumbered: one fact a family and kind.
pub(super) fn layers(old: &Report, new: &Report, layers: &Layers) -> Vec<Fact> {
    let mut facts = Vec::new();
    for (report, set, word) in [(new, &layers.added, "added"), (old, &layers.removed, "removed")] {
        for (family, numbers) in by_family(set.iter().map(|(family, index)| (family, *index))) {
            let inside = |name: &str| {
                layers
                    .of(name)
                    .is_some_and(|(f, i)| f == *family && numbers.contains(&i))
            };
            let count = |n: usize, what: &str| (n > 0).then(|| format!("{n} {what}"));
            let steps = report.steps.iter().filter(|s| inside(&s.id)).count();
            let tensors = report.tensors.iter().filter(|t| inside(&t.id)).count();
            let weights: Vec<u64> = report
                .weights
                .iter()
                .filter(|w| inside(&w.name))
                .map(|w| w.bytes)
                .collect();
            let bytes: u128 = weights.iter().map(|b| u128::from(*b)).sum();
            let state = report.tensors.iter().filter(|t| t.entry.is_empty() && inside(&t.id));
            let state: u128 = state.map(|t| u128::from(t.bytes)).sum();
            let parts = [
                count(steps, "steps"),
                count(tensors, "tensors"),
                (state > 0).then(|| format!("{state} B of them shared by the entries")),
                count(weights.len(), "weights"),
                (bytes > 0).then(|| format!("{bytes} B of weights")),
            ];
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            let noun = if numbers.len() == 1 { "layer" } else { "layers" };
            facts.push(Fact {
                count: numbers.len() as u64,
                names: numbers.iter().map(|n| format!("{family}.{n}")).collect(),
                ..Fact::new(
                    Kind::Layer,
                    format!(
                        "{} {noun} {word}: {}; {}",
                        numbers.len(),
                        ranges(family, &numbers),
                        parts.join(", ")
                    ),
                )
            });
        }
    }
    let renumbered = layers
        .renumbered
        .iter()
        .map(|((family, from), to)| (family, (*from, *to)));
    for (family, pairs) in by_family(renumbered) {
        let (from, to): (BTreeSet<u64>, BTreeSet<u64>) = pairs.iter().copied().unzip();
        facts.push(Fact {
            count: pairs.len() as u64,
            names: pairs
                .iter()
                .map(|(i, j)| format!("{family}.{i} -> {family}.{j}"))
                .collect(),
            ..Fact::new(
                Kind::Layer,
                format!(
                    "{} renumbered: {} -> {}",
                    pairs.len(),
                    ranges(family, &from),
                    ranges(family, &to)
                ),
            )
        });
    }
    facts
}

fn by_family<'a, T: Ord>(items: impl Iterator<Item = (&'a String, T)>) -> BTreeMap<&'a String, BTreeSet<T>> {
    let mut families: BTreeMap<&String, BTreeSet<T>> = BTreeMap::new();
    for (family, item) in items {
        families.entry(family).or_default().insert(item);
    }
    families
}

/// `layers.3, layers.5 .. layers.7`, the first few of them.
fn ranges(family: &str, numbers: &BTreeSet<u64>) -> String {
    const MAX_RANGES: usize = 4;
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &n in numbers {
        match runs.last_mut() {
            Some(last) if last.1 + 1 == n => last.1 = n,
            _ => runs.push((n, n)),
        }
    }
    let text = |&(from, to): &(u64, u64)| {
        if from == to {
            format!("{family}.{from}")
        } else {
            format!("{family}.{from} .. {family}.{to}")
        }
    };
    let shown: Vec<String> = runs.iter().take(MAX_RANGES).map(text).collect();
    let more = match runs.len() - shown.len() {
        0 => String::new(),
        n => format!(", and {n} more ranges"),
    };
    shown.join(", ") + &more
}

/// Everything about rows. `new` is without the layers that were added, `whole` is with them.
pub(super) fn facts(old: &Report, new: &Report, whole: &Report) -> Vec<Fact> {
    let mut facts = fusions(old, new);
    facts.extend(steps(old, new, whole));
    facts.extend(tensors(old, new));
    facts.extend(memories::rehomed(old, new));
    facts.extend(weights(old, new));
    facts.extend(moved(old, new));
    facts
}

/// Rows of one kind into facts, in these words.
fn add(facts: &mut Vec<Fact>, kind: Kind, rows: Vec<Row>, words: impl Fn(&Group) -> String) {
    facts.extend(group(rows).iter().map(|g| g.fact(kind, words(g))));
}

fn applied(report: &Report) -> BTreeMap<(&str, &str, &str), &Fusion> {
    let applied = report.fusions.iter().filter(|f| f.outcome == FuseOutcome::Applied);
    applied
        .map(|f| ((f.flag.as_str(), f.entry.as_str(), f.site.as_str()), f))
        .collect()
}

fn fusions(old: &Report, new: &Report) -> Vec<Fact> {
    let (before, after) = (applied(old), applied(new));
    let key = |f: &Fusion| (f.flag.clone(), f.entry.clone(), f.site.clone());
    let refused: BTreeMap<_, &str> = new.fusions.iter().map(|f| (key(f), f.reason.as_str())).collect();
    let allowed: BTreeSet<&str> = new.header.options.fuse.iter().map(String::as_str).collect();
    let ops: BTreeSet<&str> = new
        .steps
        .iter()
        .flat_map(|s| &s.fused_from)
        .map(String::as_str)
        .collect();
    let why = |f: &Fusion| match refused.get(&key(f)) {
        Some(reason) if !reason.is_empty() => (*reason).to_owned(),
        _ if !allowed.contains(f.flag.as_str()) => "the flag is not allowed any more".to_owned(),
        Some(_) => "it is refused".to_owned(),
        None if !ops.contains(f.site.as_str()) => "the operator is gone".to_owned(),
        None => "there is no such site now: its operators or the fusion sites of the description changed".to_owned(),
    };
    let mut facts = Vec::new();
    // One group a flag: the flag stands in the detail.
    let row = |f: &Fusion, detail: String| Row {
        name: f.site.clone(),
        entry: f.entry.clone(),
        detail: format!("{} {detail}", f.flag),
        delta: 0,
    };
    let lost = before.iter().filter(|(k, _)| !after.contains_key(*k));
    let lost = lost.map(|(_, f)| row(f, why(f))).collect();
    add(&mut facts, Kind::FusionLost, lost, |g| {
        let (flag, reason) = g.detail.split_once(' ').unwrap_or((&g.detail, ""));
        format!("{flag} lost at {} because {reason}", g.subject("sites"))
    });
    let gained = after.iter().filter(|(k, _)| !before.contains_key(*k));
    let gained = gained.map(|(_, f)| row(f, String::new())).collect();
    add(&mut facts, Kind::FusionGained, gained, |g| {
        format!("{}gained at {}", g.detail, g.subject("sites"))
    });
    facts
}

type ByName<'a, T> = BTreeMap<(&'a str, &'a str), &'a T>;

fn steps_by_name(report: &Report) -> ByName<'_, Step> {
    let steps = report.steps.iter();
    steps.map(|s| ((s.entry.as_str(), s.id.as_str()), s)).collect()
}

fn steps(old: &Report, new: &Report, whole: &Report) -> Vec<Fact> {
    let (before, after) = (steps_by_name(old), steps_by_name(new));
    let (homes_before, homes_after) = (homes(old), homes(whole));
    let row = |s: &Step, detail: String| Row {
        name: s.id.clone(),
        entry: s.entry.clone(),
        detail,
        delta: 0,
    };
    // Those that every number of workers waits at.
    let waits = |s: &Step| s.barrier.as_ref().is_some_and(|b| b.unless.is_none());
    let reason = |s: &Step| s.barrier.as_ref().map_or(String::new(), |b| b.reason.clone());
    let (mut gained, mut lost) = (Vec::new(), Vec::new());
    let (mut kernels, mut partitions, mut changed) = (Vec::new(), Vec::new(), Vec::new());
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    for (_, a, b) in paired(&before, &after) {
        match (a, b) {
            (Some(a), Some(b)) => {
                match ((a.barrier.is_some(), waits(a)), (b.barrier.is_some(), waits(b))) {
                    (old, new) if old < new => gained.push(row(b, reason(b))),
                    (old, new) if old > new => lost.push(row(b, reason(if new.0 { b } else { a }))),
                    _ => {}
                }
                if a.kernel != b.kernel {
                    kernels.push(row(b, format!("{} -> {}", a.kernel, b.kernel)));
                }
                // Reports of before there were costs say nothing of them.
                if let (Some(x), Some(y)) = (&a.predicted, &b.predicted)
                    && x.kernels != y.kernels
                {
                    kernels.push(row(b, format!("matmuls for {} -> {}", x.kernels, y.kernels)));
                }
                let (x, y) = (division(&a.partition), division(&b.partition));
                if x != y {
                    partitions.push(row(b, format!("{x} -> {y}")));
                }
                changed.extend(work(a, b).map(|detail| row(b, detail)));
            }
            (Some(a), None) => removed.push(row(a, fate(a, &homes_after, "now part of"))),
            (None, Some(b)) => added.push(row(b, fate(b, &homes_before, "was part of"))),
            (None, None) => {}
        }
    }
    let mut facts = Vec::new();
    let said = |word: &str, g: &Group| format!("{word} {}{}", g.subject("steps"), prefixed(": ", &g.detail));
    add(&mut facts, Kind::BarrierGained, gained, |g| said("gained before", g));
    add(&mut facts, Kind::BarrierLost, lost, |g| said("lost before", g));
    add(&mut facts, Kind::Kernel, kernels, |g| said("of", g));
    add(&mut facts, Kind::Partition, partitions, |g| said("partition of", g));
    add(&mut facts, Kind::StepRemoved, removed, |g| said("removed:", g));
    add(&mut facts, Kind::StepAdded, added, |g| said("added:", g));
    add(&mut facts, Kind::StepChanged, changed, |g| said("changed:", g));
    facts
}

fn prefixed(prefix: &str, text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("{prefix}{text}")
    }
}

/// The step that does an operator's work, by entry and operator.
fn homes(report: &Report) -> BTreeMap<(&str, &str), &str> {
    let ops = report
        .steps
        .iter()
        .flat_map(|s| s.fused_from.iter().map(move |op| (s, op)));
    ops.map(|(s, op)| ((s.entry.as_str(), op.as_str()), s.id.as_str()))
        .collect()
}

/// Where the work of a step is in the other report, if one step has all of it.
fn fate(step: &Step, homes: &BTreeMap<(&str, &str), &str>, words: &str) -> String {
    let mut found = step
        .fused_from
        .iter()
        .map(|op| homes.get(&(step.entry.as_str(), op.as_str())));
    let first = found.next().flatten();
    match first {
        Some(home) if found.all(|other| other == first) => format!("{words} {home}"),
        _ => String::new(),
    }
}

/// How work is divided, without the length of the axis: that follows from shapes.
fn division(partition: &Partition) -> String {
    match partition {
        Partition::Axis { axis, granule, .. } => format!("{axis} by {granule}"),
        Partition::Serial { reason } => format!("serial ({reason})"),
    }
}

/// In what a step's work differs besides its kernel: operators, else operands, else in-place.
fn work(a: &Step, b: &Step) -> Option<String> {
    let only = |x: &[String], y: &[String]| -> Vec<String> { x.iter().filter(|n| !y.contains(n)).cloned().collect() };
    let both = |x: &[String], y: &[String], verb: &str, no: &str| {
        let (gone, new) = (only(x, y), only(y, x));
        let parts = [
            (!new.is_empty()).then(|| format!("{verb} {}", new.join(", "))),
            (!gone.is_empty()).then(|| format!("{no} {}", gone.join(", "))),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    };
    both(&a.fused_from, &b.fused_from, "also does", "no longer does")
        .or_else(|| both(&a.inputs, &b.inputs, "reads", "no longer reads"))
        .or_else(|| both(&a.outputs, &b.outputs, "writes", "no longer writes"))
        .or_else(|| match (&a.in_place_of, &b.in_place_of) {
            (Some(x), None) => Some(format!("not in place of {x} any more")),
            (x, Some(y)) if x.as_ref() != Some(y) => Some(format!("in place of {y}")),
            _ => None,
        })
}

fn tensors_by_name(report: &Report) -> ByName<'_, Tensor> {
    let tensors = report.tensors.iter();
    tensors.map(|t| ((t.entry.as_str(), t.id.as_str()), t)).collect()
}

/// `field a -> b` for each field that differs.
fn fields<const N: usize>(names: [&str; N], old: [String; N], new: [String; N]) -> String {
    let pairs = names.iter().zip(old.iter().zip(&new)).filter(|(_, (a, b))| a != b);
    let texts: Vec<String> = pairs.map(|(name, (a, b))| format!("{name}{a} -> {b}")).collect();
    texts.join(", ")
}

fn tensors(old: &Report, new: &Report) -> Vec<Fact> {
    let row = |t: &Tensor, detail: String, delta: i128| Row {
        name: t.id.clone(),
        entry: t.entry.clone(),
        detail,
        delta,
    };
    let about = |t: &Tensor| {
        [
            t.bytes.to_string(),
            t.dtype.clone(),
            shape(&t.shape),
            t.region.clone(),
            t.layout.clone(),
            t.align.to_string(),
            t.alias_of.clone().unwrap_or_else(|| "nothing".to_owned()),
        ]
    };
    const NAMES: [&str; 7] = ["", "", "", "region ", "order ", "align ", "in place of "];
    let (mut grown, mut shrunk, mut changed, mut added, mut removed) =
        <(Vec<_>, Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
    for (_, a, b) in paired(&tensors_by_name(old), &tensors_by_name(new)) {
        match (a, b) {
            (Some(a), Some(b)) => {
                let detail = fields(NAMES, about(a), about(b));
                let delta = i128::from(b.bytes) - i128::from(a.bytes);
                match delta {
                    1.. => grown.push(row(b, detail, delta)),
                    ..=-1 => shrunk.push(row(b, detail, delta)),
                    0 if !detail.is_empty() => changed.push(row(b, detail, 0)),
                    0 => {}
                }
            }
            (Some(a), None) => removed.push(row(a, a.region.clone(), i128::from(a.bytes))),
            (None, Some(b)) => added.push(row(b, b.region.clone(), i128::from(b.bytes))),
            (None, None) => {}
        }
    }
    let mut facts = Vec::new();
    let sized = |word: &str, g: &Group| format!("{word} {}, {} in {}", g.subject("tensors"), g.bytes(false), g.detail);
    let resized = |word: &str, g: &Group| format!("{word} {}, {}, {}", g.subject("tensors"), g.bytes(true), g.detail);
    add(&mut facts, Kind::TensorGrown, grown, |g| resized("grown:", g));
    add(&mut facts, Kind::TensorAdded, added, |g| sized("added:", g));
    add(&mut facts, Kind::TensorShrunk, shrunk, |g| resized("shrunk:", g));
    add(&mut facts, Kind::TensorRemoved, removed, |g| sized("removed:", g));
    add(&mut facts, Kind::TensorChanged, changed, |g| {
        format!("changed: {}, {}", g.subject("tensors"), g.detail)
    });
    facts
}

fn weights(old: &Report, new: &Report) -> Vec<Fact> {
    fn by_name(r: &Report) -> BTreeMap<&str, &WeightRow> {
        r.weights.iter().map(|w| (w.name.as_str(), w)).collect()
    }
    // A report made without weights has no hashes and no source types; that is not a change of the weights.
    let packed = |r: &Report| r.weights.iter().all(|w| !w.hash.is_empty());
    let both_packed = packed(old) && packed(new);
    let row = |w: &WeightRow, detail: String, delta: i128| Row {
        name: w.name.clone(),
        entry: String::new(),
        detail,
        delta,
    };
    let about = |w: &WeightRow| {
        let known = |text: &String| if both_packed { text.clone() } else { String::new() };
        [
            w.bytes.to_string(),
            w.dtype.clone(),
            shape(&w.shape),
            w.packed_layout.clone(),
            w.source.clone(),
            known(&w.dtype_source),
        ]
    };
    const NAMES: [&str; 6] = ["", "", "", "order ", "from ", "stored as "];
    let (mut changed, mut contents, mut added, mut removed) = <(Vec<_>, Vec<_>, Vec<_>, Vec<_>)>::default();
    for (_, a, b) in paired(&by_name(old), &by_name(new)) {
        match (a, b) {
            (Some(a), Some(b)) => {
                let detail = fields(NAMES, about(a), about(b));
                let delta = i128::from(b.bytes) - i128::from(a.bytes);
                if !detail.is_empty() {
                    changed.push(row(b, detail, delta));
                } else if both_packed && a.hash != b.hash {
                    contents.push(row(b, String::new(), 0));
                }
            }
            (Some(a), None) => removed.push(row(a, a.dtype.clone(), i128::from(a.bytes))),
            (None, Some(b)) => added.push(row(b, b.dtype.clone(), i128::from(b.bytes))),
            (None, None) => {}
        }
    }
    let mut facts = Vec::new();
    let sized = |word: &str, g: &Group| format!("{word} {}, {} of {}", g.subject("weights"), g.bytes(false), g.detail);
    add(&mut facts, Kind::WeightChanged, changed, |g| {
        let bytes = if g.total() == 0 {
            String::new()
        } else {
            format!("{}, ", g.bytes(true))
        };
        format!("changed: {}, {bytes}{}", g.subject("weights"), g.detail)
    });
    add(&mut facts, Kind::WeightChanged, contents, |g| {
        format!("other values: {}", g.subject("weights"))
    });
    add(&mut facts, Kind::WeightAdded, added, |g| sized("added:", g));
    add(&mut facts, Kind::WeightRemoved, removed, |g| sized("removed:", g));
    facts
}

/// Offsets within their region, of what both reports have: one fact a region.
fn moved(old: &Report, new: &Report) -> Vec<Fact> {
    type Places<'a> = BTreeMap<(&'a str, &'a str, &'a str), u64>;
    fn places(report: &Report) -> Places<'_> {
        let regions = report.totals.regions.iter();
        let bases: BTreeMap<&str, u64> = regions.map(|r| (r.name.as_str(), r.offset)).collect();
        let place = |t: &Tensor| t.offset.saturating_sub(bases.get(t.home()).copied().unwrap_or(0));
        let tensors = report.tensors.iter();
        let tensors = tensors.map(|t| ((t.home(), t.entry.as_str(), t.id.as_str()), place(t)));
        let weights = report
            .weights
            .iter()
            .map(|w| (("weights", "", w.name.as_str()), w.offset));
        tensors.chain(weights).collect()
    }
    let (before, after) = (places(old), places(new));
    let mut regions: BTreeMap<&str, (u64, Vec<Row>)> = BTreeMap::new();
    for (&(region, entry, id), a, b) in paired(&before, &after) {
        let (Some(a), Some(b)) = (a, b) else { continue };
        let (all, rows) = regions.entry(region).or_default();
        *all += 1;
        if a != b {
            rows.push(Row {
                name: id.to_owned(),
                entry: entry.to_owned(),
                detail: String::new(),
                delta: i128::from(*b) - i128::from(*a),
            });
        }
    }
    let mut facts = Vec::new();
    for (region, (all, rows)) in regions.into_iter().filter(|(_, (_, rows))| !rows.is_empty()) {
        let distances: BTreeSet<i128> = rows.iter().map(|r| r.delta).collect();
        let by = match (distances.first(), distances.last()) {
            (Some(a), Some(b)) if a == b => format!("by {a:+} B"),
            (Some(a), Some(b)) => format!("by {a:+} to {b:+} B"),
            _ => String::new(),
        };
        let patterns: BTreeSet<String> = rows.iter().map(|r| pattern(&r.name)).collect();
        let names: Vec<String> = patterns.iter().take(3).cloned().collect();
        let more = match patterns.len() - names.len() {
            0 => String::new(),
            n => format!(", and {n} more"),
        };
        let text = format!("in {region}: {} of {all}, {by}: {}{more}", rows.len(), names.join(", "));
        facts.push(Fact {
            count: rows.len() as u64,
            names: rows
                .iter()
                .map(|r| super::group::qualified(&r.entry, &r.name))
                .collect(),
            ..Fact::new(Kind::Moved, text)
        });
    }
    facts
}
