//! A slow oracle that looks at every byte of every worker.

use std::ops::Range;

use ckc::report::{Partition, Report, Step, Tensor, codes};

use crate::fixtures::*;

// The oracle: which bytes each worker touches, for a few numbers of workers.

fn split(n: u64, granule: u64, ith: u64, nth: u64) -> Range<u64> {
    let units = n.div_ceil(granule);
    (units * ith / nth * granule).min(n)..(units * (ith + 1) / nth * granule).min(n)
}

/// The bytes of `t` that a worker touches, or none where the report does not say which.
fn touched(step: &Step, t: &Tensor, part: &str, ith: u64, nth: u64) -> Option<Vec<Range<u64>>> {
    let whole = t.offset..t.offset + t.bytes;
    if matches!(step.partition, Partition::Serial { .. }) {
        return Some(if ith == 0 { vec![whole] } else { Vec::new() });
    }
    let Some((kind, granule)) = part.split_once('/') else {
        return (part == "all").then(|| vec![whole]);
    };
    let granule: u64 = granule.parse().unwrap();
    if kind == "even" && !granule.is_multiple_of(nth) {
        return Some(vec![whole]);
    }
    if ["heads", "even"].contains(&kind) && t.entry.is_empty() {
        assert_eq!(t.shape[0], granule);
        let (own, head) = (split(granule, 1, ith, nth), t.bytes / granule);
        return Some(vec![t.offset + own.start * head..t.offset + own.end * head]);
    }
    let (rows, cols) = (t.shape[0], t.shape[1]);
    let granule = if kind == "even" { cols / granule } else { granule };
    let row = t.bytes / rows;
    if kind == "rows" {
        let own = split(rows, granule, ith, nth);
        return Some(vec![t.offset + own.start * row..t.offset + own.end * row]);
    }
    let own = split(cols, granule, ith, nth);
    let pieces = |at: u64| -> Vec<Range<u64>> {
        if t.dtype != "q8" {
            let element = row / cols;
            return vec![at + own.start * element..at + own.end * element];
        }
        let plane = cols + cols / 32 * 8;
        let scales = |at: u64| at + own.start / 32 * 4..at + own.end / 32 * 4;
        (0..2)
            .map(|p| at + p * plane)
            .flat_map(|at| {
                [
                    at + own.start..at + own.end,
                    scales(at + cols),
                    scales(at + cols + cols / 32 * 4),
                ]
            })
            .collect()
    };
    Some((0..rows).flat_map(|r| pieces(t.offset + r * row)).collect())
}

/// Whether two workers meet in bytes that one of them writes, between two barriers. Parts that are private meet nothing
/// here but what has bytes in common with them in another step.
fn races(r: &Report) -> bool {
    let find = |entry: &str, name: &str| {
        let of = |e: &str| r.tensors.iter().find(|t| t.entry == e && t.id == name);
        of(entry).or_else(|| of(""))
    };
    let entries = r.header.entries.iter();
    for (entry, nth) in entries.flat_map(|e| [2, 3, 5].map(|nth| (e, nth))) {
        let steps: Vec<&Step> = r.steps.iter().filter(|s| s.entry == entry.name).collect();
        // (step, tensor, part, writes), since the last barrier.
        let mut since: Vec<(&Step, &Tensor, &str, bool)> = Vec::new();
        for step in steps {
            let barrier = step.barrier.as_ref();
            if barrier.is_some_and(|b| b.unless.is_none_or(|heads| !heads.is_multiple_of(nth))) {
                since.clear();
            }
            let named = step
                .parts
                .iter()
                .flat_map(|(part, names)| names.iter().map(move |n| (part.as_str(), n)));
            for (part, name) in named {
                let Some(tensor) = find(&step.entry, name) else {
                    continue;
                };
                let writes = !step.inputs.contains(name) || step.clobbers.contains(name);
                since.push((step, tensor, part, writes));
            }
            let new: Vec<_> = since.iter().filter(|(s, ..)| std::ptr::eq(*s, step)).copied().collect();
            for (a, (old_step, old, old_part, old_writes)) in since.iter().enumerate() {
                for (b, (_, tensor, part, writes)) in new.iter().enumerate() {
                    let itself = a == since.len() - new.len() + b;
                    let apart = old.offset + old.bytes <= tensor.offset || tensor.offset + tensor.bytes <= old.offset;
                    if itself || apart || !(*writes || *old_writes) {
                        continue;
                    }
                    if meet((old_step, old, old_part), (step, tensor, part), nth) {
                        return true;
                    }
                }
            }
        }
    }
    false
}

fn meet(a: (&Step, &Tensor, &str), b: (&Step, &Tensor, &str), nth: u64) -> bool {
    for (i, j) in (0..nth)
        .flat_map(|i| (0..nth).map(move |j| (i, j)))
        .filter(|(i, j)| i != j)
    {
        let (Some(x), Some(y)) = (touched(a.0, a.1, a.2, i, nth), touched(b.0, b.1, b.2, j, nth)) else {
            return !std::ptr::eq(a.0, b.0);
        };
        if x.iter().any(|x| y.iter().any(|y| x.start < y.end && y.start < x.end)) {
            return true;
        }
    }
    false
}

/// Whether two tensors of an entry that are live in one step have a byte in common, other than by an alias.
fn overlaps(r: &Report) -> bool {
    let own: Vec<&Tensor> = r.tensors.iter().filter(|t| !t.entry.is_empty()).collect();
    own.iter().enumerate().any(|(i, a)| {
        own[..i].iter().any(|b| {
            let bytes = a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
            let time = a.first <= b.last && b.first <= a.last;
            let alias = a.alias_of.as_ref() == Some(&b.id) || b.alias_of.as_ref() == Some(&a.id);
            a.entry == b.entry && bytes && time && !alias
        })
    })
}

/// Every activation moved by a cache line either way, and every pair of them swapped: what the oracle sees, the judge
/// sees; and what the judge lets pass, the oracle does.
#[test]
fn the_oracle_of_bytes_and_workers_finds_nothing_more() {
    let (mut accepted, mut raced, mut overlapped) = (0, 0, 0);
    for (label, base) in forms(TINY, None)
        .into_iter()
        .chain(forms(TINY, Some((32, 3))))
        .chain(deep())
    {
        let activations: Vec<usize> = (0..base.tensors.len())
            .filter(|i| base.tensors[*i].region == "activations")
            .collect();
        let mut mutants = Vec::new();
        for (n, i) in activations.iter().enumerate() {
            for delta in [-4096, -64, 64, 4096] {
                let mut report = base.clone();
                let offset = &mut report.tensors[*i].offset;
                *offset = offset.saturating_add_signed(delta);
                mutants.push(report);
            }
            for j in activations[..n].iter().rev().take(3) {
                let mut report = base.clone();
                (report.tensors[*i].offset, report.tensors[*j].offset) =
                    (base.tensors[*j].offset, base.tensors[*i].offset);
                mutants.push(report);
            }
        }
        for i in 0..base.steps.len() {
            let mut report = base.clone();
            report.steps[i].barrier = None;
            mutants.push(report);
            for name in &base.steps[i].inputs {
                let mut report = base.clone();
                report.steps[i]
                    .parts
                    .entry("all".into())
                    .or_default()
                    .push(name.clone());
                mutants.push(report);
            }
        }
        for report in &mutants {
            let found = found(report);
            let (race, overlap) = (races(report), overlaps(report));
            assert!(
                !race || found.contains(codes::RACE),
                "{label}: a race is not found\n{}",
                told(report)
            );
            assert!(
                !overlap || found.contains(codes::OVERLAP),
                "{label}: an overlap is not found\n{}",
                told(report)
            );
            raced += usize::from(race);
            overlapped += usize::from(overlap);
            accepted += usize::from(found.is_empty());
        }
    }
    assert!(
        accepted > 20 && raced > 100 && overlapped > 100,
        "{accepted} {raced} {overlapped}"
    );
}
