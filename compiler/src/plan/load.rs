//! Bytes that some of the buffers need at one time in any layout: quick to tell, so that what cannot fit is never planned.

use std::collections::BTreeMap;

use super::problem::{Alias, Problem};

/// A lower bound of the peak of the buffers for which `inside` holds. Of a part nothing is counted, its whole is; of a
/// pair that may share bytes the larger one is; where branches exclude each other nothing is said.
pub(super) fn least(problem: &Problem, inside: impl Fn(usize) -> bool) -> u64 {
    if !problem.exclusive.is_empty() {
        return 0;
    }
    let mut counted: Vec<bool> = (0..problem.buffers.len()).map(inside).collect();
    for alias in &problem.aliases {
        if let Alias::View { part, .. } = *alias {
            counted[part] = false;
        }
    }
    // By time: bytes that become live, less those that die.
    let mut change: BTreeMap<u32, i128> = BTreeMap::new();
    let mut add = |from: u32, to: u32, bytes: i128| {
        if from < to {
            *change.entry(from).or_default() += bytes;
            *change.entry(to).or_default() -= bytes;
        }
    };
    // What is live more than once may say so twice.
    let live = |b: usize| match problem.buffers[b].live.as_slice() {
        [once] if counted[b] => Some(once),
        _ => None,
    };
    for (b, buffer) in problem.buffers.iter().enumerate() {
        if let Some(live) = live(b) {
            add(live.start, live.end, i128::from(buffer.size));
        }
    }
    for alias in &problem.aliases {
        if let Alias::InPlace { dst, src, .. } = *alias
            && let (Some(d), Some(s)) = (live(dst), live(src))
        {
            let bytes = problem.buffers[dst].size.min(problem.buffers[src].size);
            add(d.start.max(s.start), d.end.min(s.end), -i128::from(bytes));
        }
    }
    let loads = change.values().scan(0i128, |load, change| {
        *load += change;
        Some(*load)
    });
    u64::try_from(loads.max().unwrap_or(0).max(0)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::problem::Buffer;
    use super::*;

    #[test]
    fn a_pair_counts_once_and_a_part_never() {
        let mut problem = Problem {
            buffers: vec![
                Buffer::new("a", 100, 1, 0..3),
                Buffer::new("b", 60, 1, 2..5),
                Buffer::new("part", 50, 1, 0..9),
            ],
            ..Problem::default()
        };
        assert_eq!(least(&problem, |_| true), 210);
        assert_eq!(least(&problem, |b| b != 0), 110);
        problem.aliases = vec![Alias::InPlace {
            dst: 1,
            src: 0,
            delta: 0,
        }];
        assert_eq!(least(&problem, |_| true), 150);
        problem.aliases.push(Alias::View {
            part: 2,
            whole: 0,
            delta: 0,
        });
        assert_eq!(least(&problem, |_| true), 100);
    }
}
