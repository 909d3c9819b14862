//! The key-value pairs of GGUF files.

/// The key-value pairs of a file.
#[derive(Debug, Default)]
pub struct Metadata {
    /// In file order; keys are unique.
    pub(super) entries: Vec<(String, Value)>,
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
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
}

/// Strings end to end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Strings {
    pub(super) bytes: Vec<u8>,
    pub(super) ends: Vec<usize>,
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
pub(super) enum Kind {
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

impl Kind {
    pub(super) fn of_id(id: u32) -> Option<Kind> {
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

    pub(super) const fn size(self) -> usize {
        match self {
            Kind::U8 | Kind::I8 | Kind::Bool => 1,
            Kind::U16 | Kind::I16 => 2,
            Kind::U32 | Kind::I32 | Kind::F32 => 4,
            Kind::U64 | Kind::I64 | Kind::F64 => 8,
        }
    }

    /// `bytes` has [`Kind::size`] bytes.
    pub(super) fn decode(self, bytes: &[u8]) -> Value {
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
