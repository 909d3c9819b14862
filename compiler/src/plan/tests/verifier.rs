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

/// Whether a layout is valid, pair by pair, for everything a problem can say except views.
fn valid_in_full(p: &Problem, s: &Solution) -> bool {
    let lives = |b: &Buffer| b.size > 0 && b.live.iter().any(|r| !r.is_empty());
    let fine = |(i, b): (usize, &Buffer)| {
        let Some(region) = p.regions.get(s.region[i]) else {
            return false;
        };
        let (start, end) = (s.offsets[i], s.offsets[i] + b.size);
        let kept = region
            .reserved
            .iter()
            .all(|r| r.is_empty() || end <= r.start || r.end <= start);
        start.is_multiple_of(b.align)
            && b.pinned.is_none_or(|pin| pin == start)
            && b.region.is_none_or(|r| r == s.region[i])
            && (!lives(b) || kept && end <= s.regions[s.region[i]].peak)
            && (0..i).all(|j| s.region[i] != s.region[j] || !oracle::clash(p, &s.offsets, j, i))
    };
    let merged = |&(dst, src): &(usize, usize)| {
        let distance = |alias: &Alias| match *alias {
            Alias::InPlace { dst: d, src: s, delta } => ((d, s) == (dst, src)).then_some(delta),
            Alias::View { .. } => None,
        };
        let actual = s.offsets[dst] as i64 - s.offsets[src] as i64;
        s.region[dst] == s.region[src] && p.aliases.iter().any(|a| distance(a) == Some(actual))
    };
    p.buffers.iter().enumerate().all(fine) && s.merged.iter().all(merged)
}

/// Problems with everything but views and pins: two regions, of which the first has a capacity and reserved bytes.
fn full() -> impl Strategy<Value = Problem> {
    let pair = (0..7usize, 0..7usize);
    (
        buffers(2..8, 5, 1, 6),
        prop::collection::vec((pair.clone(), -2..3i64), 0..4),
        prop::collection::vec(pair, 0..3),
        prop::collection::vec(0..3usize, 7),
        (4..14u64, 0..6u64, 0..3u64),
        prop::collection::vec((0..5u64, 0..4usize), 7),
    )
        .prop_map(|(mut p, pairs, apart, branch, (capacity, from, length), extra)| {
            let n = p.buffers.len();
            let known = |&(a, b): &(usize, usize)| a < n && b < n && a != b;
            let pairs = pairs.into_iter().filter(|(pair, _)| known(pair));
            p.aliases = pairs
                .map(|((dst, src), delta)| Alias::InPlace { dst, src, delta })
                .collect();
            p.apart = apart.into_iter().filter(known).collect();
            let of = |b: usize| (0..n).filter(|&i| branch[i] == b).collect();
            p.exclusive = vec![Choice {
                branches: vec![of(1), of(2)],
            }];
            let region = |name: &str, capacity, reserved| Region {
                name: name.into(),
                capacity,
                reserved,
            };
            p.regions = vec![
                region("fast", Some(capacity), only(from..from + length)),
                region("main", None, only(2..3)),
            ];
            for (b, (accesses, region)) in p.buffers.iter_mut().zip(extra) {
                // Only the second region takes whatever must lie in it.
                (b.accesses, b.region) = (accesses, (region == 0).then_some(1));
            }
            p
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// One change to a good layout or to its problem, with every rule there is.
    #[test]
    fn mutants_of_everything_are_judged_by_definition(
        p in full(), kind in 0..11u8, at in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(), by in 1..4u64,
    ) {
        let (mut p, mut s) = (p.clone(), solved(&p));
        prop_assert!(valid_in_full(&p, &s), "{p:?}\n{s:?}");
        let n = p.buffers.len();
        let (i, j) = (at.index(n), other.index(n));
        match kind {
            0 => s.offsets[i] += by,
            1 => s.offsets[i] = s.offsets[i].saturating_sub(by),
            2 => s.offsets.swap(i, j),
            3 => p.buffers[i].size += by,
            4 => p.buffers[i].live.push(0..6),
            5 => s.region[i] = 1 - s.region[i],
            6 => p.apart.extend((i != j).then_some((i, j))),
            7 => p.exclusive.clear(),
            8 => p.regions[s.region[i]].reserved.push(s.offsets[i]..s.offsets[i] + by),
            9 => p.aliases.clear(),
            _ => p.buffers[i].pinned = Some(s.offsets[j]),
        }
        prop_assert_eq!(verify(&p, &s).is_empty(), valid_in_full(&p, &s), "{:?}\n{:?}\n{:?}", p, s, verify(&p, &s));
    }
}

#[test]
fn claims_about_regions_are_checked() {
    let base = || {
        let mut p = problem(&[(4, 1, 0..2), (4, 1, 1..3), (4, 1, 0..3)]);
        p.regions = [("fast", Some(8)), ("main", None)]
            .map(|(name, capacity)| Region {
                name: name.into(),
                capacity,
                reserved: Vec::new(),
            })
            .to_vec();
        p.buffers[0].region = Some(0);
        p.apart = vec![(0, 1)];
        (solved(&p), p)
    };
    type Change = fn(&mut Problem, &mut Solution);
    let cases: &[(Change, Violation)] = &[
        (|_, s| s.region.truncate(2), Violation::OffsetCount { want: 3, got: 2 }),
        (|_, s| s.region[2] = 7, Violation::WrongRegion { buffer: 2 }),
        (
            |p, _| p.buffers[0].region = Some(1),
            Violation::WrongRegion { buffer: 0 },
        ),
        (|_, s| drop(s.regions.pop()), Violation::RegionsBroken),
        (|p, _| p.regions[1].name = "slow".into(), Violation::RegionsBroken),
        (
            |p, _| p.regions[0].capacity = Some(7),
            Violation::OverCapacity { region: 0, by: 1 },
        ),
        (
            |p, s| p.regions[s.region[2]].reserved = vec![s.offsets[2] + 3..s.offsets[2] + 4, 100..101],
            Violation::InReserved { buffer: 2 },
        ),
        (
            |_, s| (s.offsets[1], s.region[1]) = (s.offsets[0], s.region[0]),
            Violation::NotApart { a: 0, b: 1 },
        ),
        (|p, _| p.apart.push((0, 3)), Violation::NoSuchBuffer { index: 3 }),
        (
            |p, _| {
                p.exclusive = vec![Choice {
                    branches: vec![vec![4]],
                }];
            },
            Violation::NoSuchBuffer { index: 4 },
        ),
        (|_, s| s.peak += 1, Violation::StatusBroken),
        (|_, s| s.regions[0].lower_bound += 1, Violation::StatusBroken),
    ];
    for (n, (change, want)) in cases.iter().enumerate() {
        let (mut s, mut p) = base();
        change(&mut p, &mut s);
        let got = verify(&p, &s);
        assert!(got.contains(want), "case {n}: {got:?}");
        assert!(!want.describe(&p).is_empty());
    }
}
