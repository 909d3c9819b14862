//! Tasks that make and use values: what an order of them costs, and where it comes apart.

use std::ops::Range;

/// Tasks in the source's order, and the values they pass on. All bytes together stay below 2^63.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dag {
    /// The tasks; every one after those that it has to wait for.
    pub tasks: Vec<Task>,
    /// The values.
    pub values: Vec<Value>,
}

/// One indivisible piece of work.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Task {
    /// The tasks it has to wait for, sorted. Makers of what it uses are among them.
    pub after: Vec<usize>,
    /// Bytes that it alone needs, while it runs.
    pub scratch: u64,
    /// Pairs `(made, used)` of values, of which one may share bytes if no task uses `used` afterwards.
    pub in_place: Vec<(usize, usize)>,
}

/// Bytes from the task that makes them to the last one that uses them, both included.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value {
    /// How many.
    pub bytes: u64,
    /// The task that makes it; none if it is there from the start.
    pub maker: Option<usize>,
    /// The tasks that use it, sorted, without the maker.
    pub users: Vec<usize>,
    /// Whether it stays to the end.
    pub kept: bool,
}

/// A dag with what each task makes and uses.
pub(super) struct Indexed<'d> {
    pub dag: &'d Dag,
    /// Values by their maker.
    pub makes: Vec<Vec<usize>>,
    /// Values by their users.
    pub uses: Vec<Vec<usize>>,
    /// The tasks that wait for a task.
    pub before: Vec<Vec<usize>>,
}

impl<'d> Indexed<'d> {
    pub fn new(dag: &'d Dag) -> Self {
        let n = dag.tasks.len();
        let (mut makes, mut uses, mut before) = (vec![Vec::new(); n], vec![Vec::new(); n], vec![Vec::new(); n]);
        for (v, value) in dag.values.iter().enumerate() {
            value.maker.into_iter().for_each(|t| makes[t].push(v));
            value.users.iter().for_each(|&t| uses[t].push(v));
        }
        for (t, task) in dag.tasks.iter().enumerate() {
            task.after.iter().for_each(|&p| before[p].push(t));
        }
        Self {
            dag,
            makes,
            uses,
            before,
        }
    }

    /// The most bytes that are live in a task of this order.
    pub fn peak(&self, order: &[usize]) -> u64 {
        self.needs(order).into_iter().map(|(_, need)| need).max().unwrap_or(0)
    }

    /// For each task of this order, the bytes that are live before it and while it runs.
    pub fn needs(&self, order: &[usize]) -> Vec<(u64, u64)> {
        let mut run = Run::new(self);
        let mut step = |&t: &usize| {
            let needs = (run.live, run.need(t));
            run.step(t);
            needs
        };
        order.iter().map(&mut step).collect()
    }

    /// No order needs less than a task needs for itself.
    pub fn floor(&self) -> u64 {
        let bytes = |v: &usize| self.dag.values[*v].bytes;
        let own = |t: usize| {
            let task = &self.dag.tasks[t];
            let shared = task
                .in_place
                .iter()
                .map(|(made, used)| bytes(made).min(bytes(used)))
                .max();
            let all: u64 = self.makes[t].iter().chain(&self.uses[t]).map(bytes).sum();
            all + task.scratch - shared.unwrap_or(0)
        };
        (0..self.dag.tasks.len()).map(own).max().unwrap_or(0)
    }

    /// Cuts the source's order wherever every order has run the same tasks: there, what comes later waits for all that
    /// came before.
    pub fn cuts(&self) -> Vec<Range<usize>> {
        let n = self.dag.tasks.len();
        // Tasks of the prefix that nothing in it waits for; tasks of the rest that wait for nothing in it; and the pairs
        // of one each that are tied directly. The prefix is in front of the rest if all pairs are: a path between such
        // two that is longer would pass through a third.
        let (mut last, mut next) = (vec![false; n], vec![false; n]);
        let (mut lasts, mut nexts, mut tied) = (0usize, 0usize, 0usize);
        let mut waits: Vec<usize> = self.dag.tasks.iter().map(|t| t.after.len()).collect();
        for t in 0..n {
            next[t] = waits[t] == 0;
            nexts += usize::from(next[t]);
        }
        let (mut cuts, mut start) = (Vec::new(), 0);
        for t in 0..n {
            let (after, before) = (&self.dag.tasks[t].after, &self.before[t]);
            next[t] = false;
            nexts -= 1;
            tied -= after.iter().filter(|&&p| last[p]).count();
            for &p in after.iter().filter(|&&p| last[p]) {
                tied -= self.before[p].iter().filter(|&&s| next[s]).count();
                lasts -= 1;
            }
            after.iter().for_each(|&p| last[p] = false);
            last[t] = true;
            lasts += 1;
            for &s in before {
                waits[s] -= 1;
                if waits[s] == 0 {
                    next[s] = true;
                    nexts += 1;
                    tied += self.dag.tasks[s].after.iter().filter(|&&p| last[p]).count();
                }
            }
            if tied == lasts * nexts {
                cuts.push(start..t + 1);
                start = t + 1;
            }
        }
        cuts
    }

    /// The tasks at `range` of `order` as a dag of their own, in that order. Values that live through all of it are left
    /// out.
    pub fn piece(&self, order: &[usize], place: &[usize], range: &Range<usize>) -> Piece {
        let mut local: Vec<usize> = Vec::new();
        let mut dag = Dag::default();
        let mut entering = 0;
        for &t in &order[range.clone()] {
            let task = &self.dag.tasks[t];
            for &v in self.makes[t].iter().chain(&self.uses[t]) {
                let value = &self.dag.values[v];
                let made = value.maker.map(|m| place[m]).filter(|m| *m >= range.start);
                let kept = value.kept || value.users.iter().any(|&u| place[u] >= range.end);
                if (made.is_none() && kept) || local.contains(&v) {
                    continue;
                }
                entering += if made.is_none() { value.bytes } else { 0 };
                local.push(v);
                let inside = value.users.iter().map(|&u| place[u]).filter(|u| range.contains(u));
                let mut users: Vec<usize> = inside.map(|u| u - range.start).collect();
                users.sort_unstable();
                dag.values.push(Value {
                    bytes: value.bytes,
                    maker: made.map(|m| m - range.start),
                    users,
                    kept,
                });
            }
            let inside = task.after.iter().map(|&p| place[p]).filter(|p| *p >= range.start);
            let mut after: Vec<usize> = inside.map(|p| p - range.start).collect();
            after.sort_unstable();
            let at = |v: usize| local.iter().position(|&l| l == v);
            let pairs = task.in_place.iter().filter_map(|&(d, s)| Some((at(d)?, at(s)?)));
            dag.tasks.push(Task {
                after,
                scratch: task.scratch,
                in_place: pairs.collect(),
            });
        }
        Piece { dag, entering }
    }
}

/// A part of an order.
pub(super) struct Piece {
    pub dag: Dag,
    /// Bytes of its values that are live when it starts.
    pub entering: u64,
}

/// An order while it runs.
pub(super) struct Run<'i> {
    of: &'i Indexed<'i>,
    /// Users of each value that have not run.
    left: Vec<usize>,
    /// Bytes live between two tasks.
    pub live: u64,
}

impl<'i> Run<'i> {
    pub fn new(of: &'i Indexed<'i>) -> Self {
        let there = |v: &&Value| v.maker.is_none() && (v.kept || !v.users.is_empty());
        Self {
            of,
            left: of.dag.values.iter().map(|v| v.users.len()).collect(),
            live: of.dag.values.iter().filter(there).map(|v| v.bytes).sum(),
        }
    }

    /// Bytes live while `t` runs next.
    pub fn need(&self, t: usize) -> u64 {
        let (values, task) = (&self.of.dag.values, &self.of.dag.tasks[t]);
        let dies = |v: usize| !values[v].kept && self.left[v] == 1;
        let pairs = task.in_place.iter().filter(|(_, used)| dies(*used));
        let shared = pairs
            .map(|&(made, used)| values[made].bytes.min(values[used].bytes))
            .max();
        let made: u64 = self.of.makes[t].iter().map(|&v| values[v].bytes).sum();
        self.live + made + task.scratch - shared.unwrap_or(0)
    }

    /// Bytes live after `t` has run next.
    pub fn after(&self, t: usize) -> u64 {
        let values = &self.of.dag.values;
        let stays = |v: &&usize| values[**v].kept || !values[**v].users.is_empty();
        let dies = |v: &&usize| !values[**v].kept && self.left[**v] == 1;
        let made: u64 = self.of.makes[t].iter().filter(stays).map(|&v| values[v].bytes).sum();
        let freed: u64 = self.of.uses[t].iter().filter(dies).map(|&v| values[v].bytes).sum();
        self.live + made - freed
    }

    pub fn step(&mut self, t: usize) {
        self.live = self.after(t);
        self.of.uses[t].iter().for_each(|&v| self.left[v] -= 1);
    }
}
