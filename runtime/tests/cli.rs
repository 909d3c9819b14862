//! The command line, run in this process.

mod common;

use std::ffi::OsString;
use std::path::Path;

use ck_runtime::{Program, cli};
use common::{
    CONTEXT, EOS, Failing, KNOWN, Other, Packed, Stride, VOCAB, expected, pack, prompt, token_byte, tokenizer,
};

struct Done {
    code: u8,
    out: String,
    err: String,
}

/// Runs a command line; `args` are split at spaces.
fn run<P: Program>(args: &str, weights: &Path) -> Done {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = args.split_whitespace().map(OsString::from);
    let code = cli::run::<P>(args, weights.to_str().unwrap(), &mut out, &mut err);
    Done {
        code,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

fn list(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

fn read_logits(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let logits = tensors.tensor("logits").unwrap();
    let values = logits
        .data()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    (logits.shape().to_vec(), values)
}

#[test]
fn logits_are_the_same_through_every_path() {
    let dir = tempfile::tempdir().unwrap();
    let ids = prompt(19);
    let expected = expected(&ids).concat();
    let file = dir.path().join("out.safetensors");
    let (packed, stride) = (
        pack(dir.path(), &Packed::LAYOUT, &[]),
        pack(dir.path(), &Stride::LAYOUT, &[]),
    );
    for flags in [
        "",
        "--decode-from 0",
        "--decode-from 1 --threads 2",
        "--decode-from 16 --prefill-chunks 10,6 --threads 3",
        "--decode-from=18 --threads=1 --check",
        "--prefill-chunks 1,17,1",
    ] {
        let line = format!("logits --ids {} --out {} {flags}", list(&ids), file.display());
        for (run, weights) in [
            (run::<Packed> as fn(&str, &Path) -> Done, &packed),
            (run::<Stride>, &stride),
        ] {
            let done = run(&line, weights);
            assert_eq!((done.code, &*done.out, &*done.err), (0, "", ""), "{flags}");
            let (shape, values) = read_logits(&file);
            assert_eq!(shape, [19, VOCAB]);
            assert_eq!(values, expected, "{flags}");
            std::fs::remove_file(&file).unwrap();
        }
    }
}

#[test]
fn wrong_command_lines_exit_with_2_and_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let weights = pack(dir.path(), &Packed::LAYOUT, &[]);
    for (line, why) in [
        ("", "no command"),
        ("genrate", "did you mean `generate`?"),
        ("logits --out x --ids 1 --treads 2", "did you mean `--threads`?"),
        ("logits --ids 1", "--out"),
        ("logits --out x", "--ids"),
        ("logits --out x --ids 1,x", "`x`"),
        ("logits --out x --ids 1,2 --decode-from 3", "there are 2 ids"),
        ("logits --out x --ids 1,2 --prefill-chunks 1", "sum to 2"),
        ("logits --out x --ids 1,2 --prefill-chunks 2,0", "at least one id"),
        ("logits --out x --ids 1 --threads 0", "1 to 64"),
        ("logits --out x --ids 1 --threads many", "not a number"),
        ("generate", "--prompt"),
        ("generate --prompt a --temp -1", "temperature"),
        ("generate --prompt a --top-p 1.5", "top_p"),
        ("generate --prompt a -n 1.5", "-n 1.5"),
        ("tokenize", "TEXT or --file"),
        ("tokenize a --file b", "TEXT or --file"),
        ("detokenize", "1,2,3"),
        ("detokenize one", "`one`"),
        ("perplexity", "--file"),
        ("perplexity --file x --context 1", "2 to 50"),
        ("perplexity --file x --context 51", "2 to 50"),
        ("bench -p 51", "50"),
        ("bench -r 0", "nothing to measure"),
        ("report extra", "unexpected argument `extra`"),
    ] {
        let done = run::<Packed>(line, &weights);
        assert_eq!(done.code, 2, "{line}: {}", done.err);
        assert!(
            done.err.starts_with("error: ") && done.err.contains(why),
            "{line}: {}",
            done.err
        );
        assert_eq!(done.out, "", "{line}");
    }
}

#[test]
fn what_goes_wrong_exits_with_1_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let weights = pack(dir.path(), &Packed::LAYOUT, &[]);
    let other = pack(dir.path(), &Other::LAYOUT, &[]);
    let before = std::fs::read_dir(dir.path()).unwrap().count();
    let out = dir.path().join("out.safetensors");
    let out = out.display();
    let too_long = list(&prompt(CONTEXT + 1));
    for (line, why) in [
        (format!("logits --ids 1,80 --out {out}"), "token id 80 at index 1"),
        (format!("logits --ids -1 --out {out}"), "token id -1 at index 0"),
        (
            format!("logits --ids {too_long} --decode-from 3 --out {out}"),
            "so that 50 fit",
        ),
        (format!("logits --ids 1 --out {}", dir.path().display()), "cannot write"),
        (format!("logits --ids 1 --out {out}/no/such"), "cannot write"),
        (
            format!("logits --ids 1 --out {out} --weights /no/such.ckw"),
            "cannot open",
        ),
        (
            format!("logits --ids 1 --out {out} --weights {}", other.display()),
            "another layout",
        ),
        ("generate --prompt hello".into(), "without a tokenizer"),
        ("tokenize hello".into(), "without a tokenizer"),
        ("detokenize 1".into(), "without a tokenizer"),
        ("perplexity --file /no/such".into(), "cannot read"),
    ] {
        let done = run::<Packed>(&line, &weights);
        assert_eq!(done.code, 1, "{line}: {}", done.err);
        assert!(
            done.err.starts_with("error: ") && done.err.contains(why),
            "{line}: {}",
            done.err
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), before, "{line}");
    }
    let line = format!("logits --ids {} --decode-from 20 --out {out}", list(&prompt(21)));
    let done = run::<Failing>(&line, &weights);
    assert!(
        done.code == 1 && done.err.contains("panicked: position 20"),
        "{}",
        done.err
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), before);
    let done = run::<Packed>("report", Path::new("no-such-model.ckw"));
    assert!(done.code == 1 && done.err.contains("--weights"), "{}", done.err);
}

#[test]
fn help_lists_every_command_and_flag() {
    let nowhere = Path::new("nowhere.ckw");
    let overview = run::<Packed>("--help", nowhere);
    assert_eq!(overview.code, 0);
    for command in [
        "generate",
        "logits",
        "tokenize",
        "detokenize",
        "perplexity",
        "bench",
        "report",
    ] {
        assert!(overview.out.contains(command), "{command}");
        let help = run::<Packed>(&format!("{command} --help"), nowhere);
        assert_eq!(help.code, 0);
        assert!(help.out.contains("--weights FILE"), "{}", help.out);
    }
    let version = run::<Packed>("--version", nowhere).out;
    assert!(
        version.starts_with("tiny ") && version.contains(&"01".repeat(32)),
        "{version}"
    );
}

#[test]
fn bench_and_report_speak_json() {
    let dir = tempfile::tempdir().unwrap();
    let weights = pack(dir.path(), &Packed::LAYOUT, &[]);
    let done = run::<Packed>("bench -p 16 -n 8 -r 2 --threads 2 --json", &weights);
    assert_eq!(done.code, 0, "{}", done.err);
    for key in [
        "\"prefill\"",
        "\"decode\"",
        "\"median_tok_per_s\"",
        "\"threads\": 2",
        "\"gflop_per_s\"",
    ] {
        assert!(done.out.contains(key), "{key}: {}", done.out);
    }
    let text = run::<Packed>("bench -p 0 -n 8 -r 1", &weights).out;
    assert!(text.contains("decode") && !text.contains("prefill"), "{text}");
    let profile = run::<Packed>("bench -p 16 -n 8 -r 1 --threads 2 --depth 3 --profile", &weights);
    assert_eq!(profile.code, 0, "{}", profile.err);
    for step in Packed::LAYOUT.steps {
        let line = profile
            .out
            .lines()
            .find(|line| line.starts_with(step.entry) && line.contains(step.id));
        assert!(line.is_some(), "{} of {}: {}", step.id, step.entry, profile.out);
    }
    let json = run::<Packed>("bench -p 16 -n 8 -r 1 --threads 2 --profile --json", &weights).out;
    assert!(json.contains("\"run_ns\""), "{json}");
    let deep = run::<Packed>(&format!("bench --depth {CONTEXT} -n 1"), &weights);
    assert!(deep.code == 2 && deep.err.contains("leaves 0 tokens"), "{}", deep.err);
    let report = run::<Packed>("report --json --threads 2", &weights).out;
    assert!(report.contains("\"schema\": \"ckc-runtime/1\""), "{report}");
    assert!(run::<Packed>("report", &weights).out.contains("barrier"));
}

/// What greedy generation must print.
fn greedy(prompt: &[u32], n: usize) -> String {
    let mut ids = prompt.to_vec();
    let mut bytes = Vec::new();
    while bytes.len() < n && ids.len() <= CONTEXT {
        let logits = &expected(&ids)[ids.len() - 1][..KNOWN];
        let best = (0..KNOWN)
            .rev()
            .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
            .unwrap() as u32;
        if best == EOS {
            break;
        }
        bytes.push(token_byte(best));
        ids.push(best);
    }
    String::from_utf8_lossy(&bytes).into_owned() + "\n"
}

/// The ids of a text, one a byte.
fn ids(text: &str) -> Vec<u32> {
    text.bytes()
        .map(|byte| (0..EOS).find(|&id| token_byte(id) == byte).unwrap())
        .collect()
}

#[test]
fn generation_streams_the_most_likely_text() {
    let dir = tempfile::tempdir().unwrap();
    let packed = pack(dir.path(), &Packed::LAYOUT, &tokenizer());
    let stride = pack(dir.path(), &Stride::LAYOUT, &tokenizer());
    for prompt in ["a", "HELLO", "é", "@I1AdZ"] {
        for n in [0, 1, 7, 1000] {
            let expected = greedy(&ids(prompt), n);
            for threads in [1, 2, 3] {
                let line = format!("generate --prompt {prompt} -n {n} --threads {threads}");
                for (run, weights) in [
                    (run::<Packed> as fn(&str, &Path) -> Done, &packed),
                    (run::<Stride>, &stride),
                ] {
                    let done = run(&line, weights);
                    assert_eq!((done.code, &*done.out), (0, &*expected), "{line}: {}", done.err);
                    assert!(
                        done.err.starts_with(&format!("prompt {} tokens, ", prompt.len())),
                        "{}",
                        done.err
                    );
                }
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let dir = tempfile::tempdir().unwrap();
    let weights = pack(dir.path(), &Packed::LAYOUT, &tokenizer());
    let text = |seed: u32| {
        let line =
            format!("generate --prompt A --temp 30 --top-k 40 --min-p 0.001 --repeat-penalty 1.1 -n 30 --seed {seed}");
        let done = run::<Packed>(&line, &weights);
        assert_eq!(done.code, 0, "{}", done.err);
        done.out
    };
    assert_eq!(text(1), text(1));
    assert!((2..10).any(|seed| text(seed) != text(1)));
}

#[test]
fn text_becomes_ids_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let weights = pack(dir.path(), &Packed::LAYOUT, &tokenizer());
    let text = "ABC é ?";
    let list = list(&ids(text));
    let file = dir.path().join("text");
    std::fs::write(&file, text).unwrap();
    assert_eq!(
        run::<Packed>(&format!("tokenize --file {}", file.display()), &weights).out,
        format!("{list}\n")
    );
    assert_eq!(run::<Packed>("tokenize --ids é", &weights).out, "76,77\n");
    assert_eq!(run::<Packed>(&format!("detokenize {list}"), &weights).out, text);
    let unknown = run::<Packed>("detokenize 1,79", &weights);
    assert!(unknown.code == 1 && unknown.err.contains("79"), "{}", unknown.err);
    std::fs::write(&file, [b'A', 0xFF]).unwrap();
    let broken = run::<Packed>(&format!("tokenize --file {}", file.display()), &weights);
    assert!(
        broken.code == 1 && broken.err.contains("not UTF-8 (byte 1)"),
        "{}",
        broken.err
    );
}

#[test]
fn perplexity_is_that_of_the_windows() {
    let dir = tempfile::tempdir().unwrap();
    let weights = pack(dir.path(), &Packed::LAYOUT, &tokenizer());
    let text: String = (0..21).map(|i| char::from(b'A' + (i * 7 % 20) as u8)).collect();
    let file = dir.path().join("text");
    std::fs::write(&file, &text).unwrap();
    let (mut sum, mut scored) = (0.0, 0);
    // 21 tokens in windows of 5: the last one has a single token.
    for window in ids(&text).chunks(5).filter(|window| window.len() > 1) {
        let rows = expected(window);
        for (row, &next) in rows.iter().zip(&window[1..]) {
            let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            sum -= (f64::from(row[next as usize]).exp() / total).ln();
            scored += 1;
        }
    }
    let expected = format!("perplexity {:.4}\n", (sum / f64::from(scored)).exp());
    for threads in [1, 2] {
        let line = format!("perplexity --file {} --context 5 --threads {threads}", file.display());
        let done = run::<Packed>(&line, &weights);
        assert!(
            done.out.ends_with(&expected) && done.out.contains("scored 16, windows 4"),
            "{}{expected}",
            done.out
        );
    }
    std::fs::write(&file, "A").unwrap();
    let done = run::<Packed>(&format!("perplexity --file {}", file.display()), &weights);
    assert!(done.code == 1 && done.err.contains("at least 2"), "{}", done.err);
}
