//! Embeds the runtime's sources, so that an installed `ckc` can write them beside a runner.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("../runtime");
    let mut files = Vec::new();
    for folder in ["src", "kernels/src"] {
        walk(&root.join(folder), &mut files);
    }
    files.sort();
    let mut out = String::from("&[\n");
    for file in &files {
        let relative = file
            .strip_prefix(&root)
            .expect("below the root")
            .to_str()
            .expect("source names are UTF-8");
        let relative = relative.replace('\\', "/");
        writeln!(
            out,
            "    ({relative:?}, include_str!({:?})),",
            file.canonicalize().expect("exists")
        )
        .expect("a string");
    }
    out.push_str("]\n");
    let target = Path::new(&env::var("OUT_DIR").expect("set by cargo")).join("runtime_sources.rs");
    fs::write(target, out).expect("the output folder is writable");
    println!("cargo::rerun-if-changed={}", root.display());
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the runtime's sources are beside the compiler's") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}
