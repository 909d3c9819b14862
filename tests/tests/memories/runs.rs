//! Programs in memories, also in a stride layout, under the watch of debug mode and as a crate of its own: they compute
//! the bits of one memory, keep within their capacities, and faults in the second memory are found.

use std::fs;
use std::ops::Range;
use std::process::Command;

use ck_runtime::{Error, debug::Fault};
use ck_tests::{Case, How, Session};
use ckc::compile::Options;
use ckc::fuse::Flags;
use ckc::layout::debug::DebugMode;
use ckc::layout::{Kind, operand_name};
use ckc::report;
use ckc::schedule::access::Operand;
use ckc::verify::Program;

use crate::{TWO, descriptions, models, plan_as, with_arena};

const WATCHED: DebugMode = DebugMode {
    canaries: true,
    poison: true,
    reuse: true,
};

fn shipped(arena: &str) -> Case {
    Case::absolute(&with_arena(&models().join("shakespeare.yaml"), arena))
}

/// Prefill in one call, then decoding, then prefill again over what that left.
fn answers(session: &mut Session) -> Vec<u32> {
    let ids: Vec<u32> = (0..40).map(|i| (i * i * 37 + 11) % 1024).collect();
    session.dirty();
    let mut all = session.prefill(&ids);
    all.extend(session.decode(&ids[..9]));
    all.extend(session.prefill(&ids[5..25]));
    all.iter().map(|logit| logit.to_bits()).collect()
}

#[test]
fn a_program_in_two_memories_gives_the_same_bits() {
    let text = fs::read_to_string(models().join("shakespeare.yaml")).unwrap();
    let folder = models().join("shakespeare").display().to_string();
    let text = text
        .replace("file: shakespeare,", &format!("file: {folder},"))
        .replace("tokenizer: shakespeare", &format!("tokenizer: {folder}"));
    for fuse in [Flags::ALL, Flags::NONE] {
        let how = How { fuse, ..How::default() };
        let want = answers(&mut Case::absolute(&text).open(&how));
        for arena in [
            "[{name: fast, bytes: 8KiB}, {name: main}]",
            "[{name: fast, bytes: 300KiB}, {name: main}]",
            "[{name: a, bytes: 5000}, {name: b, bytes: 200KiB}, {name: c, bytes: 9MB}]",
            TWO,
        ] {
            for threads in [1, 3] {
                let mut session = shipped(arena).open(&How { threads, ..how });
                assert!(answers(&mut session) == want, "{arena} {threads} {:?}", fuse.names());
            }
        }
    }
}

#[test]
fn watched_and_strided_programs_in_memories_give_the_same_bits() {
    for fuse in [Flags::ALL, Flags::NONE] {
        let how = How { fuse, ..How::default() };
        let want = answers(&mut shipped("[{name: main}]").open(&how));
        for arena in [
            "[{name: fast, bytes: 300KiB}, {name: main}]",
            "[{name: a, bytes: 5000}, {name: b, bytes: 200KiB}, {name: c, bytes: 90MB}]",
        ] {
            let case = shipped(arena);
            for (layout, debug) in [
                (Kind::Stride, None),
                (Kind::Packed, Some(WATCHED)),
                (Kind::Stride, Some(WATCHED)),
                (
                    Kind::Packed,
                    Some(DebugMode {
                        reuse: false,
                        ..WATCHED
                    }),
                ),
                (
                    Kind::Packed,
                    Some(DebugMode {
                        canaries: false,
                        ..WATCHED
                    }),
                ),
            ] {
                let mut session = case.open(&How { layout, debug, ..how });
                assert!(answers(&mut session) == want, "{arena} {layout:?} {debug:?}");
                let text = report::to_json(&session.planned.report);
                assert_eq!(report::to_json(&report::from_json(&text).expect(arena)), text);
            }
        }
    }
}

/// Every model, in every form: capacities hold, and everything lies in the memory that is said of it.
#[test]
fn watched_and_strided_models_keep_within_their_memories() {
    for yaml in descriptions() {
        for fuse in [Flags::ALL, Flags::NONE] {
            for (layout, debug) in [
                (Kind::Stride, DebugMode::default()),
                (Kind::Packed, WATCHED),
                (Kind::Stride, WATCHED),
            ] {
                let options = Options {
                    fuse: Some(fuse),
                    layout: Some(layout),
                    debug: Some(debug),
                    ..Options::default()
                };
                let planned = plan_as(&yaml, TWO, &options);
                let what = format!("{} {:?} {layout:?} {debug:?}", yaml.display(), fuse.names());
                let totals = &planned.report.totals;
                let fast = &totals.memories[0];
                assert!(fast.bytes <= 2 << 20 && fast.bytes > 0, "{what}: {fast:?}");
                assert!(totals.memories.iter().all(|m| m.lower_bound <= m.bytes), "{what}");
            }
        }
    }
}

/// Two tensors of one memory that are alive together, the second put over the first.
#[test]
fn an_overlap_in_the_second_memory_is_caught_and_named() {
    let case = shipped("[{name: fast, bytes: 300KiB}, {name: main}]");
    let how = How {
        debug: Some(WATCHED),
        ..How::default()
    };
    let mut session = case.open(&how);
    let tables = ckc::layout::debug::tables(&session.planned.layout);
    let edges: Vec<&str> = tables.resident.iter().map(|w| w.name.as_str()).collect();
    assert!(
        edges.contains(&"the start of fast") && edges.contains(&"the start of main"),
        "{edges:?}"
    );
    let layout = session.planned.layout.clone();
    let planned = &layout.entries[0];
    let in_main = |o: &Operand| {
        layout
            .memory_of(planned.places[o])
            .is_some_and(|m| m.memory.name == "main")
    };
    let own: Vec<(&Operand, &Range<u32>)> = planned.live.iter().filter(|(o, _)| in_main(o)).collect();
    let pairs = own.iter().flat_map(|a| own.iter().map(move |b| (a, b)));
    let ((over, _), (moved, _)) = pairs
        .clone()
        .find(|((a, x), (b, y))| x.start < y.start && y.start < x.end && planned.places[*a] != planned.places[*b])
        .expect("two that are alive together");
    let mut broken = layout.clone();
    broken.entries[0].places.insert(**moved, planned.places[*over]);
    let names = [over, moved].map(|o| operand_name(&planned.entry, **o));
    let ids: Vec<u32> = (0..20).map(|i| (i * 37 + 5) % 1024).collect();
    session.machine.reset();
    let found = session.machine.prefill(&Program::new(&broken), &ids).map(|_| ());
    let Err(Error::Debug(finding)) = found else {
        panic!("{found:?}")
    };
    assert_eq!(
        (&finding.fault, finding.entry.as_str()),
        (&Fault::Overlap, "prefill"),
        "{finding}"
    );
    let other = finding.other.as_ref().expect("an overlap has two tensors");
    assert!(
        names.contains(&finding.tensor.name.to_string()) && names.contains(&other.name.to_string()),
        "{finding}"
    );
    // The judge of reports sees it in the file.
    let mut report = session.planned.report.clone();
    let row = |name: &String| {
        report
            .tensors
            .iter()
            .position(|t| t.entry == "prefill" && t.id == *name)
            .expect(name)
    };
    let (over, moved) = (row(&names[0]), row(&names[1]));
    report.tensors[moved].offset = report.tensors[over].offset;
    let said = report::check(&report);
    assert!(
        said.iter()
            .any(|v| names.iter().all(|n| v.message.contains(&format!("`{n}`")))),
        "{said:?}"
    );
}

/// A crate of its own, with everything at once: built, run, broken by hand in its second memory, and run again.
#[test]
fn a_crate_in_memories_runs_and_finds_what_is_wrong_with_it() {
    let case =
        shipped("[{name: fast, bytes: 300KiB}, {name: main}]\nlayout: stride\ndebug: {canaries: true, poison: true}");
    let folder = case.path().with_file_name("runner");
    let compiled = Command::new(env!("CARGO_BIN_EXE_ckc-under-test"))
        .arg("compile")
        .arg(case.path())
        .arg("-o")
        .arg(&folder)
        .output()
        .unwrap();
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let out = folder.with_file_name("logits.safetensors");
    let run = || {
        Command::new(env!("CARGO"))
            .args([
                "run",
                "--offline",
                "--quiet",
                "--",
                "logits",
                "--ids",
                "1,2,3,4,5,6",
                "--out",
            ])
            .arg(&out)
            .current_dir(&folder)
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_TARGET_DIR")
            .output()
            .unwrap()
    };
    let done = run();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let bytes = fs::read(&out).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut session = shipped("[{name: main}]").open(&How::default());
    let want: Vec<u8> = session
        .prefill(&[1, 2, 3, 4, 5, 6])
        .iter()
        .flat_map(|x| x.to_le_bytes())
        .collect();
    assert!(file.tensor("logits").unwrap().data() == want, "other bits");

    let path = folder.join("src/layout.rs");
    let text = fs::read_to_string(&path).unwrap();
    let prefill = text.find("pub mod prefill").expect("slots");
    let slot = |name: &str| {
        let at = prefill + text[prefill..].find(&format!("const {name}: Slot")).expect(name);
        let from = at + text[at..].find("offset: ").expect("an offset") + "offset: ".len();
        from..from + text[from..].find(',').expect("an end")
    };
    let (act, down) = (slot("LAYERS_0_ACT"), slot("LAYERS_0_DOWN"));
    let (start, end) = main_region(&text);
    let place = usize::from_str_radix(text[act.clone()].trim_start_matches("0x"), 16).expect("an offset");
    assert!(
        (start..end).contains(&place),
        "{place:#x} is not in {start:#x}..{end:#x}"
    );
    let mut broken = text.clone();
    broken.replace_range(down, &text[act]);
    fs::write(&path, broken).unwrap();
    let done = run();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(
        said.contains("`layers.0.down` is born over `layers.0.act`, which is alive"),
        "{said}"
    );
}

/// The bytes of the memory `main` in a crate's constants.
fn main_region(text: &str) -> (usize, usize) {
    let at = text.find("MEMORY_MAIN: std::ops::Range<usize> = ").expect("a region");
    let value = text[at..]
        .split(" = ")
        .nth(1)
        .and_then(|v| v.split(';').next())
        .expect("a range");
    let hex = |n: &str| usize::from_str_radix(n.trim().trim_start_matches("0x"), 16).expect("a number");
    let (start, end) = value.split_once("..").expect("two ends");
    (hex(start), hex(end))
}
