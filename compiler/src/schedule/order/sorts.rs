//! Orders that are quickly made, and the improvement of one a window at a time.

use std::collections::BTreeSet;

use super::dag::{Indexed, Run};
use super::exact;

/// The best of the source's order and of a few others; the source's own where none is better.
pub(super) fn portfolio(of: &Indexed<'_>) -> Vec<usize> {
    let source: Vec<usize> = (0..of.dag.tasks.len()).collect();
    let mut best = (of.peak(&source), source);
    for order in [thrifty(of), deep(of)] {
        let peak = of.peak(&order);
        if peak < best.0 {
            best = (peak, order);
        }
    }
    best.1
}

/// Always the task that raises the peak least; of such, the one that leaves the fewest bytes live.
fn thrifty(of: &Indexed<'_>) -> Vec<usize> {
    let mut run = Run::new(of);
    let mut waits: Vec<usize> = of.dag.tasks.iter().map(|t| t.after.len()).collect();
    let mut ready: BTreeSet<usize> = (0..waits.len()).filter(|&t| waits[t] == 0).collect();
    let mut order = Vec::with_capacity(waits.len());
    let mut peak = 0;
    while let Some(&t) = ready.iter().min_by_key(|&&t| (run.need(t).max(peak), run.after(t))) {
        peak = peak.max(run.need(t));
        run.step(t);
        ready.remove(&t);
        order.push(t);
        for &s in &of.before[t] {
            waits[s] -= 1;
            if waits[s] == 0 {
                ready.insert(s);
            }
        }
    }
    order
}

/// From each end backwards, what needs the most first.
fn deep(of: &Indexed<'_>) -> Vec<usize> {
    let tasks = &of.dag.tasks;
    let made = |t: usize| of.makes[t].iter().map(|&v| of.dag.values[v].bytes).sum::<u64>();
    let mut weight: Vec<u64> = Vec::with_capacity(tasks.len());
    for (t, task) in tasks.iter().enumerate() {
        let before = task.after.iter().map(|&p| weight[p]).max().unwrap_or(0);
        weight.push(before.max(made(t) + task.scratch));
    }
    let mut queued = vec![false; tasks.len()];
    let mut done = vec![false; tasks.len()];
    let mut order = Vec::with_capacity(tasks.len());
    for end in (0..tasks.len()).filter(|&t| of.before[t].is_empty()) {
        let mut stack = vec![end];
        while let Some(&t) = stack.last() {
            if done[t] || std::mem::replace(&mut queued[t], true) {
                stack.pop();
                if !std::mem::replace(&mut done[t], true) {
                    order.push(t);
                }
                continue;
            }
            let mut before: Vec<usize> = tasks[t].after.iter().copied().filter(|&p| !done[p]).collect();
            before.sort_by_key(|&p| (weight[p], std::cmp::Reverse(p)));
            stack.extend(before);
        }
    }
    order
}

/// Tasks of a window.
const WINDOW: usize = 32;

/// States looked at in one window.
const WINDOW_NODES: u64 = 2_000;

/// Orders the tasks around the first peak as well as they can be, until that does not lower it any more.
pub(super) fn improve(of: &Indexed<'_>, order: &mut Vec<usize>, nodes: &mut u64) {
    for _ in 0..order.len() {
        let needs = of.needs(order);
        let peak = needs.iter().map(|n| n.1).max().unwrap_or(0);
        let at = needs.iter().position(|n| n.1 == peak).unwrap_or(0);
        let end = (at + WINDOW / 2).min(order.len());
        let range = end.saturating_sub(WINDOW)..end;
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(i, &t)| place[t] = i);
        let piece = of.piece(order, &place, &range);
        let window = Indexed::new(&piece.dag);
        let known: Vec<usize> = (0..piece.dag.tasks.len()).collect();
        let before = window.peak(&known);
        let mut budget = WINDOW_NODES.min(*nodes);
        *nodes -= budget;
        let found = exact::search(&window, known, &mut budget);
        *nodes += budget;
        if found.peak >= before {
            return;
        }
        let tasks: Vec<usize> = found.order.iter().map(|&t| order[range.start + t]).collect();
        order.splice(range, tasks);
    }
}
