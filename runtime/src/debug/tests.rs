use std::io::Cursor;

use ck_kernels::dtype::{ActType, Q8};
use ck_kernels::isa::Choices;
use ck_kernels::ops::{Cache, Ctx, Kernel, Slot};
use ck_kernels::partition::Axis;

use super::poison::{self, Bad};
use super::*;
use crate::weights::Writer;
use crate::{Config, Error, Layout, Machine};

const BATCH: usize = 4;

const fn slot(offset: usize) -> Slot {
    Slot {
        offset,
        cols: 16,
        act: ActType::F32,
    }
}

const IDS_SLOT: Slot = Slot {
    offset: 64,
    cols: 1,
    act: ActType::U32,
};

const CACHE: Cache = Cache {
    k: 1024,
    v: 2112,
    kv_heads: 2,
    head_dim: 8,
    context: 16,
    act: ActType::F32,
};

/// A row is 64 bytes.
const LAYOUT: Layout = Layout {
    model: "tiny",
    hash: [7; 32],
    arena_bytes: 4096,
    weights_bytes: 0,
    context: 16,
    batch: BATCH,
    vocab: 16,
    ids: IDS_SLOT,
    logits: slot(832),
    kv_offset: 0,
    kv_bytes: 0,
    segments: &[],
    choices: Choices::all_from(8),
    steps: &[],
};

const START: Watched = Watched::scratch("the start of io", 0, 0);
const IDS: Watched = Watched::rows("ids", IDS_SLOT, BATCH);
const LOGITS: Watched = Watched::rows("logits", slot(832), 1);
const KEYS: Watched = Watched::keys("kv.keys", CACHE);
const VALUES: Watched = Watched::values("kv.values", CACHE);
const A: Watched = Watched::rows("a", slot(192), BATCH);
const B: Watched = Watched::rows("b", slot(512), BATCH);

const FIRST: Step = Step {
    id: "make_a",
    born: &[A],
    in_place: &[],
    writes: &[A],
    live: &[A],
    dies: &[],
};

const SECOND: Step = Step {
    id: "make_b",
    born: &[B],
    in_place: &[],
    writes: &[B],
    live: &[A, B],
    dies: &[A],
};

const ENTRY: Entry = Entry {
    name: "prefill",
    canaries: true,
    poison: true,
    starts: true,
    caches: &[KEYS, VALUES],
    resident: &[START, IDS, LOGITS],
    given: &[],
    steps: &[FIRST, SECOND],
};

/// Writes `value`, or element for element what is in `from` plus `value`, to that many rows and columns.
#[derive(Clone, Copy)]
struct Fill {
    out: Slot,
    rows: usize,
    cols: usize,
    value: f32,
    from: Option<Slot>,
}

impl Kernel for Fill {
    fn axis(&self) -> Axis {
        Axis::Serial
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        if ctx.ith > 0 {
            return;
        }
        let out = ctx.rows(&self.out, self.rows).cast::<f32>();
        let from = self.from.map(|from| ctx.rows(&from, self.rows).cast::<f32>());
        for i in (0..self.rows).flat_map(|row| (0..self.cols).map(move |col| row * 16 + col)) {
            // SAFETY: `rows` saw that the rows are in the arena; only worker 0 is here.
            unsafe {
                let more = from.map_or(0.0, |from| from.add(i).read());
                out.add(i).write(more + self.value);
            }
        }
    }
}

fn fill(out: Watched, rows: usize) -> Fill {
    Fill {
        out: slot(out.bytes().start),
        rows,
        cols: 16,
        value: 1.0,
        from: None,
    }
}

fn machine(threads: usize) -> Machine {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.ckw");
    let writer = Writer::new(Cursor::new(Vec::new())).unwrap();
    let file = writer.finish("tiny", LAYOUT.hash, &[]).unwrap().0.into_inner();
    std::fs::write(&path, file).unwrap();
    let config = Config {
        threads: Some(threads),
        ..Config::default()
    };
    Machine::open(LAYOUT, &path, &config).unwrap()
}

/// Runs the steps with these kernels for that many tokens.
fn run(entry: &'static Entry, tokens: usize, kernels: [Fill; 2]) -> Result<(), Box<Finding>> {
    let ids: Vec<u32> = (0..tokens as u32).collect();
    let mut outcome = None;
    for threads in [1, 2] {
        let mut machine = machine(threads);
        machine.dirty(0xFF);
        let result = machine.call(tokens, 0, Some(&ids), &|w| {
            w.watch(entry, 0, kernels[0]);
            w.watch(entry, 1, kernels[1]);
        });
        let result = match result {
            Ok(()) => Ok(()),
            Err(Error::Debug(finding)) => Err(finding),
            Err(other) => panic!("{other}"),
        };
        let first = outcome.get_or_insert_with(|| result.clone());
        assert_eq!(*first, result, "{threads} threads");
    }
    outcome.unwrap()
}

#[track_caller]
fn expect(result: Result<(), Box<Finding>>, fault: Fault, step: &str, tensors: &[&str], offset: usize) {
    let finding = result.unwrap_err();
    let other = finding.other.as_ref().map(|other| other.name.as_str());
    let named: Vec<&str> = [Some(finding.tensor.name.as_str()), other]
        .into_iter()
        .flatten()
        .collect();
    let got = (finding.fault, finding.step.as_str(), named.as_slice(), finding.offset);
    assert_eq!(got, (fault, step, tensors, offset), "{finding}");
}

#[test]
fn a_sound_program_passes() {
    for tokens in 1..=BATCH {
        assert_eq!(run(&ENTRY, tokens, [fill(A, tokens), fill(B, tokens)]), Ok(()));
    }
}

#[test]
fn a_row_too_many_is_found_behind_the_tensor_and_behind_the_tokens() {
    let full = run(&ENTRY, BATCH, [fill(A, BATCH + 1), fill(B, BATCH)]);
    expect(full, Fault::PastEnd, "make_a", &["a", "logits"], 448);
    let part = run(&ENTRY, 3, [fill(A, 3), fill(B, 4)]);
    expect(part, Fault::PastTokens, "make_b", &["b"], 512 + 3 * 64);
    let both = run(&ENTRY, BATCH, [fill(A, BATCH), fill(B, BATCH + 1)]);
    expect(both, Fault::PastEnd, "make_b", &["b", "logits"], 768);
}

#[test]
fn a_part_that_is_not_written_is_found() {
    let narrow = Fill {
        cols: 15,
        ..fill(B, BATCH)
    };
    let result = run(&ENTRY, BATCH, [fill(A, BATCH), narrow]);
    expect(result, Fault::Unwritten, "make_b", &["b"], 512 + 60);
    expect(
        run(&ENTRY, 2, [fill(A, 1), fill(B, 2)]),
        Fault::Unwritten,
        "make_a",
        &["a"],
        256,
    );
}

#[test]
fn the_canary_of_another_is_found() {
    let early = Fill {
        out: slot(448),
        ..fill(B, BATCH + 1)
    };
    let result = run(&ENTRY, BATCH, [fill(A, BATCH), early]);
    expect(result.clone(), Fault::Canary, "make_b", &["b", "a"], 448);
    assert_eq!(
        result.unwrap_err().to_string(),
        "step `make_b` of prefill: writing `b` destroyed the canary behind `a`\n  \
         at byte 0x1c0 of the arena: expected 8a cb de c0 4a ca de c0, found 00 00 80 3f 00 00 80 3f\n  \
         `b` is 0x200..0x300, `a` is 0xc0..0x1c0"
    );
}

#[test]
fn a_write_into_the_middle_of_another_is_found() {
    let wrong = Fill {
        out: slot(256),
        value: 2.0,
        ..fill(B, 1)
    };
    let result = run(&ENTRY, 2, [fill(A, 2), wrong]);
    // `a` held 1.0 there: the third byte is the first that differs.
    expect(result, Fault::Changed, "make_b", &["b", "a"], 256 + 2);
}

#[test]
fn what_is_read_after_its_death_is_found() {
    const LATE: Entry = Entry {
        steps: &[
            FIRST,
            SECOND,
            Step {
                id: "late",
                born: &[],
                in_place: &[],
                writes: &[B],
                live: &[B],
                dies: &[],
            },
        ],
        ..ENTRY
    };
    let mut machine = machine(2);
    let result = machine.call(2, 0, Some(&[1, 2]), &|w| {
        w.watch(&LATE, 0, fill(A, 2));
        w.watch(&LATE, 1, fill(B, 2));
        let from = Some(slot(192));
        w.watch(&LATE, 2, Fill { from, ..fill(B, 2) });
    });
    let Err(Error::Debug(finding)) = result else {
        panic!("{result:?}")
    };
    assert_eq!((finding.fault, finding.step.as_str()), (Fault::FromPoison, "late"));
    let text = finding.to_string();
    assert!(text.contains("0x7ff4a000 in row 0"), "{text}");
}

#[test]
fn what_is_not_a_number_is_found() {
    let infinite = Fill {
        value: f32::INFINITY,
        ..fill(A, 2)
    };
    assert_eq!(run(&ENTRY, 2, [infinite, fill(B, 2)]), Ok(()));
    let nan = Fill {
        value: f32::NAN,
        ..fill(A, 2)
    };
    expect(
        run(&ENTRY, 2, [nan, fill(B, 2)]),
        Fault::NotANumber,
        "make_a",
        &["a"],
        192,
    );
}

#[test]
fn a_birth_over_something_alive_is_found_before_anything_runs() {
    macro_rules! over {
        ($offset:literal) => {{
            const NEW: Watched = Watched::rows("b", slot($offset), BATCH);
            const OVER: Entry = Entry {
                steps: &[
                    FIRST,
                    Step {
                        born: &[NEW],
                        writes: &[NEW],
                        live: &[A, NEW],
                        ..SECOND
                    },
                ],
                ..ENTRY
            };
            run(&OVER, 2, [fill(A, 2), fill(NEW, 2)])
        }};
    }
    expect(over!(384), Fault::Overlap, "make_b", &["b", "a"], 384);
    // The canary counts.
    expect(over!(448), Fault::Overlap, "make_b", &["b", "a"], 448);
    expect(over!(576), Fault::Overlap, "make_b", &["b", "logits"], 832);
    expect(over!(520), Fault::Misaligned, "make_b", &["b"], 520);
}

#[test]
fn taking_over_a_dying_tensor_is_no_overlap_and_keeps_its_values() {
    const NEW: Watched = Watched::rows("b", slot(192), BATCH);
    const IN_PLACE: Entry = Entry {
        steps: &[
            FIRST,
            Step {
                id: "make_b",
                born: &[NEW],
                in_place: &[(NEW, A)],
                writes: &[NEW],
                live: &[A, NEW],
                dies: &[],
            },
        ],
        ..ENTRY
    };
    let from = Some(slot(192));
    assert_eq!(run(&IN_PLACE, 3, [fill(A, 3), Fill { from, ..fill(NEW, 3) }]), Ok(()));
}

#[test]
fn a_cache_is_poisoned_when_a_sequence_starts_and_written_where_the_tokens_are() {
    const CACHED: Entry = Entry {
        steps: &[Step {
            id: "values",
            born: &[],
            in_place: &[],
            writes: &[VALUES],
            live: &[],
            dies: &[],
        }],
        ..ENTRY
    };
    // Positions of one head are 32 bytes: a row of the kernel holds two, and the second head follows after 512 bytes.
    let head = |head: usize, rows| Fill {
        out: slot(CACHE.v + 512 * head),
        ..fill(A, rows)
    };
    let mut machine = machine(1);
    let mut call = |tokens, pos, rows| {
        let ids = vec![0; tokens];
        let kernels = [head(0, rows), head(1, rows)];
        let result = machine.call(tokens, pos, Some(&ids), &|w| {
            w.watch(&CACHED, 0, Both(kernels));
        });
        match result {
            Ok(()) => Ok(()),
            Err(Error::Debug(finding)) => Err(finding),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(call(2, 0, 1), Ok(()));
    assert_eq!(call(2, 2, 2), Ok(()));
    expect(call(2, 0, 2), Fault::PastTokens, "values", &["kv.values"], CACHE.v + 64);
    expect(call(3, 0, 1), Fault::Unwritten, "values", &["kv.values"], CACHE.v + 64);
}

#[derive(Clone, Copy)]
struct Both([Fill; 2]);

impl Kernel for Both {
    fn axis(&self) -> Axis {
        Axis::Serial
    }

    unsafe fn run(&self, ctx: &Ctx<'_>) {
        // SAFETY: as for the parts.
        self.0.iter().for_each(|part| unsafe { part.run(ctx) });
    }
}

#[test]
fn poison_is_recognised_in_every_type() {
    for (act, cols) in [
        (ActType::F32, 20),
        (ActType::F16, 20),
        (ActType::U32, 1),
        (ActType::Q8, 128),
    ] {
        let slot = Slot { offset: 0, cols, act };
        let what = What::Rows(slot, 2);
        let row: Vec<u8> = (slot.stride()..2 * slot.stride())
            .map(|i| poison::byte(&what, i))
            .collect();
        let found = poison::look(act, cols, &row).map(|(_, bad, _)| bad);
        assert_eq!(found, Some(Bad::Unwritten), "{act:?}");
        assert_eq!(poison::look(act, cols, &vec![0; row.len()]), None, "{act:?}");
        // Every element by itself.
        let size = match act {
            ActType::F16 => 2,
            _ => 4,
        };
        let elements = match act {
            ActType::Q8 => Q8 { cols }.bytes() / size,
            _ => cols,
        };
        for i in 0..elements {
            let mut clean = vec![0; row.len()];
            let bytes = i * size..(i + 1) * size;
            let quants = act == ActType::Q8 && bytes.start < Q8 { cols }.scales();
            let bytes = if quants {
                bytes.start / 64 * 64..bytes.start / 64 * 64 + 64
            } else {
                bytes
            };
            clean[bytes.clone()].copy_from_slice(&row[bytes.clone()]);
            let found = poison::look(act, cols, &clean).map(|(at, bad, _)| (at, bad));
            assert_eq!(found, Some((bytes.start, Bad::Unwritten)), "{act:?} {i}");
        }
    }
    const {
        assert!(
            F32 & 0x7F80_0000 == 0x7F80_0000 && F32 & 0x0040_0000 == 0,
            "a signalling NaN"
        );
        assert!(F16 & 0x7C00 == 0x7C00 && F16 & 0x0200 == 0, "a signalling NaN");
    }
    assert_eq!(poison::element(ActType::F32, F32 | 0x8040_0000), Some(Bad::FromPoison));
    assert_eq!(
        poison::element(ActType::F16, u32::from(F16) | 0x8200),
        Some(Bad::FromPoison)
    );
    assert_eq!(poison::element(ActType::F32, f32::NAN.to_bits()), Some(Bad::NotANumber));
    assert_eq!(poison::element(ActType::F32, f32::NEG_INFINITY.to_bits()), None);
    assert_eq!(poison::element(ActType::F16, 0xFC00), None);
}
