//! Files that are not generated Rust: manifests, README, and the runtime's sources.

use std::path::{Path, PathBuf};

use tera::{Context, Tera};

use super::{File, Origin};

/// The runtime's sources, relative path and text, as this compiler was built with them.
const RUNTIME: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/runtime_sources.rs"));

/// Where a runner finds the runtime crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimePath {
    /// In the workspace that the crate is emitted into: a relative path.
    Workspace(String),
    /// Beside the crate's sources, written by [`write_runtime`].
    Carried,
}

impl RuntimePath {
    /// The path for a crate in `out`: a `runtime` folder next to one of its ancestors' `compiler` folder is the
    /// workspace's own.
    pub fn find(out: &Path) -> RuntimePath {
        let absolute = std::path::absolute(out).unwrap_or_else(|_| out.to_path_buf());
        let mut up = PathBuf::from("..");
        for ancestor in absolute.ancestors().skip(1) {
            let manifest = ancestor.join("runtime/Cargo.toml");
            let ours = std::fs::read_to_string(manifest).is_ok_and(|text| text.contains("name = \"ck-runtime\""));
            if ours && ancestor.join("compiler/Cargo.toml").exists() {
                let path = up.join("runtime");
                return RuntimePath::Workspace(path.to_string_lossy().replace('\\', "/"));
            }
            up.push("..");
        }
        RuntimePath::Carried
    }

    fn path(&self) -> &str {
        match self {
            RuntimePath::Workspace(path) => path,
            RuntimePath::Carried => "runtime",
        }
    }
}

/// The files of the runtime crate and its kernels, below `runtime/`.
pub fn write_runtime() -> Vec<File> {
    let manifest = |name: &str, deps: &str| {
        format!(
            "[package]\nname = \"{name}\"\nversion = \"{}\"\nedition = \"2024\"\nlicense = \"MIT OR Apache-2.0\"\n\
             publish = false\n{deps}{}",
            env!("CARGO_PKG_VERSION"),
            lints()
        )
    };
    let mut files: Vec<File> = RUNTIME
        .iter()
        .map(|(path, text)| File {
            path: format!("runtime/{path}"),
            text: (*text).into(),
        })
        .collect();
    let deps = "\n[dependencies]\nck-kernels = { path = \"kernels\" }\n";
    files.push(File {
        path: "runtime/Cargo.toml".into(),
        text: manifest("ck-runtime", deps),
    });
    files.push(File {
        path: "runtime/kernels/Cargo.toml".into(),
        text: manifest("ck-kernels", ""),
    });
    files.push(File {
        path: "runtime/rustfmt.toml".into(),
        text: include_str!("../../../rustfmt.toml").into(),
    });
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// The lints that the runtime is written under, so that it is as free of warnings beside a runner as it is here.
fn lints() -> String {
    let sections = include_str!("../../../Cargo.toml").split("\n[").skip(1);
    let lints = sections.filter_map(|section| section.strip_prefix("workspace.lints."));
    lints
        .map(|section| format!("\n[lints.{}\n", section.trim_end()))
        .collect()
}

fn render(template: &str, origin: &Origin<'_>, runtime: &str) -> String {
    let mut context = Context::new();
    let h = &origin.report.header;
    context.insert("model", origin.model);
    context.insert("version", &h.ckc_version);
    context.insert("sha256", &h.yaml_sha256);
    context.insert("runtime", runtime);
    context.insert("context", &h.options.context);
    context.insert("batch", &h.options.batch);
    context.insert("kv", &h.options.kv_dtype);
    context.insert("layout", &h.options.layout);
    context.insert("arena", &origin.report.totals.arena_bytes);
    context.insert("bound", &origin.report.totals.lower_bound_bytes);
    context.insert("naive", &origin.report.totals.naive_bytes);
    context.insert("entries", &h.entries);
    context.insert("memories", &origin.report.totals.memories);
    context.insert("debug", &h.options.debug.join(", "));
    Tera::one_off(template, &context, false).expect("templates name what is in the context")
}

pub(super) fn cargo_toml(origin: &Origin<'_>, runtime: &RuntimePath) -> File {
    let text = render(include_str!("templates/Cargo.toml.tera"), origin, runtime.path());
    File {
        path: "Cargo.toml".into(),
        text,
    }
}

pub(super) fn readme(origin: &Origin<'_>) -> File {
    let text = render(include_str!("templates/README.md.tera"), origin, "");
    File {
        path: "README.md".into(),
        text,
    }
}

pub(super) fn gitignore() -> File {
    File {
        path: ".gitignore".into(),
        text: "/target\n/Cargo.lock\n*.ckw\n".into(),
    }
}

pub(super) fn rustfmt_toml() -> File {
    File {
        path: "rustfmt.toml".into(),
        text: super::format::RUSTFMT.into(),
    }
}
