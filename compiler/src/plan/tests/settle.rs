//! Layouts near preferred offsets: valid, never larger, and nearer than without.

use super::*;

fn preferring(offsets: &[u64]) -> Vec<Option<u64>> {
    offsets.iter().copied().map(Some).collect()
}

fn kept(s: &Solution, preferred: &[Option<u64>]) -> usize {
    let pairs = s.offsets.iter().zip(preferred);
    pairs.filter(|(at, wish)| **wish == Some(**at)).count()
}

#[test]
fn its_own_offsets_change_nothing() {
    let p = problem(&[(64, 64, 0..3), (128, 64, 1..4), (64, 64, 3..5), (192, 64, 0..1)]);
    let s = solved(&p);
    assert_eq!(settle(&p, s.clone(), &preferring(&s.offsets)), s);
    assert_eq!(settle(&p, s.clone(), &[]), s);
}

/// Another order of the same buffers is as good as the planner's own, and is what was there before.
#[test]
fn an_equal_layout_that_was_there_before_is_kept() {
    let p = problem(&[(64, 64, 0..2), (128, 64, 0..2), (64, 64, 2..4), (128, 64, 2..4)]);
    let s = solved(&p);
    let before = preferring(&[128, 0, 0, 64]);
    let near = settle(&p, s.clone(), &before);
    assert!(kept(&s, &before) < 4);
    assert_eq!((kept(&near, &before), near.peak), (4, s.peak));
    assert_eq!(verify(&p, &near), []);
    assert_eq!(near.candidates[near.chosen].name, "hint");
    assert_eq!(settle(&p, near.clone(), &before), near);
}

/// A buffer that grew cannot stay between two others: it moves, and they do not.
#[test]
fn what_grew_moves_and_its_neighbours_stay() {
    let p = problem(&[
        (64, 64, 0..2),
        (192, 64, 0..1),
        (64, 64, 0..2),
        (64, 64, 0..2),
        (256, 64, 2..3),
        (448, 64, 3..4),
    ]);
    let s = solved(&p);
    let before = preferring(&[0, 64, 128, 192, 64, 0]);
    let near = settle(&p, s.clone(), &before);
    assert_eq!((near.offsets[0], near.offsets[2], near.offsets[3]), (0, 128, 192));
    assert!(kept(&near, &before) > kept(&s, &before), "{:?}", near.offsets);
    assert_eq!((near.peak, verify(&p, &near)), (s.peak, vec![]));
}

/// Preferences that cannot hold are ignored.
#[test]
fn hostile_preferences_do_no_harm() {
    let mut p = problem(&[(64, 64, 0..2), (128, 64, 1..3), (0, 64, 0..1), (64, 64, 4..4)]);
    p.buffers[0].pinned = Some(0);
    let s = solved(&p);
    for hostile in [u64::MAX, 1, 63, 1 << 62, 64] {
        let near = settle(&p, s.clone(), &[Some(hostile); 4]);
        assert_eq!((near.peak, verify(&p, &near)), (s.peak, vec![]), "{hostile}");
    }
}

/// Each region has its own peak.
#[test]
fn regions_are_settled_apart() {
    let mut p = problem(&[(64, 64, 0..2), (128, 64, 0..2), (64, 64, 0..2), (192, 64, 0..2)]);
    for name in ["fast", "main"] {
        p.regions.push(Region {
            name: name.to_owned(),
            capacity: Some(256),
            ..Region::default()
        });
    }
    for (b, region) in p.buffers.iter_mut().zip([0, 0, 1, 1]) {
        b.region = Some(region);
    }
    let s = solve(&p).expect("a valid problem");
    let before = preferring(&[128, 0, 192, 0]);
    let near = settle(&p, s.clone(), &before);
    assert_eq!(kept(&near, &before), 4);
    assert_eq!((near.peak, verify(&p, &near)), (s.peak, vec![]));
}

proptest! {
    #[test]
    fn near_layouts_are_valid_and_never_larger(
        p in buffers(1..12, 9, 2, 6),
        wishes in prop::collection::vec(prop::option::of(0u64..24), 12),
        pairs in prop::collection::vec((0usize..12, 0usize..12), 0..6),
    ) {
        let mut p = p;
        let n = p.buffers.len();
        for (dst, src) in pairs {
            p.aliases.push(Alias::InPlace { dst: dst % n, src: src % n, delta: 0 });
        }
        let s = solved(&p);
        let near = settle(&p, s.clone(), &wishes[..n]);
        prop_assert_eq!(verify(&p, &near), []);
        prop_assert!(near.peak <= s.peak);
        prop_assert!(kept(&near, &wishes) >= kept(&s, &wishes));
        prop_assert_eq!(near, settle(&p, s, &wishes[..n]));
    }
}
