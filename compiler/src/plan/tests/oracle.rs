//! Tiny problems, solved by trying every layout.

use super::*;

/// Whether `a` and `b` may not be placed as they are. By definition, tick by tick.
pub(super) fn clash(p: &Problem, offsets: &[u64], a: usize, b: usize) -> bool {
    let (x, y) = (&p.buffers[a], &p.buffers[b]);
    let ticks = |buffer: &Buffer| -> Vec<u32> { buffer.live.iter().cloned().flatten().collect() };
    let together = ticks(x).iter().any(|t| ticks(y).contains(t));
    let bytes = offsets[a] < offsets[b] + y.size && offsets[b] < offsets[a] + x.size && x.size > 0 && y.size > 0;
    let in_place = p.aliases.iter().any(|alias| match *alias {
        Alias::InPlace { dst, src, delta } => {
            ((dst, src) == (a, b) || (dst, src) == (b, a)) && offsets[dst] as i64 == offsets[src] as i64 + delta
        }
        Alias::View { .. } => false,
    });
    let branch = |c: &Choice, i: usize| c.branches.iter().position(|branch| branch.contains(&i));
    let other_branch = |c: &Choice| branch(c, a).is_some() && branch(c, b).is_some() && branch(c, a) != branch(c, b);
    let never = p.exclusive.iter().any(other_branch);
    let lives = !ticks(x).is_empty() && !ticks(y).is_empty();
    let apart = lives && (p.apart.contains(&(a, b)) || p.apart.contains(&(b, a)));
    bytes && (apart || together && !in_place && !never && family(p, a) != family(p, b))
}

/// The whole that `i` is a view of, or itself. The problems here have no views of views.
fn family(p: &Problem, i: usize) -> usize {
    let whole = |alias: &Alias| match *alias {
        Alias::View { part, whole, .. } if part == i => Some(whole),
        _ => None,
    };
    p.aliases.iter().find_map(whole).unwrap_or(i)
}

/// Bytes that a layout of the first `placed` buffers needs, in units of the smallest alignment.
fn peak(p: &Problem, offsets: &[u64]) -> u64 {
    let lives = |b: &&Buffer| b.size > 0 && b.live.iter().any(|r| !r.is_empty());
    let unit = p.buffers.iter().filter(lives).map(|b| b.align).min().unwrap_or(1);
    let end = |(b, o): (&Buffer, &u64)| {
        if lives(&b) {
            (o + b.size).next_multiple_of(unit)
        } else {
            0
        }
    };
    p.buffers.iter().zip(offsets).map(end).max().unwrap_or(0)
}

/// The least peak below `best`, placing buffer `offsets.len()` next.
fn least(p: &Problem, offsets: &mut Vec<u64>, best: u64) -> u64 {
    let now = peak(p, offsets);
    if now >= best {
        return best;
    }
    let next = offsets.len();
    let Some(b) = p.buffers.get(next) else { return now };
    let forced = p.aliases.iter().find_map(|alias| match *alias {
        Alias::View { part, whole, delta } if part == next => Some(offsets[whole] + delta),
        _ => None,
    });
    let idle = b.size == 0 || b.live.iter().all(Range::is_empty);
    let choices: Vec<u64> = match forced.or(b.pinned).or(idle.then_some(0)) {
        Some(only) => vec![only],
        None => (0..best).step_by(b.align as usize).collect(),
    };
    choices.into_iter().fold(best, |best, offset| {
        offsets.push(offset);
        let reserved = p.regions.iter().flat_map(|r| &r.reserved);
        let kept = idle || reserved.clone().all(|r| offset + b.size <= r.start || r.end <= offset);
        let free = kept && (0..next).all(|other| !clash(p, offsets, other, next));
        let found = if free { least(p, offsets, best) } else { best };
        offsets.pop();
        found
    })
}

/// The optimum, given some layout's peak.
pub(super) fn optimum(p: &Problem, known: u64) -> u64 {
    least(p, &mut Vec::new(), known)
}

/// Buffers with in-place pairs: from an earlier buffer to one born in its last tick.
pub(super) fn chained() -> impl Strategy<Value = Problem> {
    (
        buffers(0..6, 3, 1, 5),
        prop::collection::vec((0..6usize, 0..6usize), 0..5),
    )
        .prop_map(|(mut p, pairs)| {
            let n = p.buffers.len();
            let pairs = pairs.into_iter().filter(|&(a, b)| a < n && b < n && a != b);
            p.aliases = pairs.map(|(dst, src)| Alias::InPlace { dst, src, delta: 0 }).collect();
            p
        })
}

/// As [`chained`], with six to twelve pairs.
fn many_merges() -> impl Strategy<Value = Problem> {
    (
        buffers(4..7, 4, 0, 5),
        prop::collection::vec((0..7usize, 0..7usize, -1..2i64), 8..14),
    )
        .prop_map(|(mut p, pairs)| {
            let n = p.buffers.len();
            let pairs = pairs.into_iter().filter(|&(a, b, _)| a < n && b < n && a != b);
            p.aliases = pairs
                .map(|(dst, src, delta)| Alias::InPlace { dst, src, delta })
                .collect();
            p
        })
}

/// Buffers of which some are views of buffer 0.
pub(super) fn viewed() -> impl Strategy<Value = Problem> {
    (
        buffers(1..6, 3, 1, 5),
        prop::collection::vec((1..6usize, 0..4u64), 0..3),
    )
        .prop_map(|(mut p, views)| {
            p.buffers[0].size = 6;
            p.buffers[0].align = 2;
            for (part, delta) in views {
                let known = p
                    .aliases
                    .iter()
                    .any(|a| matches!(*a, Alias::View { part: q, .. } if q == part));
                if part < p.buffers.len() && !known {
                    p.buffers[part].align = 2;
                    p.buffers[part].size = 2 * (p.buffers[part].size / 2);
                    p.aliases.push(Alias::View {
                        part,
                        whole: 0,
                        delta: delta / 2 * 2,
                    });
                }
            }
            p
        })
}

/// Buffers of which the first is pinned.
pub(super) fn pinned() -> impl Strategy<Value = Problem> {
    (buffers(1..6, 3, 1, 5), 0..3u64).prop_map(|(mut p, at)| {
        p.buffers[0].pinned = Some(at * p.buffers[0].align);
        p
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn bound_optimum_peak_in_this_order(p in prop_oneof![buffers(0..6, 3, 1, 5), pinned()]) {
        let s = solved(&p);
        let best = optimum(&p, s.peak);
        prop_assert!(s.lower_bound <= best, "{p:?}\n{s:?}\noptimum {best}");
    }

    #[test]
    fn optimal_means_optimal_with_in_place(p in chained()) {
        let s = solved(&p);
        let best = optimum(&p, s.peak);
        if s.status == Status::Optimal {
            prop_assert_eq!(s.peak, best, "{:?}\n{:?}", p, s);
        }
    }

    /// With more merges than are all planned.
    #[test]
    fn search_claims_no_more_than_it_tried(p in many_merges(), capacity in 0..12u64) {
        let s = solved(&p);
        let best = optimum(&p, s.peak);
        prop_assert!(s.lower_bound <= best, "{:?}\n{:?}\noptimum {}", p, s, best);
        let optimal = matches!(s.status, Status::Optimal | Status::OptimalSearch);
        prop_assert!(!optimal || s.peak == best, "{:?}\n{:?}\noptimum {}", p, s, best);
        let s = solve_with(&p, &Options { nodes: 2_000, capacity: Some(capacity) }).unwrap();
        prop_assert!(s.status != Status::Infeasible || capacity < best, "{:?}\n{:?}\noptimum {}", p, s, best);
        prop_assert!(bound(&p, 2_000).unwrap() <= best);
    }

    #[test]
    fn bound_holds_with_views(p in viewed()) {
        let s = solved(&p);
        let best = optimum(&p, s.peak);
        prop_assert!(s.lower_bound <= best, "{p:?}\n{s:?}\noptimum {best}");
    }
}
