//! The planner against brute force, against itself under transformations, and the verifier against broken layouts.

mod aliases;
mod constraints;
mod corners;
mod exact;
mod files;
mod merges;
mod oracle;
mod properties;
mod rehome;
mod settle;
mod tables;
mod tiny;
mod verifier;

use std::ops::Range;

use proptest::prelude::*;

use super::*;

/// A problem of free buffers `(size, align, lifetime)`, called `b0`, `b1`, ...
fn problem(buffers: &[(u64, u64, Range<u32>)]) -> Problem {
    let buffers = buffers
        .iter()
        .enumerate()
        .map(|(i, (size, align, live))| Buffer::new(format!("b{i}"), *size, *align, live.clone()))
        .collect();
    Problem {
        buffers,
        ..Problem::default()
    }
}

/// One range of bytes that nothing may use.
fn only(range: Range<u64>) -> Vec<Range<u64>> {
    std::iter::once(range).collect()
}

/// Solves, and holds the result against the verifier and against what a solution promises by itself.
#[track_caller]
fn solved(problem: &Problem) -> Solution {
    let s = solve(problem).expect("a valid problem");
    assert_eq!(verify(problem, &s), [], "{problem:?}\n{s:?}");
    assert!(s.lower_bound <= s.peak);
    for region in &s.regions {
        let tried = &s.candidates[region.candidates.clone()];
        assert_eq!(tried.iter().map(|c| c.peak).min().unwrap_or(0), region.peak);
        assert_eq!(s.candidates.get(region.chosen).map_or(0, |c| c.peak), region.peak);
    }
    s
}

/// Lifetimes on a clock of `ticks`: one or two intervals, some empty.
fn live(ticks: u32) -> impl Strategy<Value = Vec<Range<u32>>> {
    let interval = (0..ticks, 0..=ticks).prop_map(|(a, b)| a.min(b)..a.max(b));
    prop::collection::vec(interval, 1..=2)
}

/// Free buffers; sizes in bytes, alignments up to `2^max_shift`.
fn buffers(n: Range<usize>, max_size: u64, max_shift: u32, ticks: u32) -> impl Strategy<Value = Problem> {
    let buffer = (0..=max_size, 0..=max_shift, live(ticks));
    prop::collection::vec(buffer, n).prop_map(|list| Problem {
        buffers: list
            .into_iter()
            .enumerate()
            .map(|(i, (size, shift, live))| Buffer {
                id: format!("b{i}"),
                size,
                align: 1 << shift,
                live,
                pinned: None,
                region: None,
                accesses: 0,
            })
            .collect(),
        ..Problem::default()
    })
}
