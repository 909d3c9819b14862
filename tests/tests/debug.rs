//! Debug runs: canaries and poison change no bit of a sound program, and find what is wrong with others.

use std::fs;
use std::path::Path;
use std::process::Command;

use ck_runtime::{Error, debug::Fault};
use ck_tests::{Case, How, Session, Tensors, shared, shipped};
use ckc::emit::RuntimePath;
use ckc::fuse::Flags;
use ckc::layout::debug::DebugMode;
use ckc::layout::{Kind, Layout, merged_buffers, operand_bytes, operand_name};
use ckc::schedule::access::Operand;
use ckc::verify::Program;

const OFF: DebugMode = DebugMode {
    canaries: false,
    poison: false,
    reuse: true,
};

const ALL: DebugMode = DebugMode {
    canaries: true,
    poison: true,
    reuse: true,
};

/// Every way to be debugged, none first.
const MODES: [DebugMode; 6] = [
    OFF,
    DebugMode { reuse: false, ..OFF },
    ALL,
    DebugMode { reuse: false, ..ALL },
    DebugMode { canaries: false, ..ALL },
    DebugMode { poison: false, ..ALL },
];

fn how(fuse: Flags, debug: DebugMode) -> How {
    How {
        fuse,
        debug: Some(debug),
        ..How::default()
    }
}

/// A golden model and its ids, if the golden data is there.
fn golden(name: &str) -> Option<(Case, Vec<u32>)> {
    let tensors = Tensors::open(&shared(&format!("golden/{name}/golden.safetensors"))?);
    Some((Case::golden(name, "config.json")?, tensors.get("input_ids").ids()))
}

/// The model that ships, with another type of weights.
fn shipped_as(dtype: &str) -> Case {
    let folder = shipped("").canonicalize().expect("the shipped model");
    let yaml = fs::read_to_string(folder.with_extension("yaml")).expect("its description");
    let name = folder.display();
    let (file, tokenizer) = ("file: shakespeare, dtype: bf16", "tokenizer: shakespeare");
    assert!(yaml.contains(file) && yaml.contains(tokenizer));
    let yaml = yaml.replace(file, &format!("file: {name}, dtype: {dtype}"));
    Case::absolute(&yaml.replace(tokenizer, &format!("tokenizer: {name}")))
}

/// In chunks smaller than the batch, by decode, and as one chunk of which only the last logits are asked for.
fn run(session: &mut Session, ids: &[u32]) -> Vec<u32> {
    session.dirty();
    let mut logits = session.prefill(&ids[..10]);
    logits.extend(session.prefill(&ids[10..20]));
    logits.extend(session.decode(&ids[20..]));
    session.machine.reset();
    logits.extend(session.try_prefill(ids).expect("ids that fit"));
    logits.iter().map(|x| x.to_bits()).collect()
}

/// The same ids in every mode; the first run says what the bits are.
fn same_bits(name: &str, case: &Case, ids: &[u32], layouts: &[Kind], workers: &[usize]) {
    for fuse in [Flags::ALL, Flags::NONE] {
        let mut want = None;
        for &layout in layouts {
            for debug in MODES {
                for &threads in workers {
                    let how = How {
                        layout,
                        threads,
                        ..how(fuse, debug)
                    };
                    let got = run(&mut case.open(&how), ids);
                    let want = want.get_or_insert_with(|| got.clone());
                    assert!(
                        got == *want,
                        "{name}: other bits with {threads} threads, {layout:?}, {debug:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn golden_models_give_the_same_bits_with_and_without_reuse_canaries_and_poison() {
    for name in ["llama_tied", "llama3_rope", "qwen2"] {
        if let Some((case, ids)) = golden(name) {
            same_bits(name, &case, &ids, &[Kind::Packed, Kind::Stride], &[1, 2, 3]);
        }
    }
}

#[test]
fn the_shipped_model_gives_the_same_bits_with_and_without_reuse_canaries_and_poison() {
    let ids: Vec<u32> = (0..24).map(|i| (i * 37 + 5) % 1024).collect();
    for dtype in ["bf16", "q8_0"] {
        same_bits(dtype, &shipped_as(dtype), &ids, &[Kind::Packed], &[2]);
    }
}

/// What a run of a layout finds.
fn find(session: &mut Session, layout: &Layout, ids: &[u32]) -> Result<(), Error> {
    let program = Program::new(layout);
    session.machine.reset();
    session.machine.prefill(&program, &ids[..20])?;
    session.machine.prefill(&program, &ids[20..21]).map(|_| ())
}

/// The lifetimes of tensors and workspaces of an entry, with their names.
fn lives(layout: &Layout, entry: usize) -> Vec<(Operand, std::ops::Range<u32>, String)> {
    let planned = &layout.entries[entry];
    let name = |o: &Operand| operand_name(&planned.entry, *o);
    planned
        .live
        .iter()
        .map(|(o, live)| (*o, live.clone(), name(o)))
        .collect()
}

#[test]
fn every_tensor_put_over_one_that_is_alive_is_caught_and_named() {
    let Some((case, ids)) = golden("llama_tied") else {
        return;
    };
    for fuse in [Flags::ALL, Flags::NONE] {
        let mut session = case.open(&how(fuse, ALL));
        let layout = session.planned.layout.clone();
        let model = layout.entries[0].entry.graph.clone();
        let mut caught = 0;
        for entry in 0..layout.entries.len() {
            let lives = lives(&layout, entry);
            for (moved, live, name) in &lives {
                // All tensors of an entry that are alive with it would be too many: the first that does not share with it.
                let planned = &layout.entries[entry];
                let together = |o: &Operand, other: &std::ops::Range<u32>| {
                    other.start < live.end && live.start < other.end && planned.places[o] != planned.places[moved]
                };
                let Some((over, ..)) = lives.iter().find(|(o, other, _)| together(o, other)) else {
                    continue;
                };
                let mut broken = layout.clone();
                let place = broken.entries[entry].places[over];
                let bytes = operand_bytes(&planned.entry, &model, *moved);
                if place + bytes + 64 > layout.arena_bytes {
                    continue;
                }
                broken.entries[entry].places.insert(*moved, place);
                match find(&mut session, &broken, &ids) {
                    Err(Error::Debug(finding)) => {
                        assert_eq!(finding.fault, Fault::Overlap, "{finding}");
                        assert_eq!(finding.entry, planned.entry.name, "{finding}");
                        let other = finding.other.as_ref().expect("an overlap has two tensors");
                        assert!(
                            [&finding.tensor, other].iter().any(|t| t.name == *name),
                            "{name}: {finding}"
                        );
                        caught += 1;
                    }
                    other => panic!("{name} of {} over {over:?}: {other:?}", planned.entry.name),
                }
            }
        }
        assert!(caught > 20, "{caught} caught");
        find(&mut session, &layout, &ids).expect("the layout as it was planned");
    }
}

#[test]
fn an_overlap_of_one_canary_names_step_tensors_and_byte() {
    let Some((case, ids)) = golden("llama_tied") else {
        return;
    };
    let mut session = case.open(&how(Flags::NONE, DebugMode { reuse: false, ..ALL }));
    let mut layout = session.planned.layout.clone();
    let by_name = |name: &str| {
        let found = lives(&layout, 0).into_iter().find(|(_, _, n)| n == name);
        found.expect("a tensor of that name").0
    };
    let (embed, norm) = (by_name("embed"), by_name("layers.0.attn_norm"));
    let model = &layout.entries[0].entry.graph;
    let end = layout.entries[0].places[&embed] + operand_bytes(&layout.entries[0].entry, model, embed);
    layout.entries[0].places.insert(norm, end);
    let error = find(&mut session, &layout, &ids).expect_err("it overlaps").to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(
        lines[0],
        "step `layers.0.attn_norm` of prefill: `layers.0.attn_norm` is born over `embed`, which is alive"
    );
    assert!(
        lines[1].starts_with(&format!(
            "  at byte {end:#x} of the arena: expected none, found 64 bytes"
        )),
        "{error}"
    );
}

#[test]
fn without_reuse_no_two_tensors_share_a_byte_and_canaries_are_in_the_totals() {
    let Some((case, _)) = golden("llama_tied") else { return };
    let plan = |debug| case.plan(&how(Flags::ALL, debug));
    let (off, all) = (plan(OFF), plan(ALL));
    assert!(all.report.totals.arena_bytes > off.report.totals.arena_bytes);
    assert_eq!(all.report.header.options.debug, ["canaries", "poison"]);
    assert!(off.report.header.options.debug.is_empty());
    assert!(ckc::report::to_text(&all.report).contains("option  debug canaries,poison\n"));
    let linear = plan(DebugMode { reuse: false, ..ALL });
    for (layout, shared_allowed) in [(&linear.layout, false), (&all.layout, true)] {
        for planned in &layout.entries {
            let buffers = merged_buffers(layout, planned);
            for (i, a) in buffers.iter().enumerate() {
                for b in &buffers[i + 1..] {
                    let bytes = a.bytes.start < b.bytes.end && b.bytes.start < a.bytes.end;
                    let time = a.live.start < b.live.end && b.live.start < a.live.end;
                    assert!(
                        !bytes || (shared_allowed && !time),
                        "{}: {a:?} {b:?}",
                        planned.entry.name
                    );
                }
            }
        }
    }
}

#[test]
fn a_crate_says_what_it_watches_and_only_when_it_does() {
    let case = shipped_as("bf16");
    let text = |debug, path: &str| {
        let files = case.plan(&how(Flags::ALL, debug)).files(&RuntimePath::Carried);
        files.into_iter().find(|f| f.path == path).map(|f| f.text)
    };
    assert_eq!(text(OFF, "src/debug.rs"), None);
    assert_eq!(text(DebugMode { reuse: false, ..OFF }, "src/debug.rs"), None);
    let tables = text(ALL, "src/debug.rs").expect("tables");
    for line in [
        "pub(crate) const PREFILL: Entry = Entry {",
        "const LAYERS_0_KV_KEYS: Watched = Watched::keys(\"layers.0.kv.keys\", caches::LAYERS_0_KV);",
        "LOGITS: Watched = Watched::rows(\"logits\", slots::LOGITS, 1);",
        "Watched::scratch(\"the start of kv\", ",
    ] {
        assert!(tables.contains(line), "no {line:?} in\n{tables}");
    }
    let steps = text(ALL, "src/prefill.rs").expect("steps");
    assert!(steps.contains("w.watch(\n        &debug::PREFILL,\n        0,\n") && !steps.contains("w.run("));
    let steps = text(OFF, "src/prefill.rs").expect("steps");
    assert!(steps.contains("w.run(") && !steps.contains("debug") && !steps.contains("watch"));
}

#[test]
fn rustfmt_has_nothing_to_change_in_tables() {
    if Command::new("rustfmt").arg("--version").output().is_err() {
        eprintln!("not run: rustfmt is absent");
        return;
    }
    let planned = shipped_as("bf16").plan(&how(Flags::ALL, ALL));
    let dir = tempfile::tempdir().unwrap();
    for file in planned.files(&RuntimePath::Workspace("none".into())) {
        let path = dir.path().join(&file.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &file.text).unwrap();
    }
    let lib = dir.path().join("src/lib.rs");
    let checked = Command::new("rustfmt")
        .args(["--check", "--edition", "2024"])
        .arg(&lib)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn commands_take_a_description_with_debug() {
    let case = shipped_as("bf16");
    let yaml = fs::read_to_string(case.path()).unwrap();
    fs::write(
        case.path(),
        format!("{yaml}\ndebug: {{canaries: true, poison: true, reuse: false}}\n"),
    )
    .unwrap();
    let run = |args: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_ckc-under-test"))
            .args(args)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8(done.stdout).unwrap()
    };
    let model = case.path().to_str().unwrap();
    assert!(run(&["plan", model]).contains("for debugging: canaries, poison, no_reuse\n"));
    assert!(run(&["plan", model, "--json"]).contains("\"debug\": ["));
    assert!(run(&["explain", model, "layers.0.attn"]).contains("step `layers.0.attn`"));
    assert!(run(&["compile", model, "--emit", "steps"]).contains("&debug::DECODE,\n        0,\n"));
    assert!(run(&["verify", model, "--ids", "1,2,3,4,5"]).contains("tensors"));
    let out = Path::new(model).with_file_name("runner");
    run(&["compile", model, "-o", out.to_str().unwrap()]);
    assert!(out.join("src/debug.rs").exists());
}
