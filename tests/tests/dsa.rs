//! The planner on random problems: against its verifier, brute force and itself. `make fuzz` runs 100 000 cases, this test
//! runs the first few of them. `CKC_FUZZ` is the number of cases, `CKC_FUZZ_FROM` the first.

use std::ops::Range;

use ck_tests::Random;
use ckc::plan::{self, Buffer, Choice, Options, Problem, Region, Solution, Status, csv};

/// Cases when nobody asks for more.
const FEW: u64 = 300;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |v| v.parse().expect("a number of cases"))
}

#[test]
fn random_cases() {
    let (first, count) = (number("CKC_FUZZ_FROM", 0), number("CKC_FUZZ", FEW));
    let kinds: [fn(&mut Random); 5] = [tiny, capacity, transformed, constrained, table];
    for case in first..first + count {
        if case > first && case.is_multiple_of(10_000) {
            println!("{} of {count} cases", case - first);
        }
        let outcome = std::panic::catch_unwind(|| kinds[(case % 5) as usize](&mut Random::new(case)));
        assert!(
            outcome.is_ok(),
            "case {case}: run it alone with CKC_FUZZ_FROM={case} CKC_FUZZ=1"
        );
    }
    println!("{count} cases");
}

/// Buffers with one or two stretches of life; sizes, times and alignments are small.
fn problem(random: &mut Random, most: usize, size: usize, ticks: usize) -> Problem {
    let n = random.below(most + 1);
    let buffer = |i: usize| {
        let mut b = Buffer::new(
            format!("b{i}"),
            random.below(size + 1) as u64,
            1 << random.below(2),
            0..0,
        );
        b.live = (0..1 + random.below(4) / 3)
            .map(|_| {
                let (x, y) = (random.below(ticks + 1) as u32, random.below(ticks + 1) as u32);
                x.min(y)..x.max(y)
            })
            .collect();
        b
    };
    Problem {
        buffers: (0..n).map(buffer).collect(),
        ..Problem::default()
    }
}

fn solve(p: &Problem, nodes: u64, capacity: Option<u64>) -> Solution {
    let s = plan::solve_with(p, &Options { nodes, capacity }).expect("a valid problem");
    assert_eq!(plan::verify(p, &s), [], "{p:?}\n{s:?}");
    assert!(s.lower_bound <= s.peak && s.nodes <= nodes);
    let one = p.regions.len() < 2;
    assert!(!one || s.candidates.iter().all(|c| s.peak <= c.peak), "{p:?}\n{s:?}");
    s
}

fn proven(s: &Solution) -> bool {
    matches!(s.status, Status::Optimal | Status::OptimalSearch)
}

fn together(a: &Buffer, b: &Buffer) -> bool {
    let meet = |r: &Range<u32>, s: &Range<u32>| r.start.max(s.start) < r.end.min(s.end);
    a.size > 0 && b.size > 0 && a.live.iter().any(|r| b.live.iter().any(|s| meet(r, s)))
}

/// Whether the buffers from number `offsets.len()` on can be placed so that all end within `capacity`.
fn fits(p: &Problem, offsets: &mut Vec<u64>, capacity: u64) -> bool {
    let Some(b) = p.buffers.get(offsets.len()) else {
        return true;
    };
    if !together(b, b) {
        offsets.push(0);
        let found = fits(p, offsets, capacity);
        offsets.pop();
        return found;
    }
    (0..=capacity.saturating_sub(b.size))
        .step_by(b.align as usize)
        .any(|at| {
            let free = p
                .buffers
                .iter()
                .zip(offsets.iter())
                .all(|(other, &o)| !together(b, other) || at + b.size <= o || o + other.size <= at);
            let ok = free && at + b.size <= capacity;
            ok && {
                offsets.push(at);
                let found = fits(p, offsets, capacity);
                offsets.pop();
                found
            }
        })
}

/// The end of what is placed, without the planner's rounding up to its unit.
fn end(p: &Problem, s: &Solution) -> u64 {
    let ends = p.buffers.iter().zip(&s.offsets).filter(|(b, _)| together(b, b));
    ends.map(|(b, o)| b.size + o).max().unwrap_or(0)
}

/// A proven optimum is what brute force finds, and search loses to nothing that is cheaper.
fn tiny(random: &mut Random) {
    let p = problem(random, 5, 3, 5);
    let (greedy, exact) = (solve(&p, 0, None), solve(&p, 50_000, None));
    assert!(exact.peak <= greedy.peak);
    assert!(proven(&exact), "{p:?}\n{exact:?}");
    // Peaks are counted in the smallest alignment.
    let unit = p
        .buffers
        .iter()
        .filter(|b| together(b, b))
        .map(|b| b.align)
        .min()
        .unwrap_or(1);
    let below = (exact.peak / unit * unit).checked_sub(unit);
    assert!(end(&p, &exact) <= exact.peak);
    assert!(below.is_none_or(|c| !fits(&p, &mut Vec::new(), c)), "{p:?}\n{exact:?}");
}

/// A capacity is met exactly when the optimum is within it.
fn capacity(random: &mut Random) {
    let p = problem(random, 9, 6, 8);
    let best = solve(&p, 50_000, None);
    let capacity = random.below(2 * best.peak as usize + 2) as u64;
    let s = solve(&p, 50_000, Some(capacity));
    if proven(&best) {
        assert_eq!(s.peak <= capacity, best.peak <= capacity, "{p:?}\n{capacity} {s:?}");
        assert_eq!(
            s.status == Status::Infeasible,
            best.peak > capacity,
            "{p:?}\n{capacity} {s:?}"
        );
    }
}

/// Proven optima survive permutation, reversal and dilation of time, scaling of sizes, and concatenation.
fn transformed(random: &mut Random) {
    let ticks = 12;
    let p = problem(random, 12, 9, ticks);
    let s = solve(&p, 50_000, None);
    if !proven(&s) {
        return;
    }
    let (factor, stretch) = (1 << random.below(4), 1 + random.below(5) as u32);
    let map = |change: &dyn Fn(&mut Buffer)| {
        let mut q = p.clone();
        q.buffers.iter_mut().for_each(change);
        q
    };
    let mut shuffled = p.clone();
    for i in (1..shuffled.buffers.len()).rev() {
        shuffled.buffers.swap(i, random.below(i + 1));
    }
    let reversed = map(&|b| {
        b.live
            .iter_mut()
            .for_each(|l| *l = ticks as u32 - l.end..ticks as u32 - l.start);
    });
    let dilated = map(&|b| b.live.iter_mut().for_each(|l| *l = stretch * l.start..stretch * l.end));
    let scaled = map(&|b| (b.size, b.align) = (b.size * factor, b.align * factor));
    let mut twice = p.clone();
    twice.buffers.extend(p.buffers.iter().map(|b| Buffer {
        id: format!("{}'", b.id),
        live: b.live.iter().map(|l| l.start + 20..l.end + 20).collect(),
        ..b.clone()
    }));
    for (q, want) in [
        (shuffled, s.peak),
        (reversed, s.peak),
        (dilated, s.peak),
        (scaled, factor * s.peak),
        (twice, s.peak),
    ] {
        let t = solve(&q, 200_000, None);
        assert!(
            t.peak == want || (!proven(&t) && t.peak > want),
            "{p:?}\n{q:?}\n{s:?}\n{t:?}"
        );
    }
}

/// What is kept apart, branches of which one is taken, and two memories: search loses to nothing that is cheaper, and proven
/// optima survive what changes nothing.
fn constrained(random: &mut Random) {
    let ticks = 8;
    let mut p = problem(random, 8, 9, ticks);
    let n = p.buffers.len();
    for a in 0..n {
        let apart = (a + 1..n).filter(|_| random.below(8) == 0);
        p.apart.extend(apart.map(|b| (a, b)));
    }
    let mut branches = vec![Vec::new(); 3];
    (0..n).for_each(|b| branches[random.below(3)].push(b));
    // The third holds what is always live.
    branches.truncate(2);
    p.exclusive = vec![Choice { branches }];
    if random.below(2) == 0 {
        let region = |name: &str, capacity| Region {
            name: name.to_owned(),
            capacity,
            ..Region::default()
        };
        p.regions = vec![region("fast", Some(random.below(20) as u64)), region("main", None)];
        p.buffers.iter_mut().for_each(|b| b.accesses = random.below(4) as u64);
    }
    let (greedy, exact) = (solve(&p, 0, None), solve(&p, 50_000, None));
    // More nodes can decide otherwise what lies where.
    let same = greedy.region == exact.region;
    assert!(!same || exact.peak <= greedy.peak, "{p:?}\n{greedy:?}\n{exact:?}");
    let mut scaled = p.clone();
    for b in &mut scaled.buffers {
        (b.size, b.align) = (4 * b.size, 4 * b.align);
    }
    scaled
        .regions
        .iter_mut()
        .for_each(|r| r.capacity = r.capacity.map(|c| 4 * c));
    let mut others = vec![(scaled, 4)];
    if p.regions.is_empty() {
        let mut reversed = p.clone();
        for l in reversed.buffers.iter_mut().flat_map(|b| &mut b.live) {
            *l = ticks as u32 - l.end..ticks as u32 - l.start;
        }
        let mut turned = p.clone();
        turned.buffers.reverse();
        let at = |b: &mut usize| *b = n - 1 - *b;
        for (a, b) in &mut turned.apart {
            at(a);
            at(b);
        }
        turned.exclusive[0].branches.iter_mut().flatten().for_each(at);
        others.extend([(reversed, 1), (turned, 1)]);
    }
    for (q, factor) in others {
        let t = solve(&q, 50_000, None);
        let both = proven(&exact) && proven(&t);
        assert!(!both || t.peak == factor * exact.peak, "{p:?}\n{q:?}\n{exact:?}\n{t:?}");
    }
}

/// A table with some of its bytes changed is read or refused; what is read comes back.
fn table(random: &mut Random) {
    let mut text = String::from("id,lower,upper,size,alignment,gaps\n");
    for i in 0..random.below(6) {
        let (lower, length, size) = (random.below(9), random.below(9), random.below(1000));
        text += &format!(
            "b{i},{lower},{},{size},{},{}\n",
            lower + length,
            1 << random.below(7),
            ["", "2-3", "1-2 4-6"][random.below(3)]
        );
    }
    let mut bytes = text.into_bytes();
    for _ in 0..random.below(5) {
        let at = random.below(bytes.len());
        let byte = b"0129,-\n\r\"x \xef\xff."[random.below(14)];
        match random.below(3) {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            _ => {
                bytes.remove(at);
            }
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    match csv::read(&text) {
        Err(faults) => {
            assert!(!faults.is_empty());
            assert!(
                faults.iter().all(|f| f.line > 0 && text.get(f.span.clone()).is_some()),
                "{text:?}"
            );
        }
        Ok(table) => {
            let s = solve(&table.problem, 1_000, None);
            let written = csv::write(&table, &s);
            let again = csv::read(&written).expect("what was written");
            assert_eq!(again.problem, table.problem, "{text:?}\n{written:?}");
        }
    }
}
