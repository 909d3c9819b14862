//! GGUF v2 and v3, little endian: header, metadata, tensor directory.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Limits follow what llama.cpp accepts;
//! every count and length is checked against the bytes that are left before anything is stored.

use std::{
    fmt::{self, Display},
    io::Read,
};

use super::{FormatError, TensorInfo, duplicate, elements, ggml};

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

/// The key-value pairs of a file.
#[derive(Debug, Default)]
pub struct Metadata {
    /// In file order; keys are unique.
    entries: Vec<(String, Value)>,
}

impl Metadata {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// All pairs, in file order.
    pub fn entries(&self) -> &[(String, Value)] {
        &self.entries
    }

    /// An integer of any width that is not negative.
    pub fn u64(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    /// A float of any width.
    pub fn f64(&self, key: &str) -> Option<f64> {
        self.get(key)?.as_f64()
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// A string that is valid UTF-8.
    pub fn str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// An array.
    pub fn array(&self, key: &str) -> Option<&Array> {
        match self.get(key)? {
            Value::Array(array) => Some(array),
            _ => None,
        }
    }

    /// An array of strings.
    pub fn strings(&self, key: &str) -> Option<&Strings> {
        match self.array(key)? {
            Array::Strings(strings) => Some(strings),
            _ => None,
        }
    }
}

/// A metadata value. Integers and floats are widened, which loses nothing; `f32` values can be narrowed again exactly.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `u8`, `u16`, `u32`, `u64`.
    Unsigned(u64),
    /// `i8`, `i16`, `i32`, `i64`.
    Signed(i64),
    /// An `f32`, widened.
    F32(f32),
    /// An `f64`.
    F64(f64),
    /// A boolean.
    Bool(bool),
    /// A string; by the format UTF-8, but not every writer cares.
    String(Vec<u8>),
    /// An array.
    Array(Array),
}

impl Value {
    /// An integer that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Unsigned(n) => Some(*n),
            Value::Signed(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// A float.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::F32(x) => Some(f64::from(*x)),
            Value::F64(x) => Some(*x),
            _ => None,
        }
    }

    /// A string that is valid UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// What it is, for messages.
    pub fn describe(&self) -> String {
        match self {
            Value::Unsigned(n) => n.to_string(),
            Value::Signed(n) => n.to_string(),
            Value::F32(x) => x.to_string(),
            Value::F64(x) => x.to_string(),
            Value::Bool(b) => b.to_string(),
            Value::String(s) => format!("{:?}", String::from_utf8_lossy(s)),
            Value::Array(a) => format!("an array of {}", a.len()),
        }
    }
}

/// A metadata array, kept as compactly as in the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// Integers, floats or booleans.
    Scalars(Scalars),
    /// Strings.
    Strings(Strings),
    /// Arrays in arrays: checked, counted, not kept, since no key that is used has them.
    Nested(usize),
}

impl Array {
    /// Elements.
    pub fn len(&self) -> usize {
        match self {
            Array::Scalars(s) => s.bytes.len() / s.kind.size(),
            Array::Strings(s) => s.len(),
            Array::Nested(n) => *n,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements as values; none for strings and nested arrays.
    pub fn scalars(&self) -> impl Iterator<Item = Value> + '_ {
        let (kind, bytes) = match self {
            Array::Scalars(s) => (s.kind, s.bytes.as_slice()),
            _ => (Kind::U8, &[][..]),
        };
        bytes.chunks_exact(kind.size()).map(move |b| kind.decode(b))
    }
}

/// Fixed-size elements as they are in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalars {
    kind: Kind,
    bytes: Vec<u8>,
}

/// Strings end to end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strings {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Strings {
    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of string `i`; by the format UTF-8, but not every writer cares.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let end = *self.ends.get(i)?;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        Some(&self.bytes[start..end])
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + '_ {
        (0..self.len()).map(|i| self.get(i).expect("below len"))
    }
}

/// The fixed-size value types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    U64,
    I64,
    F64,
}

/// Type ids of the format that are not of fixed size.
const STRING: u32 = 8;
const ARRAY: u32 = 9;

impl Kind {
    fn of_id(id: u32) -> Option<Kind> {
        Some(match id {
            0 => Kind::U8,
            1 => Kind::I8,
            2 => Kind::U16,
            3 => Kind::I16,
            4 => Kind::U32,
            5 => Kind::I32,
            6 => Kind::F32,
            7 => Kind::Bool,
            10 => Kind::U64,
            11 => Kind::I64,
            12 => Kind::F64,
            _ => return None,
        })
    }

    const fn size(self) -> usize {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => 1,
            Kind::U16 | Kind::I16 => 2,
            Kind::U32 | Kind::I32 | Kind::F32 => 4,
            Kind::U64 | Kind::I64 | Kind::F64 => 8,
        }
    }

    /// `bytes` has [`Kind::size`] bytes.
    fn decode(self, bytes: &[u8]) -> Value {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        let raw = u64::from_le_bytes(wide);
        match self {
            Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 => Value::Unsigned(raw),
            Kind::I8 => Value::Signed(i64::from(raw as i8)),
            Kind::I16 => Value::Signed(i64::from(raw as i16)),
            Kind::I32 => Value::Signed(i64::from(raw as i32)),
            Kind::I64 => Value::Signed(raw as i64),
            Kind::F32 => Value::F32(f32::from_bits(raw as u32)),
            Kind::F64 => Value::F64(f64::from_bits(raw)),
            Kind::Bool => Value::Bool(raw != 0),
        }
    }
}

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

    /// Fills `out`, which the caller has checked against [`Reader::left`] if it is large.
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
