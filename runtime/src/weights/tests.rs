use std::io::Cursor;

use super::*;

const LAYOUT: [u8; 32] = [7; 32];

fn packed(weights: &[u8], tokenizer: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
    weights.chunks(100).for_each(|piece| writer.write(piece).unwrap());
    writer.finish("tiny", LAYOUT, tokenizer).unwrap().0.into_inner()
}

/// Some bytes that are not all the same.
fn noise(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 131 % 251) as u8).collect()
}

fn open(bytes: &[u8], check: bool) -> Result<WeightsFile, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.ckw");
    std::fs::write(&path, bytes).unwrap();
    WeightsFile::open(&path, check)
}

#[test]
fn what_was_written_is_read() {
    for (weights, tokenizer) in [(0, 0), (0, 10), (64, 0), (4096, 4096), (5000, 1), (4097, 5000)] {
        let (weights, tokenizer) = (noise(weights), noise(tokenizer));
        let bytes = packed(&weights, &tokenizer);
        assert_eq!(bytes.len() % PAGE, 0);
        let file = open(&bytes, true).unwrap();
        assert_eq!(file.header(), &Header::parse(&bytes).unwrap());
        assert_eq!(file.header().model, "tiny");
        assert_eq!(file.header().layout_hash, LAYOUT);
        assert_eq!(file.tokenizer(), tokenizer);
        let mut payload = vec![0; weights.len()];
        file.read(0, &mut payload).unwrap();
        assert_eq!(payload, weights);
        assert_eq!(bytes[PAGE..PAGE + weights.len()], weights);
    }
}

#[test]
fn padding_counts_and_is_zero() {
    let mut writer = Writer::new(Cursor::new(Vec::new())).unwrap();
    writer.write(&[1; 3]).unwrap();
    writer.pad_to(9000).unwrap();
    assert_eq!(writer.position(), 9000);
    assert_eq!(writer.pad_to(8999).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let (out, header) = writer.finish("m", LAYOUT, &[]).unwrap();
    assert_eq!(header.weights_bytes, 9000);
    assert!(out.into_inner()[PAGE + 3..].iter().all(|&b| b == 0));
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = packed(&noise(5000), &noise(300));
    // Every length through a real file would be slow; lengths around every boundary, and all of the header in memory.
    for len in 0..PAGE {
        assert!(Header::parse(&bytes[..len]).is_err(), "{len}");
    }
    let lengths = (0..bytes.len()).filter(|len| len % 97 == 0 || len % PAGE < 3 || len % PAGE > PAGE - 3);
    for len in lengths {
        let error = open(&bytes[..len], false).unwrap_err();
        assert!(matches!(error, Error::Weights { .. }), "{len}: {error}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(matches!(open(&longer, false), Err(Error::Weights { .. })));
}

#[test]
fn every_flip_in_the_header_is_an_error() {
    let bytes = packed(&noise(100), &[]);
    let mut page = bytes[..PAGE].to_vec();
    for at in 0..PAGE {
        for bit in 0..8 {
            page[at] ^= 1 << bit;
            assert!(Header::parse(&page).is_err(), "byte {at}, bit {bit}");
            page[at] ^= 1 << bit;
        }
    }
}

/// A header whose checksum is right but whose fields are not.
#[test]
fn forged_headers_are_errors() {
    let good = packed(&noise(100), &noise(10));
    for field in (48..NAME_AT).step_by(8) {
        for value in [0, 1, 4095, 1 << 40, i64::MAX as u64, u64::MAX - 4096, u64::MAX] {
            let mut bytes = good.clone();
            bytes[field..field + 8].copy_from_slice(&u64::to_le_bytes(value));
            let hash = xxh64(&bytes[..HASH_AT]);
            bytes[HASH_AT..PAGE].copy_from_slice(&hash.to_le_bytes());
            let error = open(&bytes, true).unwrap_err();
            assert!(
                matches!(error, Error::Weights { .. }),
                "field at {field} = {value}: {error}"
            );
        }
    }
    for (at, value) in [
        (12, 0xFFFF_FFFFu32),
        (12, 256),
        (8, 2),
        (2000, 1),
        (NAME_AT, 0xFFFF_FFFF),
    ] {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let hash = xxh64(&bytes[..HASH_AT]);
        bytes[HASH_AT..PAGE].copy_from_slice(&hash.to_le_bytes());
        assert!(Header::parse(&bytes).is_err(), "{value} at {at}");
    }
}

#[test]
fn damage_behind_the_header_is_found() {
    let good = packed(&noise(5000), &noise(300));
    let tokenizer = Header::parse(&good).unwrap().tokenizer().start as usize;
    for at in [PAGE, PAGE + 4999, tokenizer, tokenizer + 299] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let error = open(&bytes, false).unwrap_err().to_string();
        assert!(error.contains("checksum"), "{at}: {error}");
    }
}

#[test]
fn a_directory_or_nothing_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        WeightsFile::open(dir.path(), false),
        Err(Error::Weights { .. } | Error::Io { .. })
    ));
    let error = WeightsFile::open(&dir.path().join("none.ckw"), false).unwrap_err();
    assert!(matches!(error, Error::Io { action: "open", .. }), "{error}");
}
