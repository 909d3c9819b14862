//! What must not change, and what must change in step, when a problem is transformed.

use super::*;

/// The problem with every interval mapped.
fn retimed(p: &Problem, map: impl Fn(&Range<u32>) -> Range<u32>) -> Problem {
    let mut p = p.clone();
    for b in &mut p.buffers {
        b.live = b.live.iter().map(&map).collect();
    }
    p
}

fn medium() -> impl Strategy<Value = Problem> {
    buffers(0..24, 40, 3, 16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn order_and_names_change_nothing(p in medium(), key in any::<u64>()) {
        let n = p.buffers.len();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|&i| (i as u64 + 1).wrapping_mul(key | 1));
        let mut q = Problem { buffers: order.iter().map(|&i| p.buffers[i].clone()).collect(), aliases: vec![] };
        for (i, b) in q.buffers.iter_mut().enumerate() {
            b.id = format!("z{}", n - i);
        }
        let (a, b) = (solved(&p), solved(&q));
        prop_assert_eq!((a.peak, a.lower_bound, a.candidates, a.chosen), (b.peak, b.lower_bound, b.candidates, b.chosen));
    }

    #[test]
    fn reversed_and_stretched_time_keep_the_bound(p in medium()) {
        let bound = solved(&p).lower_bound;
        prop_assert_eq!(solved(&retimed(&p, |r| 16 - r.end..16 - r.start)).lower_bound, bound);
        let stretched = solved(&retimed(&p, |r| 7 * r.start + 3..7 * r.end + 3));
        prop_assert_eq!(stretched.lower_bound, bound);
        prop_assert_eq!(stretched.peak, solved(&p).peak);
    }

    #[test]
    fn scaled_sizes_scale_the_layout(p in medium(), shift in 0..6u32) {
        let mut q = p.clone();
        for b in &mut q.buffers {
            (b.size, b.align) = (b.size << shift, b.align << shift);
        }
        let (a, b) = (solved(&p), solved(&q));
        prop_assert_eq!((a.peak << shift, a.lower_bound << shift), (b.peak, b.lower_bound));
        prop_assert_eq!(a.offsets.iter().map(|o| o << shift).collect::<Vec<_>>(), b.offsets);
    }

    #[test]
    fn a_whole_life_buffer_adds_its_size_to_the_bound(p in buffers(1..24, 40, 0, 16), size in 1..100u64) {
        let mut q = p.clone();
        q.buffers.push(Buffer::new("whole", size, 1, 0..16));
        prop_assert_eq!(solved(&p).lower_bound + size, solved(&q).lower_bound);
    }

    #[test]
    fn one_after_the_other_needs_the_larger(p in buffers(0..12, 40, 0, 16), q in buffers(0..12, 40, 0, 16)) {
        let mut both = p.clone();
        both.buffers.extend(retimed(&q, |r| r.start + 16..r.end + 16).buffers);
        for (i, b) in both.buffers.iter_mut().enumerate() {
            b.id = format!("b{i}");
        }
        let (a, b, c) = (solved(&p), solved(&q), solved(&both));
        prop_assert_eq!(c.lower_bound, a.lower_bound.max(b.lower_bound));
        if a.status == Status::Optimal && b.status == Status::Optimal && a.chosen == b.chosen {
            prop_assert_eq!(c.peak, a.peak.max(b.peak));
        }
    }

    #[test]
    fn dropping_a_buffer_never_raises_the_bound(p in buffers(1..24, 40, 0, 16)) {
        let mut q = p.clone();
        q.buffers.pop();
        prop_assert!(solved(&q).lower_bound <= solved(&p).lower_bound);
    }

    #[test]
    fn twice_the_same(p in medium()) {
        prop_assert_eq!(solve(&p), solve(&p));
    }

    /// Intervals that touch or overlap are one interval.
    #[test]
    fn split_lifetimes_are_the_same_lifetimes(p in medium(), cut in 1..16u32) {
        let mut q = p.clone();
        for b in &mut q.buffers {
            b.live = b.live.iter().flat_map(|r| [r.start..r.end.min(cut).max(r.start), r.start.max(cut).min(r.end)..r.end]).collect();
        }
        let (a, b) = (solved(&p), solved(&q));
        prop_assert_eq!((a.peak, a.lower_bound), (b.peak, b.lower_bound));
    }
}
