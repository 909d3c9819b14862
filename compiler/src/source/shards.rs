//! `model.safetensors.index.json`: one model in many safetensors files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::{Component, Path},
};

use serde::Deserialize;

use super::{FormatError, Shard, Source, codes, safetensors};
use crate::diag::Diagnostic;

/// An index of a hundred thousand tensors takes about 10 MiB.
const MAX_INDEX: u64 = 64 << 20;
/// The largest published models have about 200.
const MAX_SHARDS: usize = 1024;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Opens an index and every file it names.
pub(super) fn open(path: &Path) -> Result<Source, Vec<Diagnostic>> {
    let index = read_index(path).map_err(|d| vec![d])?;
    let files: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    let bad = |message: String| Diagnostic::new(codes::SAFETENSORS, message).in_file(path.display().to_string());
    let mut problems: Vec<Diagnostic> = files
        .iter()
        .filter(|name| !is_plain(name))
        .map(|name| bad(format!("`{name}` is not the name of a file beside the index")))
        .collect();
    if files.is_empty() {
        problems.push(bad("`weight_map` is empty".into()));
    }
    if files.len() > MAX_SHARDS {
        problems.push(bad(format!("{} files, more than {MAX_SHARDS}", files.len())));
    }
    if !problems.is_empty() {
        return Err(problems);
    }

    let mut shards = Vec::new();
    let mut tensors = Vec::new();
    let mut owner: BTreeMap<String, usize> = BTreeMap::new();
    for name in files.iter().copied() {
        let opened = Shard::open(&path.with_file_name(name)).and_then(|shard| {
            let found = safetensors::read(shard.reader(), shard.len).map_err(|e| shard.bad(codes::SAFETENSORS, &e))?;
            Ok((shard, found))
        });
        match opened {
            Err(problem) => problems.push(problem),
            Ok((shard, found)) => {
                for mut info in found {
                    info.file = shards.len();
                    if let Some(first) = owner.insert(info.name.clone(), shards.len()) {
                        let other: &Shard = shards.get(first).unwrap_or(&shard);
                        problems.push(bad(format!(
                            "tensor `{}` is in two files: {} and {name}",
                            info.name,
                            other.path.file_name().unwrap_or_default().display()
                        )));
                    }
                    tensors.push(info);
                }
                shards.push(shard);
            }
        }
    }
    if problems.is_empty() {
        for (tensor, file) in &index.weight_map {
            let found = owner.get(tensor).map(|&i| &shards[i]);
            if found.is_none_or(|s| s.path.file_name().is_none_or(|n| n != file.as_str())) {
                problems.push(bad(format!(
                    "tensor `{tensor}` is not in {file}, where the index has it"
                )));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Source::assemble(path, shards, tensors, None))
}

fn read_index(path: &Path) -> Result<Index, Diagnostic> {
    let in_file = |d: Diagnostic| d.in_file(path.display().to_string());
    let unreadable = |e: std::io::Error| in_file(Diagnostic::new(codes::UNREADABLE, format!("cannot read: {e}")));
    let mut text = Vec::new();
    File::open(path)
        .map_err(unreadable)?
        .take(MAX_INDEX + 1)
        .read_to_end(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > MAX_INDEX {
        return Err(in_file(Diagnostic::new(
            codes::SAFETENSORS,
            format!("an index of more than {MAX_INDEX} bytes"),
        )));
    }
    serde_json::from_slice(&text).map_err(|e| {
        let error = FormatError {
            offset: safetensors::byte_of(&text, &e),
            message: format!("the index: {e}"),
        };
        in_file(Diagnostic::new(codes::SAFETENSORS, error.to_string()))
    })
}

/// Whether `name` is one path component: an index must not reach outside its folder.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) && !name.contains(['/', '\\'])
}
