//! `ckc explain`, by the files in `data/explain`: options above `---`, what must be said below it, what must not after `!`.

use std::path::{Path, PathBuf};

use ckc::compile::{self, Options, Planned};
use ckc::fuse::Flags;
use ckc::layout::Kind;
use ckc::{diag, explain};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|e| e == extension));
    found.sort();
    found
}

fn planned(yaml: &Path, fuse: Flags, layout: Kind) -> Planned {
    let options = Options {
        fuse: Some(fuse),
        layout: Some(layout),
        ..Options::default()
    };
    compile::plan(yaml, &options).unwrap_or_else(|e| panic!("{}: {:?}", yaml.display(), e.diagnostics))
}

/// One space for any run of them, so that the columns of the output do not matter.
fn squeezed(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

fn check(case: &Path) {
    let text = std::fs::read_to_string(case).unwrap();
    let (head, says) = text.split_once("---\n").expect("a case has a line of dashes");
    let option = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    let model = root()
        .join("models")
        .join(option("model").unwrap_or("shakespeare"))
        .with_extension("yaml");
    let fuse = Flags::parse(option("fuse").unwrap_or("all")).unwrap();
    let layout = match option("layout") {
        Some("stride") => Kind::Stride,
        _ => Kind::Packed,
    };
    let node = option("node").expect("a case names a node");
    let said = match explain::node(&planned(&model, fuse, layout), node) {
        Ok(text) => text,
        Err(problem) => diag::render(&[problem], &[][..], false),
    };
    let said = squeezed(&said);
    for line in says.lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix('!') {
            Some(unsaid) => assert!(
                !said.contains(unsaid.trim()),
                "{}: says {unsaid:?}:\n{said}",
                case.display()
            ),
            None => assert!(
                said.contains(line.trim()),
                "{}: does not say {line:?}:\n{said}",
                case.display()
            ),
        }
    }
}

#[test]
fn cases() {
    let cases = files("tests/data/explain", "txt");
    assert!(cases.len() > 10);
    cases.iter().for_each(|case| check(case));
}

/// Every step, tensor, weight, cache and operator of every model, however it is fused and laid out.
#[test]
fn every_name_of_every_model_is_explained() {
    for yaml in files("models", "yaml") {
        for (fuse, layout) in [
            (Flags::ALL, Kind::Packed),
            (Flags::NONE, Kind::Packed),
            (Flags::ALL, Kind::Stride),
        ] {
            // Layers are alike: of the larger models one form is enough.
            if !yaml.ends_with("shakespeare.yaml") && (fuse, layout) != (Flags::ALL, Kind::Packed) {
                continue;
            }
            let planned = planned(&yaml, fuse, layout);
            let report = &planned.report;
            let mut names: Vec<&str> = report.steps.iter().map(|s| s.id.as_str()).collect();
            names.extend(report.steps.iter().flat_map(|s| &s.fused_from).map(String::as_str));
            names.extend(
                report
                    .steps
                    .iter()
                    .flat_map(|s| s.inputs.iter().chain(&s.outputs))
                    .map(String::as_str),
            );
            names.extend(report.tensors.iter().map(|t| t.id.as_str()));
            names.extend(report.weights.iter().map(|w| w.name.as_str()));
            names.extend(planned.model.graph.ops.iter().map(|o| o.name.as_str()));
            names.extend(planned.model.graph.tensors.iter().map(|t| t.name.as_str()));
            names.sort_unstable();
            names.dedup();
            for name in names {
                let said = explain::node(&planned, name).unwrap_or_else(|e| panic!("{name}: {}", e.message));
                let begins = ["step `", "tensor `", "weight `", "cache `", "rope table `"];
                assert!(begins.iter().any(|b| said.starts_with(b)), "{name}: {said}");
            }
        }
    }
}
