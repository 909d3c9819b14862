//! Kernels over a real arena with real threads: against plain computations, and the same bits for any division.

mod common;

use ck_kernels::dtype::{ActType, DType};
use ck_kernels::isa::{Isa, supported};
use ck_kernels::ops::*;
use ck_kernels::partition::{Axis, split};
use common::arena::{Arena, Call, Ran, assert_close, bits};
use common::{Matrix, Rng};
use proptest::prelude::*;

const THREADS: [usize; 5] = [1, 2, 3, 7, MAX_WORKERS];
const TOKENS: Axis = Axis::Tokens { granule: 1 };
const COLUMNS: Axis = Axis::Columns { granule: 16 };
const EPS: f32 = 1e-5;

/// Runs with every number of threads on every tier, compares `read` with `want`, and its bits with one another.
/// `make` gives the kernel for an axis.
fn check(
    arena: &Arena,
    call: Call,
    axes: &[Axis],
    make: &dyn Fn(Axis) -> Box<dyn Kernel + Sync>,
    read: &dyn Fn(&Ran) -> Vec<f32>,
    want: &dyn Fn(&Isa) -> Vec<f32>,
    tolerance: f32,
) {
    for isa in supported() {
        let mut first = None;
        for &axis in axes {
            let kernel = make(axis);
            for nth in THREADS {
                let got = read(&arena.run(isa, nth, call, &[kernel.as_ref()]));
                let what = format!("{} {axis:?} by {nth}", isa.name);
                assert_close(&what, &got, &want(isa), tolerance);
                let got = bits(&got);
                assert_eq!(&got, first.get_or_insert_with(|| got.clone()), "{what}: other bits");
            }
        }
    }
}

fn rmsnorm(x: &[f32], w: &[f32]) -> Vec<f32> {
    let n = w.len();
    x.chunks(n)
        .flat_map(|row| {
            let mean = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n as f64;
            let factor = 1.0 / (mean + f64::from(EPS)).sqrt();
            row.iter()
                .zip(w)
                .map(move |(v, w)| (f64::from(*v) * factor * f64::from(*w)) as f32)
        })
        .collect()
}

fn add(a: &[f32], b: &[f32]) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn silu_glu(gate: &[f32], up: &[f32]) -> Vec<f32> {
    gate.iter()
        .zip(up)
        .map(|(g, u)| (f64::from(*g) / (1.0 + (-f64::from(*g)).exp()) * f64::from(*u)) as f32)
        .collect()
}

/// Rows as a matmul with weights of the type sees them.
fn seen(dtype: DType, isa: &Isa, x: &[f32], k: usize) -> Vec<f64> {
    let a = common::Activations::new(dtype, k, x, isa);
    (0..a.tokens).flat_map(|t| a.row(t)).collect()
}

fn linear(x: &[f64], w: &[f32], k: usize, bias: Option<&[f32]>) -> Vec<f32> {
    let rows = w.len() / k;
    x.chunks(k)
        .flat_map(|x| {
            (0..rows).map(move |r| {
                let dot: f64 = x.iter().zip(&w[r * k..]).map(|(x, w)| x * f64::from(*w)).sum();
                (dot + bias.map_or(0.0, |b| f64::from(b[r]))) as f32
            })
        })
        .collect()
}

/// A rotary table and its operand.
fn rope(arena: &mut Arena, head_dim: usize, dims: usize, pairing: Pairing, positions: usize) -> (Rope, Vec<f32>) {
    let mut table = Vec::new();
    for p in 0..positions {
        let angle = |i: usize| p as f64 * 10_000f64.powf(-2.0 * i as f64 / dims as f64);
        table.extend((0..dims / 2).map(|i| angle(i).cos() as f32));
        table.extend((0..dims / 2).map(|i| angle(i).sin() as f32));
    }
    let offset = arena.vector(&table).offset;
    (
        Rope {
            table: offset,
            positions,
            head_dim,
            dims,
            pairing,
        },
        table,
    )
}

fn rotate(x: &[f32], cols: usize, pos: usize, rope: &Rope, table: &[f32]) -> Vec<f32> {
    let mut out = x.to_vec();
    let half = rope.dims / 2;
    for (t, row) in out.chunks_mut(cols).enumerate() {
        let row_of = &table[(pos + t) * rope.dims..];
        for head in row.chunks_mut(rope.head_dim) {
            for i in 0..half {
                let (a, b) = match rope.pairing {
                    Pairing::Halves => (i, i + half),
                    Pairing::Interleaved => (2 * i, 2 * i + 1),
                };
                let (x, y, c, s) = (head[a], head[b], row_of[i], row_of[half + i]);
                head[a] = x * c - y * s;
                head[b] = y * c + x * s;
            }
        }
    }
    out
}

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
        (DType::Q4K, 1280),
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
                        let n = k + k / 32 * 8;
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

/// All prologues with plain outputs, float and quantised and mixed weights, with and without bias.
#[test]
fn projections_of_every_source() {
    for (t, k, dtypes) in [
        (1, 1088, [DType::Q8_0, DType::F32]),
        (21, 64, [DType::Q4_0, DType::Q8_0]),
        (21, 96, [DType::BF16, DType::F32]),
        (2, 2048, [DType::Q8_0, DType::Q8_0]),
        (3, 1280, [DType::Q4K, DType::Q6K]),
    ] {
        let mut rng = Rng::new(k as u64);
        let (x, d, w) = (rng.floats(t * k), rng.floats(t * k), rng.floats(k));
        let mut arena = Arena::new();
        let (xs, ds) = (arena.rows(&x, k), arena.rows(&d, k));
        let norm = Norm {
            weight: arena.vector(&w),
            eps: EPS,
        };
        let (table, embedded) = arena.weight(DType::Q8_0, &rng.floats(19 * k), k);
        let id = |i: usize| i * 7 % 19;
        let ids = arena.ids(&(0..t).map(|i| id(i) as u32).collect::<Vec<_>>());
        let embedded: Vec<f32> = (0..t).flat_map(|i| embedded[id(i) * k..][..k].to_vec()).collect();
        let bias = rng.floats(50);
        let bias_vector = arena.vector(&bias);
        let mut parts = Vec::new();
        let mut values = Vec::new();
        for (dtype, rows) in dtypes.into_iter().zip([50, 33]) {
            let (weight, v) = arena.matrix(&Matrix::random(dtype, rows, k, &mut rng));
            let out = arena.f32(t, rows);
            let bias = (rows == 50).then_some(bias_vector);
            parts.push(Part {
                weight,
                bias,
                sink: Sink::Store(out),
            });
            values.push((dtype, v, out));
        }
        let sum = arena.f32(t, k);
        let bytes = |axis| project_workspace(k, true, true, t, axis);
        let workspace = arena.workspace(bytes(TOKENS).max(bytes(COLUMNS)));
        let sources = [
            (Source::Rows(xs), x.clone(), None),
            (Source::Norm { x: xs, norm }, rmsnorm(&x, &w), None),
            (
                Source::AddNorm {
                    x: xs,
                    delta: ds,
                    sum,
                    norm,
                },
                rmsnorm(&add(&x, &d), &w),
                Some(add(&x, &d)),
            ),
            (
                Source::EmbedNorm {
                    ids,
                    table,
                    out: sum,
                    norm,
                },
                rmsnorm(&embedded, &w),
                Some(embedded.clone()),
            ),
            (
                Source::Glu {
                    gate: xs,
                    up: ds,
                    kind: Gate::Silu,
                },
                silu_glu(&x, &d),
                None,
            ),
        ];
        let leaked: &'static [Part] = parts.leak();
        for (source, rows, residual) in sources {
            let make = |axis| -> Box<dyn Kernel + Sync> {
                let workspace = Workspace {
                    bytes: bytes(axis),
                    ..workspace
                };
                Box::new(Project {
                    source,
                    parts: leaked,
                    workspace,
                    axis,
                })
            };
            let axes = [TOKENS, COLUMNS, Axis::Serial];
            for (i, (dtype, w, out)) in values.iter().enumerate() {
                let want = |isa: &Isa| linear(&seen(*dtype, isa, &rows, k), w, k, (i == 0).then_some(&bias));
                // Quantised inputs may differ by a step where the reference's rounding does.
                let tolerance = if dtype.quantised() { 2e-2 } else { 2e-5 };
                check(
                    &arena,
                    Call::tokens(t),
                    &axes,
                    &make,
                    &|r| r.rows(out, t),
                    &want,
                    tolerance,
                );
            }
            if let Some(residual) = residual {
                check(
                    &arena,
                    Call::tokens(t),
                    &axes,
                    &make,
                    &|r| r.rows(&sum, t),
                    &|_| residual.clone(),
                    0.0,
                );
            }
        }
    }
}

/// q to a slot, k and v to the cache, fused against the kernels one by one: the same bits.
#[test]
fn qkv_with_rope_and_cache_is_what_the_single_kernels_do() {
    for (head_dim, act, t, dtype) in [
        (8, ActType::F32, 21, DType::F32),
        (12, ActType::F16, 3, DType::BF16),
        (64, ActType::F16, 1, DType::Q8_0),
        (80, ActType::F32, 18, DType::Q4_0),
        (256, ActType::F16, 2, DType::Q8_0),
    ] {
        let (heads, kv_heads, k, pos) = (6, 3, 64, 9);
        let mut rng = Rng::new(head_dim as u64);
        let mut arena = Arena::new();
        let xs = arena.rows(&rng.floats(t * k), k);
        let (rope, _) = rope(&mut arena, head_dim, head_dim, Pairing::Halves, 48);
        let (n, kv) = (heads * head_dim, kv_heads * head_dim);
        let weights = [n, kv, kv].map(|rows| arena.weight(dtype, &rng.floats(rows * k), k).0);
        let biases = [n, kv, kv].map(|rows| Some(arena.vector(&rng.floats(rows))));
        let [fused, single] = [(); 2].map(|()| arena.cache(kv_heads, head_dim, 48, act));
        let [q, q1] = [(); 2].map(|()| arena.f32(t, n));
        let [k1, v1] = [(); 2].map(|()| arena.f32(t, kv));
        let workspace = arena.workspace(project_workspace(k, false, true, t, COLUMNS));
        let part = |i: usize, sink| Part {
            weight: weights[i],
            bias: biases[i],
            sink,
        };
        let source = Source::Rows(xs);
        let parts = [
            part(0, Sink::Rope { rope, out: q }),
            part(1, Sink::RopeKeys { rope, cache: fused }),
            part(2, Sink::Values { cache: fused }),
        ];
        let plain = [
            part(0, Sink::Store(q1)),
            part(1, Sink::Store(k1)),
            part(2, Sink::Store(v1)),
        ];
        let call = Call { pos, ..Call::tokens(t) };
        for isa in supported() {
            for (axis, nth) in [TOKENS, COLUMNS, Axis::Serial]
                .into_iter()
                .flat_map(|a| THREADS.map(|n| (a, n)))
            {
                let ran = arena.run(
                    isa,
                    nth,
                    call,
                    &[
                        &Project {
                            source,
                            parts: &parts,
                            workspace,
                            axis,
                        },
                        &Project {
                            source,
                            parts: &plain,
                            workspace,
                            axis,
                        },
                        &Rotate {
                            x: q1,
                            rope,
                            out: q1,
                            axis,
                        },
                        &Rotate {
                            x: k1,
                            rope,
                            out: k1,
                            axis,
                        },
                        &CacheKeys {
                            x: k1,
                            cache: single,
                            axis,
                        },
                        &CacheValues {
                            x: v1,
                            cache: single,
                            axis,
                        },
                    ],
                );
                let what = format!("{} {head_dim} {axis:?} by {nth}", isa.name);
                assert_eq!(bits(&ran.rows(&q, t)), bits(&ran.rows(&q1, t)), "{what}: q");
                assert!(ran.rows(&q, t).iter().all(|x| x.is_finite()), "{what}: q is finite");
                let tolerance = if act == ActType::F16 { 1e-3 } else { 0.0 };
                let (keys, values) = (ran.rows(&k1, t), ran.rows(&v1, t));
                for (head, p) in (0..kv_heads).flat_map(|h| (0..t).map(move |p| (h, p))) {
                    let at = p * kv + head * head_dim;
                    let (key, value) = (ran.key(&fused, head, pos + p), ran.value(&fused, head, pos + p));
                    assert_eq!(bits(&key), bits(&ran.key(&single, head, pos + p)), "{what}: key");
                    assert_eq!(bits(&value), bits(&ran.value(&single, head, pos + p)), "{what}: value");
                    assert_close(&what, &key, &keys[at..][..head_dim], tolerance);
                    assert_close(&what, &value, &values[at..][..head_dim], tolerance);
                }
            }
        }
    }
}

#[test]
fn gated_projections() {
    for (t, k, rows, dtype) in [
        (1, 64, 300, DType::Q8_0),
        (70, 64, 144, DType::Q4_0),
        (3, 40, 50, DType::F32),
    ] {
        let mut rng = Rng::new(rows as u64);
        let x = rng.floats(t * k);
        let mut arena = Arena::new();
        let xs = arena.rows(&x, k);
        let (gate, gate_values) = arena.weight(dtype, &rng.floats(rows * k), k);
        let (up, up_values) = arena.weight(dtype, &rng.floats(rows * k), k);
        let bias = rng.floats(rows);
        let up_bias = Some(arena.vector(&bias));
        let out = arena.f32(t, rows);
        let bytes = |axis| project_workspace(k, false, dtype.quantised(), t, axis);
        let workspace = arena.workspace(bytes(TOKENS).max(bytes(COLUMNS)));
        let make = |axis| -> Box<dyn Kernel + Sync> {
            Box::new(ProjectGlu {
                source: Source::Rows(xs),
                gate,
                gate_bias: None,
                up,
                up_bias,
                kind: Gate::Silu,
                out,
                workspace,
                axis,
            })
        };
        let want = |isa: &Isa| {
            let x = seen(dtype, isa, &x, k);
            silu_glu(
                &linear(&x, &gate_values, k, None),
                &linear(&x, &up_values, k, Some(&bias)),
            )
        };
        check(
            &arena,
            Call::tokens(t),
            &[TOKENS, COLUMNS, Axis::Serial],
            &make,
            &|r| r.rows(&out, t),
            &want,
            2e-5,
        );
    }
}

/// Grouped heads, a past, a window; alone and with its projection; a prompt in one call and in two.
#[test]
fn attention_reads_its_own_head_and_every_cut_gives_the_same_bits() {
    for (head_dim, heads, kv_heads, window, act, dtype) in [
        (12, 6, 3, usize::MAX, ActType::F32, DType::F32),
        (64, 4, 1, 20, ActType::F16, DType::Q8_0),
        (16, 4, 2, usize::MAX, ActType::F16, DType::Q4_0),
    ] {
        let (t, context) = (75, 96);
        let (n, kv) = (heads * head_dim, kv_heads * head_dim);
        let mut rng = Rng::new(head_dim as u64);
        let (qs, ks, vs) = (rng.floats(t * n), rng.floats(t * kv), rng.floats(t * kv));
        let build = |range: core::ops::Range<usize>, cached: usize| {
            let mut arena = Arena::new();
            let q = arena.rows(&qs[range.start * n..range.end * n], n);
            let k = arena.rows(&ks[..cached * kv], kv);
            let v = arena.rows(&vs[..cached * kv], kv);
            let cache = arena.cache(kv_heads, head_dim, context, act);
            let out = arena.f32(range.len(), n);
            let (weight, _) = arena.weight(dtype, &Rng::new(5).floats(40 * n), n);
            let projected = arena.f32(range.len(), 40);
            let workspace = arena.workspace(project_workspace(n, false, true, range.len(), TOKENS));
            let isa = supported().next().expect("a tier");
            // Fill the cache first, from position 0.
            let fill: [&(dyn Kernel + Sync); 2] = [
                &CacheKeys {
                    x: k,
                    cache,
                    axis: TOKENS,
                },
                &CacheValues {
                    x: v,
                    cache,
                    axis: TOKENS,
                },
            ];
            let filled = arena.run(isa, 1, Call::tokens(cached), &fill);
            (
                Arena::from_bytes(filled.memory.bytes()),
                q,
                cache,
                out,
                weight,
                projected,
                workspace,
            )
        };
        let whole = build(0..t, t);
        for isa in supported() {
            let mut by_row: Option<(Vec<u32>, Vec<u32>)> = None;
            for range in [0..t, 0..50, 50..t, t - 1..t] {
                let built;
                let (arena, q, cache, out, weight, projected, workspace) = if range.len() == t {
                    &whole
                } else {
                    built = build(range.clone(), range.end);
                    &built
                };
                let attention = |out, axis| Attention {
                    q: *q,
                    cache: *cache,
                    heads,
                    out,
                    scale: 0.4,
                    softcap: 0.0,
                    window,
                    axis,
                };
                let call = Call {
                    pos: range.start,
                    ..Call::tokens(range.len())
                };
                for nth in THREADS {
                    for axis in [Axis::Heads, TOKENS, Axis::Serial] {
                        let got = arena.run(isa, nth, call, &[&attention(*out, axis)]);
                        let got = bits(&got.rows(out, range.len()));
                        if by_row.is_none() {
                            let source = Source::Rows(*out);
                            let part = [Part {
                                weight: *weight,
                                bias: None,
                                sink: Sink::Store(*projected),
                            }];
                            let project = Project {
                                source,
                                parts: &part,
                                workspace: *workspace,
                                axis: TOKENS,
                            };
                            let ran = arena.run(isa, 1, call, &[&attention(*out, axis), &project]);
                            by_row = Some((got.clone(), bits(&ran.rows(projected, t))));
                        }
                        let (rows, _) = by_row.as_ref().expect("just set");
                        assert_eq!(
                            got,
                            rows[range.start * n..range.end * n],
                            "{} {axis:?} by {nth} {range:?}",
                            isa.name
                        );
                    }
                    let part = Part {
                        weight: *weight,
                        bias: None,
                        sink: Sink::Store(*projected),
                    };
                    let fused = AttentionProject {
                        attention: attention(*q, TOKENS),
                        part,
                        workspace: *workspace,
                        axis: TOKENS,
                    };
                    let got = bits(&arena.run(isa, nth, call, &[&fused]).rows(projected, range.len()));
                    let (_, rows) = by_row.as_ref().expect("set above");
                    assert_eq!(
                        got,
                        rows[range.start * 40..range.end * 40],
                        "{} projected by {nth} {range:?}",
                        isa.name
                    );
                }
            }
        }
    }
}
