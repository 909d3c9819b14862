//! Each command at its work, and at bad input.

use std::path::Path;

use crate::{ckc, edited, err, model, out, refused, root};

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
