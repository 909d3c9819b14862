//! Views and in-place merges by example.

use super::*;

fn in_place(dst: usize, src: usize) -> Alias {
    Alias::InPlace { dst, src, delta: 0 }
}

#[test]
fn in_place_lowers_the_bound() {
    let mut p = problem(&[(64, 64, 0..3), (64, 64, 2..5)]);
    assert_eq!(solved(&p).peak, 128);
    p.aliases = vec![in_place(1, 0)];
    let s = solved(&p);
    assert_eq!((s.peak, s.lower_bound, s.merged.as_slice()), (64, 64, &[(1, 0)][..]));
    assert_eq!(s.naive, 128);
}

/// A residual stream: each step takes the place of the one before.
#[test]
fn chains_become_one_place() {
    let n = 100u32;
    let mut p = problem(&(0..n).map(|i| (4096, 64, 2 * i..2 * i + 3)).collect::<Vec<_>>());
    p.aliases = (1..n as usize).map(|i| in_place(i, i - 1)).collect();
    let s = solved(&p);
    assert_eq!((s.peak, s.merged.len(), s.status), (4096, 99, Status::Optimal));
}

/// Two steps may each take the place of `b0`, which is live in both: only the last may.
#[test]
fn a_source_that_lives_on_is_not_taken() {
    let mut p = problem(&[(64, 64, 0..7), (64, 64, 2..5), (64, 64, 6..9)]);
    p.aliases = vec![in_place(2, 0)];
    assert_eq!(solved(&p).merged, [(2, 0)]);
    // `b1` would be overwritten while `b0` is still needed unless the caller says that it may be; then `b2` and `b1` do
    // not meet, and both may share.
    p.aliases.push(in_place(1, 0));
    assert_eq!(solved(&p).peak, 64);
}

/// `b2` may take the place of either input but not of both at once.
#[test]
fn one_of_two_sources_is_taken() {
    let mut p = problem(&[(64, 64, 0..3), (64, 64, 0..3), (64, 64, 2..5)]);
    p.aliases = vec![in_place(2, 0), in_place(2, 1)];
    let s = solved(&p);
    assert_eq!((s.peak, s.merged.len()), (128, 1));
}

/// Taking the larger merge first is wrong here: the small source is the one whose bytes matter at the peak.
#[test]
fn the_choice_of_merges_is_made_by_the_bound() {
    // At 2 the peak: b0 (100) + b1 (90) + b2 + b3. b2 may take b0's place or b3 may; b3 fits b0 only, b2 also fits b1.
    let mut p = problem(&[(100, 1, 0..3), (90, 1, 0..3), (95, 1, 2..4), (90, 1, 2..4)]);
    p.aliases = vec![in_place(2, 0), in_place(2, 1), in_place(3, 0)];
    let s = solved(&p);
    assert_eq!((s.lower_bound, s.peak), (195, 195));
    assert_eq!(s.merged, [(2, 1), (3, 0)]);
}

/// The second half of a larger source stays live beside the smaller result.
#[test]
fn a_smaller_result_frees_the_surplus() {
    let mut p = problem(&[(128, 64, 0..3), (64, 64, 2..6), (64, 64, 3..6)]);
    p.aliases = vec![in_place(1, 0)];
    assert_eq!(solved(&p).peak, 128);
}

#[test]
fn views_sit_inside_their_whole() {
    let mut p = problem(&[(256, 64, 2..5), (64, 64, 0..3), (64, 64, 1..3), (64, 64, 0..2)]);
    p.aliases = vec![
        Alias::View {
            part: 1,
            whole: 0,
            delta: 64,
        },
        Alias::View {
            part: 2,
            whole: 0,
            delta: 128,
        },
    ];
    let s = solved(&p);
    assert_eq!((s.offsets[1], s.offsets[2]), (s.offsets[0] + 64, s.offsets[0] + 128));
    // b3 is dead before the whole is live, and takes bytes of it that no part needs yet.
    assert_eq!((s.peak, s.naive), (256, 320));
}

/// x is viewed as y; z takes the place of y.
#[test]
fn in_place_works_through_views() {
    let mut p = problem(&[(64, 64, 0..3), (64, 64, 2..5), (64, 64, 4..7)]);
    p.aliases = vec![
        Alias::View {
            part: 1,
            whole: 0,
            delta: 0,
        },
        in_place(2, 1),
    ];
    assert_eq!(solved(&p).peak, 64);
}

/// The result takes the place of a slice, so that it comes to lie inside the whole.
#[test]
fn in_place_of_a_slice() {
    let mut p = problem(&[(192, 64, 0..5), (64, 64, 4..7), (64, 64, 6..9)]);
    p.aliases = vec![
        Alias::View {
            part: 1,
            whole: 0,
            delta: 128,
        },
        in_place(2, 1),
    ];
    let s = solved(&p);
    assert_eq!((s.offsets[2], s.peak), (s.offsets[0] + 128, 192));
}

/// The destination is itself a slice at a higher delta than its source: the whole would begin below zero or misaligned,
/// and the planner finds a base or does without.
#[test]
fn in_place_into_a_concatenation() {
    let mut p = problem(&[(64, 64, 0..3), (192, 64, 4..7), (64, 64, 2..5)]);
    p.aliases = vec![
        Alias::View {
            part: 2,
            whole: 1,
            delta: 128,
        },
        in_place(2, 0),
    ];
    let s = solved(&p);
    assert_eq!((s.peak, s.merged.as_slice()), (192, &[(2, 0)][..]));
}

#[test]
fn pins_limit_merges() {
    let mut p = problem(&[(64, 64, 0..3), (64, 64, 2..5)]);
    (p.buffers[0].pinned, p.buffers[1].pinned) = (Some(0), Some(128));
    p.aliases = vec![in_place(1, 0)];
    let s = solved(&p);
    assert_eq!((s.merged.len(), s.peak, s.status), (0, 192, Status::Optimal));
    p.buffers[1].pinned = None;
    assert_eq!(solved(&p).merged, [(1, 0)]);
}

#[test]
fn an_alias_with_itself_means_nothing() {
    let mut p = problem(&[(64, 64, 0..3)]);
    p.aliases = vec![
        in_place(0, 0),
        Alias::View {
            part: 0,
            whole: 0,
            delta: 0,
        },
    ];
    assert_eq!((solved(&p).peak, solved(&p).merged.len()), (64, 0));
}
