//! GGUF files and Hugging Face folders to YAML.
//!
//! An import finds out what the model is ([`architecture`]), compares that with the tensors that are there, and writes
//! it down for people to read and change ([`yaml`]). Nothing that changes results is guessed.

pub mod architecture;
mod dtypes;
mod gguf;
mod hf;
pub mod synth;
mod yaml;

use std::path::{Component, Path, PathBuf};

use ck_kernels::dtype::DType;

use crate::{
    diag::Diagnostic,
    pack::{self, Item},
    source::{Source, codes},
};
use architecture::{Architecture, FAMILIES};

/// What an import is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// What every matrix is packed as; as stored, if left out.
    pub dtype: Option<DType>,
    /// The folder the YAML will be in: paths in it are relative to that.
    pub folder: &'a Path,
}

/// A model description that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The model's name, usable as a package name.
    pub name: String,
    /// The description.
    pub yaml: String,
    /// What the description says in comments about defaults and ignored keys.
    pub notes: Vec<String>,
}

/// Describes the model in a GGUF file or a Hugging Face folder.
///
/// # Errors
/// Everything that is wrong: an unreadable file, an architecture or feature that is not supported (named, with what
/// is), a missing key, tensors that do not fit the keys.
pub fn import(path: &Path, options: &Options<'_>) -> Result<Imported, Vec<Diagnostic>> {
    let is_folder = path.is_dir();
    if is_folder && !path.join("config.json").is_file() {
        let error = Diagnostic::new(codes::NO_DESCRIPTION, "there is no config.json in this folder");
        let help = "import a .gguf file, or a folder in Hugging Face layout";
        return Err(vec![error.in_file(path.display().to_string()).help(help)]);
    }
    if is_folder {
        // Before the weights: those of other families may be in files that cannot be read either.
        hf::supported(path)?;
    }
    let source = Source::open(path)?;
    let arch = match source.gguf_metadata() {
        Some(metadata) => gguf::architecture(&source, metadata)?,
        None if is_folder => hf::architecture(path, &source)?,
        None => {
            let error = Diagnostic::new(
                codes::NO_DESCRIPTION,
                "a safetensors file does not say what model it is",
            );
            let help = "import its folder, with the config.json";
            return Err(vec![error.in_file(path.display().to_string()).help(help)]);
        }
    };
    let file = path.display().to_string();
    let problems = arch.check(&file);
    if !problems.is_empty() {
        return Err(problems);
    }
    let chosen = choose(&source, &arch, options.dtype)?;
    let named = source
        .gguf_metadata()
        .and_then(|m| m.str("general.name"))
        .map(str::to_owned);
    let name = package_name(&named.unwrap_or_else(|| stem(path)));
    let yaml = yaml::write(&yaml::Description {
        name: &name,
        arch: &arch,
        weights: &relative(path, options.folder),
        has_tokenizer: has_tokenizer(path, &source),
        dtypes: &chosen,
    });
    Ok(Imported {
        name,
        yaml,
        notes: arch.notes,
    })
}

/// The type of every matrix, after the tensors were compared with what the model needs.
fn choose(source: &Source, arch: &Architecture, wanted: Option<DType>) -> Result<dtypes::Chosen, Vec<Diagnostic>> {
    let needed = arch.tensors();
    let items: Vec<Item> = needed
        .iter()
        .map(|n| {
            let stored = source.tensor(&n.name).and_then(|info| info.dtype.known());
            Item {
                source: n.name.clone(),
                rows: n.rows,
                cols: n.cols,
                vector: n.vector,
                dtype: wanted.or(stored).unwrap_or(DType::F32),
                offset: 0,
            }
        })
        .collect();
    let problems = pack::check(source, &items, &[]);
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(dtypes::Chosen::of(
        items.iter().filter(|i| !i.vector).map(|i| (i.source.as_str(), i.dtype)),
    ))
}

fn has_tokenizer(path: &Path, source: &Source) -> bool {
    match source.gguf_metadata() {
        Some(metadata) => metadata
            .str("tokenizer.ggml.model")
            .is_some_and(|model| model != "none"),
        None => path.join("tokenizer.json").is_file(),
    }
}

/// The last part of a path, without `.gguf`.
fn stem(path: &Path) -> String {
    let path = located(path);
    let is_gguf = path.extension().is_some_and(|e| e == "gguf");
    let name = if is_gguf { path.file_stem() } else { path.file_name() };
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// The absolute path, with links resolved except a last one: its name says more than what it points to.
fn located(path: &Path) -> PathBuf {
    let resolved = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            let parent = if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            };
            parent.canonicalize().map(|p| p.join(name))
        }
        _ => path.canonicalize(),
    };
    resolved.unwrap_or_else(|_| path.to_owned())
}

/// A name that Cargo takes: lower-case letters, digits and single dashes, a letter first.
fn package_name(name: &str) -> String {
    const MAX: usize = 64;
    let dashed: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let name = dashed
        .split('-')
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-");
    let name = if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name
    } else {
        format!("model-{name}")
    };
    name[..name.len().min(MAX)].trim_end_matches('-').to_owned()
}

/// `path` as seen from `folder`; as it is, if `folder` cannot be resolved.
fn relative(path: &Path, folder: &Path) -> String {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let Ok(from) = folder.canonicalize() else {
        return path.display().to_string();
    };
    let to = located(path);
    let (to, from): (Vec<Component<'_>>, Vec<_>) = (to.components().collect(), from.components().collect());
    let common = to.iter().zip(&from).take_while(|(a, b)| a == b).count();
    let up = from[common..].iter().map(|_| Component::ParentDir);
    let relative: PathBuf = up.chain(to[common..].iter().copied()).collect();
    if relative.as_os_str().is_empty() {
        ".".to_owned()
    } else {
        relative.display().to_string()
    }
}

/// The supported families, for messages and help texts.
pub fn supported() -> String {
    FAMILIES.join(", ")
}

#[cfg(test)]
mod tests;
