//! Numbers of the whole program, what was asked for, and where the peak is and why.

use std::collections::{BTreeMap, BTreeSet};

use super::group::qualified;
use super::{Amount, DiffOptions, Fact, Kind, memories, paired};
use crate::report::types::{Costs, Entry, Header, Limit, Peak, Region, Report, Totals};

/// Tensors that a sentence about the peak names.
const MAX_NAMED: usize = 3;

/// Limits that the new report passes.
pub(super) fn limits(old: &Report, new: &Report, options: DiffOptions) -> Vec<Fact> {
    let grown = new.totals.arena_bytes.saturating_sub(old.totals.arena_bytes);
    let growth = options.max_arena_growth.filter(|limit| grown > *limit).map(|limit| {
        let over = grown - limit;
        Fact::new(
            Kind::Budget,
            format!("arena grew by {grown} B, over the {limit} B that it may grow by {over} B"),
        )
    });
    let before: BTreeMap<&str, u64> = old.totals.budgets.iter().map(|b| (b.name.as_str(), over(b))).collect();
    let budgets = new.totals.budgets.iter().filter_map(|b| {
        // What was exceeded as much before is no fault of this change.
        let worse = over(b) > before.get(b.name.as_str()).copied().unwrap_or(0);
        worse.then(|| {
            let (name, bytes, limit, over) = (&b.name, b.bytes, b.limit, over(b));
            Fact::new(
                Kind::Budget,
                format!("{name} needs {bytes} B, over its budget of {limit} B by {over} B"),
            )
        })
    });
    growth.into_iter().chain(budgets).collect()
}

/// Bytes above a budget.
fn over(budget: &Limit) -> u64 {
    budget.bytes.saturating_sub(budget.limit)
}

/// The totals that differ: regions, weights by type, entries.
pub(super) fn amounts(old: &Report, new: &Report) -> Vec<Amount> {
    let (a, b) = (&old.totals, &new.totals);
    let regions = |t: &Totals| -> BTreeMap<String, u64> {
        let own = t.regions.iter().filter(|r| !is_memory(t, r));
        own.map(|r| (r.name.clone(), r.bytes)).collect()
    };
    let or_zero = |x: Option<&u64>| x.copied().unwrap_or(0);
    let mut all = memories::amounts(a, b);
    for (name, x, y) in paired(&regions(a), &regions(b)) {
        all.push(Amount::bytes(format!("region {name}"), or_zero(x), or_zero(y)));
    }
    all.push(Amount::bytes("lower bound", a.lower_bound_bytes, b.lower_bound_bytes));
    all.push(Amount::bytes(
        "kv per token",
        a.kv_bytes_per_token,
        b.kv_bytes_per_token,
    ));
    for (dtype, x, y) in paired(&a.weights_bytes, &b.weights_bytes) {
        all.push(Amount::bytes(format!("weights {dtype}"), or_zero(x), or_zero(y)));
    }
    entries(&old.header, &new.header, &mut all);
    all.push(Amount::bytes("without reuse", a.naive_bytes, b.naive_bytes));
    all.retain(|amount| amount.old != amount.new);
    all
}

/// Whether the region is a memory, of which more is said.
fn is_memory(t: &Totals, region: &Region) -> bool {
    t.memories.iter().any(|m| m.name == region.name)
}

type EntryField = (&'static str, &'static str, fn(&Entry) -> u64);

/// The numbers of an entry, by the names a reader sees, with their unit.
const ENTRY_FIELDS: &[EntryField] = &[
    ("peak", " B", |e| e.peak_bytes),
    ("steps", "", |e| e.steps),
    ("barriers", "", |e| e.barriers),
    ("barriers unless workers divide heads", "", |e| e.barriers_unless),
    ("flop", "", |e| e.flops),
    ("reads", " B", |e| e.bytes_read),
    ("writes", " B", |e| e.bytes_written),
    ("matmuls by the costs", " ns", |e| e.predicted_ns),
];

fn entries(old: &Header, new: &Header, all: &mut Vec<Amount>) {
    fn by_name(h: &Header) -> BTreeMap<&str, &Entry> {
        h.entries.iter().map(|e| (e.name.as_str(), e)).collect()
    }
    let (old, new) = (by_name(old), by_name(new));
    for (field, unit, value) in ENTRY_FIELDS {
        for (entry, a, b) in paired(&old, &new) {
            let of = |e: Option<&&Entry>| e.map_or(0, |e| value(e));
            all.push(Amount {
                unit,
                ..Amount::count(format!("{entry} {field}"), of(a), of(b))
            });
        }
    }
}

/// What was asked for.
pub(super) fn settings(old: &Header, new: &Header) -> Vec<Fact> {
    let fields = |h: &Header| -> [(&'static str, String); 12] {
        let o = &h.options;
        [
            ("model", h.model.clone()),
            ("context", o.context.to_string()),
            ("batch", o.batch.to_string()),
            ("weights_dtype", o.weights_dtype.clone()),
            ("kv_dtype", o.kv_dtype.clone()),
            ("layout", o.layout.clone()),
            ("mode", o.mode.clone()),
            ("target", h.target.clone()),
            ("max_threads", o.max_threads.to_string()),
            ("debug", o.debug.join(",")),
            ("costs", h.costs.as_ref().map_or_else(|| "none".to_owned(), costs)),
            ("ckc version", h.ckc_version.clone()),
        ]
    };
    let pairs = fields(old).into_iter().zip(fields(new)).filter(|(a, b)| a != b);
    let mut facts: Vec<Fact> = pairs
        .map(|((name, a), (_, b))| Fact::new(Kind::Option, format!("{name}: {a} -> {b}")))
        .collect();
    let flags = |h: &Header| -> BTreeSet<String> { h.options.fuse.iter().cloned().collect() };
    let (a, b) = (flags(old), flags(new));
    let signed = |sign: &str, list: Vec<&String>| list.iter().map(|f| format!("{sign}{f}")).collect::<Vec<_>>();
    let changes = [
        signed("-", a.difference(&b).collect()),
        signed("+", b.difference(&a).collect()),
    ]
    .concat();
    if !changes.is_empty() {
        facts.push(Fact::new(Kind::Option, format!("fuse: {}", changes.join(" "))));
    }
    facts
}

/// A table of costs and what was chosen by it, in words.
fn costs(costs: &Costs) -> String {
    let many = costs.many_from.iter().flat_map(|(dtype, many)| {
        let each = many.each();
        each.map(move |(isa, tokens)| format!("{dtype} on {isa} many from {tokens}"))
    });
    let tiles = costs.tiles_from.map(|tokens| format!("tiles from {tokens}"));
    let chosen: Vec<String> = many.chain(tiles).collect();
    let (machine, isa, workers) = (&costs.machine, &costs.isa, costs.workers);
    format!("{machine} ({isa}, {workers} workers; {})", chosen.join(", "))
}

/// Proofs that were lost or found.
pub(super) fn statuses(old: &Totals, new: &Totals) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut add = |name: &str, a: String, b: String| {
        if a != b {
            facts.push(Fact::new(Kind::Status, format!("{name}: {a} -> {b}")));
        }
    };
    add("arena", old.status.to_string(), new.status.to_string());
    fn by_name(t: &Totals) -> BTreeMap<&str, &Region> {
        t.regions.iter().map(|r| (r.name.as_str(), r)).collect()
    }
    for (name, a, b) in paired(&by_name(old), &by_name(new)) {
        if let (Some(a), Some(b)) = (a, b) {
            let what = if is_memory(new, b) { "memory" } else { "region" };
            add(&format!("{what} {name}"), a.status.to_string(), b.status.to_string());
        }
    }
    facts
}

/// Where the peak went, and why. `old` has the numbers of the new report's layers.
pub(super) fn peak(old: &Report, new: &Report) -> Option<Fact> {
    let fact = |text| Some(Fact::new(Kind::Peak, text));
    let (a, b) = match (&old.totals.peak, &new.totals.peak) {
        (None, None) => return None,
        (Some(a), None) => return fact(format!("no step needs a byte any more; it was at {}", place(a))),
        (None, Some(b)) => return fact(format!("is at {}: {} B", place(b), b.bytes)),
        (Some(a), Some(b)) => (a, b),
    };
    let same_place = (&a.entry, &a.step) == (&b.entry, &b.step);
    if same_place && a.bytes == b.bytes {
        return None;
    }
    if same_place {
        let word = if b.bytes > a.bytes { "grew" } else { "shrank" };
        let mut text = format!("{word} at {}: {} -> {} B", place(a), a.bytes, b.bytes);
        let causes = causes(a, b);
        if !causes.is_empty() {
            text += &format!("; {}", some(&causes));
        }
        return fact(text);
    }
    fact(format!(
        "moved from {} ({} B) to {} ({} B) because {}",
        place(a),
        a.bytes,
        place(b),
        b.bytes,
        why_moved(old, new, a, b)
    ))
}

fn place(peak: &Peak) -> String {
    qualified(&peak.entry, &peak.step)
}

/// Bytes live at a step, if the report has that step.
fn live(report: &Report, peak: &Peak) -> Option<u64> {
    let step = report
        .steps
        .iter()
        .find(|s| (&s.entry, &s.id) == (&peak.entry, &peak.step));
    step.map(|s| s.live_bytes)
}

fn why_moved(old: &Report, new: &Report, a: &Peak, b: &Peak) -> String {
    let (then, now) = (live(old, b), live(new, a));
    let largest: Vec<String> = b.live.iter().map(|l| format!("{} {} B", l.id, l.bytes)).collect();
    let (from, to) = (place(a), place(b));
    match (then, now) {
        (None, _) => format!("{to} is new; live there: {}", some(&largest)),
        (Some(_), None) => format!("{from} is gone"),
        (Some(then), Some(now)) if b.bytes > then && now == a.bytes => {
            format!("{to} needed {then} B before; live there: {}", some(&largest))
        }
        (Some(then), Some(now)) if b.bytes > then => {
            format!("{to} needed {then} B before, and {from} needs {now} B now")
        }
        (Some(_), Some(now)) if now < b.bytes => format!("{from} needs only {now} B now"),
        _ => "both need as many bytes".to_owned(),
    }
}

/// What is live at the peak and was not, or is not any more, or has another size: most bytes first.
fn causes(a: &Peak, b: &Peak) -> Vec<String> {
    fn sizes(peak: &Peak) -> BTreeMap<&str, u64> {
        peak.live.iter().map(|l| (l.id.as_str(), l.bytes)).collect()
    }
    let (old, new) = (sizes(a), sizes(b));
    let mut changes: Vec<(i128, String)> = Vec::new();
    for (id, x, y) in paired(&old, &new) {
        let delta = i128::from(y.copied().unwrap_or(0)) - i128::from(x.copied().unwrap_or(0));
        let note = match (x, y) {
            (None, _) => " (was not live there)",
            (_, None) => " (is not live there now)",
            _ => "",
        };
        if delta != 0 {
            changes.push((delta, format!("{id} {delta:+} B{note}")));
        }
    }
    changes.sort_by_key(|(delta, _)| std::cmp::Reverse(delta.unsigned_abs()));
    changes.into_iter().map(|(_, text)| text).collect()
}

/// The first few, and how many more.
fn some(list: &[String]) -> String {
    let shown = &list[..list.len().min(MAX_NAMED)];
    let more = match list.len() - shown.len() {
        0 => String::new(),
        n => format!(", and {n} more"),
    };
    shown.join(", ") + &more
}
