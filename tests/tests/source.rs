//! The readers of GGUF and safetensors: what they say about good files and about files that break a rule.

use std::fs;

use ck_kernels::dtype::DType;
use ck_tests::{Gguf, GgufValue, Random, small_llama};
use ckc::source::{Array, FormatError, Source, SourceType, Value, gguf, safetensors};

use ::safetensors::SafeTensors;

fn read(bytes: &[u8]) -> Result<gguf::Header, FormatError> {
    gguf::read(bytes, bytes.len() as u64)
}

#[track_caller]
fn gguf_error(bytes: &[u8], part: &str) {
    let error = read(bytes).map(|h| h.tensors).expect_err(part).to_string();
    assert!(error.contains(part), "{part:?} not in {error:?}");
}

#[test]
fn values_of_every_type() {
    let raw = |id, bytes: &[u8]| GgufValue::Raw(id, bytes.into());
    let cases: Vec<(GgufValue, Value)> = vec![
        (raw(0, &[200]), Value::Unsigned(200)),
        (raw(1, &[200]), Value::Signed(-56)),
        (raw(2, &[1, 2]), Value::Unsigned(513)),
        (raw(3, &[0, 128]), Value::Signed(-32_768)),
        (GgufValue::u32(u32::MAX), Value::Unsigned(0xFFFF_FFFF)),
        (raw(5, &[255; 4]), Value::Signed(-1)),
        (GgufValue::f32(0.1), Value::F32(0.1)),
        (GgufValue::bool(true), Value::Bool(true)),
        (GgufValue::str("é"), Value::String("é".into())),
        (raw(10, &[255; 8]), Value::Unsigned(u64::MAX)),
        (raw(11, &[255; 8]), Value::Signed(-1)),
        (raw(12, &1.5f64.to_le_bytes()), Value::F64(1.5)),
    ];
    for (stored, expected) in cases {
        let file = Gguf::default().with("k", stored).bytes(3);
        assert_eq!(read(&file).unwrap().metadata.get("k"), Some(&expected));
    }
}

#[test]
fn arrays() {
    let file = small_llama()
        .with("i", GgufValue::Array(5, 2, [[255u8; 4], [1, 0, 0, 0]].concat()))
        .bytes(3);
    let metadata = read(&file).unwrap().metadata;
    let ints: Vec<Value> = metadata.array("i").unwrap().scalars().collect();
    assert_eq!(ints, [Value::Signed(-1), Value::Signed(1)]);
    let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap();
    assert_eq!(
        tokens.iter().collect::<Vec<_>>(),
        [&b"<unk>"[..], b"a", "\u{2581}b".as_bytes()]
    );
    assert_eq!((tokens.get(1), tokens.get(3)), (Some(&b"a"[..]), None));
    let mut inner = Vec::new();
    for _ in 0..2 {
        inner.extend(0u32.to_le_bytes());
        inner.extend(1u64.to_le_bytes());
        inner.push(9);
    }
    let file = Gguf::default().with("n", GgufValue::Array(9, 2, inner)).bytes(3);
    assert_eq!(read(&file).unwrap().metadata.array("n"), Some(&Array::Nested(2)));
}

/// `file` with `new` written over the first `old`.
fn patched(file: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let at = file
        .windows(old.len())
        .position(|w| w == old)
        .expect("the bytes to patch");
    let mut file = file.to_vec();
    file[at..at + new.len()].copy_from_slice(new);
    file
}

#[test]
fn gguf_rules() {
    let two = Gguf::default().floats("first", &[32]).floats("other", &[32]);
    let file = two.bytes(3);
    assert_eq!(read(&file).unwrap().tensors.len(), 2);
    gguf_error(b"", "the file ends in the magic: 4 bytes expected, 0 left");
    gguf_error(b"GGML....", "not a GGUF file");
    gguf_error(&two.bytes(1), "version 1 is not supported");
    gguf_error(&file[..file.len() - 1], "tensor `other` has 128 bytes at offset 128");
    gguf_error(&patched(&file, b"other", b"first"), "tensor `first` occurs twice");
    let second = |type_and_offset: &[u8]| [&[32, 0, 0, 0, 0, 0, 0, 0][..], type_and_offset].concat();
    let directory = second(&[0, 0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0]);
    let offset = |n: u8| patched(&file, &directory, &second(&[0, 0, 0, 0, n, 0, 0, 0, 0, 0, 0, 0]));
    gguf_error(&offset(96), "tensors `first` and `other` overlap");
    gguf_error(&offset(129), "not a multiple of the alignment 32");
    gguf_error(&patched(&file, b"other", &[0xFF; 5]), "is not UTF-8");
    let key = |value| Gguf::default().with("general.alignment", value).bytes(3);
    gguf_error(
        &key(GgufValue::u32(24)),
        "`general.alignment` is 24, not a power of two",
    );
    gguf_error(&key(GgufValue::str("32")), "is \"32\", not a power of two");
    gguf_error(&key(GgufValue::u32(0)), "is 0, not a power of two");
    let twice = Gguf::default()
        .with("k", GgufValue::u32(1))
        .with("k", GgufValue::u32(2));
    gguf_error(&twice.bytes(3), "key `k` occurs twice");
    gguf_error(
        &Gguf::default().with("k", GgufValue::Raw(7, vec![2])).bytes(3),
        "a boolean of value 2",
    );
    gguf_error(
        &Gguf::default().with("k", GgufValue::Raw(13, vec![2])).bytes(3),
        "value type 13",
    );
    gguf_error(
        &Gguf::default().with("k", GgufValue::Array(99, 0, vec![])).bytes(3),
        "element type 99",
    );
    gguf_error(
        &Gguf::default().tensor("t", &[1; 5], 0, vec![0; 4]).bytes(3),
        "5 dimensions, more than 4",
    );
    gguf_error(
        &Gguf::default().tensor("t", &[33], 8, vec![0; 34]).bytes(3),
        "not a multiple of q8_0's block of 32",
    );
    let dims = [1 << 40, 1 << 40, 0];
    gguf_error(
        &Gguf::default().tensor("t", &dims, 0, vec![]).bytes(3),
        "too many elements",
    );
}

#[test]
fn alignment_moves_the_data() {
    let file = Gguf::default()
        .with("general.alignment", GgufValue::u32(1))
        .floats("t", &[4])
        .bytes(3);
    let start = file.len() - 16;
    // The writer aligned to 32, so that an alignment of 1 finds the padding first.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.gguf");
    let header_end = file[..start].iter().rposition(|&b| b != 0).unwrap();
    fs::write(&path, &file).unwrap();
    let mut raw = Vec::new();
    Source::open(&path).unwrap().read_rows("t", 0..1, &mut raw).unwrap();
    assert!(
        header_end < start && raw.len() == 16 && raw != file[start..],
        "read from the end of the header"
    );
}

#[test]
fn rows_and_vectors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.gguf");
    let file = Gguf::default()
        .floats("m", &[5, 7])
        .floats("v", &[9])
        .tensor("iq", &[256], 23, vec![0; 136]);
    fs::write(&path, file.bytes(2)).unwrap();
    let source = Source::open(&path).unwrap();
    assert_eq!(
        source.read_vector("v").unwrap(),
        [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, -3.0, -2.0]
    );
    let mut raw = Vec::new();
    source.read_rows("m", 1..3, &mut raw).unwrap();
    assert_eq!(raw[..4], (-3.0f32).to_le_bytes());
    assert_eq!(raw.len(), 2 * 7 * 4);
    source.read_rows("m", 5..5, &mut raw).unwrap();
    assert!(raw.is_empty());
    assert_eq!(source.tensor("m").unwrap().rows_cols(), (5, 7));
    assert_eq!(
        source.tensor("iq").unwrap().dtype,
        SourceType::Unsupported("IQ4_XS".into())
    );
    let message = |name: &str, rows| source.read_rows(name, rows, &mut Vec::new()).unwrap_err().message;
    assert!(message("m", 4..6).contains("it has 5"));
    assert!(message("none", 0..1).contains("no tensor `none`"));
    assert!(message("iq", 0..1).contains("stored as IQ4_XS"));
    assert!(
        source
            .read_vector("m")
            .unwrap_err()
            .message
            .contains("expected a vector")
    );
}

fn safetensors_file(header: &str, data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.resize(file.len() + data, 1);
    file
}

#[track_caller]
fn safetensors_error(header: &str, data: usize, part: &str) {
    let file = safetensors_file(header, data);
    let error = safetensors::read(&file[..], file.len() as u64)
        .expect_err(part)
        .to_string();
    assert!(error.contains(part), "{part:?} not in {error:?}");
}

#[test]
fn safetensors_rules() {
    let a = r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
    let b = |dtype: &str, offsets: &str| {
        format!(r#"{{{a},"b":{{"dtype":"{dtype}","shape":[1],"data_offsets":{offsets}}}}}"#)
    };
    let good = safetensors_file(&b("F16", "[8,10]"), 10);
    let tensors = safetensors::read(&good[..], good.len() as u64).unwrap();
    assert_eq!(tensors[1].dtype, SourceType::Known(DType::F16));
    let eight = safetensors_file(&b("F8_E4M3", "[8,9]"), 9);
    let tensors = safetensors::read(&eight[..], eight.len() as u64).unwrap();
    assert_eq!(tensors[1].dtype, SourceType::Unsupported("F8_E4M3".into()));
    safetensors_error(
        &b("F32", "[9,13]"),
        13,
        "tensor `b` has data 9..13, expected to start at 8",
    );
    safetensors_error(&b("F32", "[4,8]"), 12, "tensor `b` has data 4..8");
    safetensors_error(
        &b("F32", "[8,12]"),
        11,
        "tensor `b` ends at 12 of the data, which has only 11",
    );
    safetensors_error(
        &b("F32", "[8,10]"),
        10,
        "`b` is F32 [1], which does not fill its 2 bytes",
    );
    safetensors_error(&b("F32", "[12,8]"), 12, "tensor `b` has data 12..8");
    safetensors_error(&b("F32", "[8,12]"), 20, "the data has 20 bytes, its tensors only 12");
    safetensors_error(&b("F32", "[8,-1]"), 12, "tensor `b`: invalid value");
    safetensors_error(
        &format!("{{{a},{a}}}"),
        8,
        "tensor `a` has data 0..8, expected to start at 8",
    );
    let empty = r#"{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#;
    safetensors_error(empty, 0, "tensor `a` occurs twice");
    safetensors_error("[]", 0, "expected an object from tensor names");
    safetensors_error("{", 0, "at byte 9: the header: EOF");
    let big = r#"{"a":{"dtype":"F32","shape":[4611686018427387904,4,0],"data_offsets":[0,0]}}"#;
    safetensors_error(big, 0, "too many elements");
}

/// What we accept, the reference implementation accepts too, with the same tensors in the same places.
#[test]
fn agrees_with_the_reference_implementation() {
    let header = r#"{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}}"#;
    let file = safetensors_file(header, 32);
    let mut random = Random::new(5);
    let mut accepted = 0;
    for _ in 0..5_000 {
        let mut bytes = file.clone();
        let at = 8 + random.below(header.len());
        bytes[at] = b"0123456789,:[]{}\"abF \\"[random.below(22)];
        let Ok(ours) = safetensors::read(&bytes[..], bytes.len() as u64) else {
            continue;
        };
        if ours.iter().any(|t| t.dtype.known().is_none()) {
            continue;
        }
        accepted += 1;
        let theirs = SafeTensors::deserialize(&bytes).expect("accepted by ours");
        for tensor in &ours {
            let view = theirs.tensor(&tensor.name).expect("a tensor of ours");
            assert_eq!(view.shape(), tensor.shape);
        }
    }
    assert!(accepted > 100, "{accepted}");
}

#[test]
fn an_index_must_fit_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let one = |name: &str| format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
    for (file, tensor) in [("1.safetensors", "a"), ("2.safetensors", "b"), ("3.safetensors", "a")] {
        fs::write(dir.path().join(file), safetensors_file(&one(tensor), 4)).unwrap();
    }
    let open = |map: &str| {
        let index = dir.path().join("model.safetensors.index.json");
        fs::write(&index, map).unwrap();
        let found = Source::open(dir.path());
        found
            .map(|s| s.tensors().len())
            .map_err(|e| e.into_iter().map(|d| d.message).collect::<Vec<_>>().join("; "))
    };
    let map = |entries: &str| format!(r#"{{"metadata":{{}},"weight_map":{{{entries}}}}}"#);
    assert_eq!(open(&map(r#""a":"1.safetensors","b":"2.safetensors""#)), Ok(2));
    for (text, part) in [
        (
            map(r#""a":"../1.safetensors""#),
            "`../1.safetensors` is not the name of a file beside the index",
        ),
        (map(r#""a":"/etc/passwd""#), "`/etc/passwd` is not the name"),
        (map(r#""a":"""#), "`` is not the name"),
        (map(""), "`weight_map` is empty"),
        (map(r#""a":"4.safetensors","b":"5.safetensors""#), "cannot read"),
        (map(r#""c":"1.safetensors""#), "tensor `c` is not in 1.safetensors"),
        (
            map(r#""a":"2.safetensors","b":"1.safetensors""#),
            "tensor `a` is not in 2.safetensors",
        ),
        (
            map(r#""a":"1.safetensors","x":"3.safetensors""#),
            "`a` is in two files: 1.safetensors and 3.safetensors",
        ),
        ("{}".into(), "missing field `weight_map`"),
        ("".into(), "at byte 0"),
    ] {
        let error = open(&text).expect_err(part);
        assert!(error.contains(part), "{part:?} not in {error:?}");
    }
}

#[test]
fn paths_that_are_no_weights() {
    let dir = tempfile::tempdir().unwrap();
    let message = |path: &std::path::Path| Source::open(path).unwrap_err()[0].clone();
    assert!(message(dir.path()).message.contains("neither model.safetensors nor"));
    assert!(message(&dir.path().join("x.gguf")).message.contains("cannot read"));
    fs::write(dir.path().join("pytorch_model.bin"), "").unwrap();
    assert!(message(dir.path()).help.unwrap().contains("safe_serialization"));
    fs::write(dir.path().join("x.gguf"), "text").unwrap();
    assert!(message(&dir.path().join("x.gguf")).message.contains("not a GGUF file"));
    assert!(
        message(std::path::Path::new("/dev/null"))
            .message
            .contains("not a regular file")
    );
}
