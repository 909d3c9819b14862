//! What the reports of the models in this repository promise: totals, bounds, and docs/memory.md made of them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use ckc::compile::{self, Options, Planned};
use ckc::fuse::Flags;
use ckc::model::LoadOptions;
use ckc::report;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn models() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(root().join("models"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    found.sort();
    found
}

fn planned(yaml: &Path, fuse: Flags, limits: Option<(usize, usize)>) -> Planned {
    let load = LoadOptions {
        context: limits.map(|l| l.0),
        batch: limits.map(|l| l.1),
    };
    let options = Options {
        load,
        fuse: Some(fuse),
        layout: None,
        debug: None,
        order: None,
        costs: None,
    };
    compile::plan(yaml, &options).unwrap_or_else(|e| panic!("{}: {:?}", yaml.display(), e.diagnostics))
}

fn region(planned: &Planned, name: &str) -> u64 {
    let regions = &planned.report.totals.regions;
    regions.iter().find(|r| r.name == name).map_or(0, |r| r.bytes)
}

/// Context 2048 and batch 512, or the most the model allows.
fn limits(yaml: &Path) -> (usize, usize) {
    match yaml.file_stem().unwrap().to_str().unwrap() {
        "shakespeare" => (512, 512),
        _ => (2048, 512),
    }
}

/// The prefill activations of the Qwen2-0.5B shape at T = 1024 that the planner must not exceed.
const QWEN2_ACTIVATIONS: f64 = 47.2e6;

fn qwen2(fuse: Flags) -> u64 {
    region(
        &planned(&root().join("models/qwen2.5-0.5b.yaml"), fuse, Some((2048, 1024))),
        "activations",
    )
}

/// llama.cpp's compute buffer (context 2048, a batch of 512, flash attention), in MiB as it prints it: whole, and the
/// part that does not hold logits. Ours must be a quarter of it at most.
const LLAMA_CPP: [(&str, f64, f64); 3] = [
    ("smollm2-135m", 102.5, 15.5),
    ("qwen2.5-0.5b", 300.3, 37.5),
    ("llama-3.2-1b", 258.5, 66.0),
];

/// Ids, logits and activations in MiB, beside llama.cpp.
fn beside_llama_cpp() -> String {
    let mut text = String::from(
        "\n## Beside llama.cpp\n\n\
         What a program needs besides weights and cache, MiB, at context 2048 and batch 512: io and activations here, the\n\
         compute buffer that llama.cpp prints there (flash attention on). Its buffer has logits for every token of a batch,\n\
         ours for the one that is asked for; the last columns leave logits out.\n\n\
         | model | ckc | llama.cpp | ratio | ckc, no logits | llama.cpp, no logits | ratio |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
    );
    for (model, whole, rest) in LLAMA_CPP {
        let report = planned(
            &root().join(format!("models/{model}.yaml")),
            Flags::ALL,
            Some((2048, 512)),
        );
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let activations = mib(region(&report, "activations"));
        let all = activations + mib(region(&report, "io"));
        assert!(
            all <= whole / 4.0,
            "{model}: {all} MiB are more than a quarter of {whole}"
        );
        writeln!(
            text,
            "| {model} | {all:.1} | {whole} | {:.3} | {activations:.1} | {rest} | {:.3} |",
            all / whole,
            activations / rest
        )
        .unwrap();
    }
    text
}

fn memory() -> String {
    let mut text = String::from(
        "# Memory\n\n\
         Bytes of every model in `models/` at context 2048 and batch 512 (`shakespeare`: context 512, its limit), from the\n\
         descriptions alone. Made by `make bless`; a test compares. `ckc plan MODEL.yaml --context 2048 --batch 512` shows\n\
         one of them, with the cause of the peak.\n\n\
         - arena: everything, weights and cache included; lower bound: the most bytes live at once, no plan can be smaller;\n\
         - naive: every tensor in a place of its own;\n\
         - kv: keys and values of the whole context; activations: both entries share them.\n\n\
         | model | fusion | arena | lower bound | status | naive | kv | activations |\n\
         |---|---|---:|---:|---|---:|---:|---:|\n",
    );
    for yaml in models() {
        for (name, flags) in [("all", Flags::ALL), ("none", Flags::NONE)] {
            let p = planned(&yaml, flags, Some(limits(&yaml)));
            let t = &p.report.totals;
            let (model, status) = (&p.report.header.model, &t.status);
            let (kv, activations) = (region(&p, "kv"), region(&p, "activations"));
            let (arena, bound, naive) = (t.arena_bytes, t.lower_bound_bytes, t.naive_bytes);
            writeln!(
                text,
                "| {model} | {name} | {arena} | {bound} | {status} | {naive} | {kv} | {activations} |"
            )
            .unwrap();
        }
    }
    let (none, all) = (qwen2(Flags::NONE), qwen2(Flags::ALL));
    write!(
        text,
        "\n## Qwen2-0.5B, T = 1024\n\n\
         Activations of prefill, batch 1024: {none} bytes unfused, {all} bytes fused; 47.2 MB is the mark.\n"
    )
    .unwrap();
    text + &beside_llama_cpp()
}

#[test]
fn the_memory_table_is_up_to_date() {
    let path = root().join("docs/memory.md");
    let expected = memory();
    if std::env::var_os("CKC_BLESS").is_some() {
        std::fs::write(path, expected).unwrap();
        return;
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/memory.md is stale; run `make bless`. Now:\n{expected}"
    );
}

#[test]
fn qwen2_prefill_stays_below_the_mark_and_fusion_helps() {
    let (none, all) = (qwen2(Flags::NONE), qwen2(Flags::ALL));
    assert!(none as f64 <= QWEN2_ACTIVATIONS, "{none}");
    assert!(all < none, "{all} of {none}");
}

#[test]
fn totals_are_sums_and_bounds_hold() {
    for yaml in models() {
        for flags in [Flags::ALL, Flags::NONE] {
            let p = planned(&yaml, flags, None);
            let t = &p.report.totals;
            let sum: u64 = t.regions.iter().map(|r| r.bytes).sum();
            assert_eq!(sum, t.arena_bytes, "{}", yaml.display());
            assert!(t.lower_bound_bytes <= t.arena_bytes);
            assert!(t.arena_bytes <= t.naive_bytes);
            for r in &t.regions {
                assert!(r.lower_bound <= r.bytes, "{}: {}", yaml.display(), r.name);
            }
        }
    }
}

#[test]
fn a_report_survives_json_and_differs_from_itself_in_nothing() {
    for yaml in models() {
        let p = planned(&yaml, Flags::ALL, None);
        let json = report::to_json(&p.report);
        let back = report::from_json(&json).unwrap();
        assert_eq!(report::to_json(&back), json);
        assert_eq!(
            report::diff(&p.report, &back, report::DiffOptions::default())
                .verdict()
                .exit_code(),
            0
        );
    }
}

/// Bytes live in each step of an entry, from the report's tensors alone, without those that `gone` names. Tensors with
/// the same bytes count once.
fn live(report: &report::Report, entry: &str, gone: impl Fn(&str) -> bool) -> u64 {
    let planned = |t: &&report::Tensor| t.entry == entry && t.region == "activations" && !gone(&t.id);
    let tensors: Vec<&report::Tensor> = report.tensors.iter().filter(planned).collect();
    let steps = report.steps.iter().filter(|s| s.entry == entry).map(|s| s.index);
    let at = |step: u64| {
        let here = tensors.iter().filter(|t| t.first <= step && step <= t.last);
        let mut ranges: Vec<(u64, u64)> = here
            .map(|t| (t.offset, t.offset + t.bytes.next_multiple_of(64)))
            .collect();
        ranges.sort_unstable();
        let mut reached = 0;
        let own = ranges.iter().map(|(start, end)| {
            let new = end.saturating_sub(*start.max(&reached));
            reached = reached.max(*end);
            new
        });
        own.sum()
    };
    steps.map(at).max().unwrap_or(0)
}

/// `layers.*.act` names `layers.3.act`.
fn names(pattern: &str, id: &str) -> bool {
    let (a, b): (Vec<&str>, Vec<&str>) = (pattern.split('.').collect(), id.split('.').collect());
    a.len() == b.len()
        && a.iter()
            .zip(&b)
            .all(|(p, part)| p == part || (*p == "*" && part.parse::<u32>().is_ok()))
}

#[test]
fn the_peak_falls_as_far_as_the_report_says() {
    let mut checked = 0;
    for yaml in models() {
        for flags in [Flags::ALL, Flags::NONE] {
            let p = planned(&yaml, flags, None);
            let peak = p.report.totals.peak.as_ref().unwrap();
            assert_eq!(
                live(&p.report, &peak.entry, |_| false),
                peak.bytes,
                "{}",
                yaml.display()
            );
            let others = p.report.header.entries.iter().filter(|e| e.name != peak.entry);
            let floor = others.map(|e| e.plan.as_ref().unwrap().lower_bound).max().unwrap();
            for s in &peak.shrink {
                let gone = |id: &str| s.id.split('+').any(|pattern| names(pattern, id));
                let rest = live(&p.report, &peak.entry, gone).max(floor);
                assert_eq!(peak.bytes - rest, s.lowers_by, "{}: {}", yaml.display(), s.id);
                checked += 1;
            }
        }
    }
    assert!(checked > 0);
}

#[test]
fn pages_of_large_models_stay_usable() {
    for yaml in models() {
        for flags in [Flags::ALL, Flags::NONE] {
            let page = planned(&yaml, flags, None).page();
            assert!(page.len() < 1_500_000, "{}: {} bytes", yaml.display(), page.len());
        }
    }
}

#[test]
fn ranges_cover_each_axis_once() {
    for yaml in models() {
        let report = planned(&yaml, Flags::ALL, None).report;
        for s in &report.steps {
            if let report::Partition::Axis { axis, length, granule } = &s.partition {
                let found = report
                    .partitions
                    .iter()
                    .find(|p| (&p.axis, &p.length, &p.granule) == (axis, length, granule));
                let ranges = &found.unwrap_or_else(|| panic!("{} has no ranges", s.id)).ranges;
                assert_eq!(
                    ranges.iter().map(|r| r.len() - 1).collect::<Vec<_>>(),
                    [2, 4, 8, 16, 32, 64]
                );
                for r in ranges {
                    assert!(r.is_sorted() && r[0] == 0 && r.last() == Some(length), "{}", s.id);
                    assert!(
                        r[..r.len() - 1]
                            .iter()
                            .all(|start| start % granule == 0 || start == length)
                    );
                }
            }
        }
    }
}
