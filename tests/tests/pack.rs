//! Packing, read back through the runtime's reader.

use std::{collections::BTreeSet, fs, path::Path};

use ck_kernels::{
    dtype::{ALIGN, DType, GROUP},
    quant,
};
use ck_runtime::{hash::xxh64, weights::WeightsFile};
use ck_tests::{Gguf, Random, shared, small_llama};
use ckc::{
    diag::Diagnostic,
    graph::Graph,
    import::synth::synth,
    model::{self, LoadOptions},
    pack::{Blob, Item, Piece, Request, Summary, pack},
    source::Source,
};

const HASH: [u8; 32] = [7; 32];

/// Pieces end to end, each on a multiple of [`ALIGN`], and the end of the last.
fn placed(mut pieces: Vec<Piece>) -> (Vec<Piece>, u64) {
    let mut end = 0u64;
    for piece in &mut pieces {
        let (offset, bytes) = match piece {
            Piece::Tensor(item) => (&mut item.offset, item.dtype.packed_bytes(item.rows, item.cols)),
            Piece::Blob(blob) => (&mut blob.offset, blob.bytes.len()),
        };
        *offset = end.next_multiple_of(ALIGN as u64);
        end = *offset
            + if let Piece::Tensor(item) = piece {
                item.bytes()
            } else {
                bytes as u64
            };
    }
    (pieces, end)
}

fn item(source: &str, shape: &[usize], dtype: DType) -> Piece {
    let (rows, cols, vector) = match *shape {
        [n] => (1, n, true),
        [rows, cols] => (rows, cols, false),
        _ => panic!("{shape:?}"),
    };
    Piece::Tensor(Item {
        source: source.into(),
        rows,
        cols,
        vector,
        dtype,
        offset: 0,
    })
}

/// Every tensor of the source.
fn all(source: &Source, dtype: DType) -> Vec<Piece> {
    source
        .tensors()
        .iter()
        .map(|t| item(&t.name, &t.shape, dtype))
        .collect()
}

fn run(source: &Source, pieces: Vec<Piece>, out: &Path) -> Result<Summary, Vec<Diagnostic>> {
    let (pieces, payload_bytes) = placed(pieces);
    let request = Request {
        model: "m",
        layout_hash: HASH,
        pieces: &pieces,
        payload_bytes,
        tokenizer: b"tables",
    };
    let mut last = (0, 0);
    let summary = pack(source, &request, out, &mut |done, total| {
        assert!(last.0 <= done && done <= total, "{done} after {last:?} of {total}");
        last = (done, total);
    })?;
    assert_eq!(last.0, last.1, "progress ends at the end");
    Ok(summary)
}

fn packed(source: &Source, pieces: Vec<Piece>) -> (Summary, WeightsFile) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.ckw");
    let summary = run(source, pieces, &out).unwrap_or_else(|e| panic!("{e:#?}"));
    let file = WeightsFile::open(&out, true).unwrap();
    assert_eq!(fs::metadata(&out).unwrap().len(), summary.file_bytes);
    assert_eq!(file.header().content_hash, summary.content_hash);
    assert_eq!(file.tokenizer(), b"tables");
    assert_eq!(file.header().layout_hash, HASH);
    (summary, file)
}

/// The values of row `row` of a tensor as its file holds them.
fn stored(source: &Source, name: &str, row: usize) -> Vec<f32> {
    let info = source.tensor(name).unwrap();
    let (_, cols) = info.rows_cols();
    let (mut raw, mut out) = (Vec::new(), vec![0.0; cols]);
    source.read_rows(name, row..row + 1, &mut raw).unwrap();
    quant::format(info.dtype.known().unwrap()).decode_row(&raw, &mut out);
    out
}

/// `row` as it is after a round trip through `dtype`.
fn rounded(row: &[f32], dtype: DType) -> Vec<f32> {
    let (mut raw, mut out) = (vec![0; dtype.row_bytes(row.len())], vec![0.0; row.len()]);
    assert!(quant::format(dtype).encode_row(row, &mut raw));
    quant::format(dtype).decode_row(&raw, &mut out);
    out
}

/// Compares every row of every tensor with the source, and the padding with zeros.
#[track_caller]
fn check(source: &Source, pieces: Vec<Piece>) {
    let (summary, file) = packed(source, pieces.clone());
    for (piece, done) in pieces.iter().zip(&summary.pieces) {
        let mut bytes = vec![0; done.bytes as usize];
        file.read(done.offset as usize, &mut bytes).unwrap();
        assert_eq!(xxh64(&bytes), done.hash);
        let Piece::Tensor(item) = piece else { continue };
        let from = done.source_dtype.unwrap();
        if item.vector {
            let values: Vec<f32> = bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
            assert_eq!(values, stored(source, &item.source, 0), "{}", item.source);
            continue;
        }
        let mut got = vec![0.0; item.cols];
        for (g, group) in bytes.chunks_exact(GROUP * item.dtype.row_bytes(item.cols)).enumerate() {
            for r in 0..GROUP {
                quant::format(item.dtype).unpack_row(group, r, &mut got);
                let row = g * GROUP + r;
                let want = match row < item.rows {
                    false => vec![0.0; item.cols],
                    true if from == item.dtype => stored(source, &item.source, row),
                    true => rounded(&stored(source, &item.source, row), item.dtype),
                };
                let same = got
                    .iter()
                    .zip(&want)
                    .all(|(a, b)| a.to_bits() == b.to_bits() || (*a == 0.0 && *b == 0.0));
                assert!(same, "row {row} of {} as {}", item.source, item.dtype.name());
            }
        }
    }
}

fn on_disk(gguf: &Gguf) -> (tempfile::TempDir, Source) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.gguf");
    fs::write(&path, gguf.bytes(3)).unwrap();
    let source = Source::open(&path).unwrap();
    (dir, source)
}

#[test]
fn floats_become_every_type_that_can_be_made() {
    let (_dir, source) = on_disk(&small_llama());
    let types = DType::ALL.into_iter().filter(|d| quant::format(*d).can_encode());
    assert!(types.clone().count() >= 8);
    for dtype in types {
        check(&source, all(&source, dtype));
    }
}

#[test]
fn golden_weights_of_one_and_of_many_files() {
    for name in ["llama_bf16", "llama_sharded"] {
        let Some(path) = shared(&format!("golden/{name}")) else {
            return;
        };
        let source = Source::open(&path).unwrap();
        for dtype in [DType::F32, DType::BF16, DType::Q8_0] {
            check(&source, all(&source, dtype));
        }
    }
}

/// Blocks of random bytes whose scales are finite.
fn blocks(dtype: DType, n: usize, random: &mut Random) -> Vec<u8> {
    let block = |random: &mut Random| {
        let mut block: Vec<u8> = (0..dtype.block_bytes()).map(|_| random.below(256) as u8).collect();
        for at in quant::format(dtype).halves() {
            // A half below 1.
            block[at + 1] &= 0x3B;
        }
        block
    };
    (0..n).flat_map(|_| block(random)).collect()
}

#[test]
fn quantised_types_pass_through_and_become_floats() {
    let mut random = Random::new(3);
    // ggml's ids are of GGUF's specification, not ours.
    let types = [
        (DType::Q4_0, 2),
        (DType::Q4_1, 3),
        (DType::Q5_0, 6),
        (DType::Q5_1, 7),
        (DType::Q8_0, 8),
        (DType::Q4K, 12),
        (DType::Q5K, 13),
        (DType::Q6K, 14),
    ];
    for (dtype, ggml) in types {
        let cols = 512;
        let bytes = blocks(dtype, 19 * cols / dtype.block_len(), &mut random);
        let (_dir, source) = on_disk(&Gguf::default().tensor("t", &[19, cols], ggml, bytes));
        for to in [dtype, DType::F32, DType::BF16, DType::Q8_0] {
            check(&source, vec![item("t", &[19, cols], to)]);
        }
    }
}

#[test]
fn blobs_and_gaps() {
    let (_dir, source) = on_disk(&Gguf::default().floats("t", &[3]));
    let blob = Blob {
        name: "rope".into(),
        bytes: vec![1, 2, 3],
        offset: 0,
        source: None,
    };
    let (summary, file) = packed(&source, vec![Piece::Blob(blob), item("t", &[3], DType::F32)]);
    let mut payload = vec![9; 64 + 12];
    file.read(0, &mut payload).unwrap();
    assert_eq!(payload[..3], [1, 2, 3]);
    assert!(payload[3..64].iter().all(|&b| b == 0));
    assert_eq!(summary.pieces[0].source_dtype, None);
}

#[test]
fn all_problems_at_once_and_nothing_written() {
    let bytes = vec![0; 2 * 144];
    let (dir, source) = on_disk(
        &Gguf::default()
            .floats("shape", &[4, 32])
            .floats("extra", &[4])
            .floats("block", &[4, 24])
            .floats("to_k", &[1, 256])
            .floats("x.rotary_emb.inv_freq", &[4])
            .tensor("q2_k", &[1, 256], 10, vec![0; 84])
            .tensor("k", &[2, 256], 12, bytes),
    );
    let pieces = vec![
        item("shape", &[32, 4], DType::F32),
        item("gone", &[4], DType::F32),
        item("block", &[4, 24], DType::Q8_0),
        item("to_k", &[1, 256], DType::Q4K),
        item("q2_k", &[1, 256], DType::F32),
        item("k", &[2, 256], DType::Q6K),
    ];
    let out = dir.path().join("m.ckw");
    let problems = run(&source, pieces, &out).unwrap_err();
    let messages: BTreeSet<&str> = problems.iter().map(|d| d.message.as_str()).collect();
    let expected = BTreeSet::from([
        "tensor `shape` has shape [4, 32], the model needs [32, 4]",
        "tensor `block` has rows of 24, not a multiple of q8_0's block of 32",
        "tensor `to_k` is stored as f32, which cannot become q4_k",
        "`q2_k` is stored as Q2_K, which is not supported",
        "tensor `k` is stored as q4_k, which cannot become q6_k",
        "tensor `gone` is missing",
        "tensor `extra` is not used by the model",
    ]);
    assert_eq!(messages, expected);
    assert_eq!(names(dir.path()), ["w.gguf"]);
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn failures_while_writing_leave_nothing() {
    let (dir, source) = on_disk(&Gguf::default().floats("t", &[64, 64]));
    let pieces = || all(&source, DType::F32);
    let missing = dir.path().join("no/such/folder/m.ckw");
    assert!(
        run(&source, pieces(), &missing).unwrap_err()[0]
            .message
            .contains("cannot write")
    );
    // A folder of that name is in the way of the rename.
    let taken = dir.path().join("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("x"), "").unwrap();
    assert!(run(&source, pieces(), &taken).is_err());
    // The source loses its end, the old file stays.
    let out = dir.path().join("m.ckw");
    fs::write(&out, "old").unwrap();
    let file = dir.path().join("w.gguf");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert!(
        run(&source, pieces(), &out).unwrap_err()[0]
            .message
            .contains("cannot read `t`")
    );
    assert_eq!(fs::read(&out).unwrap(), b"old");
    assert_eq!(names(dir.path()), ["m.ckw", "taken", "w.gguf"]);
}

fn weights_of(graph: &Graph) -> Vec<Piece> {
    let shape = |w: &ckc::graph::Weight| if w.vector { vec![w.cols] } else { vec![w.rows, w.cols] };
    graph
        .weights
        .iter()
        .map(|w| item(&w.source, &shape(w), w.dtype))
        .collect()
}

#[test]
fn random_weights_fit_the_model_they_are_made_for() {
    let yaml = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/shakespeare.yaml");
    let (model, problems) = model::load_file(&yaml, &LoadOptions::default());
    let model = model.unwrap_or_else(|| panic!("{problems:#?}"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.gguf");
    synth(&model.graph, &path, 1, Some(DType::Q4_0), &mut |_, _| {}).unwrap();
    let source = Source::open(&path).unwrap();
    check(&source, weights_of(&model.graph));
    assert!(stored(&source, "model.norm.weight", 0).iter().all(|&x| x == 1.0));
}
