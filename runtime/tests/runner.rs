//! A runner does what its program says, whatever the threads, chunks and previous contents of memory.

mod common;

use ck_runtime::{Config, Error, Program, Runner};
use common::{BATCH, CONTEXT, Failing, Other, Packed, Stride, VOCAB, expected, pack, prompt};

const _: fn() = || {
    fn moves_between_threads<T: Send>() {}
    moves_between_threads::<Runner<Packed>>();
};

fn open<P: Program>(threads: usize) -> (tempfile::TempDir, Runner<P>) {
    let dir = tempfile::tempdir().unwrap();
    let path = pack(dir.path(), &P::LAYOUT, &[]);
    let runner = Runner::open(
        path,
        Config {
            threads: Some(threads),
            ..Config::default()
        },
    )
    .unwrap();
    (dir, runner)
}

/// Prefill in one call of every length, then decode to the end.
fn prefill_then_decode<P: Program>(threads: usize) {
    let ids = prompt(CONTEXT);
    let expected = expected(&ids);
    let (_dir, mut runner) = open::<P>(threads);
    for n in [1, 2, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH, 3 * BATCH + 1, CONTEXT] {
        runner.dirty(0xFF);
        assert_eq!(runner.prefill(&ids[..n]).unwrap(), expected[n - 1], "prefill of {n}");
        assert_eq!(runner.position(), n);
        for (i, &id) in ids.iter().enumerate().skip(n) {
            assert_eq!(runner.decode(id).unwrap(), expected[i], "decode at {i} after {n}");
        }
    }
}

#[test]
fn logits_do_not_depend_on_threads_or_layout() {
    for threads in [1, 2, 3, 7] {
        prefill_then_decode::<Packed>(threads);
        prefill_then_decode::<Stride>(threads);
    }
}

#[test]
fn prefill_each_sees_every_position_once() {
    let ids = prompt(CONTEXT);
    let expected = expected(&ids);
    for threads in [1, 2] {
        let (_dir, mut runner) = open::<Packed>(threads);
        for cut in [1, 5, 19] {
            runner.dirty(0x7F);
            let mut seen = 0;
            for (start, part) in [(0, &ids[..cut]), (cut, &ids[cut..])] {
                runner
                    .prefill_each(part, |i, logits| {
                        assert_eq!(i, seen - start);
                        assert_eq!(logits, expected[seen], "position {seen}");
                        seen += 1;
                    })
                    .unwrap();
            }
            assert_eq!(seen, CONTEXT);
        }
    }
}

#[test]
fn bad_arguments_change_nothing() {
    let ids = prompt(30);
    let expected = expected(&ids);
    let (_dir, mut runner) = open::<Packed>(2);
    assert!(matches!(runner.prefill(&[]), Err(Error::EmptyPrompt)));
    runner.prefill(&ids[..10]).unwrap();
    let long = prompt(CONTEXT - 9);
    let mut wrong = ids[10..20].to_vec();
    wrong[9] = VOCAB as u32;
    for _ in 0..2 {
        match runner.prefill(&wrong).unwrap_err() {
            Error::TokenOutOfRange { id, index, vocab } => assert_eq!((id, index, vocab), (VOCAB as u32, 9, VOCAB)),
            other => panic!("{other}"),
        }
        assert!(matches!(runner.decode(u32::MAX), Err(Error::TokenOutOfRange { .. })));
        let error = runner.prefill(&long).unwrap_err().to_string();
        assert!(error.contains("so that 40 fit"), "{error}");
        assert!(runner.prefill_each(&wrong, |_, _| unreachable!()).is_err());
        assert_eq!(runner.position(), 10);
    }
    assert_eq!(runner.prefill(&ids[10..20]).unwrap(), expected[19]);
}

#[test]
fn the_end_of_the_context_is_an_error() {
    let (_dir, mut runner) = open::<Packed>(1);
    runner.prefill(&prompt(CONTEXT)).unwrap();
    for _ in 0..2 {
        let error = runner.decode(0).unwrap_err();
        assert!(
            matches!(
                error,
                Error::TooLong {
                    given: 1,
                    position: CONTEXT,
                    context: CONTEXT
                }
            ),
            "{error}"
        );
    }
    runner.reset();
    assert_eq!(runner.decode(3).unwrap(), expected(&[3])[0]);
}

#[test]
fn a_panic_poisons_until_reset() {
    let ids = prompt(30);
    for threads in [1, 2, 3] {
        let (_dir, mut runner) = open::<Failing>(threads);
        runner.prefill(&ids[..20]).unwrap();
        let error = runner.decode(ids[20]).unwrap_err();
        assert!(
            matches!(&error, Error::Panicked { worker, message } if *worker == 1 % threads && message == "position 20"),
            "{error}"
        );
        assert!(matches!(runner.decode(ids[20]), Err(Error::Poisoned)));
        runner.reset();
        assert_eq!(runner.prefill(&ids).unwrap(), expected(&ids)[29]);
    }
}

#[test]
fn weights_of_another_layout_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = pack(dir.path(), &Other::LAYOUT, &[]);
    let error = Runner::<Packed>::open(&path, Config::default()).unwrap_err();
    assert!(matches!(error, Error::WrongLayout { .. }), "{error}");
}

#[test]
fn bad_configurations_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = pack(dir.path(), &Packed::LAYOUT, &[]);
    for threads in [0, 65, usize::MAX] {
        let config = Config {
            threads: Some(threads),
            ..Config::default()
        };
        assert!(matches!(
            Runner::<Packed>::open(&path, config),
            Err(Error::Threads { .. })
        ));
    }
    let config = Config {
        isa: Some("avx9000".into()),
        ..Config::default()
    };
    let error = Runner::<Packed>::open(&path, config).unwrap_err().to_string();
    assert!(error.contains("avx9000") && error.contains("scalar"), "{error}");
    let runner = Runner::<Packed>::open(
        &path,
        Config {
            isa: Some("scalar".into()),
            ..Config::default()
        },
    )
    .unwrap();
    assert_eq!(runner.isa(), "scalar");
    assert!(matches!(runner.tokenizer(), Err(Error::NoTokenizer { model: "tiny" })));
}

#[test]
fn the_report_says_who_does_what() {
    let (_dir, mut runner) = open::<Packed>(2);
    let report = runner.report().unwrap();
    assert_eq!(report.threads, 2);
    assert!(report.dispatch.p50 > 0 && report.dispatch.p50 <= report.dispatch.p99);
    let json = report.to_json();
    for part in [
        "\"ranges\": [[0, 16], [16, 32]]",
        "\"ranges\": [[0, 1], [0, 0]]",
        "\"ranges\": [[0, 32], [32, 80]]",
        "\"barrier\": \"reads \\\"cache\\\" of all workers\"",
        "\"serial\": \"one row\"",
    ] {
        assert!(json.contains(part), "{part} in {json}");
    }
    assert!(report.to_string().contains("project"), "{report}");
}
