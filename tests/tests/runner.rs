//! The shipped model's emitted runner, as a library.

use std::path::PathBuf;
use std::sync::OnceLock;

use ck_tests::Tensors;
use shakespeare::{Config, Error, Runner};

/// The packed weights, made once.
fn weights() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| ck_tests::pack_shipped(env!("CARGO_TARGET_TMPDIR").as_ref()))
}

fn open(threads: usize) -> Runner {
    let config = Config {
        threads: Some(threads),
        ..Config::default()
    };
    Runner::open(weights(), config).unwrap()
}

fn prompt() -> Vec<u32> {
    (0..40).map(|i| (i * 37 + 5) % 1024).collect()
}

/// Logits of a prompt and some decodes, as bits.
fn run(runner: &mut Runner) -> Vec<u32> {
    let mut bits: Vec<u32> = runner.prefill(&prompt()).unwrap().iter().map(|x| x.to_bits()).collect();
    for id in [7, 900, 3] {
        bits.extend(runner.decode(id).unwrap().iter().map(|x| x.to_bits()));
    }
    bits
}

#[test]
fn the_bits_depend_on_nothing_but_the_ids() {
    let mut first = open(1);
    let expected = run(&mut first);
    for byte in [0x00, 0xff, 0x7f] {
        first.dirty(byte);
        assert_eq!(run(&mut first), expected, "dirty arena {byte:#x}");
    }
    for threads in [2, 3, 7] {
        assert_eq!(run(&mut open(threads)), expected, "{threads} threads");
    }
    // One call or many, prefill or decode.
    let mut pieces = open(2);
    for id in prompt() {
        pieces.decode(id).unwrap();
    }
    let tiles = pieces.isa().starts_with("amx");
    let logits = pieces.decode(7).unwrap();
    let whole = expected[1024..2048].iter().map(|bits| f32::from_bits(*bits));
    if tiles {
        // A matrix unit serves calls of many tokens only, and rounds what it multiplies.
        for (x, whole) in logits.iter().zip(whole) {
            assert!((x - whole).abs() <= 16.0 / 256.0, "{x} {whole}");
        }
    } else {
        assert!(logits.iter().map(|x| x.to_bits()).eq(whole.map(f32::to_bits)));
    }
}

#[test]
fn the_golden_text_comes_out() {
    let golden = Tensors::open(&ck_tests::shipped("golden.safetensors"));
    let ids = |name: &str| golden.get(name).ids();
    let mut runner = open(2);
    let mut logits = runner.prefill(&ids("input_ids")).unwrap().to_vec();
    for want in ids("greedy_ids") {
        let best = (0..logits.len())
            .max_by(|a, b| logits[*a].total_cmp(&logits[*b]))
            .unwrap();
        assert_eq!(best as u32, want);
        logits = runner.decode(want).unwrap().to_vec();
    }
}

#[test]
fn arguments_are_checked_before_anything_runs() {
    let mut runner = open(1);
    assert!(matches!(runner.prefill(&[]), Err(Error::EmptyPrompt)));
    let bad = runner.prefill(&[1, 2, 1024]).unwrap_err();
    assert!(
        matches!(
            bad,
            Error::TokenOutOfRange {
                id: 1024,
                index: 2,
                vocab: 1024
            }
        ),
        "{bad}"
    );
    assert!(matches!(
        runner.prefill(&[0; 513]),
        Err(Error::TooLong { given: 513, .. })
    ));
    assert_eq!(runner.position(), 0);
    runner.prefill(&[0; 512]).unwrap();
    assert!(matches!(runner.decode(1), Err(Error::TooLong { position: 512, .. })));
    runner.reset();
    runner.decode(1).unwrap();
}
