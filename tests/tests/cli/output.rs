//! What is left behind when writing fails: nothing.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::{CKC, ckc, edited, err, model, root, tree};

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

/// The folder of a Hugging Face model of a gigabyte of zeros: a hole in the file, so that it takes no time to make and some
/// time to pack.
#[cfg(target_os = "linux")]
fn large_model(folder: &Path) -> String {
    let (vocab, width, layers) = (131_072, 2048, 8);
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocab, width]),
        ("model.norm.weight".to_owned(), vec![width]),
    ];
    for block in (0..layers).map(|layer| format!("model.layers.{layer}")) {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            shapes.push((format!("{block}.{norm}.weight"), vec![width]));
        }
        for part in ["q_proj", "k_proj", "v_proj", "o_proj"] {
            shapes.push((format!("{block}.self_attn.{part}.weight"), vec![width, width]));
        }
        for part in ["gate_proj", "up_proj", "down_proj"] {
            shapes.push((format!("{block}.mlp.{part}.weight"), vec![width, width]));
        }
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
        "intermediate_size": width, "num_attention_heads": 16, "num_key_value_heads": 16, "num_hidden_layers": layers,
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

/// Whether there is a file below a folder. What vanishes meanwhile is not there; contents, which may be large, are left
/// alone.
#[cfg(target_os = "linux")]
fn has_file(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths = entries.map(|entry| entry.path());
    paths.any(|path| path.is_file() || path.is_dir() && has_file(&path))
}

/// Interrupted from the first moment of an unfinished file on: it goes, and the exit code says why.
#[cfg(target_os = "linux")]
#[test]
fn an_interruption_removes_what_is_unfinished() {
    use std::io::Read;
    let inputs = tempfile::tempdir().unwrap();
    let large = large_model(&inputs.path().join("large"));
    let big = root().join("models/llama-3.2-1b.yaml").display().to_string();
    let calibrate = ["bench", "kernels", "--calibrate", "--threads", "1", "--dtype", "q4_0"];
    for (args, output) in [
        (&["synth", &big][..], "w.gguf"),
        (&["compile", &large], "made/runner"),
        (&calibrate, "costs.yaml"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(CKC)
            .args(args)
            .arg("-o")
            .arg(dir.path().join(output))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The temporary file is there from the first byte on; a folder for it may come before.
        while !has_file(dir.path()) {
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
