//! The order search against the definition, over all orders of small dags.

use super::dag::Indexed;
use super::{Dag, Ordered, Task, Value, best};

/// A sequence of numbers that depends on its seed alone.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }
}

/// Up to `most` tasks with values, scratch, in-place pairs, and tasks that only wait.
fn random(seed: u64, most: u64) -> Dag {
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let n = 1 + numbers.below(most) as usize;
    let density = 1 + numbers.below(4);
    let mut dag = Dag {
        tasks: vec![Task::default(); n],
        values: Vec::new(),
    };
    let makers: Vec<Option<usize>> = (0..n).map(Some).chain([None]).collect();
    for maker in makers {
        for _ in 0..numbers.below(3) {
            let users = (maker.map_or(0, |m| m + 1)..n).filter(|_| numbers.below(6) < density);
            let users: Vec<usize> = users.collect();
            for &user in &users {
                dag.tasks[user].after.extend(maker);
            }
            dag.values.push(Value {
                bytes: 1 + numbers.below(9),
                maker,
                users,
                kept: numbers.below(8) == 0,
            });
        }
    }
    for t in 1..n {
        if numbers.below(8) == 0 {
            let earlier = numbers.below(t as u64) as usize;
            dag.tasks[t].after.push(earlier);
        }
        dag.tasks[t].scratch = numbers.below(3).saturating_sub(1) * numbers.below(6);
        let made = dag.values.iter().position(|v| v.maker == Some(t));
        if let Some(made) = made
            && numbers.below(2) == 0
        {
            let used = (0..dag.values.len()).filter(|&v| dag.values[v].users.contains(&t));
            dag.tasks[t].in_place = used.map(|used| (made, used)).collect();
        }
    }
    for task in &mut dag.tasks {
        task.after.sort_unstable();
        task.after.dedup();
    }
    dag
}

/// By the definition: a value lives from its maker, or the start, to its last user, or the end.
fn peak(dag: &Dag, order: &[usize]) -> u64 {
    let at = |t: &usize| order.iter().position(|o| o == t).unwrap();
    let span = |v: &Value| {
        let first = v.maker.as_ref().map_or(0, at);
        let used = v.users.iter().map(at).max();
        let last = match v.maker {
            _ if v.kept => Some(order.len() - 1),
            Some(_) => Some(used.unwrap_or(first)),
            None => used,
        };
        last.map(|last| first..=last)
    };
    let spans: Vec<_> = dag.values.iter().map(span).collect();
    let live = |(i, t): (usize, &usize)| {
        let bytes = |v: usize| dag.values[v].bytes;
        let all: u64 = (0..spans.len())
            .filter(|&v| spans[v].as_ref().is_some_and(|s| s.contains(&i)))
            .map(bytes)
            .sum();
        let dies = |v: usize| spans[v].as_ref().is_some_and(|s| *s.end() == i) && !dag.values[v].kept;
        let pairs = dag.tasks[*t].in_place.iter().filter(|(_, used)| dies(*used));
        let shared = pairs.map(|&(made, used)| bytes(made).min(bytes(used))).max();
        all + dag.tasks[*t].scratch - shared.unwrap_or(0)
    };
    order.iter().enumerate().map(live).max().unwrap_or(0)
}

fn valid(dag: &Dag, order: &[usize]) -> bool {
    let mut at = vec![usize::MAX; dag.tasks.len()];
    order.iter().enumerate().for_each(|(i, &t)| at[t] = i);
    let waits = |(t, task): (usize, &Task)| task.after.iter().all(|&p| at[p] < at[t]);
    order.len() == at.len() && at.iter().all(|a| *a < at.len()) && dag.tasks.iter().enumerate().all(waits)
}

/// The least peak over every order.
fn least(dag: &Dag) -> u64 {
    fn extend(dag: &Dag, order: &mut Vec<usize>, best: &mut u64) {
        if order.len() == dag.tasks.len() {
            *best = (*best).min(peak(dag, order));
        }
        for t in 0..dag.tasks.len() {
            if !order.contains(&t) && dag.tasks[t].after.iter().all(|p| order.contains(p)) {
                order.push(t);
                extend(dag, order, best);
                order.pop();
            }
        }
    }
    let mut best = u64::MAX;
    extend(dag, &mut Vec::new(), &mut best);
    best
}

/// What must hold of any answer.
fn check(dag: &Dag, ordered: &Ordered) {
    let source: Vec<usize> = (0..dag.tasks.len()).collect();
    assert!(valid(dag, &ordered.order), "{dag:?} {ordered:?}");
    assert_eq!(peak(dag, &ordered.order), ordered.peak, "{dag:?} {ordered:?}");
    assert_eq!(peak(dag, &source), ordered.source, "{dag:?} {ordered:?}");
    assert!(
        ordered.least <= ordered.peak && ordered.peak <= ordered.source,
        "{dag:?} {ordered:?}"
    );
    if ordered.peak == ordered.source {
        assert_eq!(
            ordered.order, source,
            "an order as good as the source's is the source's"
        );
    }
    assert_eq!(*ordered, best(dag), "twice the same");
}

#[test]
fn the_least_over_all_orders_is_found_and_proved() {
    let mut lowered = 0;
    for seed in 0..3000 {
        let dag = random(seed, 7);
        let ordered = best(&dag);
        check(&dag, &ordered);
        let least = least(&dag);
        assert_eq!((ordered.peak, ordered.least), (least, least), "seed {seed}: {dag:?}");
        lowered += usize::from(ordered.peak < ordered.source);
    }
    assert!(
        lowered > 300,
        "{lowered} sources are not the best order: too few to test anything"
    );
}

/// The least peak over sets of tasks, one after the other: no bound, no pruning.
fn least_by_sets(dag: &Dag) -> u64 {
    let n = dag.tasks.len();
    let live = |set: usize| -> u64 {
        let has = |t: &usize| set >> t & 1 == 1;
        let lives = |v: &&Value| v.maker.as_ref().is_none_or(has) && (v.kept || !v.users.iter().all(has));
        dag.values.iter().filter(lives).map(|v| v.bytes).sum()
    };
    let mut best = vec![u64::MAX; 1 << n];
    best[0] = 0;
    for set in 0..1usize << n {
        let ready = |t: &usize| set >> t & 1 == 0 && dag.tasks[*t].after.iter().all(|p| set >> p & 1 == 1);
        let reached = best[set];
        for t in (0..n).filter(ready).filter(|_| reached < u64::MAX) {
            let next = set | 1 << t;
            let values = || dag.values.iter();
            let made: u64 = values().filter(|v| v.maker == Some(t)).map(|v| v.bytes).sum();
            let dies = |v: usize| !dag.values[v].kept && dag.values[v].users.iter().all(|u| next >> u & 1 == 1);
            let pairs = dag.tasks[t].in_place.iter().filter(|(_, used)| dies(*used));
            let shared = pairs.map(|&(m, u)| dag.values[m].bytes.min(dag.values[u].bytes)).max();
            let need = live(set) + made + dag.tasks[t].scratch - shared.unwrap_or(0);
            best[next] = best[next].min(reached.max(need));
        }
    }
    best[(1 << n) - 1]
}

#[test]
fn larger_dags_agree_with_a_table_over_all_sets() {
    for seed in 0..60 {
        let dag = random(seed, 14);
        let ordered = best(&dag);
        check(&dag, &ordered);
        let least = least_by_sets(&dag);
        assert_eq!((ordered.peak, ordered.least), (least, least), "seed {seed}: {dag:?}");
    }
}

#[test]
fn cuts_are_where_every_order_has_run_the_same_tasks() {
    for seed in 0..500 {
        let dag = random(seed, 8);
        let n = dag.tasks.len();
        // Who waits for whom, over any number of steps.
        let mut waits = vec![vec![false; n]; n];
        for t in 0..n {
            for &p in &dag.tasks[t].after {
                waits[t][p] = true;
                for q in 0..n {
                    waits[t][q] |= waits[p][q];
                }
            }
        }
        let cut = |k: &usize| (0..*k).all(|a| (*k..n).all(|b| waits[b][a]));
        let want: Vec<usize> = (1..=n).filter(cut).collect();
        let found: Vec<usize> = Indexed::new(&dag).cuts().into_iter().map(|range| range.end).collect();
        assert_eq!(found, want, "seed {seed}: {dag:?}");
    }
}

/// The same dag with its values in another order and its tasks renamed along a valid order.
fn renamed(dag: &Dag, order: &[usize], values: &[usize]) -> Dag {
    let (mut task, mut value) = (vec![0; order.len()], vec![0; values.len()]);
    order.iter().enumerate().for_each(|(new, &old)| task[old] = new);
    values.iter().enumerate().for_each(|(new, &old)| value[old] = new);
    let sorted = |list: &[usize]| {
        let mut list: Vec<usize> = list.iter().map(|&t| task[t]).collect();
        list.sort_unstable();
        list
    };
    let new_task = |old: &usize| {
        let old = &dag.tasks[*old];
        Task {
            after: sorted(&old.after),
            scratch: old.scratch,
            in_place: old.in_place.iter().map(|&(m, u)| (value[m], value[u])).collect(),
        }
    };
    let new_value = |old: &usize| {
        let old = &dag.values[*old];
        Value {
            maker: old.maker.map(|m| task[m]),
            users: sorted(&old.users),
            ..*old
        }
    };
    Dag {
        tasks: order.iter().map(new_task).collect(),
        values: values.iter().map(new_value).collect(),
    }
}

#[test]
fn other_names_change_nothing() {
    for seed in 0..500 {
        let dag = random(seed, 10);
        let ordered = best(&dag);
        let same: Vec<usize> = (0..dag.tasks.len()).collect();
        let values: Vec<usize> = (0..dag.values.len()).rev().collect();
        assert_eq!(best(&renamed(&dag, &same, &values)), ordered, "values, seed {seed}");
        let moved = best(&renamed(&dag, &ordered.order, &values));
        let least = (ordered.peak, ordered.peak, ordered.least);
        assert_eq!((moved.source, moved.peak, moved.least), least, "tasks, seed {seed}");
        assert_eq!(moved.order, same, "the best order is kept");
    }
}

/// Branches of three tasks (`wide` bytes between them, `narrow` at their end) from one value, summed in turn at the end.
fn branches(count: usize, wide: u64, narrow: u64) -> Dag {
    let mut dag = Dag::default();
    let mut add = |after: &[usize], used: &[usize], bytes: u64, in_place: bool| {
        let (t, v) = (dag.tasks.len(), dag.values.len());
        for &u in used {
            dag.values[u].users.push(t);
        }
        dag.tasks.push(Task {
            after: after.to_vec(),
            scratch: 0,
            in_place: used.iter().filter(|_| in_place).map(|&u| (v, u)).collect(),
        });
        dag.values.push(Value {
            bytes,
            maker: Some(t),
            ..Value::default()
        });
        (t, v)
    };
    let (root, x) = add(&[], &[], narrow, false);
    // As people write it: layer by layer, all branches of a layer together.
    let up: Vec<_> = (0..count).map(|_| add(&[root], &[x], wide, false)).collect();
    let act: Vec<_> = up.iter().map(|&(t, v)| add(&[t], &[v], wide, true)).collect();
    let down: Vec<_> = act.iter().map(|&(t, v)| add(&[t], &[v], narrow, false)).collect();
    down.into_iter()
        .fold((root, x), |(t, v), (t2, v2)| add(&[t, t2], &[v, v2], narrow, true));
    dag
}

#[test]
fn branches_run_one_after_the_other() {
    for count in [2, 3, 8, 10, 40, 200] {
        let dag = branches(count, 1000, 10);
        let ordered = best(&dag);
        check(&dag, &ordered);
        // The source has all branches open. Else there are `x`, the sum so far, a branch in its middle and its result.
        assert_eq!(ordered.source, 20 + 1000 * count as u64);
        assert_eq!(ordered.peak, if count == 2 { 1020 } else { 1030 }, "{count} branches");
        if dag.tasks.len() <= super::exact::MOST {
            assert_eq!(ordered.least, ordered.peak, "{count} branches");
        }
    }
}

/// Chains that the source runs side by side.
#[test]
fn a_dag_beyond_the_search_is_ordered_all_the_same() {
    for seed in 1..5 {
        let mut numbers = Numbers(seed);
        let (chains, length) = (30, 8);
        let n = chains * length;
        let mut dag = Dag {
            tasks: vec![Task::default(); n + 1],
            values: Vec::new(),
        };
        for t in 0..n {
            let user = (t + chains).min(n);
            dag.tasks[user].after.push(t);
            dag.values.push(Value {
                bytes: if user == n { 1 } else { 1 + numbers.below(100) },
                maker: Some(t),
                users: vec![user],
                kept: false,
            });
        }
        let ordered = best(&dag);
        check(&dag, &ordered);
        assert!(ordered.peak * 4 < ordered.source, "{} {}", ordered.peak, ordered.source);
    }
}

#[test]
fn a_budget_that_runs_out_leaves_a_valid_order() {
    for seed in 0..200 {
        let dag = random(seed, 14);
        let of = Indexed::new(&dag);
        let source: Vec<usize> = (0..dag.tasks.len()).collect();
        for budget in [0, 1, 5, 20] {
            let mut nodes = budget;
            let found = super::exact::search(&of, source.clone(), &mut nodes);
            let least = least_by_sets(&dag);
            assert!(valid(&dag, &found.order));
            assert_eq!(peak(&dag, &found.order), found.peak);
            assert!(
                found.least <= least && least <= found.peak,
                "seed {seed}, budget {budget}"
            );
        }
    }
}

#[test]
fn no_tasks_and_one_task() {
    check(&Dag::default(), &best(&Dag::default()));
    let one = Dag {
        tasks: vec![Task::default()],
        values: vec![Value {
            bytes: u64::MAX >> 1,
            maker: Some(0),
            ..Value::default()
        }],
    };
    let ordered = best(&one);
    check(&one, &ordered);
    assert_eq!(ordered.peak, u64::MAX >> 1);
}
