//! Kernels over a real arena with real threads: against plain computations, and the same bits for any division.

mod common;

use ck_kernels::dtype::{ActType, DType, Q8};
use ck_kernels::isa::supported;
use ck_kernels::ops::*;
use ck_kernels::partition::{Axis, split};
use common::arena::{Arena, Call};
use common::reference::*;
use common::{Matrix, Rng};
use proptest::prelude::*;

proptest! {
    #[test]
    fn shares_cover_once(n in 0usize..500, granule in 1usize..70, nth in 1usize..70) {
        let mut next = 0;
        for ith in 0..nth {
            let part = split(n, granule, ith, nth);
            prop_assert_eq!(part.start, next);
            prop_assert!(part.start.is_multiple_of(granule) || part.start == n);
            next = part.end;
        }
        prop_assert_eq!(next, n);
    }
}

#[test]
fn norms_and_additions() {
    // One piece and less, several pieces, and a tail.
    for k in [8, 40, 1024, 2600] {
        let t = 5;
        let mut rng = Rng::new(k as u64);
        let (x, d, w) = (rng.floats(t * k), rng.floats(t * k), rng.floats(k));
        let mut arena = Arena::new();
        let (xs, ds) = (arena.rows(&x, k), arena.rows(&d, k));
        let norm = Norm {
            weight: arena.vector(&w),
            eps: EPS,
        };
        let (sum, out) = (arena.f32(t, k), arena.f32(t, k));
        let call = Call::tokens(t);
        let axes = [TOKENS, COLUMNS, Axis::Serial];
        let make = |axis| -> Box<dyn Kernel + Sync> { Box::new(RmsNorm { x: xs, norm, out, axis }) };
        check(
            &arena,
            call,
            &axes,
            &make,
            &|r| r.rows(&out, t),
            &|_| rmsnorm(&x, &w),
            2e-6,
        );
        let added = add(&x, &d);
        let make = |axis| -> Box<dyn Kernel + Sync> {
            Box::new(AddNorm {
                x: xs,
                delta: ds,
                sum,
                norm,
                out,
                axis,
            })
        };
        check(
            &arena,
            call,
            &axes,
            &make,
            &|r| r.rows(&sum, t),
            &|_| added.clone(),
            0.0,
        );
        check(
            &arena,
            call,
            &axes,
            &make,
            &|r| r.rows(&out, t),
            &|_| rmsnorm(&added, &w),
            2e-6,
        );
        // In place, where rows are whole.
        let make = |axis| -> Box<dyn Kernel + Sync> {
            Box::new(AddNorm {
                x: xs,
                delta: ds,
                sum: xs,
                norm,
                out: ds,
                axis,
            })
        };
        check(
            &arena,
            call,
            &[TOKENS],
            &make,
            &|r| r.rows(&xs, t),
            &|_| added.clone(),
            0.0,
        );
        check(
            &arena,
            call,
            &[TOKENS],
            &make,
            &|r| r.rows(&ds, t),
            &|_| rmsnorm(&added, &w),
            2e-6,
        );
        let make = |axis| -> Box<dyn Kernel + Sync> {
            Box::new(Add {
                a: xs,
                b: ds,
                out: ds,
                axis,
            })
        };
        check(&arena, call, &axes, &make, &|r| r.rows(&ds, t), &|_| added.clone(), 0.0);
        let make = |axis| -> Box<dyn Kernel + Sync> {
            Box::new(Glu {
                gate: xs,
                up: ds,
                kind: Gate::Silu,
                out: xs,
                axis,
            })
        };
        check(
            &arena,
            call,
            &axes,
            &make,
            &|r| r.rows(&xs, t),
            &|_| silu_glu(&x, &d),
            2e-6,
        );
        let one = arena.f32(1, k);
        let make = |axis| -> Box<dyn Kernel + Sync> { Box::new(SelectRow { x: xs, out: one, axis }) };
        let call = Call { row: 3, ..call };
        check(
            &arena,
            call,
            &[COLUMNS, Axis::Serial],
            &make,
            &|r| r.rows(&one, 1),
            &|_| x[3 * k..4 * k].to_vec(),
            0.0,
        );
    }
}

#[test]
fn embeddings_of_every_type() {
    for (dtype, k) in [
        (DType::F32, 40),
        (DType::BF16, 1100),
        (DType::F16, 24),
        (DType::Q8_0, 1056),
        (DType::Q4_0, 2080),
        (DType::Q4_1, 1056),
        (DType::Q5_0, 1088),
        (DType::Q5_1, 96),
        (DType::Q4K, 1280),
        (DType::Q5K, 1536),
        (DType::Q6K, 2304),
    ] {
        let (rows, ids) = (37, [0u32, 36, 15, 16, 15]);
        let mut rng = Rng::new(k as u64);
        let w = rng.floats(k);
        let mut arena = Arena::new();
        let (table, values) = arena.matrix(&Matrix::random(dtype, rows, k, &mut rng));
        let norm = Norm {
            weight: arena.vector(&w),
            eps: EPS,
        };
        let slot = arena.ids(&ids);
        let (out, normed) = (arena.f32(ids.len(), k), arena.f32(ids.len(), k));
        let want: Vec<f32> = ids
            .iter()
            .flat_map(|id| values[*id as usize * k..][..k].to_vec())
            .collect();
        let axes = [TOKENS, COLUMNS, Axis::Serial];
        let call = Call::tokens(ids.len());
        let make = |axis| -> Box<dyn Kernel + Sync> {
            Box::new(Embed {
                ids: slot,
                table,
                out,
                axis,
            })
        };
        check(
            &arena,
            call,
            &axes,
            &make,
            &|r| r.rows(&out, ids.len()),
            &|_| want.clone(),
            0.0,
        );
        let make = |axis| -> Box<dyn Kernel + Sync> {
            Box::new(EmbedNorm {
                ids: slot,
                table,
                out,
                norm,
                normed,
                axis,
            })
        };
        check(
            &arena,
            call,
            &axes,
            &make,
            &|r| r.rows(&out, ids.len()),
            &|_| want.clone(),
            0.0,
        );
        check(
            &arena,
            call,
            &axes,
            &make,
            &|r| r.rows(&normed, ids.len()),
            &|_| rmsnorm(&want, &w),
            2e-6,
        );
    }
}

#[test]
#[should_panic(expected = "scoped thread panicked")]
fn an_id_outside_the_table_is_not_read() {
    let mut arena = Arena::new();
    let (table, _) = arena.weight(DType::F32, &[0.0; 16 * 8], 8);
    let (ids, out) = (arena.ids(&[16]), arena.f32(1, 8));
    let embed = Embed {
        ids,
        table,
        out,
        axis: TOKENS,
    };
    let isa = supported().next().expect("a tier");
    arena.run(isa, 1, Call::tokens(1), &[&embed]);
}

#[test]
fn quantised_rows_are_the_primitive_s() {
    for k in [32, 96, 1024, 2080] {
        let t = 3;
        let x = Rng::new(k as u64).floats(t * k);
        let mut arena = Arena::new();
        let (xs, out) = (arena.rows(&x, k), arena.slot(ActType::Q8, t, k));
        for isa in supported() {
            let want = common::Activations::new(DType::Q8_0, k, &x, isa);
            for axis in [TOKENS, COLUMNS, Axis::Serial] {
                for nth in THREADS {
                    let ran = arena.run(isa, nth, Call::tokens(t), &[&Quantize { x: xs, out, axis }]);
                    for r in 0..t {
                        let at = r * ActType::Q8.row_bytes(k);
                        let n = Q8 { cols: k }.bytes();
                        assert_eq!(
                            ran.bytes(&out, t)[at..][..n],
                            want.bytes.bytes()[at..][..n],
                            "{axis:?} by {nth}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn rotations_in_place_and_not() {
    for (head_dim, dims, pairing) in [
        (8, 8, Pairing::Halves),
        (12, 8, Pairing::Interleaved),
        (64, 64, Pairing::Halves),
    ] {
        let (t, heads, pos) = (5, 5, 3);
        let cols = heads * head_dim;
        let x = Rng::new(dims as u64).floats(t * cols);
        let mut arena = Arena::new();
        let (xs, out) = (arena.rows(&x, cols), arena.f32(t, cols));
        let (rope, table) = rope(&mut arena, head_dim, dims, pairing, 16);
        let call = Call { pos, ..Call::tokens(t) };
        for to in [xs, out] {
            let make = |axis| -> Box<dyn Kernel + Sync> {
                Box::new(Rotate {
                    x: xs,
                    rope,
                    out: to,
                    axis,
                })
            };
            let want = rotate(&x, cols, pos, &rope, &table);
            check(
                &arena,
                call,
                &[TOKENS, COLUMNS, Axis::Serial],
                &make,
                &|r| r.rows(&to, t),
                &|_| want.clone(),
                1e-6,
            );
        }
    }
}
