//! Damaged weights files and layout reports: an error, never a panic, and never more memory than the file is worth.

use std::{fs, path::Path};

use ck_tests::{Counting, Gguf, GgufValue, Random, small_llama};
use ckc::{
    import::{Options, import},
    source::{Source, gguf, safetensors},
};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a reader may allocate for a file of `len` bytes: its header as structures, and an error message.
fn bound(len: usize) -> usize {
    16 * len + (64 << 10)
}

type Read = fn(&[u8]) -> Result<(), String>;

fn read_gguf(bytes: &[u8]) -> Result<(), String> {
    gguf::read(bytes, bytes.len() as u64)
        .map(drop)
        .map_err(|e| e.to_string())
}

fn read_safetensors(bytes: &[u8]) -> Result<(), String> {
    safetensors::read(bytes, bytes.len() as u64)
        .map(drop)
        .map_err(|e| e.to_string())
}

#[track_caller]
fn read_bounded(read: Read, bytes: &[u8]) -> Result<(), String> {
    let mut result = Ok(());
    let ((), peak) = Counting::peak(|| result = read(bytes));
    assert!(peak <= bound(bytes.len()), "{peak} bytes for a file of {}", bytes.len());
    result
}

/// A GGUF with every kind of value.
fn gguf_file() -> Vec<u8> {
    let nested = {
        let mut inner = 0u32.to_le_bytes().to_vec();
        inner.extend(2u64.to_le_bytes());
        inner.extend([1, 2]);
        GgufValue::Array(9, 1, inner)
    };
    let scalar = |id: u32, size: usize| GgufValue::Raw(id, vec![1; size]);
    let mut file = small_llama().with("x.nested", nested);
    for (id, size) in [(0, 1), (1, 1), (2, 2), (3, 2), (5, 4), (10, 8), (11, 8), (12, 8)] {
        file = file.with(&format!("x.{id}"), scalar(id, size));
    }
    file.bytes(3)
}

fn safetensors_file() -> Vec<u8> {
    let header = concat!(
        r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"#,
        r#""b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},"c":{"dtype":"I64","shape":[],"data_offsets":[32,40]}}"#
    );
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.resize(file.len() + 40, 7);
    file
}

fn every_prefix_is_an_error(read: Read, file: &[u8]) {
    read_bounded(read, file).expect("the whole file is fine");
    for len in 0..file.len() {
        // The last tensor's bytes are the file's end: every shorter file lacks something.
        let error = read_bounded(read, &file[..len]).expect_err(&format!("a file cut to {len} bytes"));
        assert!(error.starts_with("at byte "), "{error}");
    }
}

fn no_flip_panics(read: Read, file: &[u8], header: usize, n: usize) {
    let mut random = Random::new(11);
    let mut errors = 0;
    for _ in 0..n {
        let mut bytes = file.to_vec();
        for _ in 0..1 + random.below(4) {
            let at = random.below(header);
            bytes[at] = match random.below(4) {
                0 => 0xFF,
                1 => 0,
                2 => bytes[at] ^ (1 << random.below(8)),
                _ => random.below(256) as u8,
            };
        }
        errors += usize::from(read_bounded(read, &bytes).is_err());
    }
    assert!(errors > n / 4, "only {errors} of {n} damaged files were noticed");
}

/// Flips in files on disk, through everything an import does.
fn no_flip_panics_import(folder: &Path, n: usize) {
    let file = gguf_file();
    let path = folder.join("w.gguf");
    let mut random = Random::new(12);
    for _ in 0..n {
        let mut bytes = file.clone();
        bytes[random.below(file.len().min(2500))] ^= 1 << random.below(8);
        fs::write(&path, &bytes).unwrap();
        let (_, peak) = Counting::peak(|| import(&path, &Options { dtype: None, folder }));
        assert!(peak < 4 << 20, "{peak} bytes");
    }
}

/// Files that claim to hold far more than they do.
fn lies_are_cheap() {
    let huge = u64::MAX.to_le_bytes();
    let claim = |build: fn(Gguf) -> Gguf| build(Gguf::default()).bytes(3);
    let array = |id| move |n: u64| Gguf::default().with("k", GgufValue::Array(id, n, Vec::new())).bytes(3);
    let mut files = vec![claim(|g| g.tensor("t", &[1 << 40, 1 << 20], 0, Vec::new()))];
    files.push(claim(|g| g.tensor("t", &[1 << 40], 0, Vec::new())));
    for id in [0, 4, 8, 9, 12] {
        files.extend([1 << 20, 1 << 40, u64::MAX].map(array(id)));
    }
    let plain = small_llama().bytes(3);
    for count_at in [8, 16] {
        let mut file = plain.clone();
        file[count_at..count_at + 8].copy_from_slice(&huge);
        files.push(file);
    }
    for file in files {
        read_bounded(read_gguf, &file).expect_err("a lie");
    }
    for len in [huge, (99_000_000u64).to_le_bytes()] {
        read_bounded(read_safetensors, &[&len[..], b"{}"].concat()).expect_err("a lie");
    }
}

/// Arrays in arrays, to a depth that would exhaust the stack.
fn nesting_is_limited() {
    let mut bytes = Vec::new();
    for _ in 0..100_000 {
        bytes.extend(9u32.to_le_bytes());
        bytes.extend(1u64.to_le_bytes());
    }
    let file = Gguf::default().with("k", GgufValue::Array(9, 1, bytes)).bytes(3);
    assert!(read_gguf(&file).unwrap_err().contains("nested deeper"));
}

#[test]
fn damaged_files() {
    let file = gguf_file();
    every_prefix_is_an_error(read_gguf, &file);
    no_flip_panics(read_gguf, &file, 2500, 6_000);
    let file = safetensors_file();
    every_prefix_is_an_error(read_safetensors, &file);
    no_flip_panics(read_safetensors, &file, file.len() - 40, 20_000);
    lies_are_cheap();
    nesting_is_limited();
    let folder = tempfile::tempdir().unwrap();
    no_flip_panics_import(folder.path(), 1_000);
    shrunk_after_opening(folder.path());
    reports_are_cheap(folder.path());
}

/// Reports that hold many small things, or claim to.
fn reports_are_cheap(folder: &Path) {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../generated/shakespeare/layout.json");
    let report = fs::read_to_string(committed).unwrap();
    let many = |from: &str, item: &str| report.replacen(from, &format!("{from}{}", item.repeat(1 << 20)), 1);
    let files = [
        many("\"fuse\": [", "\"\","),
        many("\"shape\":[", "0,"),
        many("\"inputs\":[", "\"x\","),
        many("\"parts\":{\"", "\u{1}"),
        many("\"tensors\": [", "{},"),
        many("{", " "),
        "[".repeat(1 << 20),
        "{\"a\":".repeat(1 << 20),
    ];
    let path = folder.join("report.json");
    for file in files {
        assert_ne!(file, report);
        fs::write(&path, &file).unwrap();
        let (_, peak) = Counting::peak(|| ckc::report::load(&path).map(drop));
        assert!(
            peak <= 64 * file.len() + (16 << 20),
            "{peak} bytes for a report of {}",
            file.len()
        );
    }
}

/// A file that loses its end between the header and the rows.
fn shrunk_after_opening(folder: &Path) {
    let path = folder.join("shrinks.gguf");
    let bytes = small_llama().bytes(3);
    fs::write(&path, &bytes).unwrap();
    let source = Source::open(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    let error = source
        .read_rows("output_norm.weight", 0..1, &mut Vec::new())
        .unwrap_err();
    assert!(error.message.contains("output_norm.weight"), "{error:?}");
}
