//! The tokenizer's tables of a packed file.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};

use super::read_at;
use crate::arena::FileMap;

/// A packed file's tables for [`Tokenizer::new`](crate::tokenizer::Tokenizer::new): mapped, so that they share the system's
/// cache with the file and are there before the first word; read where that cannot be done.
pub struct Tables(Bytes);

enum Bytes {
    Mapped(FileMap),
    Read(Vec<u8>),
}

impl Tables {
    /// The bytes `range` of a file, which has them.
    pub(super) fn new(mut file: &File, range: Range<u64>) -> io::Result<Tables> {
        if let Some(map) = FileMap::new(file, &range)? {
            return Ok(Tables(Bytes::Mapped(map)));
        }
        let mut bytes = vec![0; (range.end - range.start) as usize];
        read_at(&mut file, range.start, &mut bytes)?;
        Ok(Tables(Bytes::Read(bytes)))
    }
}

impl Deref for Tables {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Mapped(map) => map.bytes(),
            Bytes::Read(bytes) => bytes,
        }
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tables({} bytes)", self.len())
    }
}
