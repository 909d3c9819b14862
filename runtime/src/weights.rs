//! The packed weights file (`.ckw`): format, writer, reader. What is read is untrusted.
//!
//! | offset | content |
//! |---|---|
//! | 0 | [`Header`], one page |
//! | [`PAGE`] | weights payload: the bytes of the arena's weights region, to be mapped in place |
//! | next page | tokenizer tables, possibly none |
//!
//! The file ends on a page boundary; gaps are zero. Numbers are little-endian. Header:
//!
//! | offset | type | content |
//! |---|---|---|
//! | 0 | 8 bytes | `CKWEIGHT` |
//! | 8 | u32 | [`VERSION`] |
//! | 12 | u32 | length of the model's name, at most [`NAME_MAX`] |
//! | 16 | 32 bytes | hash of the layout that the weights were packed for |
//! | 48 | u64 ×3 | payload: offset, bytes, XXH64 |
//! | 72 | u64 ×3 | tokenizer: offset, bytes, XXH64 |
//! | 96 | u64 | bytes of the file |
//! | 104 | UTF-8 | the model's name |
//! | ... | | zero |
//! | 4088 | u64 | XXH64 of bytes 0..4088 |

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::hash::{Xxh64, xxh64};
use crate::layout::Layout;

/// Everything in the file starts on a multiple of this many bytes.
pub const PAGE: usize = 4096;
/// The format's version.
pub const VERSION: u32 = 1;
/// The most bytes of a model's name.
pub const NAME_MAX: usize = 255;
/// Up to this many bytes of payload are hashed on every [`WeightsFile::open`].
pub const ALWAYS_CHECKED: u64 = 64 << 20;

/// The file's first bytes.
pub const MAGIC: &[u8; 8] = b"CKWEIGHT";
const NAME_AT: usize = 104;
const HASH_AT: usize = PAGE - 8;

/// The first page of the file. What it does not say (offsets, length of the file) follows from what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The model's name, at most [`NAME_MAX`] bytes.
    pub model: String,
    /// Hash of the layout that the weights were packed for.
    pub layout_hash: [u8; 32],
    /// Bytes of the payload.
    pub weights_bytes: u64,
    /// XXH64 of the payload.
    pub content_hash: u64,
    /// Bytes of the tokenizer's tables; 0: none.
    pub tokenizer_bytes: u64,
    /// XXH64 of the tokenizer's tables.
    pub tokenizer_hash: u64,
}

impl Header {
    /// Where the payload lies in the file.
    pub fn weights(&self) -> Range<u64> {
        PAGE as u64..PAGE as u64 + self.weights_bytes
    }

    /// Where the tokenizer's tables lie in the file.
    pub fn tokenizer(&self) -> Range<u64> {
        let start = self.weights().end.next_multiple_of(PAGE as u64);
        start..start + self.tokenizer_bytes
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.tokenizer().end.next_multiple_of(PAGE as u64)
    }

    /// The page.
    ///
    /// # Panics
    /// If the name is longer than [`NAME_MAX`].
    pub fn to_bytes(&self) -> [u8; PAGE] {
        assert!(self.model.len() <= NAME_MAX, "model name of {} bytes", self.model.len());
        let mut page = [0; PAGE];
        page[..8].copy_from_slice(MAGIC);
        page[8..12].copy_from_slice(&VERSION.to_le_bytes());
        page[12..16].copy_from_slice(&(self.model.len() as u32).to_le_bytes());
        page[16..48].copy_from_slice(&self.layout_hash);
        let words = [
            self.weights().start,
            self.weights_bytes,
            self.content_hash,
            self.tokenizer().start,
            self.tokenizer_bytes,
            self.tokenizer_hash,
            self.file_bytes(),
        ];
        for (at, word) in page[48..NAME_AT].chunks_exact_mut(8).zip(words) {
            at.copy_from_slice(&word.to_le_bytes());
        }
        page[NAME_AT..NAME_AT + self.model.len()].copy_from_slice(self.model.as_bytes());
        let hash = xxh64(&page[..HASH_AT]);
        page[HASH_AT..].copy_from_slice(&hash.to_le_bytes());
        page
    }

    /// Reads the page; `bytes` may be any beginning of a file.
    ///
    /// # Errors
    /// A sentence about what is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Header, String> {
        let is_magic = bytes.iter().zip(MAGIC).all(|(a, b)| a == b);
        if !is_magic {
            return Err("it does not begin with `CKWEIGHT`".into());
        }
        let Some(page) = bytes.first_chunk::<PAGE>() else {
            return Err(format!(
                "it ends after {} bytes, within the header of {PAGE}",
                bytes.len()
            ));
        };
        let u32_at = |at: usize| u32::from_le_bytes(array(&page[at..at + 4]));
        let u64_at = |at: usize| u64::from_le_bytes(array(&page[at..at + 8]));
        if u32_at(8) != VERSION {
            return Err(format!(
                "it has format version {}, this program reads {VERSION}",
                u32_at(8)
            ));
        }
        if xxh64(&page[..HASH_AT]) != u64_at(HASH_AT) {
            return Err("the header is damaged (its checksum does not match)".into());
        }
        // A matching checksum proves nothing about who wrote it.
        let name_len = u32_at(12) as usize;
        if name_len > NAME_MAX {
            return Err(format!(
                "the header names a model with {name_len} bytes, at most {NAME_MAX} are allowed"
            ));
        }
        let (name, rest) = page[NAME_AT..HASH_AT].split_at(name_len);
        let model = str::from_utf8(name).map_err(|_| "the model's name in the header is not UTF-8".to_string())?;
        let header = Header {
            model: model.into(),
            layout_hash: array(&page[16..48]),
            weights_bytes: u64_at(56),
            content_hash: u64_at(64),
            tokenizer_bytes: u64_at(80),
            tokenizer_hash: u64_at(88),
        };
        let too_big = |bytes: u64| bytes > (i64::MAX / 4) as u64;
        if too_big(header.weights_bytes) || too_big(header.tokenizer_bytes) {
            return Err("the header claims sizes that no file has".into());
        }
        let claims = [
            ("payload offset", u64_at(48), header.weights().start),
            ("tokenizer offset", u64_at(72), header.tokenizer().start),
            ("file length", u64_at(96), header.file_bytes()),
        ];
        for (what, claimed, expected) in claims {
            if claimed != expected {
                return Err(format!(
                    "the header's {what} is {claimed}, its other fields say {expected}"
                ));
            }
        }
        if rest.iter().any(|&b| b != 0) {
            return Err("the header's reserved bytes are not zero".into());
        }
        Ok(header)
    }
}

/// `bytes` has `N` bytes.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}

/// Writes a packed file: payload piece by piece, tokenizer, and the header last, so that an unfinished file is no file.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    hash: Xxh64,
    bytes: u64,
}

impl<W: Write + Seek> Writer<W> {
    /// A file that begins at `out`'s position 0, with room for the header.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.seek(SeekFrom::Start(0))?;
        out.write_all(&[0; PAGE])?;
        Ok(Self {
            out,
            hash: Xxh64::new(),
            bytes: 0,
        })
    }

    /// Bytes of payload so far.
    pub fn position(&self) -> u64 {
        self.bytes
    }

    /// Appends to the payload.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Appends zeros to the payload up to `position`.
    ///
    /// # Errors
    /// Those of `out`; [`io::ErrorKind::InvalidInput`] if the payload is beyond `position` already.
    pub fn pad_to(&mut self, position: u64) -> io::Result<()> {
        if position < self.bytes {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("the payload is at {}, beyond {position}", self.bytes),
            ));
        }
        while self.bytes < position {
            let n = (position - self.bytes).min(PAGE as u64) as usize;
            self.write(&[0; PAGE][..n])?;
        }
        Ok(())
    }

    /// Writes what comes after the payload, then the header; returns both.
    ///
    /// # Errors
    /// Those of `out`.
    ///
    /// # Panics
    /// If the name is longer than [`NAME_MAX`].
    pub fn finish(mut self, model: &str, layout_hash: [u8; 32], tokenizer: &[u8]) -> io::Result<(W, Header)> {
        let header = Header {
            model: model.into(),
            layout_hash,
            weights_bytes: self.bytes,
            content_hash: self.hash.digest(),
            tokenizer_bytes: tokenizer.len() as u64,
            tokenizer_hash: xxh64(tokenizer),
        };
        let gap = |from: u64, to: u64| vec![0; (to - from) as usize];
        let tokens = header.tokenizer();
        self.out.write_all(&gap(header.weights().end, tokens.start))?;
        self.out.write_all(tokenizer)?;
        self.out.write_all(&gap(tokens.end, header.file_bytes()))?;
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header.to_bytes())?;
        self.out.flush()?;
        Ok((self.out, header))
    }
}

/// A packed file that was opened and checked.
#[derive(Debug)]
pub struct WeightsFile {
    path: PathBuf,
    file: File,
    header: Header,
    tokenizer: Tables,
}

impl WeightsFile {
    /// Opens a file and checks it: every field of the header, the file's length, the tokenizer's checksum; the
    /// payload's too if it has at most [`ALWAYS_CHECKED`] bytes or `check` is set (it costs a pass over the file).
    ///
    /// Mapped weights are read while the program runs: replacing the file by renaming is fine, writing into it is not.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Weights`].
    pub fn open(path: &Path, check: bool) -> Result<WeightsFile, Error> {
        let io = |action| {
            move |source| Error::Io {
                action,
                path: path.to_path_buf(),
                source,
            }
        };
        let bad = |what: String| Error::Weights {
            path: path.to_path_buf(),
            what,
        };
        // Before it is opened: opening a pipe waits for its writer.
        if !std::fs::metadata(path).map_err(io("open"))?.is_file() {
            return Err(bad("it is not a regular file".into()));
        }
        let mut file = File::open(path).map_err(io("open"))?;
        let meta = file.metadata().map_err(io("read"))?;
        let mut page = Vec::with_capacity(PAGE);
        (&mut file)
            .take(PAGE as u64)
            .read_to_end(&mut page)
            .map_err(io("read"))?;
        let header = Header::parse(&page).map_err(bad)?;
        if meta.len() != header.file_bytes() {
            return Err(bad(format!(
                "it has {} bytes, its header says {}{}",
                meta.len(),
                header.file_bytes(),
                if meta.len() < header.file_bytes() {
                    ": it was cut off"
                } else {
                    ""
                },
            )));
        }
        if check || header.weights_bytes <= ALWAYS_CHECKED {
            let hash = hash_range(&mut file, header.weights()).map_err(io("read"))?;
            if hash != header.content_hash {
                return Err(bad("the weights are damaged (their checksum does not match)".into()));
            }
        }
        // At most the file's real length.
        let tokenizer = Tables::new(&file, header.tokenizer()).map_err(io("read"))?;
        if xxh64(&tokenizer) != header.tokenizer_hash {
            return Err(bad("the tokenizer is damaged (its checksum does not match)".into()));
        }
        Ok(WeightsFile {
            path: path.into(),
            file,
            header,
            tokenizer,
        })
    }

    /// Whether the file was packed for `layout`.
    ///
    /// # Errors
    /// [`Error::WrongLayout`]; [`Error::Weights`] if the layouts agree but not the amount of weights.
    pub fn expect_layout(&self, layout: &Layout) -> Result<(), Error> {
        let header = &self.header;
        if header.layout_hash != layout.hash {
            return Err(Error::WrongLayout {
                path: self.path.clone(),
                program: (layout.model.into(), array(&layout.hash[..8])),
                file: (header.model.clone(), array(&header.layout_hash[..8])),
            });
        }
        if header.weights_bytes != layout.weights_bytes as u64 {
            return Err(Error::Weights {
                path: self.path.clone(),
                what: format!(
                    "it has {} bytes of weights, the program needs {}",
                    header.weights_bytes, layout.weights_bytes
                ),
            });
        }
        Ok(())
    }

    /// The file's first page.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tokenizer's tables, empty if there are none.
    pub fn tokenizer(&self) -> &[u8] {
        &self.tokenizer
    }

    /// The tokenizer's tables, without the file.
    pub fn into_tokenizer(self) -> Tables {
        self.tokenizer
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Reads a part of the payload.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn read(&self, offset: usize, out: &mut [u8]) -> Result<(), Error> {
        read_at(&mut &self.file, PAGE as u64 + offset as u64, out).map_err(|source| Error::Io {
            action: "read",
            path: self.path.clone(),
            source,
        })
    }
}

fn read_at(mut file: impl Read + Seek, offset: u64, out: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(out)
}

fn hash_range(file: &mut File, range: Range<u64>) -> io::Result<u64> {
    file.seek(SeekFrom::Start(range.start))?;
    let mut hash = Xxh64::new();
    let mut buffer = vec![0; 256 << 10];
    let mut left = range.end - range.start;
    while left > 0 {
        let n = left.min(buffer.len() as u64) as usize;
        file.read_exact(&mut buffer[..n])?;
        hash.update(&buffer[..n]);
        left -= n as u64;
    }
    Ok(hash.digest())
}

mod tables;
#[cfg(test)]
mod tests;

pub use tables::Tables;
