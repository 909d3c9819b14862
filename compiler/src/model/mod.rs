//! The YAML language: types with spans, expressions, validation; a model description becomes a graph.
//!
//! In the order data flows: [`tree`] reads YAML, [`decode`] and [`syntax`] make typed values of it, [`lower`] gives them
//! a meaning with the help of [`constants`], [`scope`], [`weights`] and the registry of [`ops`]. Mistakes gather in a
//! [`sink`]; none of them stops the search for others, and a file with mistakes has no [`Model`].

mod canonical;
pub mod codes;
mod constants;
pub(crate) mod decode;
mod expr;
mod lower;
mod memories;
mod naming;
pub mod ops;
mod ropes;
mod schema;
mod scope;
mod settings;
pub(crate) mod sink;
mod site;
mod syntax;
mod template;
pub(crate) mod tree;
mod weights;

use std::ops::Range;
use std::path::{Path, PathBuf};

use ck_kernels::dtype::DType;

use crate::diag::Diagnostic;
use crate::fuse;
use crate::graph::{Graph, RopeId, TensorId};
use crate::layout::debug::DebugMode;
use crate::layout::{Kind, Memory};
use crate::schedule::order;
use decode::Decode;
pub use schema::schema;
pub(crate) use schema::schema_of;
pub use settings::Budget;
use sink::Sink;
pub(crate) use sink::edits;

/// A model description that has no mistakes.
#[derive(Clone, Debug)]
pub struct Model {
    /// What it computes, unfused. Ops in the order written.
    pub graph: Graph,
    /// The weights file: GGUF, safetensors, or a Hugging Face folder.
    pub weights: PathBuf,
    /// The type of matrices that have no entry of their own.
    pub dtype: DType,
    /// A tokenizer.json, its folder or a GGUF file.
    pub tokenizer: Option<PathBuf>,
    /// What may be fused.
    pub fusion: fuse::Config,
    /// Where tensors lie.
    pub layout: Kind,
    /// Whether steps may change places.
    pub order: order::Kind,
    /// Sizes that must not be exceeded.
    pub budget: Budget,
    /// What the program does to find faults of its own.
    pub debug: DebugMode,
    /// The memories of the arena, the fastest first; none is one without a limit.
    pub memories: Vec<Memory>,
    /// Most positions that the model was trained on.
    pub max_positions: usize,
    /// SHA-256 of the canonical form: comments and spaces do not count.
    pub sha256: String,
    /// The text it comes from, for diagnostics of what is found out later.
    pub source: Source,
    /// Where its parts stand in the text.
    pub origins: Origins,
}

/// The text of a description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The file, as the user named it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Where the parts of a graph stand, in bytes, and what the file calls those that have names of their own in the graph.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// By op: the whole entry.
    pub ops: Vec<Range<usize>>,
    /// By weight: the name at its first use.
    pub weights: Vec<Range<usize>>,
    /// Carried tensors, such as `layers.3.x`, with the tensor each one is.
    pub carried: Vec<(String, TensorId)>,
    /// Ropes by name.
    pub ropes: Vec<(String, RopeId)>,
    /// By memory: its name.
    pub memories: Vec<Range<usize>>,
}

/// What the command line says instead of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Instead of `limits.context`.
    pub context: Option<usize>,
    /// Instead of `limits.batch`.
    pub batch: Option<usize>,
}

/// A file's text. Also used for the diagnostics of files with mistakes.
///
/// # Errors
/// The file cannot be read, is too large or is not UTF-8.
pub fn read(path: &Path) -> Result<Source, Diagnostic> {
    let name = path.display().to_string();
    let fail =
        |reason: String| Diagnostic::new(codes::UNREADABLE, format!("cannot read `{name}`: {reason}")).in_file(&name);
    let file = std::fs::File::open(path).map_err(|e| fail(e.to_string()))?;
    let mut bytes = Vec::new();
    let limit = tree::MAX_BYTES as u64 + 1;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, limit), &mut bytes).map_err(|e| fail(e.to_string()))?;
    if bytes.len() > tree::MAX_BYTES {
        return Err(fail(format!("it has more than {} bytes", tree::MAX_BYTES)));
    }
    let text = String::from_utf8(bytes).map_err(|e| fail(e.to_string()))?;
    Ok(Source { name, text })
}

/// Reads a description; relative paths in it are relative to the folder of `source.name`. The model is there if, and
/// only if, there are no diagnostics; those are all of the file's mistakes, in the order of the file.
pub fn load(source: Source, options: &LoadOptions) -> (Option<Model>, Vec<Diagnostic>) {
    let mut sink = Sink::new(&source.name);
    let document = tree::parse(&source.text, &mut sink)
        .and_then(|node| Some((canonical::sha256(&node), syntax::Document::decode(&node, &mut sink)?)));
    let Some((sha256, document)) = document else {
        return (None, sink.finish());
    };
    let (mut lowered, mut sink) = lower::lower(&document, options, sink);
    let settings = settings::read(&document, &lowered.graph, &mut sink);
    let diagnostics = sink.finish();
    let model = settings.filter(|_| diagnostics.is_empty()).map(|settings| {
        let (memories, spans) = settings.memories.into_iter().unzip();
        lowered.origins.memories = spans;
        let folder = Path::new(&source.name).parent().unwrap_or(Path::new("")).to_path_buf();
        Model {
            graph: lowered.graph,
            weights: folder.join(settings.weights),
            dtype: settings.dtype,
            tokenizer: settings.tokenizer.map(|path| folder.join(path)),
            fusion: settings.fusion,
            layout: settings.layout,
            order: settings.order,
            budget: settings.budget,
            debug: settings.debug,
            memories,
            max_positions: lowered.max_positions,
            sha256,
            source,
            origins: lowered.origins,
        }
    });
    (model, diagnostics)
}

/// Reads a description from a file: [`read`], then [`load`].
pub fn load_file(path: &Path, options: &LoadOptions) -> (Option<Model>, Vec<Diagnostic>) {
    match read(path) {
        Ok(source) => load(source, options),
        Err(diagnostic) => (None, vec![diagnostic]),
    }
}
