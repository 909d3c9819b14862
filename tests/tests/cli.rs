//! The `ckc` command and the command line of a runner, as processes: what works, and what bad input does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

const CKC: &str = env!("CARGO_BIN_EXE_ckc-under-test");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn model() -> String {
    root().join("models/shakespeare.yaml").display().to_string()
}

fn ckc(args: &[&str]) -> Output {
    Command::new(CKC).args(args).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every file below a folder, hidden ones too.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.insert(path.clone(), Vec::new());
                open.push(path);
            } else {
                found.insert(path.clone(), std::fs::read(path).unwrap());
            }
        }
    }
    found
}

/// Fails with `code` and says `says`; `folder` is as it was.
fn refused(folder: &Path, args: &[&str], code: i32, says: &str) {
    let before = tree(folder);
    let output = ckc(args);
    let text = err(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    assert!(text.contains(says), "{args:?} does not say {says:?}: {text}");
    assert!(!text.contains("panicked"), "{text}");
    assert!(tree(folder) == before, "{args:?} left something behind");
}

/// The shipped model's folder, copied, with its description edited.
fn edited(edit: impl Fn(&str) -> String) -> (TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let yaml = dir.path().join("shakespeare.yaml");
    std::fs::write(&yaml, edit(&std::fs::read_to_string(model()).unwrap())).unwrap();
    let weights = dir.path().join("shakespeare");
    std::fs::create_dir(&weights).unwrap();
    for entry in std::fs::read_dir(root().join("models/shakespeare")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, weights.join(path.file_name().unwrap())).unwrap();
    }
    let yaml = yaml.display().to_string();
    (dir, yaml)
}

#[test]
fn every_command_does_its_work() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let model = model();
    let report = at("old.json");
    let plan = ckc(&["plan", &model, "--json"]);
    std::fs::write(&report, &plan.stdout).unwrap();
    let (imported, synth) = (at("imported.yaml"), at("w.gguf"));
    let folder = root().join("models/shakespeare").display().to_string();
    let runs: &[(&[&str], &str)] = &[
        (&["compile", &model, "-o", &at("runner")], "lower bound"),
        (&["compile", &model, "--emit", "graph"], "layers.0.attn"),
        (&["compile", &model, "--emit", "fused"], "entry prefill"),
        (&["compile", &model, "--emit", "steps"], "fn layer_0"),
        (&["compile", &model, "--emit", "plan"], "activations"),
        (&["import", &folder], "model:"),
        (&["import", &folder, "-o", &imported, "--dtype", "q8_0"], ""),
        (&["plan", &model], "the peak is"),
        (
            &["plan", &imported, "--context", "64", "--batch", "8"],
            "context 64, batch 8",
        ),
        (&["diff", &report, &report], ""),
        (&["diff", &report, &report, "--json"], "{"),
        (&["explain", &model, "layers.0.attn"], "barrier"),
        (&["plan", &model, "--html"], "<!doctype html>"),
        (&["plan", &model, "--sweep", "context=128..512"], "    256"),
        (
            &[
                "plan",
                &model,
                "--sweep",
                "batch=1,64",
                "--sweep",
                "context=64..512",
                "--json",
            ],
            "\"context\": 64,\n      \"batch\": 64,",
        ),
        (&["synth", &model, "-o", &synth, "--seed", "7"], "w.gguf"),
        (&["schema"], "\"$schema\""),
        (&["--help"], "compile"),
        (&["--version"], "ckc"),
    ];
    for (args, says) in runs {
        let output = ckc(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", err(&output));
        assert!(
            out(&output).contains(says),
            "{args:?} does not say {says:?}: {}",
            out(&output)
        );
    }
    assert!(Path::new(&synth).metadata().unwrap().len() > 1 << 20);
}

#[test]
fn bad_input_is_said_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    std::fs::create_dir(dir.path().join("mine")).unwrap();
    std::fs::write(dir.path().join("mine/notes.txt"), "x").unwrap();
    let model = model();
    let folder = dir.path().display().to_string();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["compile", &at("none.yaml"), "-o", &at("a")], 1, "none.yaml"),
        (&["compile", &folder, "-o", &at("a")], 1, "error"),
        (&["compile", &model, "-o", &at("file")], 1, "CK0902"),
        (&["compile", &model, "-o", &at("file/below")], 1, "CK0901"),
        (&["compile", &model, "-o", &at("mine")], 1, "CK0903"),
        (&["compile", &model, "-o", &at("a"), "--context", "0"], 1, "context"),
        (&["compile", &model, "-o", &at("a"), "--context", "100000"], 1, "512"),
        (&["import", &at("none")], 1, "none"),
        (&["import", &at("file")], 1, "error"),
        (&["import", &model, "--dtype", "q3"], 1, "q3"),
        (
            &[
                "import",
                &root().join("models/shakespeare").display().to_string(),
                "-o",
                &at("file/x.yaml"),
            ],
            1,
            "CK0901",
        ),
        (&["explain", &model, "nothing"], 1, "CK0908"),
        (&["diff", &at("none"), &at("none")], 2, "CK0907"),
        (&["diff", &at("file"), &at("file")], 2, "CK0907"),
        (&["compile", &model, "--fuse", "nonsense"], 2, "nonsense"),
        (&["plan", &model, "--sweep", "context=512..8192"], 1, "not 1024"),
        (&["plan", &model, "--sweep", "batch=1..1024"], 1, "not 1024"),
        (&["plan", &model, "--sweep", "contxt=512..1024"], 2, "CK0914"),
        (&["plan", &model, "--sweep", "batch=8..1"], 2, "this range is empty"),
        (
            &["plan", &model, "--sweep", "batch=1", "--batch", "8"],
            2,
            "given twice",
        ),
        (&["plan", &model, "--json", "--html"], 2, "cannot be used"),
        (&["compile"], 2, "Usage"),
        (&["frobnicate"], 2, "Usage"),
    ];
    for (args, code, says) in cases {
        refused(dir.path(), args, *code, says);
    }
}

/// The points before and behind one that cannot be planned have their rows, and it has one that says why.
#[test]
fn a_sweep_goes_on_behind_a_point_that_fails() {
    let model = model();
    let sweep = ["plan", model.as_str(), "--sweep", "context=256,8192,128,4096"];
    let output = ckc(&sweep);
    assert_eq!(output.status.code(), Some(1), "{}", out(&output));
    let text = out(&output);
    let rows: Vec<&str> = text.lines().skip(2).collect();
    let [first, refused, third, last] = rows[..] else {
        panic!("{text}")
    };
    assert!(
        first.trim_start().starts_with("256 ") && first.contains("optimal"),
        "{text}"
    );
    assert!(
        third.trim_start().starts_with("128 ") && third.contains("optimal"),
        "{text}"
    );
    assert!(
        refused.trim_start().starts_with("8192 ") && refused.contains("CK0"),
        "{text}"
    );
    assert!(last.trim_start().starts_with("4096 ") && last.contains("CK0"), "{text}");
    assert!(err(&output).contains("error["), "{}", err(&output));
    let output = ckc(&[&sweep[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        out(&output).contains("\"error\": {\n        \"code\": \"CK0"),
        "{}",
        out(&output)
    );
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    let (dir, yaml) = edited(str::to_owned);
    let target = dir.path().join("out").display().to_string();
    let compile = ["compile", yaml.as_str(), "-o", target.as_str()];
    let tensors = dir.path().join("shakespeare/model.safetensors");
    let bytes = std::fs::read(&tensors).unwrap();
    std::fs::write(&tensors, &bytes[..bytes.len() / 2]).unwrap();
    refused(dir.path(), &compile, 1, "model.safetensors");
    std::fs::remove_file(&tensors).unwrap();
    refused(dir.path(), &compile, 1, "shakespeare");

    let (dir, yaml) = edited(|text| text.replace("d_ff: 768", "d_ff: 512"));
    let target = dir.path().join("out").display().to_string();
    refused(dir.path(), &["compile", &yaml, "-o", &target], 1, "768");
}

#[test]
fn budgets_and_growth_exit_with_3() {
    let (dir, yaml) = edited(|text| format!("{text}\nbudget: {{arena: 1MiB}}\n"));
    let target = dir.path().join("out").display().to_string();
    refused(dir.path(), &["compile", &yaml, "-o", &target], 3, "over budget");
    let plan = ckc(&["plan", &yaml]);
    assert_eq!(plan.status.code(), Some(3));
    let (old, new) = (dir.path().join("old.json"), dir.path().join("new.json"));
    std::fs::write(&old, ckc(&["plan", &model(), "--json", "--batch", "64"]).stdout).unwrap();
    std::fs::write(&new, ckc(&["plan", &model(), "--json", "--batch", "128"]).stdout).unwrap();
    let (old, new) = (old.display().to_string(), new.display().to_string());
    assert_eq!(
        ckc(&["diff", &old, &new, "--max-arena-growth", "1KiB"]).status.code(),
        Some(3)
    );
    assert_eq!(
        ckc(&["diff", &old, &new, "--max-arena-growth", "1GiB"]).status.code(),
        Some(0)
    );
    assert_eq!(
        ckc(&["diff", &new, &old, "--max-arena-growth", "0"]).status.code(),
        Some(0)
    );
}

/// `ulimit -f` makes every write past a few blocks fail, as a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("out");
    let limited = |args: &str| {
        let script = format!("trap '' XFSZ; ulimit -f 8; exec '{CKC}' {args}");
        Command::new("sh").args(["-c", &script]).output().unwrap()
    };
    for args in [
        format!("compile {} -o {}", model(), target.display()),
        format!("synth {} -o {}", model(), dir.path().join("w.gguf").display()),
    ] {
        let output = limited(&args);
        assert_eq!(output.status.code(), Some(1), "{args}: {}", err(&output));
        assert!(err(&output).contains("cannot write"), "{}", err(&output));
        assert!(tree(dir.path()).is_empty(), "{args} left {:?}", tree(dir.path()).keys());
    }
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let plan = Command::new(CKC)
        .args(["plan", &model()])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(plan.status.code(), Some(1));
    assert!(err(&plan).contains("CK0905"));
}

/// The folder of a Hugging Face model whose embedding is half a gigabyte of zeros: a hole in the file, so that it takes
/// no time to make and some time to pack.
#[cfg(target_os = "linux")]
fn large_model(folder: &Path) -> String {
    let (vocab, width) = (131_072, 2048);
    let block = "model.layers.0";
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocab, width]),
        ("model.norm.weight".to_owned(), vec![width]),
    ];
    for norm in ["input_layernorm", "post_attention_layernorm"] {
        shapes.push((format!("{block}.{norm}.weight"), vec![width]));
    }
    for part in ["q_proj", "k_proj", "v_proj", "o_proj"] {
        shapes.push((format!("{block}.self_attn.{part}.weight"), vec![width, width]));
    }
    for part in ["gate_proj", "up_proj", "down_proj"] {
        shapes.push((format!("{block}.mlp.{part}.weight"), vec![width, width]));
    }
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in shapes {
        let begin = end;
        end += 2 * shape.iter().product::<usize>();
        let entry = serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]});
        header.insert(name, entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": width,
        "intermediate_size": width, "num_attention_heads": 16, "num_key_value_heads": 16, "num_hidden_layers": 1,
        "vocab_size": vocab, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 128,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16",
    });
    std::fs::create_dir(folder).unwrap();
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let tensors = folder.join("model.safetensors");
    let head = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    std::fs::write(&tensors, &head).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&tensors).unwrap();
    file.set_len((head.len() + end) as u64).unwrap();
    let yaml = folder.join("large.yaml").display().to_string();
    let imported = ckc(&["import", &folder.display().to_string(), "-o", &yaml]);
    assert!(imported.status.success(), "{}", err(&imported));
    yaml
}

/// Interrupted in the middle of writing something large: the unfinished files go, the exit code says why.
#[cfg(target_os = "linux")]
#[test]
fn an_interruption_removes_what_is_unfinished() {
    use std::io::Read;
    let inputs = tempfile::tempdir().unwrap();
    let large = large_model(&inputs.path().join("large"));
    let big = root().join("models/llama-3.2-1b.yaml").display().to_string();
    for (args, output) in [(["synth", &big], "w.gguf"), (["compile", &large], "made/runner")] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(CKC)
            .args(args)
            .arg("-o")
            .arg(dir.path().join(output))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The temporary file is there from the first byte on; a folder for it may come before.
        while !tree(dir.path()).keys().any(|path| path.is_file()) {
            assert!(child.try_wait().unwrap().is_none(), "finished before it began to write");
            std::thread::yield_now();
        }
        let killed = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap();
        assert!(killed.success());
        let status = child.wait().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(status.code(), Some(130), "{args:?}: {said}");
        let left = tree(dir.path());
        assert!(left.is_empty(), "{args:?} left {:?}", left.keys());
    }
}

/// Folders that cannot be written to, as the user `nobody` where the tests run as root, who may write anywhere.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_folder_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    let (dir, yaml) = edited(str::to_owned);
    let locked = dir.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    let program = dir.path().join("ckc");
    std::fs::copy(CKC, &program).unwrap();
    mode(dir.path(), 0o755);
    mode(&locked, 0o555);
    let root = std::fs::write(locked.join("probe"), "").is_ok();
    if root {
        std::fs::remove_file(locked.join("probe")).unwrap();
    }
    let target = |name: &str| locked.join(name).display().to_string();
    let folder = dir.path().join("shakespeare").display().to_string();
    let cases: [&[&str]; 4] = [
        &["compile", &yaml, "-o", &target("runner")],
        &["compile", &yaml, "-o", &target("deep/er/runner")],
        &["synth", &yaml, "-o", &target("w.gguf")],
        &["import", &folder, "-o", &target("model.yaml")],
    ];
    for args in cases {
        let mut command = Command::new(&program);
        if root {
            command.uid(65534).gid(65534);
        }
        let output = command.args(args).output().unwrap();
        let said = err(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(
            said.contains("ermission denied") && said.contains("locked"),
            "{args:?}: {said}"
        );
        assert!(tree(&locked).is_empty(), "{args:?} left {:?}", tree(&locked).keys());
    }
}

/// A runner outside the workspace, built once for all tests of this program, offline: it has no dependencies.
fn runner() -> &'static (TempDir, PathBuf) {
    static RUNNER: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    RUNNER.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("runner");
        let compiled = ckc(&["compile", &model(), "-o", &folder.display().to_string()]);
        assert!(compiled.status.success(), "{}", err(&compiled));
        let built = Command::new(env!("CARGO"))
            .args(["build", "--release", "--offline", "--quiet", "--target-dir"])
            .arg(dir.path().join("target"))
            .current_dir(&folder)
            .env_remove("RUSTFLAGS")
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", err(&built));
        assert!(err(&built).is_empty(), "warnings: {}", err(&built));
        let program = dir.path().join("target/release/shakespeare");
        (dir, program)
    })
}

fn run(args: &[&str]) -> Output {
    let (dir, program) = runner();
    Command::new(program)
        .args(args)
        .current_dir(dir.path().join("runner"))
        .output()
        .unwrap()
}

/// One test for all of it: nextest runs every test in a process of its own, which would build the runner again.
#[test]
fn a_runner_outside_the_workspace_builds_offline_and_serves() {
    let (dir, _) = runner();
    let good = |args: &[&str]| {
        let output = run(args);
        assert!(output.status.success(), "{args:?}: {}", err(&output));
        out(&output)
    };
    let generate = [
        "generate", "--prompt", "ROMEO:", "-n", "12", "--seed", "1", "--temp", "0.8",
    ];
    assert_eq!(good(&generate), good(&generate), "same seed, same text");
    let ids = good(&["tokenize", "ROMEO:"]);
    // With the token that the tokenizer puts in front.
    assert!(good(&["detokenize", ids.trim()]).trim_end().ends_with("ROMEO:"));
    let logits = dir.path().join("logits.safetensors").display().to_string();
    good(&["logits", "--ids", "1,2,3", "--out", &logits]);
    let bytes = std::fs::read(&logits).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("logits").unwrap().shape(), [3, 1024]);
    for args in [
        &["report", "--json"][..],
        &["bench", "-p", "8", "-n", "4", "-r", "1", "--json"],
    ] {
        let json: serde_json::Value = serde_json::from_str(&good(args)).unwrap();
        assert_eq!(json["model"], "shakespeare", "{args:?}");
    }

    let bad = |args: &[&str], code: i32, says: &str| {
        let output = run(args);
        let text = err(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(says), "{args:?} does not say {says:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    };
    let packed = std::fs::read(dir.path().join("runner/shakespeare.ckw")).unwrap();
    let cut = dir.path().join("cut.ckw");
    for keep in [0, 1, 63, 4096, packed.len() / 2, packed.len() - 1] {
        std::fs::write(&cut, &packed[..keep]).unwrap();
        bad(
            &[
                "logits",
                "--ids",
                "1",
                "--out",
                &logits,
                "--weights",
                &cut.display().to_string(),
            ],
            1,
            "cut.ckw",
        );
    }
    let other = dir.path().join("other").display().to_string();
    let compiled = ckc(&["compile", &model(), "-o", &other, "--batch", "64"]);
    assert!(compiled.status.success(), "{}", err(&compiled));
    let foreign = format!("{other}/shakespeare.ckw");
    bad(
        &["generate", "--prompt", "x", "--weights", &foreign],
        1,
        "another layout",
    );
    bad(&["logits", "--ids", "99999", "--out", &logits], 1, "99999");
    bad(
        &["generate", "--prompt", "x", "--weights", "nowhere.ckw"],
        1,
        "nowhere.ckw",
    );
    bad(&["generate", "--prompt", &"word ".repeat(4000)], 1, "context");
    bad(&["generate", "--nonsense"], 2, "--nonsense");
}

/// Every key of `budget`: exit code 3, what it is over by, and what to do about it, in every form of the report.
#[test]
fn every_budget_is_checked_and_explained() {
    for (key, says) in [
        ("arena", &["live at the peak, `", "without `", "its parts are"][..]),
        ("activations", &["live at the peak, `", "without `"]),
        ("weights", &["the largest are `model."]),
        ("kv", &["a position of the context costs"]),
        ("scratch", &["the largest are `layers."]),
    ] {
        let (_dir, yaml) = edited(|text| format!("{text}\nbudget: {{{key}: 100}}\n"));
        let plan = ckc(&["plan", &yaml]);
        assert_eq!(plan.status.code(), Some(3), "{key}");
        let over = err(&plan);
        let over_by = "error[CK0913]: over budget by ";
        assert!(
            over.contains(over_by) && over.contains(&format!(": {key} needs ")),
            "{over}"
        );
        says.iter()
            .for_each(|says| assert!(over.contains(says), "{key} does not say {says:?}: {over}"));
        assert!(out(&plan).contains("over budget by"), "{key}: {}", out(&plan));
        let stride = ckc(&["plan", &yaml, "--layout", "stride"]);
        assert_eq!(stride.status.code(), Some(3), "{key}: {}", err(&stride));
        for form in [&["--json"][..], &["--html"], &["--sweep", "batch=64,128"]] {
            let args = [&["plan", yaml.as_str()], form].concat();
            let output = ckc(&args);
            assert_eq!(output.status.code(), Some(3), "{args:?}");
            let status = if form == ["--json"] {
                "over_budget"
            } else {
                "over budget by"
            };
            assert!(out(&output).contains(status), "{args:?}");
        }
    }
    let (_dir, yaml) = edited(|text| format!("{text}\nbudget: {{arena: 1GiB, activations: 1GiB, kv: 1048576}}\n"));
    let kept = ckc(&["plan", &yaml]);
    assert_eq!(kept.status.code(), Some(0), "{}", err(&kept));
    assert!(out(&kept).contains("1048576 of 1048576 bytes, kept"), "{}", out(&kept));
}

#[test]
fn the_machine_and_the_kernels_are_measured() {
    let args = [
        "bench",
        "kernels",
        "--dtype",
        "q4_0,f32",
        "--shape",
        "64x64",
        "--tokens",
        "1",
        "--depth",
        "3",
        "--threads",
        "2",
    ];
    let text = ckc(&args);
    assert!(text.status.success(), "{}", err(&text));
    let lines = |what: &str| out(&text).lines().filter(|line| line.starts_with(what)).count();
    assert_eq!((lines("matmul"), lines("attention")), (2, 1), "{}", out(&text));
    let args = [
        "bench",
        "kernels",
        "--dtype",
        "q4_0",
        "--shape",
        "7x33",
        "--tokens",
        "1",
        "--depth",
        "1048576",
        "--threads",
        "1",
    ];
    let text = ckc(&args);
    assert_eq!(
        out(&text).matches("left out").count(),
        2,
        "{}{}",
        out(&text),
        err(&text)
    );
    let machine = ckc(&["bench", "machine", "--threads", "1", "--isa", "scalar", "--json"]);
    assert!(machine.status.success(), "{}", err(&machine));
    assert!(out(&machine).contains("\"read_gb_per_s\""), "{}", out(&machine));
    for (args, code, says) in [
        (["bench", "kernels", "--shape", "64"], 2, "8192x2048"),
        (["bench", "kernels", "--tokens", "0"], 2, "from 1 to"),
        (["bench", "kernels", "--depth", "18446744073709551615"], 2, "from 0 to"),
        (["bench", "kernels", "--dtype", "q9"], 1, "unknown type"),
        (["bench", "machine", "--isa", "mmx"], 1, "CK0918"),
        (["bench", "machine", "--isa", "mmx"], 1, "help: unset CKC_ISA"),
        (["bench", "machine", "--threads", "0"], 1, "CK0918"),
    ] {
        let refused = ckc(&args);
        assert_eq!(refused.status.code(), Some(code), "{args:?}");
        assert!(err(&refused).contains(says), "{args:?}: {}", err(&refused));
        assert!(!err(&refused).contains('\u{fffd}'), "{args:?}: {}", err(&refused));
    }
    let verify = Command::new(CKC)
        .args(["verify", &model()])
        .env("CKC_ISA", "mmx")
        .output()
        .unwrap();
    assert_eq!(verify.status.code(), Some(1));
    for says in ["CK0910", "help: unset CKC_ISA"] {
        assert!(err(&verify).contains(says), "{}", err(&verify));
    }
    assert!(!err(&verify).contains('\u{fffd}'), "{}", err(&verify));
}
