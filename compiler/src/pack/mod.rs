//! Weights to the packed file.
//!
//! [`pack`] streams: a few groups of rows are in memory at a time, whatever the model's size. Everything that can be
//! known from the headers is checked before the first byte is written, and the file appears under its name only when
//! it is whole.

mod check;
mod convert;
pub mod rope;

use std::{
    fs::Permissions,
    io::{self, Seek, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use ck_kernels::{
    dtype::{DType, GROUP},
    quant,
};
use ck_runtime::{
    hash::{Xxh64, xxh64},
    weights::Writer,
};

pub use check::check;
use convert::Converter;

use crate::{
    diag::Diagnostic,
    source::{Source, codes},
};

/// Bytes of source rows that are read at once, if a group of rows is not more.
const CHUNK: usize = 1 << 20;

/// A tensor of the weights file and its place in the packed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The tensor's name in the weights file.
    pub source: String,
    /// Output features; 1 for vectors.
    pub rows: usize,
    /// Input features; the length for vectors.
    pub cols: usize,
    /// Whether it is a vector: f32, not interleaved.
    pub vector: bool,
    /// What a matrix is packed as.
    pub dtype: DType,
    /// Bytes from the start of the payload.
    pub offset: u64,
}

impl Item {
    /// Bytes in the packed file: a matrix is padded to whole groups of [`GROUP`] rows, which are zeros.
    pub fn bytes(&self) -> u64 {
        let bytes = if self.vector {
            self.cols * size_of::<f32>()
        } else {
            self.dtype.packed_bytes(self.rows, self.cols)
        };
        bytes as u64
    }
}

/// Bytes that were made at compile time and travel with the weights: rotary tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// A name for reports.
    pub name: String,
    /// The contents.
    pub bytes: Vec<u8>,
    /// Bytes from the start of the payload.
    pub offset: u64,
    /// The tensor of the weights file that they were made from, if any: it counts as used.
    pub source: Option<String>,
}

/// A part of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// From the weights file.
    Tensor(Item),
    /// From the compiler.
    Blob(Blob),
}

impl Piece {
    fn offset(&self) -> u64 {
        match self {
            Piece::Tensor(item) => item.offset,
            Piece::Blob(blob) => blob.offset,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Piece::Tensor(item) => item.bytes(),
            Piece::Blob(blob) => blob.bytes.len() as u64,
        }
    }
}

/// What a packed file holds.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The model's name, at most [`ck_runtime::weights::NAME_MAX`] bytes.
    pub model: &'a str,
    /// Hash of the layout that the offsets belong to.
    pub layout_hash: [u8; 32],
    /// The payload, in ascending order of offsets, without overlap. Gaps become zeros.
    pub pieces: &'a [Piece],
    /// Bytes of the payload: at least the end of the last piece.
    pub payload_bytes: u64,
    /// The tokenizer's tables, or nothing.
    pub tokenizer: &'a [u8],
}

/// A piece as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The tensor in the weights file, or the blob's name.
    pub name: String,
    /// How the weights file stores it; `None` for blobs.
    pub source_dtype: Option<DType>,
    /// Bytes from the start of the payload.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
    /// XXH64 of those bytes.
    pub hash: u64,
}

/// A packed file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Each piece, in the order of the request.
    pub pieces: Vec<Packed>,
    /// XXH64 of the payload.
    pub content_hash: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

/// Writes the packed file to `out`, replacing what was there. `progress` is told the payload bytes that are done, and
/// how many there are.
///
/// # Errors
/// Everything [`check()`] finds, all at once; or the first thing that goes wrong while reading or writing. Nothing is
/// left behind then, and an older file at `out` is untouched.
///
/// # Panics
/// If the pieces overlap or leave the payload: the plan is wrong, not the input.
pub fn pack(
    source: &Source,
    request: &Request<'_>,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary, Vec<Diagnostic>> {
    assert_ascending(request);
    let items = request.pieces.iter().filter_map(|p| match p {
        Piece::Tensor(item) => Some(item.clone()),
        Piece::Blob(_) => None,
    });
    let made_from = request.pieces.iter().filter_map(|p| match p {
        Piece::Blob(blob) => blob.source.as_deref(),
        Piece::Tensor(_) => None,
    });
    let problems = check(source, &items.collect::<Vec<_>>(), &made_from.collect::<Vec<_>>());
    if !problems.is_empty() {
        return Err(problems);
    }
    write(source, request, out, progress).map_err(|d| vec![d])
}

fn assert_ascending(request: &Request<'_>) {
    let mut end = 0;
    for piece in request.pieces {
        assert!(
            piece.offset() >= end,
            "piece at {} begins before {end}, where the last one ends",
            piece.offset()
        );
        end = piece.offset() + piece.bytes();
    }
    assert!(
        end <= request.payload_bytes,
        "pieces end at {end}, the payload at {}",
        request.payload_bytes
    );
}

fn write(
    source: &Source,
    request: &Request<'_>,
    out: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary, Diagnostic> {
    let failed = |e: io::Error| {
        Diagnostic::new(codes::UNWRITABLE, format!("cannot write: {e}")).in_file(out.display().to_string())
    };
    let folder = out
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    // Beside its final place, so that the rename stays on one file system; gone if it is dropped before that.
    let file = tempfile::Builder::new()
        .prefix(".ckc-")
        .suffix(".tmp")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
        .map_err(failed)?;
    let mut writer = Writer::new(WholeBlocks::new(file)).map_err(failed)?;
    let total = request.pieces.iter().map(Piece::bytes).sum();
    let mut done = 0;
    let mut pieces = Vec::with_capacity(request.pieces.len());
    progress(0, total);
    for piece in request.pieces {
        writer.pad_to(piece.offset()).map_err(failed)?;
        let mut sink = |bytes: &[u8]| {
            writer.write(bytes).map_err(failed)?;
            done += bytes.len() as u64;
            progress(done, total);
            Ok(())
        };
        let (name, source_dtype, hash) = match piece {
            Piece::Blob(blob) => {
                sink(&blob.bytes)?;
                (&blob.name, None, xxh64(&blob.bytes))
            }
            Piece::Tensor(item) => {
                let (dtype, hash) = write_tensor(source, item, &mut sink)?;
                (&item.source, Some(dtype), hash)
            }
        };
        let (offset, bytes) = (piece.offset(), piece.bytes());
        pieces.push(Packed {
            name: name.clone(),
            source_dtype,
            offset,
            bytes,
            hash,
        });
    }
    writer.pad_to(request.payload_bytes).map_err(failed)?;
    let (file, header) = writer
        .finish(request.model, request.layout_hash, request.tokenizer)
        .map_err(failed)?;
    file.file.persist(out).map_err(|e| failed(e.error))?;
    Ok(Summary {
        pieces,
        content_hash: header.content_hash,
        file_bytes: header.file_bytes(),
    })
}

/// Writes in whole blocks at multiples of their length: a file system that keeps large pages in its cache then keeps
/// huge ones, and a runner that maps them waits less for address translation.
struct WholeBlocks<W> {
    file: W,
    pending: Vec<u8>,
}

/// Two huge pages.
const BLOCK: usize = 4 << 20;

impl<W: Write> WholeBlocks<W> {
    fn new(file: W) -> Self {
        Self {
            file,
            pending: Vec::with_capacity(BLOCK),
        }
    }
}

impl<W: Write> Write for WholeBlocks<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(BLOCK - self.pending.len());
        self.pending.extend_from_slice(&bytes[..n]);
        if self.pending.len() == BLOCK {
            self.flush()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.pending)?;
        self.pending.clear();
        self.file.flush()
    }
}

impl<W: Write + Seek> Seek for WholeBlocks<W> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.flush()?;
        self.file.seek(to)
    }
}

/// Converts and packs one tensor; returns its type in the weights file and the hash of what was written.
fn write_tensor(
    source: &Source,
    item: &Item,
    sink: &mut impl FnMut(&[u8]) -> Result<(), Diagnostic>,
) -> Result<(DType, u64), Diagnostic> {
    let info = source
        .tensor(&item.source)
        .ok_or_else(|| crate::source::missing_tensor(source, &item.source))?;
    let from = source.readable(info)?;
    let to = if item.vector { DType::F32 } else { item.dtype };
    let mut converter = Converter::new(from, to, item.cols);
    let mut hash = Xxh64::new();
    let mut emit = |bytes: &[u8]| {
        hash.update(bytes);
        sink(bytes)
    };
    let mut raw = Vec::new();
    if item.vector {
        source.read_rows(&item.source, 0..1, &mut raw)?;
        emit(converter.rows(&raw))?;
        return Ok((from, hash.digest()));
    }
    let format = quant::format(to);
    let mut packed = vec![0; GROUP * to.row_bytes(item.cols)];
    let step = (CHUNK / from.row_bytes(item.cols).max(1))
        .next_multiple_of(GROUP)
        .max(GROUP);
    for start in (0..item.rows).step_by(step) {
        source.read_rows(&item.source, start..item.rows.min(start + step), &mut raw)?;
        for group in converter.rows(&raw).chunks(packed.len().max(1)) {
            format.pack_group(group, item.cols, &mut packed);
            emit(&packed)?;
        }
    }
    Ok((from, hash.digest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts what arrives.
    #[derive(Default)]
    struct Sizes(Vec<usize>);

    impl Write for Sizes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(bytes.len());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn blocks_arrive_whole_whatever_is_written() {
        let mut out = WholeBlocks::new(Sizes::default());
        for n in [4096, 1 << 20, 3, BLOCK, 2 * BLOCK + 5, 77] {
            out.write_all(&vec![1; n]).unwrap();
        }
        out.flush().unwrap();
        let total = 4096 + (1 << 20) + 3 + 3 * BLOCK + 5 + 77;
        assert_eq!(out.file.0, [BLOCK, BLOCK, BLOCK, total - 3 * BLOCK]);
    }
}
