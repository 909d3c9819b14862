//! A program of real kernels, as the compiler writes them: embedding, selected row, output projection.

use std::fs::File;

use ck_runtime::kernels::dtype::{ActType, DType, GROUP};
use ck_runtime::kernels::isa::{self, Choices};
use ck_runtime::kernels::ops::{Embed, Part, Project, SelectRow, Sink, Slot, Source, Weight, Workspace};
use ck_runtime::kernels::partition::Axis;
use ck_runtime::kernels::quant::format;
use ck_runtime::weights::Writer;
use ck_runtime::{Config, Layout, Program, Runner, Worker};

const DIM: usize = 48;
/// Not whole groups of rows.
const VOCAB: usize = 100;
const BATCH: usize = 4;

const MATRIX: usize = DType::F32.packed_bytes(VOCAB, DIM);
const TABLE: Weight = Weight {
    offset: 0,
    rows: VOCAB,
    cols: DIM,
    dtype: DType::F32,
};
const HEAD: Weight = Weight {
    offset: MATRIX,
    ..TABLE
};
const IDS: Slot = Slot {
    offset: 2 * MATRIX,
    cols: 1,
    act: ActType::U32,
};
const X: Slot = Slot {
    offset: IDS.offset + 64,
    cols: DIM,
    act: ActType::F32,
};
const ROW: Slot = Slot {
    offset: X.offset + BATCH * X.stride(),
    ..X
};
const LOGITS: Slot = Slot {
    offset: ROW.offset + ROW.stride(),
    cols: VOCAB,
    act: ActType::F32,
};
const COLUMNS: Axis = Axis::Columns { granule: 16 };

struct Bigram;

impl Program for Bigram {
    const LAYOUT: Layout = Layout {
        model: "bigram",
        hash: [9; 32],
        arena_bytes: LOGITS.offset + LOGITS.stride(),
        weights_bytes: 2 * MATRIX,
        context: 16,
        batch: BATCH,
        vocab: VOCAB,
        ids: IDS,
        logits: LOGITS,
        kv_offset: 0,
        kv_bytes: 0,
        segments: &[],
        choices: Choices::all_from(8),
        steps: &[],
    };

    fn prefill(w: &Worker<'_>) {
        w.run(Embed {
            ids: IDS,
            table: TABLE,
            out: X,
            axis: COLUMNS,
        });
    }

    fn decode(w: &Worker<'_>) {
        w.run(Embed {
            ids: IDS,
            table: TABLE,
            out: X,
            axis: Axis::Serial,
        });
    }

    fn head(w: &Worker<'_>) {
        w.run(SelectRow {
            x: X,
            out: ROW,
            axis: COLUMNS,
        });
        w.barrier();
        w.run(Project {
            source: Source::Rows(ROW),
            parts: &[Part {
                weight: HEAD,
                bias: None,
                sink: Sink::Store(LOGITS),
            }],
            workspace: Workspace { offset: 0, bytes: 0 },
            axis: COLUMNS,
        });
    }
}

/// Small integers, so that sums are exact.
fn weight(matrix: usize, row: usize, col: usize) -> f32 {
    ((matrix + row * 5 + col * 3) % 11) as f32 - 5.0
}

#[test]
fn kernels_and_runner_agree_on_what_a_row_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bigram.ckw");
    let mut writer = Writer::new(File::create(&path).unwrap()).unwrap();
    let mut packed = vec![0; DType::F32.packed_bytes(GROUP, DIM)];
    for matrix in 0..2 {
        for group in (0..VOCAB).step_by(GROUP) {
            let rows = group..(group + GROUP).min(VOCAB);
            let bytes: Vec<u8> = rows
                .flat_map(|row| (0..DIM).flat_map(move |col| weight(matrix, row, col).to_le_bytes()))
                .collect();
            format(DType::F32).pack_group(&bytes, DIM, &mut packed);
            writer.write(&packed).unwrap();
        }
    }
    writer.finish("bigram", [9; 32], &[]).unwrap();

    let ids = [3u32, 99, 0, 57, 16, 15, 98, 31, 32];
    let expected = |id: u32| -> Vec<f32> {
        (0..VOCAB)
            .map(|v| (0..DIM).map(|c| weight(0, id as usize, c) * weight(1, v, c)).sum())
            .collect()
    };
    for isa in isa::supported() {
        for threads in [1, 2, 3, 7] {
            let config = Config {
                threads: Some(threads),
                isa: Some(isa.name.into()),
                check: true,
            };
            let mut runner = Runner::<Bigram>::open(&path, config).unwrap();
            for byte in [0xFF, 0] {
                runner.dirty(byte);
                runner
                    .prefill_each(&ids, |i, logits| assert_eq!(logits, expected(ids[i]), "row {i}"))
                    .unwrap();
                runner.reset();
                for n in 1..=ids.len() {
                    runner.reset();
                    assert_eq!(
                        runner.prefill(&ids[..n]).unwrap(),
                        expected(ids[n - 1]),
                        "prefill of {n}"
                    );
                    assert_eq!(runner.decode(42).unwrap(), expected(42));
                }
            }
        }
    }
}
