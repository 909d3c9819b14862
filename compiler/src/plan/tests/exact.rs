//! The exact search against brute force, against the portfolio, and against itself under transformations.

use super::oracle::{optimum, pinned};
use super::*;

const ENOUGH: Options = Options {
    nodes: 2_000_000,
    capacity: None,
};

#[track_caller]
fn with(p: &Problem, options: Options) -> Solution {
    let s = solve_with(p, &options).expect("a valid problem");
    assert_eq!(verify(p, &s), [], "{p:?}\n{s:?}");
    s
}

fn is_optimal(s: &Solution) -> bool {
    matches!(s.status, Status::Optimal | Status::OptimalSearch)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn exact_is_the_optimum(p in prop_oneof![buffers(0..7, 3, 0, 5), buffers(0..6, 3, 1, 5), pinned()]) {
        let s = with(&p, ENOUGH);
        prop_assert!(is_optimal(&s), "{p:?}\n{s:?}");
        prop_assert_eq!(s.peak, optimum(&p, s.peak + 1), "{:?}\n{:?}", p, s);
    }

    #[test]
    fn a_capacity_is_met_or_refuted(p in prop_oneof![buffers(0..7, 3, 1, 5), pinned()], capacity in 0..20u64) {
        let best = with(&p, ENOUGH).peak;
        let s = with(&p, Options { capacity: Some(capacity), ..ENOUGH });
        if best <= capacity {
            prop_assert!(s.peak <= capacity, "{p:?}\n{s:?}");
        } else {
            prop_assert_eq!(s.status, Status::Infeasible, "{:?}\n{:?}", p, s);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn search_never_loses_to_the_portfolio(p in buffers(0..24, 40, 2, 16)) {
        let (greedy, exact) = (with(&p, Options { nodes: 0, capacity: None }), with(&p, Options { nodes: 20_000, capacity: None }));
        prop_assert!(exact.peak <= greedy.peak);
        prop_assert!(greedy.candidates.iter().all(|c| exact.peak <= c.peak));
        prop_assert!(exact.nodes <= 20_000);
        prop_assert_eq!(with(&p, Options { nodes: 20_000, capacity: None }), exact);
    }

    #[test]
    fn proven_optima_survive_transformations(p in buffers(0..10, 9, 0, 8), factor in 2..9u64) {
        let s = with(&p, ENOUGH);
        prop_assert!(is_optimal(&s), "{p:?}\n{s:?}");
        let check = |p: &Problem, peak: u64| {
            let s = with(p, ENOUGH);
            assert!(s.peak == peak && is_optimal(&s), "{p:?}\n{s:?}\nis not {peak}");
        };
        let mut reversed = p.clone();
        let mut scaled = p.clone();
        for (r, b) in reversed.buffers.iter_mut().zip(&mut scaled.buffers) {
            r.live.iter_mut().for_each(|l| *l = 3 * (8 - l.end)..3 * (8 - l.start));
            b.size *= factor;
        }
        reversed.buffers.reverse();
        check(&reversed, s.peak);
        check(&scaled, factor * s.peak);
        let mut whole = p.clone();
        whole.buffers.push(Buffer::new("whole", 5, 1, 0..8));
        check(&whole, s.peak + 5);
        let mut twice = p.clone();
        twice.buffers.extend(p.buffers.iter().map(|b| Buffer {
            id: format!("again {}", b.id),
            live: b.live.iter().map(|l| l.start + 8..l.end + 8).collect(),
            ..b.clone()
        }));
        check(&twice, s.peak);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Sorted or not, in pieces that touch or overlap, with empty ones between: a lifetime is a set of ticks.
    #[test]
    fn how_lifetimes_are_written_changes_nothing(p in buffers(0..10, 9, 1, 8), at in prop::collection::vec(0..8u32, 10)) {
        let mut other = p.clone();
        for (b, at) in other.buffers.iter_mut().zip(at) {
            let cut = |r: &Range<u32>| [at.clamp(r.start, r.end)..r.end, r.start..(at + 1).clamp(r.start, r.end)];
            b.live = b.live.iter().flat_map(cut).chain(std::iter::once(at..at)).collect();
        }
        let (s, t) = (with(&p, ENOUGH), with(&other, ENOUGH));
        prop_assert_eq!(s, t);
    }
}

/// Free or pinned or around a reserved range, with all kinds of lifetimes and alignments.
fn any_kind() -> impl Strategy<Value = Problem> {
    let walled = (buffers(0..7, 3, 0, 5), 0..6u64, 1..3u64).prop_map(|(mut p, from, bytes)| {
        p.regions = vec![Region {
            reserved: only(from..from + bytes),
            ..Region::default()
        }];
        p
    });
    prop_oneof![buffers(0..8, 3, 0, 5), buffers(0..7, 4, 2, 5), pinned(), walled]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whatever a search was cut off at, what it says is true.
    #[test]
    fn claims_hold_for_any_budget(p in any_kind(), nodes in 0..400u64, lb in 0..400u64, capacity in 0..20u64) {
        let s = with(&p, Options { nodes, capacity: None });
        let best = optimum(&p, s.peak + 1);
        prop_assert!(s.lower_bound <= best, "{p:?}\n{s:?}\noptimum {best}");
        prop_assert!(!is_optimal(&s) || s.peak == best, "{p:?}\n{s:?}\noptimum {best}");
        let raised = bound(&p, lb).unwrap();
        prop_assert!(raised <= best, "{p:?}\n{raised}\noptimum {best}");
        let s = with(&p, Options { nodes, capacity: Some(capacity) });
        prop_assert!(s.status != Status::Infeasible || capacity < best, "{p:?}\n{s:?}\noptimum {best}");
    }

    /// In a row of problems, each part is a core, and the bound is the largest of theirs.
    #[test]
    fn a_row_of_problems_has_the_bound_of_its_parts(list in prop::collection::vec(buffers(1..7, 4, 2, 5), 1..4), size in 0..3u64) {
        let mut all = Problem::default();
        let mut best = 0;
        for (i, p) in list.iter().enumerate() {
            best = best.max(optimum(p, 100));
            let at = 5 * i as u32;
            all.buffers.extend(p.buffers.iter().map(|b| Buffer {
                id: format!("{i} {}", b.id),
                live: b.live.iter().map(|l| l.start + at..l.end + at).collect(),
                ..b.clone()
            }));
        }
        // In all of them, at the bottom or on top of everything.
        all.buffers.push(Buffer::new("whole", 4 * size, 4, 0..5 * list.len() as u32));
        let raised = bound(&all, 2_000).unwrap();
        prop_assert!(raised <= best + 4 * size, "{all:?}\n{raised}");
    }
}

/// Four buffers that live at once, each at a multiple of 64 although it has 16 bytes, amid what fits under them.
fn hidden(easy: u32) -> Problem {
    let mut p = Problem::default();
    let mut random = 5u32;
    for i in 0..easy {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (at, ticks) = (2 * i, 3 + (random >> 28));
        p.buffers.push(Buffer::new(format!("easy {i}"), 16, 16, at..at + ticks));
    }
    let middle = easy;
    for i in 0..4 {
        p.buffers.push(Buffer::new(
            format!("aligned {i}"),
            16,
            64,
            middle - 6 + i..middle + 6 - i,
        ));
    }
    p
}

/// The four need 3 * 64 + 16 bytes, which no moment has.
#[test]
fn a_core_gives_a_bound_above_the_fullest_moment() {
    let p = hidden(200);
    assert!(bound(&p, 0).unwrap() < 208);
    assert_eq!(bound(&p, 2_000), Ok(208));
}

/// Two short buffers of height 2 that meet a chain of height-1 and height-3 buffers: no layout reaches the bound.
#[test]
fn a_gap_that_no_layout_closes_is_proven() {
    let chain = [
        (1, 0..3),
        (2, 0..1),
        (1, 2..5),
        (2, 4..7),
        (1, 6..7),
        (2, 2..3),
        (1, 4..5),
    ];
    let p = problem(&chain.map(|(size, live)| (size, 1, live)));
    let s = with(&p, ENOUGH);
    assert!(is_optimal(&s));
    assert_eq!(s.peak, optimum(&p, s.peak + 1));
}
