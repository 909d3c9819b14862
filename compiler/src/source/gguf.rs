//! GGUF v2 and v3, little endian: header, metadata, tensor directory.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Limits follow what llama.cpp accepts;
//! every count and length is checked against the bytes that are left before anything is stored.

use std::{
    fmt::{self, Display},
    io::Read,
};

pub use super::metadata::{Array, Metadata, Strings, Value};
use super::{
    FormatError, TensorInfo, duplicate, elements, ggml,
    metadata::{Kind, Scalars},
};

/// The first four bytes.
pub const MAGIC: &[u8; 4] = b"GGUF";

/// Bytes of keys, names and metadata values that are kept. The largest vocabularies take about 30 MiB.
const MAX_KEPT: u64 = 256 << 20;
/// Key-value pairs, and tensors. Real files have some hundred.
const MAX_ENTRIES: u64 = 1 << 16;
/// Longest key or tensor name: the format's own limit.
const MAX_NAME: u64 = 65_535;
const MAX_DIMS: u32 = 4;
const MAX_NESTING: usize = 64;
const DEFAULT_ALIGNMENT: u64 = 32;

/// Everything before the tensor data.
#[derive(Debug)]
pub struct Header {
    /// The key-value pairs.
    pub metadata: Metadata,
    /// The tensor directory, in file order.
    pub tensors: Vec<TensorInfo>,
}

/// Type ids of the format that are not of fixed size.
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Reads the header of a file of `len` bytes.
///
/// # Errors
/// Anything the format does not allow, a count or length that the file cannot hold, an unsupported version.
pub fn read(input: impl Read, len: u64) -> Result<Header, FormatError> {
    let mut r = Reader {
        input,
        pos: 0,
        len,
        kept: 0,
    };
    if &r.fixed::<4>(&"the magic")? != MAGIC {
        return Err(FormatError {
            offset: 0,
            message: "not a GGUF file: it does not start with \"GGUF\"".into(),
        });
    }
    let version = r.u32(&"the version")?;
    if !(2..=3).contains(&version) {
        let message = if (1..=3).contains(&version.swap_bytes()) {
            "a big-endian GGUF file; only little-endian ones are supported".to_owned()
        } else {
            format!("GGUF version {version} is not supported, only 2 and 3 are")
        };
        return Err(FormatError { offset: 4, message });
    }
    let n_tensors = r.count(&"the number of tensors")?;
    let n_pairs = r.count(&"the number of key-value pairs")?;
    let mut metadata = Metadata::default();
    for i in 0..n_pairs {
        let key = r.name(&format_args!("key {i}"))?;
        let value = r.value(&key)?;
        metadata.entries.push((key, value));
    }
    reject_duplicate_keys(&metadata, r.pos)?;
    let alignment = alignment(&metadata, r.pos)?;
    let mut directory = Vec::new();
    for i in 0..n_tensors {
        directory.push(r.tensor(i)?);
    }
    let data = r.pos.next_multiple_of(alignment);
    place(directory, data, alignment, len, r.pos).map(|tensors| Header { metadata, tensors })
}

fn reject_duplicate_keys(metadata: &Metadata, offset: u64) -> Result<(), FormatError> {
    let mut keys: Vec<&str> = metadata.entries.iter().map(|(k, _)| k.as_str()).collect();
    keys.sort_unstable();
    match keys.windows(2).find(|w| w[0] == w[1]) {
        Some(w) => Err(FormatError {
            offset,
            message: format!("key `{}` occurs twice", w[0]),
        }),
        None => Ok(()),
    }
}

fn alignment(metadata: &Metadata, offset: u64) -> Result<u64, FormatError> {
    const KEY: &str = "general.alignment";
    match metadata.get(KEY) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some(value) => value
            .as_u64()
            .filter(|a| a.is_power_of_two() && *a <= 1 << 30)
            .ok_or_else(|| FormatError {
                offset,
                message: format!("`{KEY}` is {}, not a power of two", value.describe()),
            }),
    }
}

/// A directory entry: the tensor with its offset in the data section, its bytes if they are known, where it stands.
struct Entry {
    info: TensorInfo,
    bytes: Option<u64>,
    at: u64,
}

/// Checks the directory against the file and turns offsets in the data section into offsets in the file.
fn place(
    mut directory: Vec<Entry>,
    data: u64,
    alignment: u64,
    len: u64,
    end: u64,
) -> Result<Vec<TensorInfo>, FormatError> {
    for entry in &mut directory {
        let bad = |message| {
            Err(FormatError {
                offset: entry.at,
                message,
            })
        };
        let (name, offset) = (&entry.info.name, entry.info.offset);
        if offset % alignment != 0 {
            return bad(format!(
                "tensor `{name}` has offset {offset}, not a multiple of the alignment {alignment}"
            ));
        }
        let start = data.checked_add(offset);
        let Some(start) = start.filter(|s| s.checked_add(entry.bytes.unwrap_or(0)).is_some_and(|e| e <= len)) else {
            return bad(format!(
                "tensor `{name}` has {} bytes at offset {offset} of the data, but the file ends {} bytes after the data starts",
                entry.bytes.unwrap_or(0),
                len.saturating_sub(data),
            ));
        };
        entry.info.offset = start;
    }
    let mut order: Vec<usize> = (0..directory.len())
        .filter(|&i| directory[i].bytes.is_some_and(|b| b > 0))
        .collect();
    order.sort_unstable_by_key(|&i| directory[i].info.offset);
    for w in order.windows(2) {
        let (a, b) = (&directory[w[0]], &directory[w[1]]);
        if a.info.offset + a.bytes.unwrap_or(0) > b.info.offset {
            let message = format!("tensors `{}` and `{}` overlap", a.info.name, b.info.name);
            return Err(FormatError { offset: b.at, message });
        }
    }
    let tensors: Vec<TensorInfo> = directory.into_iter().map(|e| e.info).collect();
    match duplicate(&tensors) {
        Some(name) => Err(FormatError {
            offset: end,
            message: format!("tensor `{name}` occurs twice"),
        }),
        None => Ok(tensors),
    }
}

/// A reader that knows where it is and how much is left.
struct Reader<R> {
    input: R,
    pos: u64,
    len: u64,
    /// Bytes that were read into long-lived memory.
    kept: u64,
}

impl<R: Read> Reader<R> {
    fn error(&self, message: impl Into<String>) -> FormatError {
        FormatError {
            offset: self.pos,
            message: message.into(),
        }
    }

    /// Fills `out`, whose size the caller has checked against what is left, if it is large.
    fn fill(&mut self, out: &mut [u8], what: &dyn Display) -> Result<(), FormatError> {
        let left = self.len - self.pos;
        if out.len() as u64 > left {
            return Err(self.error(format!(
                "the file ends in {what}: {} bytes expected, {left} left",
                out.len()
            )));
        }
        self.input
            .read_exact(out)
            .map_err(|e| self.error(format!("cannot read {what}: {e}")))?;
        self.pos += out.len() as u64;
        Ok(())
    }

    fn fixed<const N: usize>(&mut self, what: &dyn Display) -> Result<[u8; N], FormatError> {
        let mut out = [0; N];
        self.fill(&mut out, what)?;
        Ok(out)
    }

    fn u32(&mut self, what: &dyn Display) -> Result<u32, FormatError> {
        self.fixed(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &dyn Display) -> Result<u64, FormatError> {
        self.fixed(what).map(u64::from_le_bytes)
    }

    fn count(&mut self, what: &dyn Display) -> Result<u64, FormatError> {
        let n = self.u64(what)?;
        if n > MAX_ENTRIES {
            return Err(self.error(format!("{what} is {n}, more than {MAX_ENTRIES}")));
        }
        Ok(n)
    }

    /// Reserves room for `n` bytes that are about to be read and kept.
    fn keep(&mut self, n: u64, what: &dyn Display) -> Result<usize, FormatError> {
        let left = self.len - self.pos;
        if n > left {
            return Err(self.error(format!("{what} has {n} bytes, but the file has only {left} left")));
        }
        self.kept += n;
        if self.kept > MAX_KEPT {
            return Err(self.error(format!("more than {MAX_KEPT} bytes of metadata, in {what}")));
        }
        Ok(n as usize)
    }

    fn bytes(&mut self, n: u64, what: &dyn Display) -> Result<Vec<u8>, FormatError> {
        let mut out = vec![0; self.keep(n, what)?];
        self.fill(&mut out, what)?;
        Ok(out)
    }

    /// A key or a tensor name.
    fn name(&mut self, what: &dyn Display) -> Result<String, FormatError> {
        let len = self.u64(&format_args!("the length of {what}"))?;
        if len > MAX_NAME {
            return Err(self.error(format!("{what} has {len} bytes, more than {MAX_NAME}")));
        }
        let bytes = self.bytes(len, what)?;
        String::from_utf8(bytes).map_err(|_| self.error(format!("{what} is not UTF-8")))
    }

    fn value(&mut self, key: &str) -> Result<Value, FormatError> {
        let what = Quoted(key);
        let id = self.u32(&format_args!("the type of {what}"))?;
        if let Some(kind) = Kind::of_id(id) {
            let mut raw = [0; 8];
            self.fill(&mut raw[..kind.size()], &what)?;
            self.check_bools(kind, &raw[..kind.size()], key)?;
            return Ok(kind.decode(&raw[..kind.size()]));
        }
        match id {
            STRING => {
                let len = self.u64(&format_args!("the length of {what}"))?;
                self.bytes(len, &what).map(Value::String)
            }
            ARRAY => self.array(key, 1).map(Value::Array),
            _ => Err(self.error(format!("{what} has value type {id}, which does not exist"))),
        }
    }

    fn array(&mut self, key: &str, depth: usize) -> Result<Array, FormatError> {
        let what = Quoted(key);
        if depth > MAX_NESTING {
            return Err(self.error(format!("{what} has arrays nested deeper than {MAX_NESTING}")));
        }
        let id = self.u32(&format_args!("the element type of {what}"))?;
        let n = self.u64(&format_args!("the length of {what}"))?;
        if let Some(kind) = Kind::of_id(id) {
            let size = n.saturating_mul(kind.size() as u64);
            let bytes = self.bytes(size, &what)?;
            self.check_bools(kind, &bytes, key)?;
            return Ok(Array::Scalars(Scalars { kind, bytes }));
        }
        match id {
            STRING => self.strings(n, &what).map(Array::Strings),
            ARRAY => {
                // An element takes 12 bytes at least, so that a false count runs into the end of the file.
                for _ in 0..n {
                    self.array(key, depth + 1)?;
                }
                Ok(Array::Nested(n as usize))
            }
            _ => Err(self.error(format!("{what} has element type {id}, which does not exist"))),
        }
    }

    fn strings(&mut self, n: u64, what: &dyn Display) -> Result<Strings, FormatError> {
        // Every string takes 8 bytes at least, the size of an entry of `ends`.
        let n = self.keep(n.saturating_mul(8), what)? / 8;
        let mut strings = Strings {
            bytes: Vec::new(),
            ends: Vec::with_capacity(n),
        };
        for i in 0..n {
            let len = self.u64(&format_args!("the length of string {i} of {what}"))?;
            let len = self.keep(len, &format_args!("string {i} of {what}"))?;
            let start = strings.bytes.len();
            strings.bytes.resize(start + len, 0);
            self.fill(&mut strings.bytes[start..], what)?;
            strings.ends.push(strings.bytes.len());
        }
        Ok(strings)
    }

    fn check_bools(&self, kind: Kind, bytes: &[u8], key: &str) -> Result<(), FormatError> {
        match bytes.iter().find(|&&b| kind == Kind::Bool && b > 1) {
            Some(b) => Err(self.error(format!("`{key}` holds a boolean of value {b}"))),
            None => Ok(()),
        }
    }

    fn tensor(&mut self, i: u64) -> Result<Entry, FormatError> {
        let at = self.pos;
        let name = self.name(&format_args!("the name of tensor {i}"))?;
        let what = Quoted(&name);
        let n_dims = self.u32(&format_args!("the number of dimensions of {what}"))?;
        if n_dims > MAX_DIMS {
            return Err(self.error(format!("{what} has {n_dims} dimensions, more than {MAX_DIMS}")));
        }
        let mut dims = Vec::with_capacity(n_dims as usize);
        for _ in 0..n_dims {
            dims.push(self.u64(&format_args!("the dimensions of {what}"))?);
        }
        let (dtype, block) = ggml::of_id(self.u32(&format_args!("the type of {what}"))?);
        let offset = self.u64(&format_args!("the offset of {what}"))?;
        let too_large = || self.error(format!("{what} has dimensions {dims:?}: too many elements"));
        let total = elements(&dims).ok_or_else(too_large)?;
        let bytes = match block {
            None => None,
            Some((len, size)) => {
                let cols = dims.first().copied().unwrap_or(1);
                if cols % len != 0 {
                    let message = format!(
                        "{what} has rows of {cols}, not a multiple of {}'s block of {len}",
                        dtype.name()
                    );
                    return Err(self.error(message));
                }
                Some((total / len).checked_mul(size).ok_or_else(too_large)?)
            }
        };
        // GGUF writes the innermost dimension first.
        let shape = dims.iter().rev().map(|&d| d as usize).collect();
        Ok(Entry {
            info: TensorInfo {
                name,
                dtype,
                shape,
                file: 0,
                offset,
            },
            bytes,
            at,
        })
    }
}

/// A name in a message.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}
