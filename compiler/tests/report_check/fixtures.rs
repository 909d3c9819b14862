//! Reports to judge.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ck_kernels::isa::chunks::CHUNK;
use ckc::compile::{self, Options};
use ckc::fuse::Flags;
use ckc::layout::Kind;
use ckc::model::LoadOptions;
use ckc::report::{self, Report, Tensor, check};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn planned(yaml: &str, fuse: Flags, layout: Kind, limits: Option<(usize, usize)>) -> Report {
    let options = Options {
        load: LoadOptions {
            context: limits.map(|l| l.0),
            batch: limits.map(|l| l.1),
        },
        fuse: Some(fuse),
        layout: Some(layout),
        ..Options::default()
    };
    let planned = compile::plan(&root().join(yaml), &options);
    planned.unwrap_or_else(|e| panic!("{yaml}: {:?}", e.diagnostics)).report
}

pub fn forms(yaml: &str, limits: Option<(usize, usize)>) -> Vec<(String, Report)> {
    let mut all = Vec::new();
    for (name, flags) in [("all", Flags::ALL), ("none", Flags::NONE)] {
        for layout in [Kind::Packed, Kind::Stride] {
            let label = format!("{yaml} {name} {}", layout.name());
            all.push((label, planned(yaml, flags, layout, limits)));
        }
    }
    all
}

pub const TINY: &str = "compiler/tests/diagnostics/base.yaml";
pub const SHAKESPEARE: &str = "models/shakespeare.yaml";

/// Small, with one layer repeated, another shape of batch, several memories and budgets.
pub fn bases() -> Vec<(String, Report)> {
    let mut all = forms(TINY, None);
    all.extend(forms(SHAKESPEARE, None));
    all.extend(forms(SHAKESPEARE, Some((64, 3))));
    // A context that attention divides.
    all.extend(deep());
    for extra in EXTRAS {
        all.push((format!("{TINY} {extra}"), extended(TINY, extra, Flags::NONE)));
        all.push((
            format!("{SHAKESPEARE} {extra}"),
            extended(SHAKESPEARE, extra, Flags::ALL),
        ));
    }
    all
}

/// A context that attention divides.
pub fn deep() -> Vec<(String, Report)> {
    let text = std::fs::read_to_string(root().join(TINY)).unwrap();
    let limits = "limits: {context: 64, batch: 16, max_positions: 128}";
    assert!(text.contains(limits));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep.yaml");
    let deeper = format!("limits: {{context: {0}, batch: 16, max_positions: {0}}}", 2 * CHUNK);
    std::fs::write(&path, text.replace(limits, &deeper)).unwrap();
    forms(path.to_str().unwrap(), None)
}

/// What a description may say besides: memories that fit and that do not, budgets that are kept and that are not.
pub const EXTRAS: &[&str] = &[
    "arena: [{name: fast, bytes: 100KiB}, {name: main}]",
    "arena: [{name: a, bytes: 5000}, {name: b, bytes: 64KiB}, {name: c, bytes: 900MB}]",
    "arena: [{name: fast, bytes: 1KiB}, {name: main, bytes: 2KiB}]",
    "arena: [{name: arena, bytes: 10KiB}, {name: main}]\nbudget: {arena: 1KiB, weights: 1KiB}",
    "arena: [{name: fast, bytes: 100KiB}, {name: main}]\nlayout: stride",
    "arena: [{name: fast, bytes: 1KiB}, {name: main, bytes: 2KiB}]\nlayout: stride",
    "arena: [{name: fast, bytes: 100KiB}, {name: main}]\ndebug: {canaries: true, poison: true}",
    "debug: {canaries: true}",
    "budget: {arena: 1KiB, weights: 1KiB, kv: 1KiB, activations: 1KiB, scratch: 1GB}",
    "budget: {activations: 1KiB, scratch: 1KiB}",
];

/// The report of a description that says `extra` as well.
pub fn extended(yaml: &str, extra: &str, fuse: Flags) -> Report {
    let text = std::fs::read_to_string(root().join(yaml)).unwrap();
    assert!(text.contains("\noutputs: ["));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.yaml");
    std::fs::write(&path, text.replace("\noutputs: [", &format!("\n{extra}\noutputs: ["))).unwrap();
    let stride = extra.contains("layout: stride");
    let layout = if stride { Kind::Stride } else { Kind::Packed };
    planned(path.to_str().unwrap(), fuse, layout, None)
}

pub fn found(report: &Report) -> BTreeSet<&'static str> {
    check(report).into_iter().map(|v| v.code).collect()
}

pub fn told(report: &Report) -> String {
    check(report)
        .iter()
        .map(|v| format!("{} {}: {}\n", v.code, v.place, v.message))
        .collect()
}

/// A small report as it is written.
pub fn tiny_json() -> String {
    report::to_json(&planned(TINY, Flags::ALL, Kind::Packed, None))
}

/// An activation that lives for more than one step and is no alias of anything.
pub fn activation(r: &mut Report) -> Option<&mut Tensor> {
    let aliased: BTreeSet<String> = r.tensors.iter().filter_map(|t| t.alias_of.clone()).collect();
    let plain = |t: &&mut Tensor| {
        t.region == "activations"
            && t.last > t.first
            && t.layout == "row-major"
            && t.alias_of.is_none()
            && !aliased.contains(&t.id)
    };
    r.tensors.iter_mut().find(plain)
}
