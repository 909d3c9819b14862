//! Steps in the order that needs the least memory: a smaller plan, the same bits, and nothing moved for nothing.

use std::path::{Path, PathBuf};

use ck_tests::{Case, How};
use ckc::compile::{self, Options, Planned};
use ckc::fuse::Flags;
use ckc::import::synth::synth;
use ckc::layout::Kind;
use ckc::model::{self, LoadOptions};
use ckc::report::{self, StepOrder};
use ckc::schedule::order;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn yaml() -> String {
    std::fs::read_to_string(root().join("tests/data/models/branches.yaml")).unwrap()
}

/// Four MLPs beside each other, with random weights.
fn branches(edit: impl Fn(&str) -> String) -> Case {
    let source = model::Source {
        name: "branches.yaml".into(),
        text: yaml(),
    };
    let (model, problems) = model::load(source, &LoadOptions::default());
    let graph = model.unwrap_or_else(|| panic!("{problems:?}")).graph;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("branches.gguf");
    synth(&graph, &file, 5, None, &mut |_, _| {}).unwrap();
    Case::new(&edit(&yaml()), "branches.gguf", &std::fs::read(file).unwrap())
}

fn order_of(planned: &Planned, entry: &str) -> Option<StepOrder> {
    let found = planned.report.header.entries.iter().find(|e| e.name == entry);
    found.unwrap_or_else(|| panic!("no {entry}")).order
}

fn activations(planned: &Planned) -> u64 {
    let regions = &planned.report.totals.regions;
    regions.iter().find(|r| r.name == "activations").unwrap().bytes
}

#[test]
fn parallel_branches_need_less_memory() {
    let case = branches(str::to_owned);
    for fuse in [Flags::ALL, Flags::NONE] {
        let plan = |order| {
            case.plan(&How {
                fuse,
                order,
                ..How::default()
            })
        };
        let (source, memory) = (plan(order::Kind::Source), plan(order::Kind::Memory));
        let what = fuse.names();
        // A branch's gate and up projections, and not those of four.
        assert!(
            activations(&memory) * 5 < activations(&source) * 3,
            "{what:?}: {} {}",
            activations(&memory),
            activations(&source)
        );
        let found = order_of(&memory, "prefill").expect("an order that was looked for");
        assert!(found.changed && found.bound < found.source_bound, "{what:?} {found:?}");
        assert_eq!(found.bound, found.least, "proved, {what:?}");
        assert_eq!(found.bound, activations(&memory), "the plan meets the bound, {what:?}");
        assert_eq!(found.source_bound, activations(&source), "{what:?}");
        assert_eq!(order_of(&source, "prefill"), None);
        let line = format!(
            "entry   prefill  order changed, bound {} -> {}, proved\n",
            found.source_bound, found.bound
        );
        assert!(report::to_text(&memory.report).contains(&line));
        assert!(report::to_text(&source.report).contains("entry   prefill  order source, not searched\n"));
        let page = report::to_html(&memory.report).unwrap();
        assert!(page.contains("<code>prefill</code>: changed, bound"));
        let json = report::to_json(&memory.report);
        assert!(json.contains("\"source_bound\""));
        assert_eq!(report::from_json(&json).unwrap(), memory.report);
    }
}

#[test]
fn the_description_may_ask_for_its_own_order() {
    let case = branches(|text| text.replace("outputs: [logits]", "order: source\noutputs: [logits]"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.yaml");
    std::fs::write(&path, yaml() + "order: source\n").unwrap();
    let of_file = compile::plan(&path, &Options::default()).unwrap_or_else(|e| panic!("{:?}", e.diagnostics));
    let asked = case.plan(&How {
        order: order::Kind::Source,
        ..How::default()
    });
    assert_eq!(activations(&of_file), activations(&asked));
    assert_eq!(order_of(&of_file, "prefill"), None);
    let options = Options {
        order: Some(order::Kind::Memory),
        ..Options::default()
    };
    let overruled = compile::plan(&path, &options).unwrap_or_else(|e| panic!("{:?}", e.diagnostics));
    assert!(activations(&overruled) < activations(&of_file));
}

#[test]
fn the_order_of_steps_changes_no_bit() {
    let case = branches(str::to_owned);
    let ids: Vec<u32> = (0..40).map(|i| i * 29 % 96).collect();
    for fuse in [Flags::ALL, Flags::NONE] {
        let mut want: Option<Vec<Vec<u32>>> = None;
        for (order, layout, threads) in [
            (order::Kind::Source, Kind::Packed, 1),
            (order::Kind::Memory, Kind::Packed, 1),
            (order::Kind::Memory, Kind::Packed, 3),
            (order::Kind::Memory, Kind::Stride, 2),
        ] {
            let mut session = case.open(&How {
                fuse,
                order,
                layout,
                threads,
                ..How::default()
            });
            session.dirty();
            let bits = |logits: Vec<f32>| logits.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
            let prefill = bits(session.prefill(&ids[..32]));
            let decode = bits(session.decode(&ids[32..]));
            let got = vec![prefill, decode];
            let want = want.get_or_insert_with(|| got.clone());
            assert!(*want == got, "{:?} {order:?} {layout:?} {threads}", fuse.names());
        }
    }
}

#[test]
fn the_shipped_models_are_ordered_best_as_they_are_written() {
    for entry in std::fs::read_dir(root().join("models")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        for fuse in [Flags::ALL, Flags::NONE] {
            let options = Options {
                fuse: Some(fuse),
                ..Options::default()
            };
            let planned = compile::plan(&path, &options).unwrap_or_else(|e| panic!("{:?}", e.diagnostics));
            for entry in &planned.report.header.entries {
                let order = entry.order.expect("an order that was looked for");
                let what = format!("{} {} {:?}: {order:?}", path.display(), entry.name, fuse.names());
                assert!(!order.changed && order.bound == order.source_bound, "{what}");
                assert_eq!(order.bound, order.least, "{what}");
                if entry.name == "prefill" {
                    assert_eq!(order.bound, entry.peak_bytes, "{what}");
                }
            }
        }
    }
}
