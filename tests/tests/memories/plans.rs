//! Plans with memories: every place, what is said of it in reports, in words and on the page, what counts for budgets and
//! sweeps, and what a program that does not fit is told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use ckc::compile::{self, Options, Planned};
use ckc::fuse::Flags;
use ckc::layout::{Kind, Layout, merged_buffers, operand_bytes, operand_name, state};
use ckc::report::{self, Status};
use ckc::schedule::order;
use ckc::{diag, explain, shortage, sweep};
use tempfile::TempDir;

use crate::{TWO, descriptions, models, plan_as, with_arena};

fn plan(yaml: &Path, arena: &str, fuse: Flags) -> Planned {
    let options = Options {
        fuse: Some(fuse),
        ..Options::default()
    };
    plan_as(yaml, arena, &options)
}

#[test]
fn every_model_keeps_within_its_memories() {
    for yaml in descriptions() {
        for fuse in [Flags::ALL, Flags::NONE] {
            for (arena, capacity) in [(TWO, 2 << 20), ("[{name: fast, bytes: 100kB}, {name: main}]", 100_000)] {
                let planned = plan(&yaml, arena, fuse);
                let what = format!("{} {arena} {:?}", yaml.display(), fuse.names());
                check_places(&what, &planned, capacity);
                check_hottest(&what, &planned.layout, capacity);
            }
        }
    }
}

/// Regions stand one behind the other on pages, hold what is said to be in them, and `fast` keeps its capacity.
fn check_places(what: &str, planned: &Planned, capacity: u64) {
    let totals = &planned.report.totals;
    let mut regions: Vec<_> = totals.regions.iter().collect();
    // Where nothing is left for `main`, it begins where `fast` does.
    regions.sort_by_key(|r| (r.offset, r.bytes));
    let names: Vec<&str> = regions.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["weights", "main", "fast"], "{what}");
    for (region, next) in regions.iter().zip(&regions[1..]) {
        let end = region.offset + region.bytes;
        assert!(
            end <= next.offset && next.offset - end < 4096,
            "{what}: {}",
            region.name
        );
    }
    assert!(totals.regions.iter().all(|r| r.offset % 4096 == 0), "{what}");
    let fast = &totals.memories[0];
    assert_eq!((fast.name.as_str(), fast.capacity), ("fast", Some(capacity)), "{what}");
    assert!(fast.bytes <= capacity && fast.bytes > 0, "{what}: {} bytes", fast.bytes);
    assert!(
        fast.lower_bound <= fast.bytes && fast.status == Status::Optimal,
        "{what}"
    );
    for tensor in &planned.report.tensors {
        let region = totals.regions.iter().find(|r| r.name == tensor.home()).expect(what);
        let inside = region.offset <= tensor.offset && tensor.offset + tensor.bytes <= region.offset + region.bytes;
        assert!(inside && tensor.accesses.is_some(), "{what}: {}", tensor.id);
    }
    let layout = &planned.layout;
    for entry in &layout.entries {
        let mut buffers = merged_buffers(layout, entry);
        buffers.extend(state(layout, entry).into_iter().map(|(_, held)| held));
        for (i, a) in buffers.iter().enumerate() {
            for b in &buffers[..i] {
                let bytes = a.bytes.start < b.bytes.end && b.bytes.start < a.bytes.end;
                let time = a.live.start < b.live.end && b.live.start < a.live.end;
                assert!(!(bytes && time), "{what} {}: {a:?} and {b:?}", entry.entry.name);
            }
        }
    }
    let json = report::to_json(&planned.report);
    assert_eq!(report::to_json(&report::from_json(&json).expect(what)), json, "{what}");
}

/// Buffers that have one place: a tensor of one entry, or what several entries share.
#[derive(Default)]
struct Family {
    fast: bool,
    bytes: u64,
    accesses: u128,
    /// Bytes of the arena and steps on a clock that runs through all entries.
    places: Vec<(Range<u64>, Range<u32>)>,
}

/// No tensor of `fast` can be exchanged for one of `main` that is accessed more.
fn check_hottest(what: &str, layout: &Layout, capacity: u64) {
    let families = families(layout);
    let end: u32 = layout.entries.iter().map(|e| e.entry.steps.len() as u32).sum();
    let (fast, main): (Vec<&Family>, Vec<&Family>) = families.values().partition(|f| f.fast);
    // What is taken at a time without one family.
    let taken = |without: &Family, at: u32| {
        let others = fast
            .iter()
            .filter(|f| !std::ptr::eq(**f, without))
            .flat_map(|f| &f.places);
        let mut bytes: Vec<&Range<u64>> = others.filter(|(_, live)| live.contains(&at)).map(|(b, _)| b).collect();
        bytes.sort_by_key(|b| (b.start, b.end));
        let mut end = 0;
        bytes.iter().fold(0, |sum, b| {
            let start = b.start.max(end);
            end = end.max(b.end);
            sum + b.end.saturating_sub(start)
        })
    };
    for b in &main {
        for a in fast.iter().filter(|a| a.accesses < b.accesses) {
            let full = |at: &u32| taken(a, *at) + b.bytes > capacity;
            let live = (0..end).filter(|at| b.places.iter().any(|(_, live)| live.contains(at)));
            assert!(
                live.clone().any(|at| full(&at)),
                "{what}: {} for {}",
                name(&families, b),
                name(&families, a)
            );
        }
    }
}

fn name<'a>(families: &'a BTreeMap<String, Family>, family: &Family) -> &'a str {
    families
        .iter()
        .find(|(_, f)| std::ptr::eq(*f, family))
        .map_or("", |(name, _)| name)
}

fn families(layout: &Layout) -> BTreeMap<String, Family> {
    let model = &layout.entries[0].entry.graph;
    let end: u32 = layout.entries.iter().map(|e| e.entry.steps.len() as u32).sum();
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let head: BTreeSet<String> = layout.entries[2]
        .entry
        .graph
        .inputs
        .iter()
        .map(|t| model.tensor(*t).name.clone())
        .collect();
    let mut start = 0;
    for planned in &layout.entries {
        for (operand, accesses) in &planned.accesses {
            let name = operand_name(&planned.entry, *operand);
            let own = planned.live.get(operand);
            let key = match own {
                Some(_) if !head.contains(&name) => format!("{}/{name}", planned.entry.name),
                _ => name,
            };
            let bytes = operand_bytes(&planned.entry, model, *operand).next_multiple_of(64);
            let at = planned.places[operand];
            let live = own.map_or(0..end, |live| live.start + start..live.end + start);
            let first = !families.contains_key(&key);
            let family = families.entry(key).or_default();
            family.fast = layout.memory_of(at).is_some_and(|m| m.memory.name == "fast");
            family.bytes = family.bytes.max(bytes);
            if own.is_some() || first {
                family.accesses += u128::from(*accesses) * u128::from(bytes);
            }
            family.places.push((at..at + bytes, live));
        }
        start += planned.entry.steps.len() as u32;
    }
    families
}

#[test]
fn plans_with_memories_are_deterministic_and_say_who_serves_what() {
    let yaml = models().join("smollm2-135m.yaml");
    let [one, two] = [(); 2].map(|()| plan(&yaml, TWO, Flags::ALL));
    assert_eq!(report::to_json(&one.report), report::to_json(&two.report));
    let text = explain::totals(&one.report);
    assert!(text.contains("fast") && text.contains("of the accesses"), "{text}");
    let tensor = one
        .report
        .tensors
        .iter()
        .find(|t| t.home() == "main" && t.entry == "prefill")
        .expect("a cold one");
    let text = explain::node(&one, &tensor.id).expect("a tensor");
    assert!(text.contains("in `main`: ") && text.contains("`fast`"), "{text}");
    let coolest = one
        .report
        .tensors
        .iter()
        .filter(|t| t.home() == "fast")
        .min_by_key(|t| t.accesses)
        .expect("one");
    let text = explain::node(&one, coolest.id.trim_end_matches(".keys").trim_end_matches(".values")).expect("a tensor");
    assert!(text.contains("the last that fitted"), "{text}");
}

/// Why something is where it is: its rank, what took the place, what has to be at one place with it; and of a step, which
/// memories it reads and writes.
#[test]
fn ranks_rivals_and_the_memories_of_a_step_are_explained() {
    let arena = "[{name: fast, bytes: 600KiB}, {name: main}]";
    let planned = plan(&models().join("shakespeare.yaml"), arena, Flags::ALL);
    let said = |name: &str| explain::node(&planned, name).unwrap_or_else(|e| panic!("{name}: {}", e.message));
    let text = said("layers.0.act");
    for part in [
        "in `main`: 2 accesses per byte, rank ",
        "`fast` is full: ",
        "bytes are taken at `layers.0.act` of `prefill`, by `layers.0.kv.keys` (131072 bytes, ",
        " more; it needs 393216",
        "  memory       ",
        " bytes of ",
        " in `fast`\n",
    ] {
        assert!(text.contains(part), "{part:?}: {text}");
    }
    // What the body leaves is one place for all entries, and the largest of them decides whether it fits.
    let text = said("layers.3.mlp_residual");
    assert!(
        text.contains("one place for prefill, decode, head; `fast` is full"),
        "{text}"
    );
    assert!(!text.contains("no gap of 1024 bytes"), "{text}");
}

/// One chart for each entry and memory that it finds something in, with caches and io as what is always there.
#[test]
fn the_page_has_a_chart_for_each_memory() {
    for layout in [Kind::Packed, Kind::Stride] {
        let options = Options {
            layout: Some(layout),
            ..Options::default()
        };
        let arena = "[{name: fast, bytes: 600KiB}, {name: main}]";
        let planned = plan_as(&models().join("shakespeare.yaml"), arena, &options);
        let page = planned.page();
        for entry in ["prefill", "decode", "head"] {
            for memory in ["fast", "main"] {
                let title = format!("<h2>{entry} over time, in {memory}</h2>");
                assert_eq!(page.matches(&title).count(), 1, "{layout:?} {title}");
            }
        }
        assert_eq!(page.matches("<svg").count(), 6);
        assert!(page.contains("The memory has 614400 B.") && page.contains("The memory has no limit."));
        assert!(
            page.contains("always</title>") && page.contains("</span>kv</span>"),
            "{layout:?}"
        );
        // What is live in a memory is never more than the memory has.
        let peaks = page.split("dashed column is the peak").skip(1);
        let bytes = peaks.filter_map(|text| text.split(" with ").nth(1)?.split(' ').next()?.parse::<u64>().ok());
        let most = planned.report.totals.memories.iter().map(|m| m.bytes).max();
        assert!(bytes.clone().count() == 6 && bytes.max() <= most, "{layout:?}");
    }
}

/// What the body leaves has rows for a whole batch; a run of the head reads one of them.
#[test]
fn the_head_counts_for_the_row_that_it_reads() {
    let planned = plan(&models().join("shakespeare.yaml"), TWO, Flags::NONE);
    let report = &planned.report;
    let head = report
        .tensors
        .iter()
        .find(|t| t.entry == "head" && t.first == 0 && t.last == 0);
    let head = head.expect("what the head starts from");
    // `batch + 1` rows in all, of `batch` that there are.
    assert_eq!((head.shape[0], head.accesses), (report.header.options.batch, Some(2)));
}

#[test]
fn memories_do_not_move_a_byte_of_a_model_that_names_none() {
    let yaml = models().join("shakespeare.yaml");
    let planned = compile::plan(&yaml, &Options::default()).unwrap_or_else(|e| panic!("{:?}", e.diagnostics));
    let json = report::to_json(&planned.report);
    assert!(!json.contains("memories") && !json.contains("\"accesses\""));
    let one = plan(&yaml, "[{name: main}]", Flags::ALL);
    assert_eq!(one.report.totals.regions.len(), 2);
    assert!(one.report.totals.arena_bytes <= planned.report.totals.arena_bytes);
}

/// The shipped model in a folder of its own, in memories that are too small.
fn too_small(arena: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.yaml");
    fs::write(&path, with_arena(&models().join("shakespeare.yaml"), arena)).unwrap();
    (folder, path)
}

#[test]
fn what_does_not_fit_is_named_and_nothing_is_written() {
    let (folder, path) = too_small("[{name: fast, bytes: 64KiB}, {name: main, bytes: 7MiB}]");
    let planned = compile::plan(&path, &Options::default()).unwrap_or_else(|e| panic!("{:?}", e.diagnostics));
    let totals = &planned.report.totals;
    let by = totals.memories[1].bytes - (7 << 20);
    assert_eq!(totals.memories[1].status, Status::OverBudget { by });
    assert_eq!(
        (totals.status, totals.memories[0].status),
        (Status::OverBudget { by }, Status::Optimal)
    );
    assert!(totals.memories[0].bytes <= 64 << 10);
    let source = &planned.model.source;
    let text = diag::render(
        &shortage::diagnostics(&planned),
        [(source.name.as_str(), source.text.as_str())].as_slice(),
        false,
    );
    insta::assert_snapshot!(text.replace(&path.display().to_string(), "model.yaml"));

    for command in ["compile", "plan"] {
        let out = folder.path().join("out").display().to_string();
        let mut args = vec![command, path.to_str().unwrap()];
        if command == "compile" {
            args.extend(["-o", &out]);
        }
        let output = Command::new(env!("CARGO_BIN_EXE_ckc-under-test"))
            .args(args)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(&format!("over budget by {by}")), "{text}");
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "{command} wrote something"
        );
    }
}

#[test]
fn memories_that_fit_to_the_byte_are_enough_and_a_byte_less_is_not() {
    let yaml = models().join("shakespeare.yaml");
    let need = plan(&yaml, "[{name: main}]", Flags::ALL).report.totals.memories[0].bytes;
    for (bytes, fits) in [(need, true), (need - 1, false), (1, false)] {
        let planned = plan(&yaml, &format!("[{{name: main, bytes: {bytes}}}]"), Flags::ALL);
        assert_eq!(shortage::diagnostics(&planned).is_empty(), fits, "{bytes} of {need}");
        if !fits {
            assert_eq!(planned.report.totals.status, Status::OverBudget { by: need - bytes });
        }
    }
    // What is said to be live there adds up to what is needed.
    for arena in [
        "[{name: main, bytes: 7MiB}]",
        "[{name: fast, bytes: 64KiB}, {name: main, bytes: 7MiB}]",
    ] {
        for fuse in [Flags::ALL, Flags::NONE] {
            let planned = plan(&yaml, arena, fuse);
            let main = planned.layout.memories.last().expect("a memory");
            let shortage = main.shortage.as_ref().expect("too small");
            let live: u64 = shortage.live.iter().map(|(_, bytes)| bytes).sum();
            assert_eq!(
                (live, live - (7 << 20)),
                (main.bytes, shortage.short),
                "{arena} {shortage:?}"
            );
        }
    }
    // Weights that are too large by themselves.
    let planned = plan(
        &yaml,
        "[{name: fast, bytes: 2MiB}, {name: main, bytes: 1MiB}]",
        Flags::ALL,
    );
    let [problem] = shortage::diagnostics(&planned)
        .try_into()
        .expect("one memory is too small");
    let help = problem.help.expect("a hint");
    assert!(help.contains("its weights alone are too large"), "{help}");
    // Sizes that no machine has.
    plan(
        &yaml,
        "[{name: fast, bytes: 18446744073709551615}, {name: main, bytes: 9223372036854775807}]",
        Flags::ALL,
    );
}

#[test]
fn steps_stay_as_written() {
    let (_folder, path) = too_small(TWO);
    let [memory, source] = [order::Kind::Memory, order::Kind::Source].map(|order| {
        let options = Options {
            order: Some(order),
            ..Options::default()
        };
        compile::plan(&path, &options).unwrap_or_else(|e| panic!("{:?}", e.diagnostics))
    });
    assert_eq!(report::to_json(&memory.report), report::to_json(&source.report));
    assert!(memory.layout.entries.iter().all(|e| e.order.is_none()));
}

#[test]
fn every_name_of_a_program_in_memories_is_explained_by_them() {
    let planned = plan(
        &models().join("shakespeare.yaml"),
        "[{name: fast, bytes: 300KiB}, {name: main}]",
        Flags::ALL,
    );
    for tensor in &planned.report.tensors {
        let text = explain::node(&planned, &tensor.id).expect("a tensor");
        assert!(text.contains(&format!("in `{}`: ", tensor.home())), "{text}");
        assert!(!text.contains("not planned") && !text.contains("kv: "), "{text}");
    }
    let page = planned.page();
    assert!(page.contains("<h2>Memories</h2>") && page.contains("307200"));
}

#[test]
fn a_sweep_counts_caches_and_activations_and_marks_what_does_not_fit() {
    let (_folder, path) = too_small("[{name: fast, bytes: 64KiB}, {name: main, bytes: 8MiB}]");
    let options = Options::default();
    let axes = sweep::axes(&["context=128,512".into()], &options).unwrap_or_else(|e| panic!("{:?}", e.diagnostics));
    let found = sweep::sweep(&path, &options, &axes);
    let totals: Vec<_> = found.points.iter().filter_map(sweep::Point::totals).collect();
    let [small, large] = totals[..] else {
        panic!("{found:?}")
    };
    assert!(!small.over_budget && large.over_budget, "{found:?}");
    assert_eq!(large.kv_bytes, 4 * small.kv_bytes, "{found:?}");
    assert!(small.activations_bytes > 0 && large.activations_bytes > 0, "{found:?}");
}

#[test]
fn budgets_count_caches_and_activations_wherever_they_live() {
    let yaml = models().join("shakespeare.yaml");
    let [open, tight] = ["9MiB", "1MB"].map(|kv| {
        let planned = plan(
            &yaml,
            &format!("{TWO}\nbudget: {{kv: {kv}, activations: 790000}}"),
            Flags::ALL,
        );
        planned.report.over_budget()
    });
    assert!(open.is_empty(), "{open:?}");
    assert!(
        matches!(tight.as_slice(), [only] if only.contains("kv needs 1048576 bytes")),
        "{tight:?}"
    );
}
