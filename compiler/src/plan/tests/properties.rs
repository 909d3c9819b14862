//! What must not change, and what must change in step, when a problem is transformed; and problems of the real shape.

use super::*;

/// The problem with every interval mapped.
fn retimed(p: &Problem, map: impl Fn(&Range<u32>) -> Range<u32>) -> Problem {
    let mut p = p.clone();
    for b in &mut p.buffers {
        b.live = b.live.iter().map(&map).collect();
    }
    p
}

/// The bound that no search has a part in.
fn fullest(p: &Problem) -> u64 {
    bound(p, 0).expect("a valid problem")
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
        let mut q = Problem { buffers: order.iter().map(|&i| p.buffers[i].clone()).collect(), ..Problem::default() };
        for (i, b) in q.buffers.iter_mut().enumerate() {
            b.id = format!("z{}", n - i);
        }
        let (a, b) = (solved(&p), solved(&q));
        prop_assert_eq!((a.peak, a.lower_bound, a.candidates, a.chosen), (b.peak, b.lower_bound, b.candidates, b.chosen));
    }

    #[test]
    fn reversed_and_stretched_time_keep_the_bound(p in medium()) {
        prop_assert_eq!(fullest(&retimed(&p, |r| 16 - r.end..16 - r.start)), fullest(&p));
        let stretched = retimed(&p, |r| 7 * r.start + 3..7 * r.end + 3);
        prop_assert_eq!(fullest(&stretched), fullest(&p));
        let (a, b) = (solved(&stretched), solved(&p));
        prop_assert_eq!((a.peak, a.lower_bound), (b.peak, b.lower_bound));
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
        prop_assert_eq!(fullest(&p) + size, fullest(&q));
    }

    #[test]
    fn one_after_the_other_needs_the_larger(p in buffers(0..12, 40, 0, 16), q in buffers(0..12, 40, 0, 16)) {
        let mut both = p.clone();
        both.buffers.extend(retimed(&q, |r| r.start + 16..r.end + 16).buffers);
        for (i, b) in both.buffers.iter_mut().enumerate() {
            b.id = format!("b{i}");
        }
        let (a, b, c) = (solved(&p), solved(&q), solved(&both));
        prop_assert_eq!(fullest(&both), fullest(&p).max(fullest(&q)));
        if a.status == Status::Optimal && b.status == Status::Optimal && a.chosen == b.chosen {
            prop_assert_eq!(c.peak, a.peak.max(b.peak));
        }
    }

    #[test]
    fn dropping_a_buffer_never_raises_the_bound(p in buffers(1..24, 40, 0, 16)) {
        let mut q = p.clone();
        q.buffers.pop();
        prop_assert!(fullest(&q) <= fullest(&p));
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

/// A decoder-only transformer as a planner sees it: `layers` blocks over a residual stream, for `tokens` at a time, from
/// clock value `from` on. Step `p` reads at `2p` and writes at `2p + 1`; an input dies when the step is over.
fn transformer(layers: usize, tokens: u64, from: u32) -> Problem {
    let mut p = Problem::default();
    let (hidden, inner, vocab) = (64 * 4 * tokens, 172 * 4 * tokens, 4000 * 4);
    let mut step = from;
    let mut x = emit(&mut p, "x", hidden, &mut step, &[]);
    for layer in 0..layers {
        let name = |what: &str| format!("{layer}.{what}");
        let normed = emit(&mut p, &name("norm1"), hidden, &mut step, &[x]);
        let q = emit(&mut p, &name("q"), hidden, &mut step, &[normed]);
        let k = emit(&mut p, &name("k"), hidden / 4, &mut step, &[normed]);
        let v = emit(&mut p, &name("v"), hidden / 4, &mut step, &[normed]);
        let rotated = emit(&mut p, &name("rope"), hidden, &mut step, &[q]);
        p.aliases.push(Alias::InPlace {
            dst: rotated,
            src: q,
            delta: 0,
        });
        let attn = emit(&mut p, &name("attn"), hidden, &mut step, &[rotated, k, v]);
        let out = emit(&mut p, &name("out"), hidden, &mut step, &[attn]);
        let sum = emit(&mut p, &name("add1"), hidden, &mut step, &[x, out]);
        p.aliases.extend([x, out].map(|src| Alias::InPlace {
            dst: sum,
            src,
            delta: 0,
        }));
        let normed = emit(&mut p, &name("norm2"), hidden, &mut step, &[sum]);
        let gate = emit(&mut p, &name("gate"), inner, &mut step, &[normed]);
        let up = emit(&mut p, &name("up"), inner, &mut step, &[normed]);
        let act = emit(&mut p, &name("act"), inner, &mut step, &[gate, up]);
        p.aliases.extend([gate, up].map(|src| Alias::InPlace {
            dst: act,
            src,
            delta: 0,
        }));
        let down = emit(&mut p, &name("down"), hidden, &mut step, &[act]);
        x = emit(&mut p, &name("add2"), hidden, &mut step, &[sum, down]);
        p.aliases
            .extend([sum, down].map(|src| Alias::InPlace { dst: x, src, delta: 0 }));
    }
    let logits = emit(&mut p, "logits", vocab, &mut step, &[x]);
    p.buffers[logits].live.push(0..u32::MAX);
    p
}

/// Adds the buffer that the next step writes, and keeps `inputs` alive until that step is over.
fn emit(p: &mut Problem, id: &str, size: u64, step: &mut u32, inputs: &[usize]) -> usize {
    for &input in inputs {
        p.buffers[input].live[0].end = 2 * *step + 2;
    }
    p.buffers.push(Buffer::new(
        format!("{step}.{id}"),
        size,
        64,
        2 * *step + 1..2 * *step + 2,
    ));
    *step += 1;
    p.buffers.len() - 1
}

/// The bound is reached, and it is what a person would compute: the residual, gate and up, and the norm that both read.
#[test]
fn transformers_are_planned_optimally() {
    for (layers, tokens) in [(1, 1), (2, 16), (32, 512), (80, 1)] {
        let s = solved(&transformer(layers, tokens, 0));
        assert_eq!(s.status, Status::Optimal, "{layers} layers");
        let (hidden, inner, logits) = (256 * tokens, (172 * 4 * tokens).next_multiple_of(64), 16000);
        assert_eq!(
            s.peak,
            2 * hidden + 2 * inner + logits,
            "{layers} layers, {tokens} tokens"
        );
    }
}

/// Two entries, one after the other on the clock, share the region: the larger decides.
#[test]
fn entries_share_one_region() {
    let (prefill, decode) = (transformer(8, 64, 0), transformer(8, 1, 1000));
    let mut both = prefill.clone();
    let n = both.buffers.len();
    let shift = |alias: &Alias| match *alias {
        Alias::InPlace { dst, src, delta } => Alias::InPlace {
            dst: dst + n,
            src: src + n,
            delta,
        },
        Alias::View { part, whole, delta } => Alias::View {
            part: part + n,
            whole: whole + n,
            delta,
        },
    };
    both.aliases.extend(decode.aliases.iter().map(shift));
    both.buffers.extend(decode.buffers);
    // The logits live through both in either problem; here they are two buffers.
    let s = solved(&both);
    assert_eq!((s.peak, s.status), (solved(&prefill).peak + 16000, Status::Optimal));
}
