//! Compiled programs against the interpreter on the weights as they are packed: types of weights, odd shapes, limits, and
//! random models.

use ck_kernels::dtype::DType;
use ck_kernels::isa::chunks::CHUNK;
use ck_runtime::Error;
use ck_tests::{How, Session, Shape, assert_close, assert_same_bits, relative};
use ckc::{
    compile::Planned,
    fuse::{Flag, Flags},
    graph::OpKind,
    layout::Kind,
    verify::{Options, Outcome, verify},
};
use proptest::prelude::*;

/// Logits of these models are about 1: the largest absolute difference that f32 sums may make.
const FLOAT: f32 = 2e-4;

/// Prefill and decode of `ids`, which must agree with each other: to the bit, where one instruction set does both.
fn both_ways(what: &str, session: &mut Session, ids: &[u32]) -> Vec<f32> {
    session.dirty();
    let prefill = session.prefill(ids);
    session.dirty();
    let (what, decode) = (format!("{what}: decode and prefill"), session.decode(ids));
    if session.machine.rounds_to_bf16() {
        let error = relative(&decode, &prefill);
        assert!(error <= session.allowed(), "{what}: relative L2 {error:.2e}");
    } else {
        assert_same_bits(&what, &decode, &prefill);
    }
    prefill
}

#[track_caller]
fn quantised(what: &str, shape: &Shape) {
    let case = shape.case();
    let ids = shape.ids(24);
    let mut want = None;
    for fuse in [Flags::ALL, Flags::NONE] {
        let mut session = case.open(&How { fuse, ..How::default() });
        let want = want.get_or_insert_with(|| session.interpret(&ids));
        let got = both_ways(what, &mut session, &ids);
        let error = relative(&got, want);
        println!("{what} {:?}: relative L2 {error:.2e}", fuse.names());
        assert!(
            error <= session.allowed(),
            "{what} {:?}: relative L2 {error:.2e}",
            fuse.names()
        );
    }
}

#[test]
fn quantised_weights() {
    for dtype in DType::ALL.into_iter().filter(|d| d.quantised()) {
        for seed in 1..3 {
            let shape = Shape {
                seed,
                ..Shape::of_blocks(dtype)
            };
            quantised(&format!("{} seed {seed}", dtype.name()), &shape);
        }
    }
}

#[test]
fn half_precision_weights() {
    for dtype in [DType::F16, DType::BF16] {
        quantised(dtype.name(), &Shape::of_blocks(dtype));
    }
}

/// As `Q4_K_M` files mix them: values, down projections and the output matrix have more bits.
#[test]
fn mixed_types_of_weights() {
    type Mix = (&'static str, DType, &'static [(&'static str, DType)]);
    let mixes: [Mix; 6] = [
        ("values q6_k", DType::Q4K, &[(".v", DType::Q6K)]),
        (
            "q4_k_m",
            DType::Q4K,
            &[(".v", DType::Q6K), (".down", DType::Q6K), ("head", DType::Q6K)],
        ),
        // Where rows are no multiple of 256, q4_k becomes q5_0 and q6_k becomes q8_0.
        (
            "q4_k_m of odd rows",
            DType::Q5_0,
            &[(".v", DType::Q8_0), (".down", DType::Q6K), ("head", DType::Q8_0)],
        ),
        (
            "q5_k_m",
            DType::Q5K,
            &[(".v", DType::Q6K), (".down", DType::Q5_1), ("head", DType::Q4_1)],
        ),
        ("one float", DType::Q8_0, &[(".k", DType::F32)]),
        ("one quantised", DType::F32, &[(".gate", DType::Q4_0)]),
    ];
    for (what, dtype, dtypes) in mixes {
        let shape = Shape {
            dtypes: dtypes.to_vec(),
            ..Shape::of_blocks(dtype)
        };
        quantised(what, &shape);
    }
}

#[test]
fn bits_of_no_type_depend_on_workers_or_layout() {
    for dtype in DType::ALL {
        let shape = Shape {
            layers: 1,
            ..Shape::of_blocks(dtype)
        };
        let (case, ids) = (shape.case(), shape.ids(11));
        let mut want = None;
        for (layout, threads) in [(Kind::Packed, 1), (Kind::Packed, 5), (Kind::Stride, 2)] {
            let mut session = case.open(&How {
                layout,
                threads,
                ..How::default()
            });
            let what = format!("{} {layout:?} {threads} threads", dtype.name());
            let got = both_ways(&what, &mut session, &ids);
            assert_same_bits(&what, &got, want.get_or_insert_with(|| got.clone()));
        }
    }
}

#[test]
fn every_instruction_set_reads_every_type() {
    for dtype in DType::ALL {
        let shape = Shape {
            layers: 1,
            ..Shape::of_blocks(dtype)
        };
        let (case, ids) = (shape.case(), shape.ids(9));
        let mut want = None;
        for isa in ck_kernels::isa::supported() {
            let mut session = case.open(&How {
                isa: Some(isa.name),
                ..How::default()
            });
            let want = want.get_or_insert_with(|| session.interpret(&ids));
            let what = format!("{} {}", dtype.name(), isa.name);
            let error = relative(&both_ways(&what, &mut session, &ids), want);
            assert!(error <= session.allowed(), "{what}: relative L2 {error:.2e}");
        }
    }
}

#[track_caller]
fn float(what: &str, shape: &Shape) {
    let (case, ids) = (shape.case(), shape.ids(shape.context.min(21)));
    for fuse in [Flags::ALL, Flags::NONE] {
        for layout in [Kind::Packed, Kind::Stride] {
            let mut session = case.open(&How {
                fuse,
                layout,
                threads: 3,
                ..How::default()
            });
            let what = format!("{what} {:?} {layout:?}", fuse.names());
            let got = both_ways(&what, &mut session, &ids);
            assert_close(&what, &got, &session.interpret(&ids), FLOAT);
        }
    }
}

#[test]
fn odd_shapes() {
    let shape = Shape::default;
    let head = |head_dim, rotated| Shape {
        head_dim,
        rotated,
        ..shape()
    };
    let cases = [
        ("heads of 8", head(8, 8)),
        ("heads of 12", head(12, 12)),
        ("heads of 80", head(80, 80)),
        ("heads of 2", head(2, 2)),
        ("half of a head rotates", head(24, 12)),
        (
            "a key/value head for every head",
            Shape {
                group: 1,
                kv_heads: 3,
                ..shape()
            },
        ),
        (
            "one key/value head",
            Shape {
                group: 5,
                kv_heads: 1,
                ..shape()
            },
        ),
        ("a vocabulary of 67", Shape { vocab: 67, ..shape() }),
        (
            "a vocabulary of 67, tied",
            Shape {
                vocab: 67,
                tied: true,
                ..shape()
            },
        ),
        ("an MLP of 97", Shape { ff: 97, ..shape() }),
        ("a width of 33", Shape { d: 33, ..shape() }),
        ("a width of 1", Shape { d: 1, ..shape() }),
        ("a context of 21", Shape { context: 21, ..shape() }),
        ("a batch of 1", Shape { batch: 1, ..shape() }),
        ("a batch of 5", Shape { batch: 5, ..shape() }),
        ("a batch above the prompt", Shape { batch: 48, ..shape() }),
        ("one layer", Shape { layers: 1, ..shape() }),
        ("biases", Shape { bias: true, ..shape() }),
        (
            "interleaved pairs",
            Shape {
                interleaved: true,
                ..shape()
            },
        ),
        ("a window", Shape { window: 5, ..shape() }),
        (
            "a softcap",
            Shape {
                softcap: 2.0,
                ..shape()
            },
        ),
    ];
    for (what, shape) in cases {
        float(what, &shape);
    }
}

#[test]
fn the_context_is_full_to_the_last_position_and_no_further() {
    let shape = Shape {
        context: 21,
        batch: 8,
        ..Shape::default()
    };
    let (case, ids) = (shape.case(), shape.ids(22));
    let mut session = case.open(&How::default());
    let want = session.interpret(&ids[..21]);

    assert!(matches!(
        session.try_prefill(&ids),
        Err(Error::TooLong {
            given: 22,
            position: 0,
            context: 21
        })
    ));
    assert_eq!(session.machine.position(), 0);
    assert_close(
        "a prompt of the whole context",
        &session.prefill(&ids[..21]),
        &want,
        FLOAT,
    );
    for _ in 0..2 {
        let refused = session.try_prefill(&ids[21..]);
        assert!(matches!(
            refused,
            Err(Error::TooLong {
                given: 1,
                position: 21,
                context: 21
            })
        ));
    }
    session.machine.reset();
    let unknown = [0, shape.vocab as u32];
    assert!(matches!(
        session.try_prefill(&unknown),
        Err(Error::TokenOutOfRange { index: 1, .. })
    ));
    assert!(matches!(session.try_prefill(&[]), Err(Error::EmptyPrompt)));
    assert_close("after refusals", &session.prefill(&ids[..21]), &want, FLOAT);
}

/// Queries, their rotation and the attention in one place, all three live until the barrier behind it: the bound for any
/// merges is below what these leave, and the report's peak is what is live.
#[test]
fn a_peak_above_the_bound_is_what_is_live() {
    let shape = Shape {
        d: 2,
        kv_heads: 1,
        group: 1,
        head_dim: 16,
        rotated: 2,
        ff: 1,
        vocab: 2,
        layers: 2,
        batch: 1,
        context: 1,
        ..Shape::default()
    };
    // A report that breaks a rule is refused.
    shape.case().plan(&How {
        fuse: Flags::only(Flag::NormQkv),
        ..How::default()
    });
}

/// Attention over several chunks of positions: with numbers of workers that divide the key/value heads each worker goes
/// through its own heads, with the others the context is divided.
#[test]
fn a_context_of_several_chunks_gives_the_same_bits_with_any_number_of_workers() {
    const DECODED: usize = 6;
    let n = 2 * CHUNK + DECODED / 2;
    let shape = Shape {
        layers: 1,
        batch: 64,
        context: n,
        head_dim: 16,
        rotated: 16,
        ..Shape::default()
    };
    let cases = [
        Shape {
            kv_heads: 3,
            group: 2,
            ..shape.clone()
        },
        Shape {
            kv_heads: 2,
            group: 3,
            kv: "f16",
            softcap: 3.0,
            ..shape.clone()
        },
        Shape {
            kv_heads: 1,
            group: 2,
            window: CHUNK + 9,
            ..shape.clone()
        },
        // Not whole groups of columns.
        Shape {
            kv_heads: 2,
            group: 1,
            head_dim: 12,
            rotated: 12,
            ..shape
        },
    ];
    for (i, shape) in cases.into_iter().enumerate() {
        let (case, ids) = (shape.case(), shape.ids(n));
        let mut want = None;
        let workers: &[usize] = if i == 0 { &[1, 2, 3, 4, 5, 6, 7, 8] } else { &[1, 3, 8] };
        for &threads in workers {
            let mut session = case.open(&How {
                threads,
                ..How::default()
            });
            let what = format!("{} heads of {}, {threads} workers", shape.kv_heads, shape.head_dim);
            session.dirty();
            let mut logits = session.prefill(&ids[..n - DECODED]);
            let decoded = session.decode(&ids[n - DECODED..]);
            logits.extend(&decoded);
            let want = want.get_or_insert_with(|| {
                session.dirty();
                let whole = session.prefill(&ids);
                let tolerance = if shape.kv == "f16" { 2e-3 } else { FLOAT };
                assert_close(&what, &whole, &session.interpret(&ids), tolerance);
                whole
            });
            assert_same_bits(&what, &logits, want);
        }
    }
}

#[test]
fn limits_of_the_command_line_replace_those_of_the_description() {
    let shape = Shape::default();
    let (case, ids) = (shape.case(), shape.ids(17));
    let how = How {
        context: Some(17),
        batch: Some(3),
        ..How::default()
    };
    let mut session = case.open(&how);
    assert_eq!(
        (session.machine.layout().context, session.machine.layout().batch),
        (17, 3)
    );
    let want = session.interpret(&ids);
    assert_close("limits", &both_ways("limits", &mut session, &ids), &want, FLOAT);
    assert!(session.try_prefill(&ids[..1]).is_err());
}

/// `ckc verify` on the same cases.
fn verified(shape: &Shape, how: &How, change: impl FnOnce(&mut Planned)) -> Outcome {
    let case = shape.case();
    let mut planned = case.plan(how);
    change(&mut planned);
    let options = Options {
        ids: shape.ids(20),
        threads: 3,
    };
    verify(&mut planned, &options).expect("weights that fit")
}

#[test]
fn verify_finds_nothing_in_sound_programs() {
    for dtype in DType::ALL {
        // Layout and fusion do not look at formats, only at whether there are blocks.
        let every = matches!(dtype, DType::F32 | DType::BF16 | DType::Q8_0 | DType::Q4K);
        for layout in [Kind::Packed, Kind::Stride] {
            for fuse in [Flags::ALL, Flags::NONE] {
                if !every && (layout, fuse) != (Kind::Packed, Flags::ALL) {
                    continue;
                }
                let how = How {
                    fuse,
                    layout,
                    ..How::default()
                };
                let outcome = verified(&Shape::of_blocks(dtype), &how, |_| {});
                assert!(!outcome.compared.is_empty());
                assert_eq!(outcome.problem(), None, "{} {how:?}", dtype.name());
            }
        }
    }
}

#[test]
fn verify_names_the_first_step_that_differs() {
    let how = How {
        fuse: Flags::NONE,
        ..How::default()
    };
    for (dtype, entry) in [
        (DType::F32, "prefill"),
        (DType::F32, "decode"),
        (DType::Q8_0, "prefill"),
    ] {
        let outcome = verified(&Shape::of_blocks(dtype), &how, |planned| {
            let found = planned
                .layout
                .entries
                .iter_mut()
                .find(|e| e.entry.name == entry)
                .unwrap();
            let op = found
                .entry
                .graph
                .ops
                .iter_mut()
                .find(|op| op.name == "layers.1.mlp_norm")
                .unwrap();
            op.kind = OpKind::RmsNorm { eps: 0.5 };
        });
        let first = outcome.first_difference().expect("another norm");
        assert_eq!(
            (first.entry, first.step.as_str()),
            (entry, "layers.1.mlp_norm"),
            "{}",
            dtype.name()
        );
        let text = outcome.problem().unwrap().message;
        assert!(
            text.contains("`layers.1.mlp_norm`") && text.contains("kernel rmsnorm"),
            "{text}"
        );
    }
}

#[test]
fn verify_says_what_it_cannot_run() {
    let shape = Shape::default();
    let case = shape.case();
    let refused = |ids: Vec<u32>, change: fn(&mut Planned)| {
        let mut planned = case.plan(&How::default());
        change(&mut planned);
        let problems = verify(&mut planned, &Options { ids, threads: 1 }).unwrap_err();
        format!("{} {:?}", problems[0].message, problems[0].help)
    };
    let missing = refused(vec![], |planned| planned.model.weights = "absent.gguf".into());
    assert!(
        missing.contains("absent.gguf") && missing.contains("ckc synth"),
        "{missing}"
    );
    assert!(refused(vec![0, 96], |_| {}).contains("token id 96 is out of range: ids are 0 to 95"));
    assert!(refused(vec![0; 49], |_| {}).contains("49 ids do not fit a context of 48"));
}

fn shapes() -> impl Strategy<Value = Shape> {
    let heads = (1..4usize, 1..4usize, 1..14usize, any::<prop::sample::Index>());
    let sizes = (1..70usize, 1..70usize, 2..70usize, 1..4usize);
    let limits = (1..20usize, 0..30usize);
    let rest = (
        any::<[bool; 3]>(),
        0..6usize,
        prop_oneof![Just(0.0f32), Just(3.0)],
        any::<u64>(),
    );
    (heads, sizes, limits, rest).prop_map(|((kv_heads, group, half, rotated), sizes, limits, rest)| {
        let (d, ff, vocab, layers) = sizes;
        let ([bias, tied, interleaved], window, softcap, seed) = rest;
        Shape {
            d,
            kv_heads,
            group,
            head_dim: 2 * half,
            rotated: 2 * (rotated.index(half) + 1),
            ff,
            vocab,
            layers,
            batch: limits.0,
            context: limits.0 + limits.1,
            bias,
            tied,
            interleaved,
            window,
            softcap,
            seed,
            ..Shape::default()
        }
    })
}

fn hows() -> impl Strategy<Value = How> {
    let fuse = any::<[bool; 8]>().prop_map(|on| {
        let chosen = Flag::all().zip(on).filter(|(_, on)| *on);
        chosen.fold(Flags::NONE, |set, (flag, _)| set.with(flag))
    });
    let layout = prop_oneof![Just(Kind::Packed), Just(Kind::Stride)];
    (fuse, layout, 1..4usize).prop_map(|(fuse, layout, threads)| How {
        fuse,
        layout,
        threads,
        ..How::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn programs_of_random_models_agree_with_the_interpreter(shape in shapes(), how in hows()) {
        let (case, ids) = (shape.case(), shape.ids(shape.context.min(25)));
        let mut session = case.open(&how);
        let got = both_ways("random", &mut session, &ids);
        let want = session.interpret(&ids);
        let scale = want.iter().fold(1.0f32, |m, x| m.max(x.abs()));
        assert_close("random", &got, &want, FLOAT * scale);
    }
}
