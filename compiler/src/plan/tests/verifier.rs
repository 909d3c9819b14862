//! The verifier rejects broken layouts, and only those.

use super::*;

/// Whether a layout of free buffers is valid, pair by pair and tick by tick.
fn valid(p: &Problem, s: &Solution) -> bool {
    let alive = |b: &Buffer, t: u32| b.size > 0 && b.live.iter().any(|r| r.contains(&t));
    let ok = |(i, a): (usize, &Buffer)| {
        let lives = (0..20).any(|t| alive(a, t));
        let apart = |(j, b): (usize, &Buffer)| {
            let together = (0..20).any(|t| alive(a, t) && alive(b, t));
            !together || s.offsets[i] + a.size <= s.offsets[j] || s.offsets[j] + b.size <= s.offsets[i]
        };
        s.offsets[i].is_multiple_of(a.align)
            && (!lives || s.offsets[i] + a.size <= s.peak)
            && p.buffers.iter().enumerate().skip(i + 1).all(apart)
    };
    p.buffers.iter().enumerate().all(ok)
}

/// The layout with other claims about its one region.
fn claiming(mut s: Solution, peak: u64, lower_bound: u64, status: Status) -> Solution {
    (s.peak, s.lower_bound, s.status) = (peak, lower_bound, status);
    let region = &mut s.regions[0];
    (region.peak, region.lower_bound, region.status) = (peak, lower_bound, status);
    s
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Random offsets: the verifier and the definition agree.
    #[test]
    fn agrees_with_the_definition(
        (p, offsets) in buffers(1..7, 4, 1, 6).prop_flat_map(|p| {
            let n = p.buffers.len();
            (Just(p), prop::collection::vec(0..10u64, n))
        }),
        peak in 8..14u64,
    ) {
        let s = claiming(Solution { offsets, ..solve(&p).unwrap() }, peak, peak, Status::Optimal);
        prop_assert_eq!(verify(&p, &s).is_empty(), valid(&p, &s), "{:?}\n{:?}", p, s);
    }

    /// One change to a good layout or to its problem: rejected exactly when it made a conflict.
    #[test]
    fn mutants_with_a_conflict_are_rejected(p in buffers(2..16, 9, 0, 12), kind in 0..4u8, at in any::<prop::sample::Index>(), by in 1..5u64) {
        let (mut p, mut s) = (p.clone(), solve(&p).unwrap());
        let n = p.buffers.len();
        let (i, j) = (at.index(n), (at.index(n) + 1) % n);
        match kind {
            0 => s.offsets[i] += by,
            1 => s.offsets.swap(i, j),
            2 => p.buffers[i].size += by,
            _ => p.buffers[i].live.push(0..12),
        }
        prop_assert_eq!(verify(&p, &s).is_empty(), valid(&p, &s), "{:?}\n{:?}", p, s);
    }
}

/// Three buffers: a view, an in-place pair, a pin.
fn sample() -> (Problem, Solution) {
    let mut p = problem(&[(128, 64, 0..4), (64, 64, 3..6), (64, 64, 5..8), (64, 64, 0..9)]);
    p.aliases = vec![
        Alias::View {
            part: 1,
            whole: 0,
            delta: 64,
        },
        Alias::InPlace {
            dst: 2,
            src: 1,
            delta: 0,
        },
    ];
    p.buffers[3].pinned = Some(0);
    let s = solved(&p);
    assert_eq!((s.merged.as_slice(), s.peak), (&[(2, 1)][..], 192));
    (p, s)
}

#[test]
fn every_kind_of_violation_is_found() {
    type Change = fn(&mut Problem, &mut Solution);
    let cases: &[(Change, Violation)] = &[
        (|_, s| s.offsets.truncate(3), Violation::OffsetCount { want: 4, got: 3 }),
        (|_, s| s.regions[0].peak -= 1, Violation::OutOfBounds { buffer: 0 }),
        (
            |_, s| s.offsets[2] = u64::MAX - 63,
            Violation::OutOfBounds { buffer: 2 },
        ),
        (|_, s| s.offsets[2] += 1, Violation::Misaligned { buffer: 2 }),
        (|p, _| p.buffers[2].align = 0, Violation::Misaligned { buffer: 2 }),
        (|_, s| s.offsets[1] -= 64, Violation::ViewBroken { part: 1, whole: 0 }),
        (
            |p, _| p.buffers[1].size = 65,
            Violation::ViewBroken { part: 1, whole: 0 },
        ),
        (|_, s| s.offsets[3] = 64, Violation::PinBroken { buffer: 3 }),
        (|_, s| s.offsets[3] = 64, Violation::Overlap { a: 0, b: 3, at: 0 }),
        (|_, s| s.offsets[2] = 0, Violation::Overlap { a: 2, b: 3, at: 5 }),
        (|_, s| s.offsets[2] = 0, Violation::MergeNotAllowed { dst: 2, src: 1 }),
        (
            |_, s| s.merged.push((3, 0)),
            Violation::MergeNotAllowed { dst: 3, src: 0 },
        ),
        (
            |_, s| s.merged.push((9, 0)),
            Violation::MergeNotAllowed { dst: 9, src: 0 },
        ),
        (|p, _| p.aliases.truncate(1), Violation::Overlap { a: 1, b: 2, at: 5 }),
        (
            |p, _| p.buffers[0].live.push(6..7),
            Violation::Overlap { a: 0, b: 2, at: 6 },
        ),
        (
            |p, _| {
                p.aliases.push(Alias::InPlace {
                    dst: 0,
                    src: 9,
                    delta: 0,
                });
            },
            Violation::NoSuchBuffer { index: 9 },
        ),
        (|_, s| s.lower_bound -= 64, Violation::StatusBroken),
        (|_, s| s.status = Status::Feasible { gap: 0 }, Violation::StatusBroken),
    ];
    for (n, (change, want)) in cases.iter().enumerate() {
        let (mut p, mut s) = sample();
        change(&mut p, &mut s);
        let got = verify(&p, &s);
        assert!(got.contains(want), "case {n}: {got:?}");
        assert!(!want.describe(&p).is_empty());
    }
}

#[test]
fn a_flood_of_overlaps_is_cut_off() {
    let p = problem(&vec![(64, 64, 0..3); 200]);
    let s = Solution {
        offsets: vec![0; 200],
        ..solved(&p)
    };
    assert_eq!(verify(&p, &s).len(), verify::MAX_VIOLATIONS);
}
