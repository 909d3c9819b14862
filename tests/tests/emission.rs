//! Emission: committed output is what the compiler writes, and nothing but the model decides its bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use ckc::compile::{self, Options};
use ckc::emit::RuntimePath;

/// Larger reports are committed as text only: JSON of that size is not reviewed, and `ckc plan --json` makes it at once.
const LARGEST_COMMITTED: usize = 440 * 1024;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn blessing() -> bool {
    std::env::var_os("CKC_BLESS").is_some()
}

/// The files of a folder, relative path and bytes, without what cargo makes.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            if relative == "target" || relative == "Cargo.lock" {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else {
                found.insert(relative, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Compares a committed file with what it should be, or rewrites it.
fn committed(path: &Path, expected: &[u8]) -> Result<(), String> {
    if blessing() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, expected).unwrap();
        return Ok(());
    }
    let found = std::fs::read(path).unwrap_or_default();
    if found == expected {
        return Ok(());
    }
    let (a, b) = (String::from_utf8_lossy(&found), String::from_utf8_lossy(expected));
    let line = a.lines().zip(b.lines()).position(|(a, b)| a != b);
    let at = line.unwrap_or(a.lines().count().min(b.lines().count()));
    Err(format!(
        "{} is stale in line {}:\n  committed {:?}\n  now       {:?}\nrun `make bless`",
        path.display(),
        at + 1,
        a.lines().nth(at).unwrap_or(""),
        b.lines().nth(at).unwrap_or(""),
    ))
}

#[test]
fn the_shipped_runner_is_up_to_date() {
    let yaml = root().join("models/shakespeare.yaml");
    let mut planned = compile::plan(&yaml, &Options::default()).unwrap_or_else(|e| panic!("{:?}", e.diagnostics));
    let dir = tempfile::tempdir().unwrap();
    // Hashes in the report come from packing.
    planned.pack(&dir.path().join("w.ckw"), &mut |_, _| ()).unwrap();
    let folder = root().join("generated/shakespeare");
    let files = planned.files(&RuntimePath::find(&folder));
    let stale: Vec<String> = files
        .iter()
        .filter_map(|f| committed(&folder.join(&f.path), f.text.as_bytes()).err())
        .collect();
    assert!(stale.is_empty(), "{}", stale.join("\n"));
    let names: Vec<&str> = files.iter().map(|f| f.path.as_str()).collect();
    let extra: Vec<String> = tree(&folder)
        .into_keys()
        .filter(|name| !names.contains(&name.as_str()) && !name.ends_with(".ckw"))
        .collect();
    assert!(extra.is_empty(), "not written by the compiler any more: {extra:?}");
}

#[test]
fn the_layout_reports_are_up_to_date() {
    let mut stale = Vec::new();
    for entry in std::fs::read_dir(root().join("models")).unwrap() {
        let yaml = entry.unwrap().path();
        if yaml.extension().is_none_or(|e| e != "yaml") || yaml.file_stem().unwrap() == "shakespeare" {
            continue;
        }
        let planned = compile::plan(&yaml, &Options::default()).unwrap_or_else(|e| panic!("{:?}", e.diagnostics));
        let folder = root().join("generated").join(&planned.model.graph.name);
        for file in planned.files(&RuntimePath::Carried) {
            let wanted = match file.path.as_str() {
                "layout.txt" => true,
                "layout.json" => file.text.len() <= LARGEST_COMMITTED,
                _ => false,
            };
            if wanted {
                stale.extend(committed(&folder.join(&file.path), file.text.as_bytes()).err());
            }
        }
    }
    assert!(stale.is_empty(), "{}", stale.join("\n"));
}

#[test]
fn bytes_do_not_depend_on_place_language_or_threads() {
    let dir = tempfile::tempdir().unwrap();
    let compile = |folder: &str, envs: &[(&str, &str)]| {
        let out = dir.path().join(folder);
        std::fs::create_dir_all(&out).unwrap();
        let done = Command::new(env!("CARGO_BIN_EXE_ckc-under-test"))
            .arg("compile")
            .arg(root().join("models/shakespeare.yaml"))
            .args(["-o", "runner"])
            .current_dir(&out)
            .envs(envs.iter().copied())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        tree(&out.join("runner"))
    };
    let a = compile("a", &[("LANG", "C"), ("RAYON_NUM_THREADS", "1")]);
    let b = compile(
        "another/place",
        &[
            ("LANG", "tr_TR.UTF-8"),
            ("LC_ALL", "de_DE.UTF-8"),
            ("RAYON_NUM_THREADS", "7"),
            ("TZ", "Asia/Tokyo"),
        ],
    );
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>());
    for (name, bytes) in &a {
        assert!(*bytes == b[name], "{name} differs");
    }
    // A folder outside the workspace carries the runtime.
    for name in [
        "runtime/Cargo.toml",
        "runtime/src/lib.rs",
        "runtime/kernels/Cargo.toml",
        "runtime/kernels/src/lib.rs",
    ] {
        assert!(a.contains_key(name), "{name} is not carried");
    }
}

#[test]
fn rustfmt_has_nothing_to_change() {
    let rustfmt = |path: &Path| {
        Command::new("rustfmt")
            .args(["--check", "--edition", "2024"])
            .arg(path)
            .output()
    };
    if Command::new("rustfmt").arg("--version").output().is_err() {
        eprintln!("not run: rustfmt is absent");
        return;
    }
    let yaml = root().join("models/shakespeare.yaml");
    for (fuse, layout) in [
        ("all", "packed"),
        ("none", "packed"),
        ("none", "stride"),
        ("all,-mlp_act_down", "stride"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("runner");
        let done = Command::new(env!("CARGO_BIN_EXE_ckc-under-test"))
            .arg("compile")
            .arg(&yaml)
            .args(["--fuse", fuse, "--layout", layout, "-o"])
            .arg(&out)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        for file in ["src/lib.rs", "src/main.rs"] {
            let checked = rustfmt(&out.join(file)).unwrap();
            let diff = String::from_utf8_lossy(&checked.stdout);
            assert!(checked.status.success(), "{file}, {fuse}, {layout}:\n{diff}");
        }
    }
}
