//! Empty, huge and contradictory problems.

use super::*;

#[test]
fn nothing_to_place() {
    let s = solved(&Problem::default());
    assert_eq!((s.peak, s.lower_bound, s.naive, s.status), (0, 0, 0, Status::Optimal));
}

#[test]
fn one_buffer() {
    let s = solved(&problem(&[(100, 64, 0..3)]));
    assert_eq!((s.peak, s.lower_bound, s.naive, s.peak_at), (128, 128, 128, 0));
    assert_eq!(s.candidates.len(), 1);
}

#[test]
fn zero_sizes_and_empty_lifetimes_take_no_room() {
    let p = problem(&[(0, 64, 0..9), (100, 64, 3..3), (64, 64, 1..2)]);
    let s = solved(&p);
    assert_eq!((s.peak, s.peak_at), (64, 1));
    let mut never = problem(&[(100, 64, 0..1)]);
    never.buffers[0].live.clear();
    assert_eq!(solved(&never).peak, 0);
}

#[test]
fn the_clock_may_run_to_its_end() {
    let s = solved(&problem(&[(1, 1, 0..u32::MAX), (1, 1, u32::MAX - 1..u32::MAX)]));
    assert_eq!((s.peak, s.peak_at), (2, u32::MAX - 1));
}

#[test]
fn touching_lifetimes_share() {
    assert_eq!(solved(&problem(&[(64, 64, 0..3), (64, 64, 3..5)])).peak, 64);
}

#[test]
fn smaller_alignments_fill_the_gaps_of_larger_ones() {
    let s = solved(&problem(&[(16, 64, 0..1), (16, 64, 0..1), (8, 8, 0..1), (8, 8, 0..1)]));
    assert_eq!((s.peak, s.lower_bound, s.status), (80, 48, Status::OptimalSearch));
}

#[test]
fn pins_are_kept_and_worked_around() {
    let mut p = problem(&[(64, 64, 0..4), (64, 64, 0..4), (128, 64, 0..4)]);
    p.buffers[0].pinned = Some(64);
    let s = solved(&p);
    assert_eq!((s.offsets.as_slice(), s.peak), (&[64, 0, 128][..], 256));
    p.buffers[0].live.clear();
    p.buffers[0].pinned = Some(1 << 40);
    assert_eq!(solved(&p).peak, 192);
}

fn choice(branches: &[&[usize]]) -> Choice {
    Choice {
        branches: branches.iter().map(|b| b.to_vec()).collect(),
    }
}

fn reserved(range: Range<u64>) -> Region {
    Region {
        reserved: only(range),
        ..Region::default()
    }
}

fn two() -> Vec<Region> {
    ["fast", "main"]
        .map(|name| Region {
            name: name.into(),
            capacity: Some(1024),
            ..Region::default()
        })
        .to_vec()
}

#[test]
fn contradictions_are_errors() {
    let base = || problem(&[(64, 64, 0..3), (32, 32, 0..3)]);
    type Change = fn(&mut Problem);
    let with = |change: Change| {
        let mut p = base();
        change(&mut p);
        solve(&p).expect_err("not a problem").to_string()
    };
    let cases: &[(Change, &str)] = &[
        (|p| p.buffers[1].id = "b0".into(), "two buffers are called `b0`"),
        (
            |p| p.buffers[1].align = 0,
            "buffer `b1`: alignment 0 is not a power of two",
        ),
        (
            |p| p.buffers[1].align = 48,
            "buffer `b1`: alignment 48 is not a power of two",
        ),
        (
            |p| p.buffers[1].size = 1 << 63,
            "buffer `b1`: the sizes add up to 2^62 bytes or more",
        ),
        (
            |p| p.buffers[0].size = u64::MAX,
            "buffer `b0`: the sizes add up to 2^62 bytes or more",
        ),
        (
            |p| p.buffers[0].align = 1 << 63,
            "buffer `b0`: the sizes add up to 2^62 bytes or more",
        ),
        (
            |p| p.buffers[0].pinned = Some(u64::MAX - 63),
            "buffer `b0`: the sizes add up to 2^62 bytes or more",
        ),
        (
            |p| p.buffers[0].live = vec![Range { start: 3, end: 2 }],
            "buffer `b0`: lifetime 3..2 ends before it starts",
        ),
        (
            |p| p.buffers[0].pinned = Some(32),
            "buffer `b0`: pinned at 32, which contradicts its alignment",
        ),
        (
            |p| (p.buffers[0].pinned, p.buffers[1].pinned) = (Some(0), Some(32)),
            "pinned buffers `b0` and `b1` overlap and may not",
        ),
        (
            |p| {
                p.aliases = vec![Alias::InPlace {
                    dst: 2,
                    src: 0,
                    delta: 0,
                }];
            },
            "buffer number 2 is named",
        ),
        (
            |p| {
                p.aliases = vec![Alias::View {
                    part: 0,
                    whole: 1,
                    delta: 0,
                }];
            },
            "view `b0` does not fit inside `b1`",
        ),
        (
            |p| {
                p.aliases = vec![Alias::View {
                    part: 1,
                    whole: 0,
                    delta: u64::MAX,
                }];
            },
            "view `b1` does not fit inside `b0`",
        ),
        (
            |p| {
                p.aliases = vec![Alias::View {
                    part: 1,
                    whole: 0,
                    delta: 16,
                }];
            },
            "its place contradicts its alignment",
        ),
        (
            |p| {
                p.aliases = [0, 32]
                    .map(|delta| Alias::View {
                        part: 1,
                        whole: 0,
                        delta,
                    })
                    .to_vec();
            },
            "view `b1` of `b0`: its place contradicts its alignment or another view",
        ),
        (
            |p| {
                p.aliases = vec![Alias::View {
                    part: 1,
                    whole: 0,
                    delta: 32,
                }];
                (p.buffers[0].pinned, p.buffers[1].pinned) = (Some(64), Some(64));
            },
            "which contradicts its alignment or a buffer it aliases",
        ),
        (
            |p| p.apart = vec![(0, 2)],
            "buffer number 2 is named and does not exist",
        ),
        (
            |p| p.apart = vec![(1, 1)],
            "buffer `b1` is to be kept apart from itself",
        ),
        (
            |p| {
                p.apart = vec![(0, 1)];
                p.aliases = vec![Alias::View {
                    part: 1,
                    whole: 0,
                    delta: 0,
                }];
            },
            "buffers `b0` and `b1` are to be kept apart, and views make them share bytes",
        ),
        (
            |p| {
                p.apart = vec![(0, 1)];
                p.buffers[1].live[0] = 7..9;
                (p.buffers[0].pinned, p.buffers[1].pinned) = (Some(0), Some(32));
            },
            "pinned buffers `b0` and `b1` overlap and may not",
        ),
        (
            |p| p.exclusive = vec![choice(&[&[0], &[1, 0]])],
            "buffer `b0` is in two branches of one choice",
        ),
        (
            |p| p.exclusive = vec![choice(&[&[7]])],
            "buffer number 7 is named and does not exist",
        ),
        (
            |p| p.regions = vec![Region::default(), Region::default()],
            "two regions are called ``",
        ),
        (
            |p| p.buffers[1].region = Some(1),
            "buffer `b1` is to lie in region number 1, which does not exist",
        ),
        (
            |p| {
                p.regions = two();
                p.buffers[0].pinned = Some(0);
            },
            "buffer `b0` is pinned; with several regions it must name its region",
        ),
        (
            |p| {
                p.regions = two();
                (p.buffers[0].region, p.buffers[1].region) = (Some(0), Some(1));
                p.aliases = vec![Alias::View {
                    part: 1,
                    whole: 0,
                    delta: 0,
                }];
            },
            "are to lie in different regions",
        ),
        (
            |p| p.regions = vec![reserved(Range { start: 5, end: 4 })],
            "region ``: 5..4 is not a range of bytes below 2^62",
        ),
        (
            |p| p.regions = vec![reserved(0..u64::MAX)],
            "is not a range of bytes below 2^62",
        ),
        (
            |p| {
                p.regions = vec![reserved(70..80)];
                p.buffers[0].pinned = Some(64);
            },
            "pinned buffer `b0` lies in the reserved range 70..80",
        ),
        (
            |p| {
                p.aliases = vec![Alias::InPlace {
                    dst: 1,
                    src: 0,
                    delta: i64::MIN,
                }];
            },
            "buffer `b1`: the sizes add up to 2^62 bytes or more",
        ),
    ];
    for (change, message) in cases {
        let got = with(*change);
        assert!(got.contains(message), "{got}\nwant {message}");
    }
}

#[test]
fn status_in_words() {
    assert_eq!(Status::Optimal.to_string(), "optimal (bound)");
    assert_eq!(Status::Feasible { gap: 64 }.to_string(), "feasible (gap 64 bytes)");
}

/// The largest sizes that are allowed, with everything that adds to offsets.
#[test]
fn sizes_near_the_limit_are_planned() {
    let large = PlanError::LIMIT / 8;
    let mut p = problem(&[(large, 64, 0..2), (large, 64, 1..3), (large - 1, 1, 0..3), (1, 1, 0..3)]);
    p.aliases = vec![Alias::InPlace {
        dst: 1,
        src: 0,
        delta: 64 - large as i64,
    }];
    p.apart = vec![(2, 3)];
    p.regions = vec![reserved(large / 2..large)];
    p.buffers.iter_mut().for_each(|b| b.accesses = u64::MAX);
    assert!(solved(&p).peak >= 3 * large);
    p.regions = two();
    let s = solve(&p).expect("a valid problem");
    assert_eq!(s.status, Status::Infeasible);
    assert!(s.regions.iter().any(|r| r.shortage.is_some()));
}

/// Pins that reach into the unit a reserved range begins in, though not into the range.
#[test]
fn pins_beside_reserved_bytes_are_fine() {
    let mut p = problem(&[(10, 64, 0..2), (64, 64, 0..2)]);
    p.buffers[0].pinned = Some(0);
    p.regions = vec![reserved(20..30)];
    assert_eq!(solved(&p).peak, 128);
}

#[test]
fn nothing_to_place_in_two_regions() {
    let regions = two();
    let s = solved(&Problem {
        regions,
        ..Problem::default()
    });
    assert_eq!((s.peak, s.regions.len(), s.status), (0, 2, Status::Optimal));
}

/// More branches live at one time than combinations can be made of: an answer or an error, at once.
#[test]
fn too_many_branches_are_refused() {
    let n = 300;
    let mut p = problem(&vec![(8, 8, 0..2); n]);
    let one = |i: usize| vec![i];
    p.exclusive = vec![Choice {
        branches: (0..n).map(one).collect(),
    }];
    assert_eq!(solve(&p).unwrap_err(), PlanError::TooManyBranches { at: 0 });
    p.exclusive[0].branches.truncate(200);
    assert_eq!(solved(&p).peak, 8 * 101);
    p.exclusive[0].branches.truncate(60);
    assert_eq!(solved(&p).peak, 8 * 241);
}
