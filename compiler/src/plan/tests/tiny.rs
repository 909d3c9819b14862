//! All tiny problems of a kind, each solved by trying every layout.

use super::oracle::optimum;
use super::*;

const ENOUGH: Options = Options {
    nodes: 100_000,
    capacity: None,
};

/// Every buffer `(size, lifetime)` with a size up to `size` and a lifetime within `ticks`.
fn shapes(size: u64, ticks: u32) -> Vec<(u64, Range<u32>)> {
    let lives = (0..ticks).flat_map(|a| (a + 1..=ticks).map(move |b| a..b));
    lives
        .flat_map(|live| (1..=size).map(move |s| (s, live.clone())))
        .collect()
}

/// Calls `each` with every multiset of `n` of the shapes.
fn multisets(shapes: &[(u64, Range<u32>)], n: usize, each: &mut impl FnMut(&Problem)) {
    fn go(shapes: &[(u64, Range<u32>)], from: usize, n: usize, p: &mut Problem, each: &mut impl FnMut(&Problem)) {
        if p.buffers.len() == n {
            return each(p);
        }
        for at in from..shapes.len() {
            let (size, live) = &shapes[at];
            let id = format!("b{}", p.buffers.len());
            p.buffers.push(Buffer::new(id, *size, 1, live.clone()));
            go(shapes, at, n, p, each);
            p.buffers.pop();
        }
    }
    go(shapes, 0, n, &mut Problem::default(), each);
}

/// Solves, and holds the answer against every layout there is. `proven`: it must be known to be the best.
fn check(p: &Problem, proven: bool) {
    let s = solve_with(p, &ENOUGH).expect("a valid problem");
    assert_eq!(verify(p, &s), [], "{p:?}\n{s:?}");
    let best = optimum(p, s.peak + 1);
    assert!(s.lower_bound <= best, "{p:?}\n{s:?}\noptimum {best}");
    let (fullest, raised) = (bound(p, 0).unwrap(), bound(p, 1_000).unwrap());
    assert!(
        fullest <= raised && raised <= best,
        "{p:?}\n{fullest} {raised}\noptimum {best}"
    );
    let optimal = matches!(s.status, Status::Optimal | Status::OptimalSearch);
    assert!(optimal || !proven, "{p:?}\n{s:?}\noptimum {best}");
    if optimal {
        assert_eq!(s.peak, best, "{p:?}\n{s:?}");
    }
}

/// All ways to choose at most `most` of `all`.
fn subsets<T: Clone>(all: &[T], most: usize) -> Vec<Vec<T>> {
    let mut out = vec![Vec::new()];
    for item in all {
        let more: Vec<Vec<T>> = out.iter().filter(|s| s.len() < most).cloned().collect();
        out.extend(more.into_iter().map(|mut s| {
            s.push(item.clone());
            s
        }));
    }
    out
}

fn pairs(n: usize) -> Vec<(usize, usize)> {
    (0..n).flat_map(|b| (0..b).map(move |a| (a, b))).collect()
}

#[test]
fn plain() {
    for n in 0..=4 {
        multisets(&shapes(if n < 4 { 3 } else { 2 }, 3), n, &mut |p| check(p, true));
    }
    multisets(&shapes(2, 4), 3, &mut |p| check(p, true));
}

#[test]
fn aligned() {
    multisets(&shapes(3, 2), 3, &mut |p| {
        for mask in 1..8 {
            let mut p = p.clone();
            p.buffers
                .iter_mut()
                .enumerate()
                .for_each(|(i, b)| b.align = 1 + (mask >> i & 1));
            check(&p, true);
        }
    });
}

#[test]
fn pinned() {
    multisets(&shapes(2, 3), 3, &mut |p| {
        for (which, at) in (0..3).flat_map(|w| (0..4).map(move |at| (w, at))) {
            let mut p = p.clone();
            p.buffers[which].pinned = Some(at);
            check(&p, true);
        }
    });
}

/// Up to two in-place pairs, in either direction.
#[test]
fn aliased() {
    let both = |(a, b)| [(a, b), (b, a)];
    let sets = subsets(&pairs(3).into_iter().flat_map(both).collect::<Vec<_>>(), 2);
    multisets(&shapes(2, 3), 3, &mut |p| {
        for set in &sets {
            let mut p = p.clone();
            let alias = |&(dst, src)| Alias::InPlace { dst, src, delta: 0 };
            p.aliases = set.iter().map(alias).collect();
            check(&p, true);
        }
    });
}

/// At a distance, items have free bytes below them, and what is not found is not always refuted.
#[test]
fn aliased_at_a_distance() {
    let at = |(a, b)| [-1, 1].map(|delta| Alias::InPlace { dst: a, src: b, delta });
    let sets = subsets(&pairs(3).into_iter().flat_map(at).collect::<Vec<_>>(), 2);
    multisets(&shapes(3, 2), 3, &mut |p| {
        for set in &sets {
            let aliases = set.clone();
            check(&Problem { aliases, ..p.clone() }, false);
        }
    });
}

#[test]
fn kept_apart() {
    for n in 2..=3 {
        let sets = subsets(&pairs(n), 3);
        multisets(&shapes(if n < 3 { 3 } else { 2 }, 3), n, &mut |p| {
            for apart in &sets {
                let apart = apart.clone();
                check(&Problem { apart, ..p.clone() }, true);
            }
        });
    }
    multisets(&shapes(2, 2), 4, &mut |p| {
        for apart in subsets(&pairs(4), 2) {
            check(&Problem { apart, ..p.clone() }, true);
        }
    });
}

/// Each buffer in no branch or in one of two.
#[test]
fn exclusive() {
    for (n, ticks) in [(2, 3), (3, 3), (4, 2)] {
        multisets(&shapes(2, ticks), n, &mut |p| {
            for code in 0..3usize.pow(n as u32) {
                let branch = |b: usize| (0..n).filter(|&i| code / 3usize.pow(i as u32) % 3 == b).collect();
                let branches = vec![branch(1), branch(2)];
                let exclusive = vec![Choice { branches }];
                check(&Problem { exclusive, ..p.clone() }, true);
            }
        });
    }
}

#[test]
fn reserved() {
    multisets(&shapes(2, 2), 3, &mut |p| {
        for (from, to) in pairs(5) {
            let region = Region {
                reserved: only(from as u64..to as u64),
                ..Region::default()
            };
            check(
                &Problem {
                    regions: vec![region],
                    ..p.clone()
                },
                true,
            );
        }
    });
}

/// The cheapest assignment to two memories, the first of which is small.
#[test]
fn two_regions() {
    multisets(&shapes(2, 2), 3, &mut |p| {
        for (capacity, hot) in (1..4u64).flat_map(|c| (0..8).map(move |hot| (c, hot))) {
            let mut p = p.clone();
            let fast = Region {
                name: "fast".into(),
                capacity: Some(capacity),
                ..Region::default()
            };
            let main = Region {
                name: "main".into(),
                ..Region::default()
            };
            p.regions = vec![fast, main];
            p.buffers
                .iter_mut()
                .enumerate()
                .for_each(|(i, b)| b.accesses = 1 + 2 * (hot >> i & 1));
            let s = solve_with(&p, &ENOUGH).unwrap();
            assert_eq!(verify(&p, &s), [], "{p:?}\n{s:?}");
            let cost = |inside: &dyn Fn(usize) -> bool| -> u64 {
                let outside = p.buffers.iter().enumerate().filter(|(i, _)| !inside(*i));
                outside.map(|(_, b)| b.size * b.accesses).sum()
            };
            let fits = |set: u32| {
                let buffers = p.buffers.iter().enumerate().filter(|(i, _)| set >> i & 1 == 1);
                let fast = Problem {
                    buffers: buffers.map(|(_, b)| b.clone()).collect(),
                    ..Problem::default()
                };
                optimum(&fast, capacity + 1) <= capacity
            };
            let least = (0..8)
                .filter(|&set| fits(set))
                .map(|set| cost(&|i| set >> i & 1 == 1))
                .min();
            assert_eq!(Some(cost(&|i| s.region[i] == 0)), least, "{p:?}\n{s:?}");
        }
    });
}
