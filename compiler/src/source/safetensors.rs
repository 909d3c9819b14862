//! safetensors: eight bytes of header length, a JSON header, the tensor data.
//!
//! The format: <https://github.com/huggingface/safetensors#format>. As in the reference implementation, tensors tile
//! the data section: no holes, no overlap, nothing left over.

use std::{fmt, io::Read};

use ck_kernels::dtype::DType;
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, Visitor},
};

use super::{FormatError, SourceType, TensorInfo, duplicate, elements};

/// The reference implementation's limit of the header.
const MAX_HEADER: u64 = 100_000_000;

/// Types that are known by size but cannot be read: name, bytes of an element.
const UNSUPPORTED: &[(&str, u64)] = &[
    ("BOOL", 1),
    ("U8", 1),
    ("I8", 1),
    ("F8_E5M2", 1),
    ("F8_E4M3", 1),
    ("F8_E8M0", 1),
    ("I16", 2),
    ("U16", 2),
    ("I32", 4),
    ("U32", 4),
    ("F64", 8),
    ("I64", 8),
    ("U64", 8),
    ("C64", 8),
];

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The header in file order: a JSON map would drop the first of two equal keys.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Entries, D::Error> {
        struct Map;
        impl<'de> Visitor<'de> for Map {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object from tensor names to {dtype, shape, data_offsets}")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        let entry = map
                            .next_value::<Entry>()
                            .map_err(|e| de::Error::custom(format_args!("tensor `{name}`: {e}")))?;
                        entries.push((name, entry));
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Map)
    }
}

/// Reads the header of a file of `len` bytes: its tensors, in the order of their data.
///
/// # Errors
/// Anything the format does not allow.
pub fn read(mut input: impl Read, len: u64) -> Result<Vec<TensorInfo>, FormatError> {
    let at = |offset: u64| move |message: String| FormatError { offset, message };
    if len < 8 {
        return Err(at(0)(format!(
            "the file ends in the header's length: 8 bytes expected, {len} there"
        )));
    }
    let mut word = [0; 8];
    input
        .read_exact(&mut word)
        .map_err(|e| at(0)(format!("cannot read the header's length: {e}")))?;
    let header_len = u64::from_le_bytes(word);
    if header_len > MAX_HEADER {
        return Err(at(0)(format!(
            "a header of {header_len} bytes, more than {MAX_HEADER}: not a safetensors file"
        )));
    }
    if header_len > len - 8 {
        let message = format!(
            "the file ends in the header: {header_len} bytes expected, {} left",
            len - 8
        );
        return Err(at(8)(message));
    }
    let mut header = vec![0; header_len as usize];
    input
        .read_exact(&mut header)
        .map_err(|e| at(8)(format!("cannot read the header: {e}")))?;
    let Entries(mut entries) =
        serde_json::from_slice(&header).map_err(|e| at(8 + byte_of(&header, &e))(format!("the header: {e}")))?;
    entries.sort_by_key(|(_, e)| e.data_offsets);

    let data = 8 + header_len;
    let mut expected = 0;
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in entries {
        let [start, end] = entry.data_offsets;
        let fail = at(data.saturating_add(start));
        if start != expected || end < start {
            let message = format!("tensor `{name}` has data {start}..{end}, expected to start at {expected}");
            return Err(fail(message));
        }
        if end > len - data {
            return Err(fail(format!(
                "tensor `{name}` ends at {end} of the data, which has only {} bytes",
                len - data
            )));
        }
        expected = end;
        let (dtype, size) = type_of(&entry.dtype);
        let count = elements(&entry.shape).ok_or_else(|| {
            fail(format!(
                "tensor `{name}` has shape {:?}: too many elements",
                entry.shape
            ))
        })?;
        if size.is_some_and(|size| count.checked_mul(size) != Some(end - start)) {
            return Err(fail(format!(
                "tensor `{name}` is {} {:?}, which does not fill its {} bytes",
                entry.dtype,
                entry.shape,
                end - start
            )));
        }
        let shape = entry.shape.iter().map(|&d| d as usize).collect();
        tensors.push(TensorInfo {
            name,
            dtype,
            shape,
            file: 0,
            offset: data + start,
        });
    }
    if expected != len - data {
        let message = format!("the data has {} bytes, its tensors only {expected}", len - data);
        return Err(at(data + expected)(message));
    }
    match duplicate(&tensors) {
        Some(name) => Err(at(8)(format!("tensor `{name}` occurs twice"))),
        None => Ok(tensors),
    }
}

/// A type and, where it is known, the bytes of an element.
fn type_of(name: &str) -> (SourceType, Option<u64>) {
    let known = match name {
        "F32" => Some(DType::F32),
        "F16" => Some(DType::F16),
        "BF16" => Some(DType::BF16),
        _ => None,
    };
    match known {
        Some(dtype) => (SourceType::Known(dtype), Some(dtype.block_bytes() as u64)),
        None => {
            let size = UNSUPPORTED
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, size)| *size);
            (SourceType::Unsupported(name.to_owned()), size)
        }
    }
}

/// The byte of `text` a JSON error is at.
pub(super) fn byte_of(text: &[u8], error: &serde_json::Error) -> u64 {
    let before: usize = text
        .split_inclusive(|&b| b == b'\n')
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    (before + error.column()) as u64
}
