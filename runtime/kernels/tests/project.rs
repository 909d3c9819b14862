//! Projections with what is fused to them: against plain computations and the single kernels.

mod common;

use ck_kernels::dtype::{ActType, DType};
use ck_kernels::isa::{Isa, supported};
use ck_kernels::ops::*;
use ck_kernels::partition::Axis;
use common::arena::{Arena, Call, assert_close, bits};
use common::reference::*;
use common::{Matrix, Rng, as_multiplied};

/// All prologues with plain outputs, float and quantised and mixed weights, with and without bias.
#[test]
fn projections_of_every_source() {
    for (t, k, dtypes) in [
        (1, 1088, [DType::Q8_0, DType::F32]),
        (21, 64, [DType::Q4_0, DType::Q8_0]),
        (21, 96, [DType::BF16, DType::F32]),
        (21, 96, [DType::BF16, DType::BF16]),
        (2, 2048, [DType::Q8_0, DType::Q8_0]),
        (3, 1280, [DType::Q4K, DType::Q6K]),
        (2, 1280, [DType::Q5K, DType::Q5_0]),
        (1, 96, [DType::Q4_1, DType::Q5_1]),
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
                let want = |isa: &Isa| {
                    let w = as_multiplied(isa, *dtype, w);
                    linear(&seen(*dtype, isa, &rows, k), &w, k, (i == 0).then_some(&bias))
                };
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
        (9, 96, 80, DType::Q5_1),
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
            let [gate, up] = [&gate_values, &up_values].map(|w| as_multiplied(isa, dtype, w));
            silu_glu(&linear(&x, &gate, k, None), &linear(&x, &up, k, Some(&bias)))
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

/// A gated projection that writes Q8 rows writes those that quantising its floats gives.
#[test]
fn gated_projections_quantise_what_they_write() {
    for (t, k, rows, dtype) in [
        (1, 64, 320, DType::Q8_0),
        (70, 64, 160, DType::Q4_0),
        (3, 40, 96, DType::F32),
    ] {
        let mut rng = Rng::new(rows as u64);
        let mut arena = Arena::new();
        let xs = arena.rows(&rng.floats(t * k), k);
        let (gate, _) = arena.weight(dtype, &rng.floats(rows * k), k);
        let (up, _) = arena.weight(dtype, &rng.floats(rows * k), k);
        let float = arena.f32(t, rows);
        let [whole, direct] = [(); 2].map(|()| arena.slot(ActType::Q8, t, rows));
        let bytes = |axis| project_workspace(k, false, dtype.quantised(), t, axis);
        let workspace = arena.workspace(bytes(TOKENS).max(bytes(COLUMNS)));
        let glu = |out, axis| ProjectGlu {
            source: Source::Rows(xs),
            gate,
            gate_bias: None,
            up,
            up_bias: None,
            kind: Gate::GeluTanh,
            out,
            workspace,
            axis,
        };
        for (isa, axis, nth) in supported().flat_map(|isa| {
            let axes = [TOKENS, COLUMNS, Axis::Serial].into_iter();
            axes.flat_map(move |axis| [1, 2, 3, 7].map(|nth| (isa, axis, nth)))
        }) {
            let quantize = Quantize {
                x: float,
                out: whole,
                axis,
            };
            let ran = arena.run(
                isa,
                nth,
                Call::tokens(t),
                &[&glu(float, axis), &quantize, &glu(direct, axis)],
            );
            let what = format!("{} {} {axis:?} by {nth}", isa.name, dtype.name());
            assert!(ran.bytes(&whole, t) == ran.bytes(&direct, t), "{what}");
            assert!(ran.bytes(&direct, t).iter().any(|b| *b != 0), "{what}");
        }
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
