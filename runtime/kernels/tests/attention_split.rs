//! Attention divided over its context gives the bits of attention that is not.

mod common;

use ck_kernels::dtype::ActType;
use ck_kernels::isa::chunks::{CHUNK, part_floats};
use ck_kernels::isa::{Choices, supported};
use ck_kernels::ops::{Attention, AttentionSplit, CacheKeys, CacheValues, Ctx, Kernel, split_workspace};
use ck_kernels::partition::Axis;
use common::arena::{Arena, Call, bits};

struct Shape {
    kv_heads: usize,
    group: usize,
    head_dim: usize,
    act: ActType,
    window: usize,
    softcap: f32,
}

const TOKENS: Axis = Axis::Tokens { granule: 1 };

/// Decodes at these positions, and a prefill that ends with each.
const DEPTHS: [usize; 7] = [0, 100, CHUNK - 1, CHUNK, 2 * CHUNK - 1, 2 * CHUNK, 3 * CHUNK + 37];

const SHAPES: [Shape; 4] = [
    Shape {
        kv_heads: 3,
        group: 3,
        head_dim: 64,
        act: ActType::F16,
        window: usize::MAX,
        softcap: 0.0,
    },
    Shape {
        kv_heads: 2,
        group: 7,
        head_dim: 12,
        act: ActType::F32,
        window: usize::MAX,
        softcap: 3.0,
    },
    Shape {
        kv_heads: 1,
        group: 4,
        head_dim: 80,
        act: ActType::F16,
        window: CHUNK + 100,
        softcap: 0.0,
    },
    Shape {
        kv_heads: 4,
        group: 1,
        head_dim: 16,
        act: ActType::F32,
        window: 60,
        softcap: 1.0,
    },
];

#[test]
fn any_number_of_workers_gives_the_bits_of_one_and_of_prefill() {
    for shape in &SHAPES {
        let &Shape {
            kv_heads,
            group,
            head_dim,
            act,
            window,
            softcap,
        } = shape;
        let (heads, context) = (kv_heads * group, 3 * CHUNK + 48);
        let mut rng = common::Rng::new(head_dim as u64);
        let mut arena = Arena::new();
        let x = arena.rows(&rng.floats(context * kv_heads * head_dim), kv_heads * head_dim);
        let y = arena.rows(&rng.floats(context * kv_heads * head_dim), kv_heads * head_dim);
        let cache = arena.cache(kv_heads, head_dim, context, act);
        let q = arena.rows(&rng.floats(4 * heads * head_dim), heads * head_dim);
        let out = arena.f32(4, heads * head_dim);
        let workspace = arena.workspace(split_workspace(heads, head_dim, context, window));
        for isa in supported() {
            let keys = CacheKeys { x, cache, axis: TOKENS };
            let values = CacheValues {
                x: y,
                cache,
                axis: TOKENS,
            };
            let filled = arena.run(isa, 1, Call::tokens(context), &[&keys, &values]);
            let arena = Arena::from_bytes(filled.memory.bytes());
            let attention = Attention {
                q,
                cache,
                heads,
                out,
                scale: 0.6,
                softcap,
                window,
                axis: Axis::Heads,
            };
            let divided = AttentionSplit { attention, workspace };
            for pos in DEPTHS {
                let call = Call { pos, ..Call::tokens(1) };
                let want = bits(&arena.run(isa, 1, call, &[&attention]).rows(&out, 1));
                for nth in 1..=16 {
                    let got = bits(&arena.run(isa, nth, call, &[&divided]).rows(&out, 1));
                    assert_eq!(got, want, "{} heads {head_dim} position {pos} workers {nth}", isa.name);
                    let plain = bits(&arena.run(isa, nth, call, &[&attention]).rows(&out, 1));
                    assert_eq!(
                        plain, want,
                        "{} heads {head_dim} position {pos} workers {nth}",
                        isa.name
                    );
                }
                // Four tokens from there on, and the first of them alone.
                if pos + 4 <= context {
                    let call = Call { pos, ..Call::tokens(4) };
                    let many = bits(&arena.run(isa, 3, call, &[&divided]).rows(&out, 4));
                    assert_eq!(many[..want.len()], want, "{} heads {head_dim} from {pos}", isa.name);
                }
            }
        }
    }
}

#[test]
fn the_context_is_divided_only_where_workers_do_not_divide_the_heads_and_there_is_something_to_divide() {
    let mut arena = Arena::new();
    let cache = arena.cache(4, 16, 4 * CHUNK, ActType::F16);
    let (q, out) = (arena.f32(2, 128), arena.f32(2, 128));
    let workspace = arena.workspace(split_workspace(8, 16, 4 * CHUNK, usize::MAX));
    let split = AttentionSplit {
        attention: Attention {
            q,
            cache,
            heads: 8,
            out,
            scale: 1.0,
            softcap: 0.0,
            window: usize::MAX,
            axis: Axis::Heads,
        },
        workspace,
    };
    let choices = Choices::all_from(usize::MAX);
    let halves = |nth, tokens, pos| {
        split.halves(&Ctx {
            ith: 0,
            nth,
            isa: supported().next().expect("there is one"),
            choices: &choices,
            base: core::ptr::null_mut(),
            len: 0,
            tokens,
            pos,
            row: 0,
        })
    };
    for nth in 1..=64 {
        assert_eq!(halves(nth, 1, CHUNK), 4 % nth != 0, "{nth}");
        assert!(!halves(nth, 1, CHUNK - 1), "{nth}");
        assert!(!halves(nth, 2, CHUNK), "{nth}");
    }
    assert_eq!(split_workspace(8, 16, CHUNK, usize::MAX), 0);
    assert_eq!(split_workspace(8, 16, 4 * CHUNK, 1), 0);
    assert_eq!(split_workspace(8, 16, 4 * CHUNK, 2), 2 * 8 * part_floats(16) * 4);
    assert_eq!(
        split_workspace(8, 16, 4 * CHUNK, CHUNK + 1),
        2 * 8 * part_floats(16) * 4
    );
    assert_eq!(
        split_workspace(8, 16, 4 * CHUNK, CHUNK + 2),
        3 * 8 * part_floats(16) * 4
    );
    assert_eq!(
        split_workspace(8, 16, CHUNK + 1, usize::MAX),
        2 * 8 * part_floats(16) * 4
    );
}
