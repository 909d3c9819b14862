//! Keep-apart, branches, reserved ranges, regions and deltas by example.

use super::*;

fn region(name: &str, capacity: Option<u64>) -> Region {
    Region {
        name: name.into(),
        capacity,
        reserved: Vec::new(),
    }
}

fn choice(branches: &[&[usize]]) -> Choice {
    Choice {
        branches: branches.iter().map(|b| b.to_vec()).collect(),
    }
}

#[test]
fn a_result_starts_inside_its_source() {
    let mut p = problem(&[(128, 64, 0..3), (64, 64, 2..5)]);
    let in_place = |delta| Alias::InPlace { dst: 1, src: 0, delta };
    p.aliases = vec![in_place(64)];
    let s = solved(&p);
    assert_eq!((s.peak, s.offsets[1] - s.offsets[0], s.merged.len()), (128, 64, 1));
    // At 32 it would not be aligned; at 128 it would share no byte.
    p.aliases = vec![in_place(32), in_place(128)];
    assert_eq!((solved(&p).peak, solved(&p).merged.len()), (192, 0));
}

#[test]
fn a_result_may_start_before_its_source() {
    let mut p = problem(&[(64, 64, 0..3), (192, 64, 2..5)]);
    p.aliases = vec![Alias::InPlace {
        dst: 1,
        src: 0,
        delta: -128,
    }];
    let s = solved(&p);
    assert_eq!((s.peak, s.offsets.as_slice()), (192, &[128, 0][..]));
}

#[test]
fn what_is_kept_apart_adds_up_though_never_live_together() {
    let mut p = problem(&[(64, 64, 0..1), (64, 64, 1..2), (64, 64, 2..3)]);
    p.apart = vec![(0, 2)];
    let s = solved(&p);
    assert_eq!((s.peak, s.lower_bound), (128, 128));
    p.apart.extend([(1, 0), (1, 2)]);
    assert_eq!((solved(&p).peak, solved(&p).lower_bound), (192, 192));
    p.buffers[1].live.clear();
    assert_eq!(solved(&p).peak, 128);
}

#[test]
fn keeping_apart_forbids_taking_over() {
    let mut p = problem(&[(64, 64, 0..3), (64, 64, 2..5)]);
    p.aliases = vec![Alias::InPlace {
        dst: 1,
        src: 0,
        delta: 0,
    }];
    p.apart = vec![(0, 1)];
    assert_eq!((solved(&p).peak, solved(&p).merged.len()), (128, 0));
}

#[test]
fn branches_share_bytes() {
    let mut p = problem(&[(10, 1, 0..9), (20, 1, 2..6), (30, 1, 2..6), (5, 1, 3..4)]);
    p.exclusive = vec![choice(&[&[1], &[2]])];
    let s = solved(&p);
    assert_eq!((s.peak, s.lower_bound, s.peak_at), (45, 45, 3));
}

/// Inner branches stand inside one outer branch.
#[test]
fn branches_nest() {
    let mut p = problem(&[(10, 1, 0..9), (20, 1, 0..9), (30, 1, 0..9), (45, 1, 0..9)]);
    p.exclusive = vec![choice(&[&[0, 1, 2], &[3]]), choice(&[&[1], &[2]])];
    let s = solved(&p);
    assert_eq!((s.peak, s.lower_bound), (45, 45));
    p.buffers[3].size = 1;
    assert_eq!((solved(&p).peak, solved(&p).lower_bound), (40, 40));
}

/// Many choices at once: too many combinations to look at, and the bound is not above what is needed.
#[test]
fn many_choices_are_covered_pair_by_pair() {
    let n = 12;
    let mut p = problem(&vec![(8, 8, 0..2); 2 * n]);
    p.exclusive = (0..n).map(|i| choice(&[&[2 * i], &[2 * i + 1]])).collect();
    let s = solved(&p);
    assert_eq!((s.peak, s.lower_bound), (8 * n as u64, 8 * n as u64));
}

#[test]
fn reserved_ranges_are_left_alone() {
    let mut p = problem(&[(64, 64, 0..2), (64, 64, 0..2)]);
    p.regions = vec![Region {
        reserved: vec![64..70, 1000..2000],
        ..region("only", None)
    }];
    let s = solved(&p);
    assert_eq!((s.peak, s.lower_bound), (192, 192));
    p.buffers.pop();
    assert_eq!((solved(&p).peak, solved(&p).lower_bound), (64, 64));
}

/// Three bytes fit below a range that begins at the fourth, whatever they are aligned to.
#[test]
fn bytes_below_a_reserved_range_are_used_to_the_last() {
    let mut p = problem(&[(3, 2, 0..1), (5, 4, 0..1)]);
    p.regions = vec![Region {
        reserved: only(3..4),
        ..region("only", None)
    }];
    let s = solved(&p);
    assert_eq!((&s.offsets[..], s.peak, s.lower_bound), (&[0, 4][..], 9, 9));
    p.buffers.pop();
    assert_eq!((solved(&p).peak, solved(&p).lower_bound), (3, 3));
}

#[test]
fn hot_buffers_lie_in_the_first_region() {
    let mut p = problem(&[(64, 64, 0..4), (64, 64, 0..4), (64, 64, 0..2), (64, 64, 2..4)]);
    p.regions = vec![region("fast", Some(128)), region("main", None)];
    for (b, accesses) in p.buffers.iter_mut().zip([1, 9, 5, 3]) {
        b.accesses = accesses;
    }
    let s = solved(&p);
    assert_eq!(s.region, [1, 0, 0, 0]);
    assert_eq!((s.regions[0].peak, s.regions[1].peak, s.peak), (128, 64, 192));
    p.buffers[1].region = Some(1);
    assert_eq!(solved(&p).region, [0, 1, 0, 0]);
}

/// Too many buffers to try all assignments: what their accesses against a bound for any choice.
#[test]
fn many_buffers_are_assigned_near_the_best() {
    let n = 160u64;
    let buffer = |i: u64| (64 * (1 + i * 7 % 5), 64, i as u32..i as u32 + 4);
    let mut p = problem(&(0..n).map(buffer).collect::<Vec<_>>());
    p.regions = vec![region("fast", Some(512)), region("main", None)];
    p.buffers
        .iter_mut()
        .zip(0..)
        .for_each(|(b, i)| b.accesses = 1 + i * 11 % 13);
    let s = solved(&p);
    let inside = |r: usize| p.buffers.iter().zip(&s.region).filter(move |(_, at)| **at == r);
    let traffic = |r| inside(r).map(|(b, _)| b.size * b.accesses).sum::<u64>();
    // No more than the capacity's worth of bytes is live at a time, each with the most accesses: a bound for any choice.
    let bound: u64 = (0..n as u32 + 4)
        .map(|t| {
            let mut live: Vec<&Buffer> = p.buffers.iter().filter(|b| b.live[0].contains(&t)).collect();
            live.sort_by_key(|b| std::cmp::Reverse(b.accesses));
            let mut room = 512;
            live.iter().map(|b| take(&mut room, b.size) * b.accesses).sum::<u64>()
        })
        .sum::<u64>()
        / 4;
    assert!(
        traffic(0) <= bound && 4 * traffic(0) >= 3 * bound,
        "{} of {bound}",
        traffic(0)
    );
    assert_eq!(solve(&p), Ok(s));
}

/// At most `size` of what is left.
fn take(room: &mut u64, size: u64) -> u64 {
    let taken = size.min(*room);
    *room -= taken;
    taken
}

/// A buffer and its slice lie in one region, and their accesses count together.
#[test]
fn views_are_not_torn_apart() {
    let mut p = problem(&[(128, 64, 0..4), (64, 64, 0..4), (64, 64, 0..4)]);
    p.aliases = vec![Alias::View {
        part: 1,
        whole: 0,
        delta: 64,
    }];
    p.regions = vec![region("fast", Some(64)), region("main", None)];
    (p.buffers[1].accesses, p.buffers[2].accesses) = (100, 1);
    assert_eq!(solved(&p).region, [1, 1, 0]);
}

/// Neither memory alone has room for both, and the faster one takes what the slower one cannot.
#[test]
fn capacities_come_before_speed() {
    let mut p = problem(&[(64, 64, 0..2), (128, 64, 0..2)]);
    p.regions = vec![region("fast", Some(128)), region("main", Some(64))];
    p.buffers[0].accesses = 100;
    assert_eq!(solved(&p).region, [1, 0]);
}

#[test]
fn what_does_not_fit_is_named() {
    let mut p = problem(&[(64, 64, 0..2), (64, 64, 1..3), (64, 64, 5..6)]);
    p.regions = vec![region("sram", Some(100))];
    let s = solve(&p).unwrap();
    assert_eq!(s.status, Status::Infeasible);
    assert_eq!(verify(&p, &s), [Violation::OverCapacity { region: 0, by: 28 }]);
    assert_eq!(
        s.regions[0].shortage.as_ref().unwrap().to_string(),
        "region `sram` of 100 bytes is 28 bytes short at 1; live there: `b0` (64 bytes), `b1` (64 bytes)"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// What has room in the last memory is never said not to fit, with few nodes or none.
    #[test]
    fn what_a_small_memory_cannot_hold_lies_in_the_large_one(
        p in prop_oneof![buffers(0..10, 9, 2, 8), buffers(13..40, 40, 2, 16), oracle::chained()],
        capacities in prop::collection::vec(0..120u64, 1..3),
        nodes in prop_oneof![Just(0), 1..200u64],
    ) {
        let mut p = p;
        p.regions = capacities.iter().map(|&c| region(&format!("fast {c}"), Some(c))).collect();
        p.regions.dedup();
        p.regions.push(region("main", None));
        p.buffers.iter_mut().zip(1..).for_each(|(b, i)| b.accesses = i * 7 % 5);
        let s = solve_with(&p, &Options { nodes, capacity: None }).expect("a valid problem");
        prop_assert_eq!(verify(&p, &s), [], "{:?}\n{:?}", p, s);
        prop_assert!(s.nodes <= nodes);
    }
}
