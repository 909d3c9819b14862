//! Compiled programs against golden data, run in this process: every way to run one must give the same answers.

use std::fs;
use std::path::Path;

use ck_tests::{Case, How, Session, Tensors, assert_close, assert_same_bits, shared};
use ckc::{
    fuse::{Flag, Flags},
    layout::Kind,
};

/// The largest absolute difference from golden logits.
const TOLERANCE: f32 = 2e-4;

const FAMILIES: [&str; 6] = [
    "llama_tied",
    "llama_untied",
    "llama3_rope",
    "llama_bf16",
    "llama_sharded",
    "qwen2",
];

/// What a model must answer.
struct Golden {
    ids: Vec<u32>,
    logits: Vec<f32>,
    greedy: Vec<u32>,
}

impl Golden {
    fn open(path: &Path) -> Golden {
        let tensors = Tensors::open(path);
        Golden {
            ids: tensors.get("input_ids").ids(),
            logits: tensors.get("logits").data.clone(),
            greedy: tensors.get("greedy_ids").ids(),
        }
    }

    fn of(name: &str) -> Option<Golden> {
        Some(Golden::open(&shared(&format!("golden/{name}/golden.safetensors"))?))
    }
}

/// The golden models that are there, imported.
fn families() -> impl Iterator<Item = (&'static str, Case, Golden)> {
    FAMILIES
        .into_iter()
        .filter_map(|name| Some((name, Case::golden(name, "config.json")?, Golden::of(name)?)))
}

/// The logits of all ids through `prefill`, from memory full of NaN.
fn prefilled(session: &mut Session, ids: &[u32]) -> Vec<f32> {
    session.dirty();
    session.prefill(ids)
}

/// Through prefill, through decode alone, through two chunks and then decode, and greedily.
#[track_caller]
fn every_way(name: &str, session: &mut Session, golden: &Golden, tolerance: f32) {
    let Golden { ids, logits, greedy } = golden;
    let whole = prefilled(session, ids);
    assert_close(&format!("{name} prefill"), &whole, logits, tolerance);
    assert_eq!(&session.greedy(whole, greedy.len()), greedy, "{name} greedy");

    session.dirty();
    let one_by_one = session.decode(ids);
    assert_close(&format!("{name} decode"), &one_by_one, logits, tolerance);

    session.dirty();
    let mut chunks = session.prefill(&ids[..10]);
    chunks.extend(session.prefill(&ids[10..20]));
    chunks.extend(session.decode(&ids[20..]));
    assert_close(&format!("{name} in chunks"), &chunks, logits, tolerance);

    session.dirty();
    let last = session.try_prefill(ids).unwrap();
    let vocab = last.len();
    assert_close(
        &format!("{name} last"),
        &last,
        &logits[logits.len() - vocab..],
        tolerance,
    );
}

#[test]
fn golden_models_in_both_layouts_of_their_config() {
    for config in ["config.json", "config.v5.json"] {
        for name in FAMILIES {
            let (Some(case), Some(golden)) = (Case::golden(name, config), Golden::of(name)) else {
                continue;
            };
            let mut session = case.open(&How::default());
            every_way(&format!("{name} {config}"), &mut session, &golden, TOLERANCE);
        }
    }
}

#[test]
fn golden_prompts_in_two_chunks_then_decode() {
    for (name, case, golden) in families() {
        let mut session = case.open(&How::default());
        session.dirty();
        let mut logits = session.prefill(&golden.ids[..10]);
        logits.extend(session.prefill(&golden.ids[10..24]));
        assert_close(name, &logits, &golden.logits, TOLERANCE);
        assert_eq!(session.greedy(logits, golden.greedy.len()), golden.greedy, "{name}");
    }
}

#[test]
fn every_fusion_alone_none_and_all() {
    let sets: Vec<Flags> = Flag::all().map(Flags::only).chain([Flags::NONE, Flags::ALL]).collect();
    for (name, case, golden) in families() {
        for &fuse in &sets {
            for layout in [Kind::Packed, Kind::Stride] {
                let mut session = case.open(&How {
                    fuse,
                    layout,
                    ..How::default()
                });
                every_way(
                    &format!("{name} {:?} {layout:?}", fuse.names()),
                    &mut session,
                    &golden,
                    TOLERANCE,
                );
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_layout_threads_or_what_was_in_memory() {
    for (name, case, golden) in families() {
        for fuse in [Flags::ALL, Flags::NONE] {
            let mut reference: Option<[Vec<f32>; 2]> = None;
            for layout in [Kind::Packed, Kind::Stride] {
                for threads in [1, 2, 3, 7] {
                    let how = How {
                        fuse,
                        layout,
                        threads,
                        ..How::default()
                    };
                    let mut session = case.open(&how);
                    // First on fresh memory, then on what the run before left, then on NaN.
                    for round in 0..3 {
                        let prefill = session.prefill(&golden.ids);
                        session.machine.reset();
                        let decode = session.decode(&golden.ids);
                        session.machine.reset();
                        let [want_prefill, want_decode] =
                            &*reference.get_or_insert_with(|| [prefill.clone(), decode.clone()]);
                        let what = format!("{name} {layout:?} threads {threads} round {round}");
                        assert_same_bits(&format!("{what} prefill"), &prefill, want_prefill);
                        assert_same_bits(&format!("{what} decode"), &decode, want_decode);
                        if round == 1 {
                            session.dirty();
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_instruction_set_of_this_machine() {
    for (name, case, golden) in families() {
        for isa in ck_kernels::isa::supported() {
            let mut session = case.open(&How {
                isa: Some(isa.name),
                ..How::default()
            });
            assert_eq!(session.machine.isa(), isa.name);
            every_way(&format!("{name} {}", isa.name), &mut session, &golden, TOLERANCE);
        }
    }
}

/// The model that ships, with another type of weights.
fn shipped(dtype: &str) -> (Case, Golden) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let folder = models.canonicalize().expect("the models folder").join("shakespeare");
    let yaml = fs::read_to_string(models.join("shakespeare.yaml")).expect("the shipped model");
    let yaml = replace(
        &yaml,
        "file: shakespeare, dtype: bf16",
        &format!("file: {}, dtype: {dtype}", folder.display()),
    );
    let yaml = replace(
        &yaml,
        "tokenizer: shakespeare",
        &format!("tokenizer: {}", folder.display()),
    );
    (Case::absolute(&yaml), Golden::open(&folder.join("golden.safetensors")))
}

#[track_caller]
fn replace(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from:?} in the description");
    text.replace(from, to)
}

#[test]
fn the_shipped_model_in_f32() {
    let (case, golden) = shipped("f32");
    for fuse in [Flags::ALL, Flags::NONE] {
        let how = How { fuse, ..How::default() };
        every_way("shakespeare", &mut case.open(&how), &golden, TOLERANCE);
    }
}

/// The stored weights are bf16, so that nothing is lost but keys and values rounded to f16: relative errors of 2^-11 in
/// logits of about 16. A matrix unit has activations rounded to bf16: 2^-8.
#[test]
fn the_shipped_model_as_it_ships() {
    let (case, golden) = shipped("bf16");
    let mut session = case.open(&How::default());
    let step = if session.machine.rounds_to_bf16() {
        256.0
    } else {
        2048.0
    };
    every_way("shakespeare", &mut session, &golden, 16.0 / step);
}
