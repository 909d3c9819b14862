//! Writes blobs in the runtime's format.

use ck_runtime::tokenizer::format::{HEADER_WORDS, Header, MAGIC, NONE, SECTIONS, Section};
use ck_runtime::tokenizer::table::{hash_bytes, hash_pair};

/// Sections start at multiples of it.
const ALIGN: usize = 16;

/// A longer run of taken slots makes the table twice as large.
const LONGEST_PROBE: usize = 32;

/// Collects header and sections; [`BlobWriter::finish`] puts them together.
pub(super) struct BlobWriter {
    header: [u32; HEADER_WORDS],
    sections: [Vec<u8>; SECTIONS],
}

impl BlobWriter {
    pub(super) fn new() -> Self {
        Self {
            header: [0; HEADER_WORDS],
            sections: std::array::from_fn(|_| Vec::new()),
        }
    }

    pub(super) fn set(&mut self, field: Header, value: u32) {
        self.header[field as usize] = value;
    }

    pub(super) fn section(&mut self, section: Section, bytes: Vec<u8>) {
        self.sections[section as usize] = bytes;
    }

    /// The blob, or why it cannot be written.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, String> {
        let first = (MAGIC.len() + 4 * HEADER_WORDS + 8 * SECTIONS).next_multiple_of(ALIGN);
        let mut directory = Vec::with_capacity(2 * SECTIONS);
        let mut end = first;
        for section in &self.sections {
            directory.extend([end as u64, section.len() as u64]);
            end = (end + section.len()).next_multiple_of(ALIGN);
        }
        let total = u32::try_from(end).map_err(|_| format!("its tables take {end} bytes, the limit is 4 GiB"))?;
        self.set(Header::TotalBytes, total);
        let mut blob = Vec::with_capacity(end);
        blob.extend(MAGIC);
        blob.extend(words(
            self.header
                .into_iter()
                .chain(directory.into_iter().map(|word| word as u32)),
        ));
        blob.resize(first, 0);
        for section in &self.sections {
            blob.extend(section);
            blob.resize(blob.len().next_multiple_of(ALIGN), 0);
        }
        Ok(blob)
    }
}

/// Little-endian bytes of words.
pub(super) fn words(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Places entries by linear probing; the entry's hash is given beside it.
fn hash_table<const N: usize>(entries: &[(u32, [u32; N])]) -> Vec<u8> {
    if entries.is_empty() {
        return Vec::new();
    }
    let mut capacity = (2 * entries.len()).next_power_of_two();
    // Keys made to collide must not make the table grow for ever; long probes are only slow.
    let largest = capacity * 8;
    loop {
        let mask = capacity - 1;
        let mut slots: Vec<Option<[u32; N]>> = vec![None; capacity];
        let mut longest = 0;
        for (hash, entry) in entries {
            let taken = (0..capacity)
                .take_while(|step| slots[(*hash as usize + step) & mask].is_some())
                .count();
            slots[(*hash as usize + taken) & mask] = Some(*entry);
            longest = longest.max(taken + 1);
        }
        if longest <= LONGEST_PROBE || capacity >= largest {
            let head = [capacity as u32, longest as u32, 0, 0];
            return words(
                head.into_iter()
                    .chain(slots.into_iter().flat_map(|slot| slot.unwrap_or([NONE; N]))),
            );
        }
        capacity *= 2;
    }
}

/// A table of (first, second, value, value) for `PairTable`. Keys are unique and their first word is not [`NONE`].
pub(super) fn pair_table(entries: &[[u32; 4]]) -> Vec<u8> {
    hash_table(
        &entries
            .iter()
            .map(|entry| (hash_pair(entry[0], entry[1]), *entry))
            .collect::<Vec<_>>(),
    )
}

/// A table of ids by their bytes for `WordTable`. Of equal byte strings the first is found.
pub(super) fn word_table(entries: &[(&[u8], u32)]) -> Vec<u8> {
    let hashed = entries
        .iter()
        .map(|&(bytes, id)| (hash_bytes(bytes), [hash_bytes(bytes), id]));
    hash_table(&hashed.collect::<Vec<_>>())
}
