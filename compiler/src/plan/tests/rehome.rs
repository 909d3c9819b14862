//! Assignments near preferred regions: as cheap, no larger, and nearer than without.

use super::*;

/// Buffers `(size, accesses)` that all live at once, in two regions of which the first has so many bytes.
fn two(capacity: u64, buffers: &[(u64, u64)]) -> Problem {
    let mut p = problem(&buffers.iter().map(|(size, _)| (*size, 64, 0..2)).collect::<Vec<_>>());
    for (buffer, (_, accesses)) in p.buffers.iter_mut().zip(buffers) {
        buffer.accesses = *accesses;
    }
    for (name, capacity) in [("fast", Some(capacity)), ("main", None)] {
        p.regions.push(Region {
            name: name.to_owned(),
            capacity,
            ..Region::default()
        });
    }
    p
}

fn cost(p: &Problem, s: &Solution) -> u128 {
    let costs = p.buffers.iter().zip(&s.region).filter(|(b, _)| b.occupies());
    let costs = costs.map(|(b, region)| u128::from(b.size) * u128::from(b.accesses) * *region as u128);
    costs.sum()
}

fn preferring(regions: &[usize]) -> Vec<Option<usize>> {
    regions.iter().copied().map(Some).collect()
}

#[test]
fn its_own_regions_change_nothing() {
    let p = two(128, &[(64, 5), (64, 5), (64, 5), (64, 0)]);
    let s = solved(&p);
    assert_eq!(rehome(&p, s.clone(), &preferring(&s.region)), s);
    assert_eq!(rehome(&p, s.clone(), &[]), s);
}

/// Which of several equal buffers are in the first region is decided by what was there before.
#[test]
fn of_equal_assignments_the_one_that_was_there_before_is_kept() {
    let p = two(128, &[(64, 5); 5]);
    let s = solved(&p);
    let before = preferring(&[1, 1, 0, 1, 0]);
    assert_ne!(preferring(&s.region), before);
    let near = rehome(&p, s.clone(), &before);
    assert_eq!((preferring(&near.region), near.peak), (before.clone(), s.peak));
    assert_eq!(verify(&p, &near), []);
    assert_eq!(rehome(&p, near.clone(), &before), near);
}

/// What is touched more is not exchanged for what is touched less, and what can be exchanged is.
#[test]
fn a_preference_that_costs_accesses_is_refused_alone() {
    let p = two(192, &[(64, 9), (64, 5), (64, 5), (64, 5), (64, 5)]);
    let s = solved(&p);
    let near = rehome(&p, s.clone(), &preferring(&[1, 1, 0, 1, 0]));
    assert_eq!(near.region, [0, 1, 0, 1, 0]);
    assert_eq!(cost(&p, &near), cost(&p, &s));
}

/// As much traffic in more bytes would make a region grow.
#[test]
fn an_exchange_that_makes_a_region_grow_is_refused() {
    let p = two(64, &[(64, 6), (128, 3)]);
    let s = solved(&p);
    assert_eq!(s.region, [0, 1]);
    assert_eq!(rehome(&p, s.clone(), &preferring(&[1, 0])), s);
}

#[test]
fn views_go_together_and_given_regions_stay() {
    let mut p = two(128, &[(64, 5), (64, 5), (64, 5), (64, 5)]);
    p.aliases.push(Alias::View {
        part: 3,
        whole: 2,
        delta: 0,
    });
    p.buffers[0].region = Some(0);
    let s = solved(&p);
    let near = rehome(&p, s.clone(), &preferring(&[1, 1, 0, 0]));
    assert_eq!((near.region[0], near.region[2]), (0, near.region[3]));
    // Two that want different regions have no preference.
    assert_eq!(rehome(&p, s.clone(), &[None, None, Some(0), Some(1)]), s);
}

/// Offsets are settled within regions: bytes that one saves are not another's.
#[test]
fn settling_makes_no_region_grow_for_another() {
    let mut p = two(1 << 20, &[(64, 1), (128, 1), (64, 1), (128, 1), (64, 1)]);
    for (b, region) in p.buffers.iter_mut().zip([0, 0, 0, 1, 1]) {
        b.region = Some(region);
    }
    p.buffers[2].live = vec![Range { start: 2, end: 4 }];
    let s = solved(&p);
    let near = settle(&p, s.clone(), &[Some(64), Some(128), Some(0), Some(64), Some(0)]);
    for (new, old) in near.regions.iter().zip(&s.regions) {
        assert!(new.peak <= old.peak, "{near:?}");
    }
}

proptest! {
    #[test]
    fn rehomed_layouts_are_valid_as_cheap_and_never_larger(
        p in buffers(1..12, 9, 2, 6),
        accesses in prop::collection::vec(0u64..4, 12),
        capacity in 0u64..40,
        wishes in prop::collection::vec(prop::option::of(0usize..3), 12),
    ) {
        let mut p = Problem { regions: two(capacity, &[]).regions, ..p };
        for (buffer, accesses) in p.buffers.iter_mut().zip(accesses) {
            buffer.accesses = accesses;
        }
        let s = solved(&p);
        let near = rehome(&p, s.clone(), &wishes);
        prop_assert_eq!(verify(&p, &near), []);
        prop_assert!(cost(&p, &near) <= cost(&p, &s));
        let kept = |s: &Solution| s.region.iter().zip(&wishes).filter(|(r, w)| w.as_ref() == Some(*r)).count();
        prop_assert!(kept(&near) >= kept(&s));
        for (new, old) in near.regions.iter().zip(&s.regions) {
            prop_assert!(new.peak <= old.peak);
        }
        prop_assert_eq!(near, rehome(&p, s, &wishes));
    }
}
