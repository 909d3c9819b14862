//! Branches and keep-apart as time: a problem with either becomes one with lifetimes only.
//!
//! Two buffers conflict when their lifetimes meet, and that is all the rest of the planner knows. So the clock is cut
//! into ticks such that lifetimes meet exactly where they should. A stretch of time in which branches exclude each other
//! is repeated, once for each combination of branches, and holds only that combination's buffers. Buffers to be kept
//! apart meet in one tick more, which is put where the first of them dies. Sums over a tick stay true: what is live in it
//! can be live together, or must not share bytes anyway.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::error::PlanError;
use super::problem::{Choice, Problem};

/// A problem without choices, and the clock it runs on.
pub(super) struct Ticks<'p> {
    /// The problem. What is kept apart is so by its lifetimes; the list of pairs is still there.
    pub problem: Cow<'p, Problem>,
    /// The caller's clock value at each tick; empty when they are the same.
    clock: Vec<u32>,
}

impl Ticks<'_> {
    /// The caller's clock value at `tick`.
    pub fn clock(&self, tick: u32) -> u32 {
        self.clock.get(tick as usize).copied().unwrap_or(tick)
    }
}

/// Branches whose buffers are live at one time: beyond this many the problem is refused.
const MAX_SIGNATURES: usize = 256;

/// Buffers in all ticks together: beyond this many the problem is refused.
const MAX_ENTRIES: usize = 1 << 26;

/// Keep-apart pairs times buffers up to which ticks are made as full as they can be, for the sake of the lower bound.
const FILL_WORK: usize = 1 << 22;

/// Turns branches and keep-apart pairs into lifetimes. Without any, the problem is handed back as it is.
pub(super) fn flatten(problem: &Problem) -> Result<Ticks<'_>, PlanError> {
    if problem.apart.is_empty() && problem.exclusive.is_empty() {
        return Ok(Ticks {
            problem: Cow::Borrowed(problem),
            clock: Vec::new(),
        });
    }
    let sections = Sections::new(problem);
    let mut extra = sections.apart(problem);
    extra.reverse();
    let mut live: Vec<Vec<Range<u32>>> = vec![Vec::new(); problem.buffers.len()];
    let mut clock = Vec::new();
    let mut entries = 0;
    let mut tick = |section: usize, buffers: &mut dyn Iterator<Item = usize>| {
        let now = clock.len() as u32;
        clock.push(sections.times[section]);
        for b in buffers {
            entries += 1;
            match live[b].last_mut() {
                Some(last) if last.end == now => last.end += 1,
                _ => live[b].push(now..now + 1),
            }
        }
        if entries > MAX_ENTRIES || clock.len() > MAX_ENTRIES {
            return Err(PlanError::TooManyBranches {
                at: sections.times[section],
            });
        }
        Ok(())
    };
    let mut start = 0;
    while start < sections.live.len() {
        let run = start..sections.run(start);
        for combination in sections.combinations(&run)? {
            for s in run.clone() {
                let taken = |b: &usize| combination.as_ref().is_none_or(|c| c.contains(&sections.signature[*b]));
                tick(s, &mut sections.live[s].iter().copied().filter(taken))?;
            }
        }
        while let Some((at, buffers)) = extra.pop_if(|(at, _)| *at < run.end) {
            tick(at, &mut buffers.into_iter())?;
        }
        start = run.end;
    }
    let mut flat = problem.clone();
    for (buffer, live) in flat.buffers.iter_mut().zip(live) {
        buffer.live = live;
    }
    flat.exclusive.clear();
    Ok(Ticks {
        problem: Cow::Owned(flat),
        clock,
    })
}

/// The branches a buffer is in: `(choice, branch)`, ascending. Empty for what is always there.
type Signature = Vec<(usize, usize)>;

/// Whether buffers with these signatures can meet.
fn compatible(a: &Signature, b: &Signature) -> bool {
    a.iter().all(|x| b.iter().all(|y| x.0 != y.0 || x.1 == y.1))
}

/// Stretches of time in which nothing is born and nothing dies.
struct Sections {
    /// When each begins.
    times: Vec<u32>,
    /// Buffers live in each, ascending.
    live: Vec<Vec<usize>>,
    /// Signature of each buffer, as a position in `signatures`.
    signature: Vec<usize>,
    /// All signatures; the first is the empty one.
    signatures: Vec<Signature>,
    /// Sections each buffer is live in.
    spans: Vec<Vec<Range<usize>>>,
}

impl Sections {
    fn new(problem: &Problem) -> Self {
        let n = problem.buffers.len();
        let lives = |b: usize| {
            let buffer = &problem.buffers[b];
            buffer.live.iter().filter(|r| buffer.size > 0 && !r.is_empty())
        };
        let mut times: Vec<u32> = (0..n).flat_map(lives).flat_map(|r| [r.start, r.end]).collect();
        times.sort_unstable();
        times.dedup();
        let at = |t: u32| times.partition_point(|&x| x < t);
        let spans: Vec<Vec<Range<usize>>> = (0..n)
            .map(|b| join(lives(b).map(|r| at(r.start)..at(r.end)).collect()))
            .collect();
        let mut live = vec![Vec::new(); times.len().saturating_sub(1)];
        for (b, spans) in spans.iter().enumerate() {
            for s in spans.iter().cloned().flatten() {
                live[s].push(b);
            }
        }
        let mut of: Vec<Signature> = vec![Vec::new(); n];
        for (c, Choice { branches }) in problem.exclusive.iter().enumerate() {
            for (branch, buffers) in branches.iter().enumerate() {
                buffers.iter().for_each(|&b| of[b].push((c, branch)));
            }
        }
        let mut known = BTreeMap::from([(Signature::new(), 0)]);
        let mut signatures = vec![Signature::new()];
        let signature = of.into_iter().map(|mut s| {
            s.dedup();
            *known.entry(s.clone()).or_insert_with(|| {
                signatures.push(s);
                signatures.len() - 1
            })
        });
        Self {
            signature: signature.collect(),
            signatures,
            times,
            live,
            spans,
        }
    }

    /// The signatures of what is live in a section, but for the empty one.
    fn signatures(&self, section: usize) -> BTreeSet<usize> {
        let all = self.live[section].iter().map(|&b| self.signature[b]);
        all.filter(|&s| s > 0).collect()
    }

    /// The end of the run of sections from `start` on in which the same choices are open.
    fn run(&self, start: usize) -> usize {
        let open = |s: usize| -> BTreeSet<usize> {
            let signatures = self.signatures(s);
            let branches = signatures.iter().flat_map(|&s| &self.signatures[s]);
            branches.map(|&(choice, _)| choice).collect()
        };
        let first = open(start);
        let same = (start + 1..self.live.len()).take_while(|&s| open(s) == first);
        start + 1 + same.count()
    }

    /// The sets of signatures that a run of sections is to be repeated for, `None` for one that holds everything.
    fn combinations(&self, run: &Range<usize>) -> Result<Vec<Option<BTreeSet<usize>>>, PlanError> {
        let present: BTreeSet<usize> = run.clone().flat_map(|s| self.signatures(s)).collect();
        let present: Vec<usize> = present.into_iter().collect();
        let meets = |a: usize, b: usize| compatible(&self.signatures[a], &self.signatures[b]);
        if present.iter().all(|&a| present.iter().all(|&b| meets(a, b))) {
            return Ok(vec![None]);
        }
        if present.len() > MAX_SIGNATURES {
            return Err(PlanError::TooManyBranches {
                at: self.times[run.start],
            });
        }
        let mut cliques = Vec::new();
        if !maximal(&meets, &mut Vec::new(), present.clone(), Vec::new(), &mut cliques) {
            cliques = cover(&meets, &present);
        }
        let with_empty = |clique: Vec<usize>| Some(clique.into_iter().chain([0]).collect());
        Ok(cliques.into_iter().map(with_empty).collect())
    }

    /// Whether two buffers conflict by their lifetimes.
    fn together(&self, a: usize, b: usize) -> bool {
        let (x, y) = (&self.signatures[self.signature[a]], &self.signatures[self.signature[b]]);
        let overlap = |r: &Range<usize>| self.spans[b].iter().any(|s| r.start < s.end && s.start < r.end);
        compatible(x, y) && self.spans[a].iter().any(overlap)
    }

    /// The ticks that keep-apart pairs need: after which section, and who is live. In the order of sections.
    fn apart(&self, problem: &Problem) -> Vec<(usize, Vec<usize>)> {
        let lives = |b: usize| !self.spans[b].is_empty();
        let pairs: BTreeSet<(usize, usize)> = problem
            .apart
            .iter()
            .map(|&(a, b)| (a.min(b), a.max(b)))
            .filter(|&(a, b)| a != b && lives(a) && lives(b))
            .collect();
        let conflict = |a: usize, b: usize| pairs.contains(&(a.min(b), a.max(b))) || self.together(a, b);
        let mut todo = pairs.clone();
        todo.retain(|&(a, b)| !self.together(a, b));
        let mut fill: Vec<usize> = (0..problem.buffers.len()).filter(|&b| lives(b)).collect();
        if todo.len().saturating_mul(fill.len()) > FILL_WORK {
            fill.clear();
        }
        fill.sort_by_key(|&b| std::cmp::Reverse(problem.buffers[b].size));
        let mut out = Vec::new();
        while let Some((a, b)) = todo.pop_first() {
            let mut clique = vec![a, b];
            for &c in &fill {
                if !clique.contains(&c) && clique.iter().all(|&other| conflict(c, other)) {
                    clique.push(c);
                }
            }
            clique.sort_unstable();
            for (i, &x) in clique.iter().enumerate() {
                clique[i + 1..].iter().for_each(|&y| {
                    todo.remove(&(x, y));
                });
            }
            let last = |b: usize| self.spans[b].last().map_or(0, |r| r.end - 1);
            out.push((last(a).min(last(b)), clique));
        }
        out.sort();
        out
    }
}

/// Sorted, with what touches joined.
fn join(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_unstable_by_key(|r| (r.start, r.end));
    let mut out: Vec<Range<usize>> = Vec::new();
    for r in ranges {
        match out.last_mut() {
            Some(last) if r.start <= last.end => last.end = last.end.max(r.end),
            _ => out.push(r),
        }
    }
    out
}

/// Collects the maximal sets that contain `taken` and otherwise only what is in `free`, and nothing `done` could be added
/// to. False when there are more than [`Choice::COMBINATIONS`].
fn maximal(
    meets: &impl Fn(usize, usize) -> bool,
    taken: &mut Vec<usize>,
    free: Vec<usize>,
    mut done: Vec<usize>,
    out: &mut Vec<Vec<usize>>,
) -> bool {
    if done.iter().any(|&d| free.iter().all(|&f| meets(d, f))) {
        return true;
    }
    if free.is_empty() {
        out.push(taken.clone());
        return out.len() <= Choice::COMBINATIONS;
    }
    // Every maximal set holds the pivot or something that cannot meet it.
    let pivot = free[0];
    let mut rest = free.clone();
    for v in free.into_iter().filter(|&v| v == pivot || !meets(pivot, v)) {
        rest.retain(|&other| other != v);
        let near = |list: &[usize]| list.iter().copied().filter(|&other| meets(v, other)).collect();
        taken.push(v);
        let complete = maximal(meets, taken, near(&rest), near(&done), out);
        taken.pop();
        if !complete {
            return false;
        }
        done.push(v);
    }
    true
}

/// Maximal sets that between them hold every two that can meet, and everything.
fn cover(meets: &impl Fn(usize, usize) -> bool, all: &[usize]) -> Vec<Vec<usize>> {
    let mut todo: BTreeSet<(usize, usize)> = BTreeSet::new();
    for &a in all {
        todo.extend(all.iter().filter(|&&b| a <= b && meets(a, b)).map(|&b| (a, b)));
    }
    let mut out = Vec::new();
    while let Some((a, b)) = todo.pop_first() {
        let mut set = if a == b { vec![a] } else { vec![a, b] };
        // What still has to be seen together with the set goes first.
        let mut rest = all.to_vec();
        rest.sort_by_key(|&c| std::cmp::Reverse(set.iter().filter(|&&x| todo.contains(&(x.min(c), x.max(c)))).count()));
        for c in rest {
            if !set.contains(&c) && set.iter().all(|&x| meets(x, c)) {
                set.push(c);
            }
        }
        for &x in &set {
            for &y in &set {
                todo.remove(&(x.min(y), x.max(y)));
            }
        }
        out.push(set);
    }
    out
}
