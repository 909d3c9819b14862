//! The model that ships with the project.

use std::path::{Path, PathBuf};

use ckc::compile::{self, Options};

/// A file of the shipped model's folder.
pub fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../models/shakespeare")
        .join(file)
}

/// Packs the shipped model's weights for its committed runner, to a file in `folder`.
///
/// # Panics
/// If the shipped model cannot be compiled.
pub fn pack_shipped(folder: &Path) -> PathBuf {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/shakespeare.yaml");
    let mut planned = compile::plan(&model, &Options::default()).expect("the shipped model is sound");
    let path = folder.join("shakespeare.ckw");
    planned.pack(&path, &mut |_, _| {}).expect("the shipped weights fit");
    path
}
