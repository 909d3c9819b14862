//! Lifetimes in one form, however they are written.

use std::borrow::Cow;
use std::ops::Range;

use super::problem::Problem;

/// The problem with every lifetime ascending, without empty intervals, and without two that meet or touch, so that
/// buffers which are live at the same times are seen to be.
pub(super) fn normal(problem: &Problem) -> Cow<'_, Problem> {
    let mut problem = Cow::Borrowed(problem);
    for b in 0..problem.buffers.len() {
        if !is_normal(&problem.buffers[b].live) {
            let live = join(&problem.buffers[b].live);
            problem.to_mut().buffers[b].live = live;
        }
    }
    problem
}

fn is_normal(live: &[Range<u32>]) -> bool {
    live.iter().all(|r| !r.is_empty()) && live.windows(2).all(|w| w[0].end < w[1].start)
}

fn join(live: &[Range<u32>]) -> Vec<Range<u32>> {
    let mut sorted: Vec<Range<u32>> = live.iter().filter(|r| !r.is_empty()).cloned().collect();
    sorted.sort_unstable_by_key(|r| (r.start, r.end));
    let mut out: Vec<Range<u32>> = Vec::with_capacity(sorted.len());
    for r in sorted {
        match out.last_mut() {
            Some(last) if r.start <= last.end => last.end = last.end.max(r.end),
            _ => out.push(r),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_that_meet_or_touch_are_one() {
        let range = |(a, b): (u32, u32)| a..b;
        let joined = |list: &[(u32, u32)]| join(&list.iter().copied().map(range).collect::<Vec<_>>());
        assert_eq!(joined(&[(4, 6), (2, 2), (1, 3), (3, 4), (8, 9)]), [1..6, 8..9]);
        assert_eq!(joined(&[(0, 9), (1, 2)]), [Range { start: 0, end: 9 }]);
        assert_eq!(joined(&[(5, 5)]), []);
    }
}
