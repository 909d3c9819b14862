//! The shipped descriptions load, and become the graphs that they describe.

use std::path::{Path, PathBuf};

use ckc::diag;
use ckc::model::{self, LoadOptions, Model};

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

fn load(name: &str, options: &LoadOptions) -> Model {
    let source = model::read(&models().join(name)).expect("readable");
    let (file, text) = (source.name.clone(), source.text.clone());
    let (model, diagnostics) = model::load(source, options);
    let shown = diag::render(&diagnostics, &[(file.as_str(), text.as_str())][..], false);
    model.unwrap_or_else(|| panic!("{shown}"))
}

#[test]
fn the_shipped_model_is_a_llama() {
    let model = load("shakespeare.yaml", &LoadOptions::default());
    let graph = &model.graph;
    assert_eq!(graph.ops.len(), 1 + 4 * 15 + 3);
    assert_eq!(graph.ops[1].name, "layers.0.attn_norm");
    assert_eq!(graph.ops[graph.ops.len() - 1].name, "logits");
}
