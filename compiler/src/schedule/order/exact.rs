//! The least peak of a dag of up to [`MOST`] tasks, by search.
//!
//! A state is the set of tasks that have run; the bytes live in it do not depend on their order. A search for an order
//! within a limit visits each state once. The first limit is a bound that no order is below; where nothing is found, the
//! next one is the least number of bytes at which a step was refused. The first limit that is met is the least peak.
//!
//! What keeps the number of states small: live bytes are submodular in the set of tasks that have run. If tasks can
//! follow within the limit after which no more bytes are live than before them, nor than after any part of them, then
//! any order within the limit stays within it when they are run first. So nothing else has to be tried in such a state.

use std::collections::BTreeSet;

use super::dag::{Dag, Indexed, Value};

/// Tasks that a state has bits for.
pub(super) const MOST: usize = 127;

/// Tasks that are run at once as one move, at most.
const CONE: u32 = 8;

/// What is known of a dag's orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The best order.
    pub order: Vec<usize>,
    /// Its peak.
    pub peak: u64,
    /// No order has a lower peak.
    pub least: u64,
}

/// Searches below the `known` order, visiting at most `nodes` states.
pub(super) fn search(of: &Indexed<'_>, known: Vec<usize>, nodes: &mut u64) -> Found {
    let peak = of.peak(&known);
    let machine = Machine::new(of);
    let mut found = Found {
        order: known,
        peak,
        least: machine.bound().min(peak),
    };
    while found.least < found.peak {
        let limit = found.least;
        match machine.decide(limit, nodes) {
            Answer::Order(order) => {
                (found.order, found.peak) = (order, limit);
            }
            Answer::None { next } => found.least = next.min(found.peak),
            Answer::Unknown => break,
        }
    }
    found
}

/// Exchanges neighbours that stand in another order than in the source, wherever the limit allows it.
pub(super) fn straighten(of: &Indexed<'_>, order: &mut [usize], limit: u64) {
    let machine = Machine::new(of);
    loop {
        let mut moved = false;
        let mut state = machine.start();
        for i in 0..order.len().saturating_sub(1) {
            let (a, b) = (order[i], order[i + 1]);
            let free = machine.before[b] >> a & 1 == 0;
            if a > b && free && machine.need(b, state) <= limit && machine.need(a, machine.run(b, state)) <= limit {
                order.swap(i, i + 1);
                moved = true;
            }
            state = machine.run(order[i], state);
        }
        if !moved {
            return;
        }
    }
}

enum Answer {
    Order(Vec<usize>),
    /// There is none below `next`.
    None {
        next: u64,
    },
    Unknown,
}

#[derive(Clone, Copy)]
struct State {
    /// The tasks that have run.
    done: u128,
    /// Bytes live now.
    live: u64,
}

/// The dag with sets as bits.
struct Machine<'i> {
    dag: &'i Dag,
    makes: &'i [Vec<usize>],
    uses: &'i [Vec<usize>],
    /// The tasks a task waits for directly.
    before: Vec<u128>,
    /// A task and all that it waits for.
    cone: Vec<u128>,
    /// The users of each value; never all of them for one that is kept.
    users: Vec<u128>,
    /// Bytes of what a task makes, scratch included.
    making: Vec<u64>,
    all: u128,
}

/// A bit that no task has done.
const NEVER: u128 = 1 << MOST;

fn bits(mut set: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = set.trailing_zeros();
        set &= set.wrapping_sub(1);
        (bit < u128::BITS).then_some(bit as usize)
    })
}

impl<'i> Machine<'i> {
    fn new(of: &'i Indexed<'i>) -> Self {
        let dag = of.dag;
        let set = |tasks: &[usize]| tasks.iter().fold(0u128, |set, t| set | 1 << t);
        let before: Vec<u128> = dag.tasks.iter().map(|t| set(&t.after)).collect();
        let mut cone: Vec<u128> = Vec::with_capacity(before.len());
        for (t, set) in before.iter().enumerate() {
            cone.push(bits(*set).fold(1 << t, |all, p| all | cone[p]));
        }
        let made = |t: usize| of.makes[t].iter().map(|&v| dag.values[v].bytes).sum::<u64>();
        Self {
            dag,
            makes: &of.makes,
            uses: &of.uses,
            before,
            cone,
            users: dag
                .values
                .iter()
                .map(|v| set(&v.users) | if v.kept { NEVER } else { 0 })
                .collect(),
            making: (0..dag.tasks.len()).map(|t| made(t) + dag.tasks[t].scratch).collect(),
            all: (0..dag.tasks.len()).fold(0, |all, t| all | 1 << t),
        }
    }

    fn start(&self) -> State {
        let there = self.dag.values.iter().zip(&self.users);
        let there = there.filter(|(v, users)| v.maker.is_none() && **users != 0);
        State {
            done: 0,
            live: there.map(|(v, _)| v.bytes).sum(),
        }
    }

    /// Whether the value is not needed any more once `done` have run.
    fn dead(&self, value: usize, done: u128) -> bool {
        self.users[value] & !done == 0
    }

    fn need(&self, t: usize, state: State) -> u64 {
        let done = state.done | 1 << t;
        let pairs = self.dag.tasks[t].in_place.iter();
        let shared = pairs
            .filter(|(_, used)| self.dead(*used, done))
            .map(|&(made, used)| self.dag.values[made].bytes.min(self.dag.values[used].bytes))
            .max();
        state.live + self.making[t] - shared.unwrap_or(0)
    }

    fn run(&self, t: usize, state: State) -> State {
        let done = state.done | 1 << t;
        let bytes = |v: &usize| self.dag.values[*v].bytes;
        let stay = self.makes[t].iter().filter(|v| self.users[**v] != 0);
        let freed = self.uses[t].iter().filter(|v| self.dead(**v, done));
        State {
            done,
            live: state.live + stay.map(bytes).sum::<u64>() - freed.map(bytes).sum::<u64>(),
        }
    }

    /// What is live while a task runs, whatever the order: its own values, and those that come from what it waits for and
    /// go to what waits for it.
    fn bound(&self) -> u64 {
        let need = |t: usize| {
            let waits = |user: usize| self.cone[user] >> t & 1 == 1;
            let crosses = |(v, value): (usize, &Value)| {
                let before = value.maker.is_none_or(|m| m != t && self.cone[t] >> m & 1 == 1);
                let after = self.users[v] & NEVER != 0 || value.users.iter().any(|&u| waits(u));
                if before && after { value.bytes } else { 0 }
            };
            let live = self.dag.values.iter().enumerate().map(crosses).sum::<u64>();
            let pairs = self.dag.tasks[t].in_place.iter();
            let pairs = pairs.filter(|(_, used)| self.users[*used] & NEVER == 0);
            let shared = pairs.map(|&(made, used)| self.dag.values[made].bytes.min(self.dag.values[used].bytes));
            live + self.making[t] - shared.max().unwrap_or(0)
        };
        (0..self.dag.tasks.len()).map(need).max().unwrap_or(0)
    }

    /// Looks for an order within the limit, depth first.
    fn decide(&self, limit: u64, nodes: &mut u64) -> Answer {
        let mut next = u64::MAX;
        let mut seen = BTreeSet::new();
        let mut path: Vec<usize> = Vec::new();
        let start = self.start();
        let mut stack = vec![(start, 0, self.moves(start, limit, &mut next).into_iter())];
        while let Some((state, length, moves)) = stack.last_mut() {
            path.truncate(*length);
            let Some(chosen) = moves.next() else {
                stack.pop();
                continue;
            };
            let state = chosen.iter().fold(*state, |state, t| self.run(*t, state));
            if !seen.insert(state.done) {
                continue;
            }
            path.extend(chosen);
            if state.done == self.all {
                return Answer::Order(path);
            }
            if *nodes == 0 {
                return Answer::Unknown;
            }
            *nodes -= 1;
            let moves = self.moves(state, limit, &mut next);
            stack.push((state, path.len(), moves.into_iter()));
        }
        Answer::None { next }
    }

    /// What may be run next: a single move if it is never worse than any other, else every task that fits. `next` becomes
    /// the least need that did not fit.
    fn moves(&self, state: State, limit: u64, next: &mut u64) -> Vec<Vec<usize>> {
        let mut fitting = Vec::new();
        let mut refused = u64::MAX;
        for t in bits(self.all & !state.done) {
            if self.before[t] & !state.done != 0 {
                continue;
            }
            let need = self.need(t, state);
            if need > limit {
                refused = refused.min(need);
            } else if self.run(t, state).live <= state.live {
                return vec![vec![t]];
            } else {
                fitting.push(vec![t]);
            }
        }
        if fitting.len() > 1 {
            let open = bits(self.all & !state.done).map(|t| self.cone[t] & !state.done);
            let small = open.filter(|set| (2..=CONE).contains(&set.count_ones()));
            if let Some(chosen) = small.filter_map(|set| self.settle(state, set, limit)).next() {
                return vec![chosen];
            }
        }
        *next = refused.min(*next);
        fitting
    }

    /// An order of the tasks in `set` within the limit, if no more bytes are live afterwards than before, and than after
    /// any part of them.
    fn settle(&self, state: State, set: u128, limit: u64) -> Option<Vec<usize>> {
        let end = bits(set).fold(state, |state, t| self.run(t, state));
        if end.live > state.live {
            return None;
        }
        // Every part of the set that can have run, smaller ones first, and the way to it within the limit.
        let mut parts: Vec<(State, Option<Vec<usize>>)> = vec![(state, Some(Vec::new()))];
        let mut at = 0;
        while at < parts.len() {
            let (part, way) = parts[at].clone();
            at += 1;
            if part.live < end.live {
                return None;
            }
            if part.done == end.done {
                return way;
            }
            for t in bits(set & !part.done).filter(|t| self.before[*t] & !part.done == 0) {
                let reached = self.run(t, part);
                let way = way.as_ref().filter(|_| self.need(t, part) <= limit);
                let way = way.map(|way| way.iter().copied().chain([t]).collect());
                match parts[at..].iter_mut().find(|(p, _)| p.done == reached.done) {
                    Some((_, known)) => *known = known.take().or(way),
                    None => parts.push((reached, way)),
                }
            }
        }
        None
    }
}
