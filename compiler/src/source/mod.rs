//! Weights where they come from: GGUF and safetensors files, read row by row. Untrusted input.
//!
//! A [`Source`] holds names, types and shapes; the numbers stay on disk until [`Source::read_rows`] asks for some of
//! them, so that memory does not grow with the model. Everything a header says is checked against the file's length
//! before it is believed, and nothing is allocated on a header's word alone.

pub mod codes;
mod ggml;
pub mod gguf;
mod metadata;
pub mod safetensors;
mod shards;

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Read},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use ck_kernels::{dtype::DType, quant};

pub use metadata::{Array, Metadata, Strings, Value};

use crate::diag::Diagnostic;

/// What is wrong inside a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// What was being read and what is wrong with it.
    pub message: String,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.offset, self.message)
    }
}

/// How a tensor is stored in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceType {
    /// A type that can be read.
    Known(DType),
    /// One that cannot, by the name its format gives it. An error once the tensor is used, not before.
    Unsupported(String),
}

impl SourceType {
    /// The name for reports and messages.
    pub fn name(&self) -> &str {
        match self {
            SourceType::Known(dtype) => dtype.name(),
            SourceType::Unsupported(name) => name,
        }
    }

    /// The type, if it can be read.
    pub fn known(&self) -> Option<DType> {
        match self {
            SourceType::Known(dtype) => Some(*dtype),
            SourceType::Unsupported(_) => None,
        }
    }
}

/// A tensor as its file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, unique in the source.
    pub name: String,
    /// Element type.
    pub dtype: SourceType,
    /// Dimensions, outermost first: a matrix is `[rows, cols]` = `[out, in]`.
    pub shape: Vec<usize>,
    /// Index in the source's files.
    file: usize,
    /// Bytes from the start of its file.
    offset: u64,
}

impl TensorInfo {
    /// Rows and columns; a vector is one row, leading dimensions multiply.
    pub fn rows_cols(&self) -> (usize, usize) {
        match self.shape.split_last() {
            Some((&cols, lead)) => (lead.iter().product(), cols),
            None => (1, 1),
        }
    }
}

/// An open file.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Shard {
    fn open(path: &Path) -> Result<Shard, Diagnostic> {
        let fail = |e: io::Error| {
            Diagnostic::new(codes::UNREADABLE, format!("cannot read: {e}")).in_file(path.display().to_string())
        };
        // Before it is opened: opening a pipe waits for its writer.
        if !std::fs::metadata(path).map_err(fail)?.is_file() {
            return Err(fail(io::Error::other("not a regular file")));
        }
        let file = File::open(path).map_err(fail)?;
        let meta = file.metadata().map_err(fail)?;
        Ok(Shard {
            path: path.to_owned(),
            len: meta.len(),
            file,
        })
    }

    fn reader(&self) -> impl Read + '_ {
        BufReader::with_capacity(1 << 16, &self.file)
    }

    fn bad(&self, code: &'static str, error: &FormatError) -> Diagnostic {
        Diagnostic::new(code, error.to_string()).in_file(self.path.display().to_string())
    }
}

/// The weights of a model: one file, or many that an index ties together.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    shards: Vec<Shard>,
    tensors: Vec<TensorInfo>,
    /// Positions in `tensors`, sorted by name.
    by_name: Vec<usize>,
    metadata: Option<Metadata>,
}

/// Names of the files a Hugging Face folder may keep its weights in, in the order they are looked for.
const FOLDER_FILES: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];

impl Source {
    /// Opens a `.gguf` or `.safetensors` file, a `*.index.json`, or a folder in Hugging Face layout, and reads the
    /// headers.
    ///
    /// # Errors
    /// All that is wrong with the headers; each names its file and byte.
    pub fn open(path: impl AsRef<Path>) -> Result<Source, Vec<Diagnostic>> {
        let path = path.as_ref();
        let file = if path.is_dir() {
            file_in_folder(path).map_err(|d| vec![d])?
        } else {
            path.to_owned()
        };
        let mut source = if file.extension().is_some_and(|e| e == "json") {
            shards::open(&file)?
        } else {
            Source::open_file(&file).map_err(|d| vec![d])?
        };
        source.path = path.to_owned();
        Ok(source)
    }

    fn open_file(path: &Path) -> Result<Source, Diagnostic> {
        let shard = Shard::open(path)?;
        let mut magic = [0; 4];
        let is_gguf = shard.file.read_exact_at(&mut magic, 0).is_ok() && &magic == gguf::MAGIC;
        let named_gguf = path.extension().is_some_and(|e| e == "gguf");
        if is_gguf || named_gguf {
            let gguf::Header { metadata, tensors } =
                gguf::read(shard.reader(), shard.len).map_err(|e| shard.bad(codes::GGUF, &e))?;
            return Ok(Source::assemble(path, vec![shard], tensors, Some(metadata)));
        }
        let tensors = safetensors::read(shard.reader(), shard.len).map_err(|e| shard.bad(codes::SAFETENSORS, &e))?;
        Ok(Source::assemble(path, vec![shard], tensors, None))
    }

    /// `tensors` have unique names.
    fn assemble(path: &Path, shards: Vec<Shard>, tensors: Vec<TensorInfo>, metadata: Option<Metadata>) -> Source {
        let by_name = sorted_by_name(&tensors);
        Source {
            path: path.to_owned(),
            shards,
            tensors,
            by_name,
            metadata,
        }
    }

    /// What was opened: a file or a folder, as given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every tensor, in the order of the file (of the files, by name).
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let at = self
            .by_name
            .binary_search_by(|&i| self.tensors[i].name.as_str().cmp(name))
            .ok()?;
        Some(&self.tensors[self.by_name[at]])
    }

    /// The key-value pairs of a GGUF file; `None` for safetensors.
    pub fn gguf_metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    /// Reads `rows` of a tensor as stored into `out`, which is cleared first.
    ///
    /// # Errors
    /// No such tensor, a type that cannot be read, rows it does not have, or the file cannot be read.
    pub fn read_rows(&self, name: &str, rows: Range<usize>, out: &mut Vec<u8>) -> Result<(), Diagnostic> {
        let info = self.tensor(name).ok_or_else(|| missing_tensor(self, name))?;
        let dtype = self.readable(info)?;
        let (all, cols) = info.rows_cols();
        if rows.start > rows.end || rows.end > all {
            let message = format!("rows {}..{} of `{name}` asked for, it has {all}", rows.start, rows.end);
            return Err(Diagnostic::new(codes::ROWS, message));
        }
        let row_bytes = dtype.row_bytes(cols);
        out.clear();
        out.resize(rows.len() * row_bytes, 0);
        let shard = &self.shards[info.file];
        shard
            .file
            .read_exact_at(out, info.offset + (rows.start * row_bytes) as u64)
            .map_err(|e| {
                Diagnostic::new(codes::UNREADABLE, format!("cannot read `{name}`: {e}"))
                    .in_file(shard.path.display().to_string())
            })
    }

    /// Reads a tensor of one row as f32.
    ///
    /// # Errors
    /// Those of [`Source::read_rows`], and a tensor of several rows.
    pub fn read_vector(&self, name: &str) -> Result<Vec<f32>, Diagnostic> {
        let info = self.tensor(name).ok_or_else(|| missing_tensor(self, name))?;
        let dtype = self.readable(info)?;
        let (rows, cols) = info.rows_cols();
        if rows != 1 {
            let message = format!("tensor `{name}` has shape {:?}, expected a vector", info.shape);
            return Err(Diagnostic::new(codes::ROWS, message).in_file(self.path.display().to_string()));
        }
        let mut raw = Vec::new();
        self.read_rows(name, 0..1, &mut raw)?;
        let mut out = vec![0.0; cols];
        quant::format(dtype).decode_row(&raw, &mut out);
        Ok(out)
    }

    /// The type of a tensor that is about to be read.
    ///
    /// # Errors
    /// A type that cannot be read: named, with those that can.
    pub fn readable(&self, info: &TensorInfo) -> Result<DType, Diagnostic> {
        info.dtype.known().ok_or_else(|| {
            Diagnostic::new(
                codes::STORED_TYPE,
                format!(
                    "`{}` is stored as {}, which is not supported",
                    info.name,
                    info.dtype.name()
                ),
            )
            .in_file(self.shards[info.file].path.display().to_string())
            .help(format!("supported: {}", DType::ALL.map(DType::name).join(", ")))
        })
    }
}

fn file_in_folder(folder: &Path) -> Result<PathBuf, Diagnostic> {
    if let Some(found) = FOLDER_FILES.iter().map(|name| folder.join(name)).find(|p| p.is_file()) {
        return Ok(found);
    }
    let missing = Diagnostic::new(
        codes::UNREADABLE,
        format!("no weights in this folder: neither {}", FOLDER_FILES.join(" nor ")),
    )
    .in_file(folder.display().to_string());
    Err(
        if ["pytorch_model.bin", "pytorch_model.bin.index.json"]
            .iter()
            .any(|n| folder.join(n).exists())
        {
            missing.help(
                "pickled PyTorch weights are not read: save the model with `save_pretrained(safe_serialization=True)`",
            )
        } else {
            missing.help("name a .gguf file, a .safetensors file or a folder that holds one")
        },
    )
}

/// The error for a tensor that is not there, with the nearest names.
pub(crate) fn missing_tensor(source: &Source, name: &str) -> Diagnostic {
    let error = Diagnostic::new(codes::NO_TENSOR, format!("there is no tensor `{name}`"))
        .in_file(source.path.display().to_string());
    let tail = name.rsplit('.').take(2).collect::<Vec<_>>();
    let near = source
        .tensors
        .iter()
        .map(|t| t.name.as_str())
        .filter(|n| n.rsplit('.').take(2).eq(tail.iter().copied()));
    match near.take(3).collect::<Vec<_>>().as_slice() {
        [] => error,
        near => error.help(format!("similar: {}", near.join(", "))),
    }
}

fn sorted_by_name(tensors: &[TensorInfo]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    order.sort_unstable_by(|&a, &b| tensors[a].name.cmp(&tensors[b].name));
    order
}

/// The first name that occurs twice.
fn duplicate(tensors: &[TensorInfo]) -> Option<&str> {
    let order = sorted_by_name(tensors);
    order
        .windows(2)
        .find(|w| tensors[w[0]].name == tensors[w[1]].name)
        .map(|w| tensors[w[0]].name.as_str())
}

/// The product of `dims`, if that of all which are not zero fits: then every partial product does.
fn elements(dims: &[u64]) -> Option<u64> {
    let product = dims
        .iter()
        .try_fold(1u64, |n, &d| n.checked_mul(d.max(1)))
        .filter(|&n| n <= i64::MAX as u64)?;
    Some(if dims.contains(&0) { 0 } else { product })
}
