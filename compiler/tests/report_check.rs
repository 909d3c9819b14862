//! The judge of reports: it accepts what the compiler writes, finds every real mutation of it, agrees with a slow oracle
//! that looks at every byte of every worker, and takes any text for what it is.

#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges of bytes, some of one")]
#![allow(
    clippy::unit_arg,
    reason = "mutations are a table of assignments that say `Some` when they were made"
)]

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ckc::compile::{self, Options};
use ckc::fuse::{Flag, Flags};
use ckc::layout::Kind;
use ckc::layout::debug::DebugMode;
use ckc::layout::hint::Hint;
use ckc::model::LoadOptions;
use ckc::report::{self, Partition, Report, Status, Step, Tensor, check, codes};
use ckc::schedule::order::Kind as Order;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn planned(yaml: &str, fuse: Flags, layout: Kind, limits: Option<(usize, usize)>) -> Report {
    let options = Options {
        load: LoadOptions {
            context: limits.map(|l| l.0),
            batch: limits.map(|l| l.1),
        },
        fuse: Some(fuse),
        layout: Some(layout),
        ..Options::default()
    };
    let planned = compile::plan(&root().join(yaml), &options);
    planned.unwrap_or_else(|e| panic!("{yaml}: {:?}", e.diagnostics)).report
}

fn forms(yaml: &str, limits: Option<(usize, usize)>) -> Vec<(String, Report)> {
    let mut all = Vec::new();
    for (name, flags) in [("all", Flags::ALL), ("none", Flags::NONE)] {
        for layout in [Kind::Packed, Kind::Stride] {
            let label = format!("{yaml} {name} {}", layout.name());
            all.push((label, planned(yaml, flags, layout, limits)));
        }
    }
    all
}

const TINY: &str = "compiler/tests/diagnostics/base.yaml";
const SHAKESPEARE: &str = "models/shakespeare.yaml";

/// Small, with one layer repeated, another shape of batch, several memories and budgets.
fn bases() -> Vec<(String, Report)> {
    let mut all = forms(TINY, None);
    all.extend(forms(SHAKESPEARE, None));
    all.extend(forms(SHAKESPEARE, Some((64, 3))));
    for extra in EXTRAS {
        all.push((format!("{TINY} {extra}"), extended(TINY, extra, Flags::NONE)));
        all.push((
            format!("{SHAKESPEARE} {extra}"),
            extended(SHAKESPEARE, extra, Flags::ALL),
        ));
    }
    all
}

/// What a description may say besides: memories that fit and that do not, budgets that are kept and that are not.
const EXTRAS: &[&str] = &[
    "arena: [{name: fast, bytes: 100KiB}, {name: main}]",
    "arena: [{name: a, bytes: 5000}, {name: b, bytes: 64KiB}, {name: c, bytes: 900MB}]",
    "arena: [{name: fast, bytes: 1KiB}, {name: main, bytes: 2KiB}]",
    "arena: [{name: arena, bytes: 10KiB}, {name: main}]\nbudget: {arena: 1KiB, weights: 1KiB}",
    "budget: {arena: 1KiB, weights: 1KiB, kv: 1KiB, activations: 1KiB, scratch: 1GB}",
    "budget: {activations: 1KiB, scratch: 1KiB}",
];

/// The report of a description that says `extra` as well.
fn extended(yaml: &str, extra: &str, fuse: Flags) -> Report {
    let text = std::fs::read_to_string(root().join(yaml)).unwrap();
    assert!(text.contains("\noutputs: ["));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.yaml");
    std::fs::write(&path, text.replace("\noutputs: [", &format!("\n{extra}\noutputs: ["))).unwrap();
    planned(path.to_str().unwrap(), fuse, Kind::Packed, None)
}

fn found(report: &Report) -> BTreeSet<&'static str> {
    check(report).into_iter().map(|v| v.code).collect()
}

fn told(report: &Report) -> String {
    check(report)
        .iter()
        .map(|v| format!("{} {}: {}\n", v.code, v.place, v.message))
        .collect()
}

#[test]
fn reports_of_the_models_break_no_rule() {
    for entry in std::fs::read_dir(root().join("models")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let name = format!("models/{}", path.file_name().unwrap().to_str().unwrap());
            for (label, report) in forms(&name, None) {
                assert_eq!(told(&report), "", "{label}");
            }
        }
    }
    for (label, report) in bases() {
        assert_eq!(told(&report), "", "{label}");
    }
}

/// Every flag alone, programs that watch their memory, steps in their source's order, plans near an older one.
#[test]
fn reports_of_all_options_break_no_rule() {
    let debug = |canaries, poison, reuse| {
        Some(DebugMode {
            canaries,
            poison,
            reuse,
        })
    };
    let with = |yaml: &str, options: &Options, hint: &Hint| {
        let planned = compile::plan_near(&root().join(yaml), options, hint);
        planned
            .unwrap_or_else(|e| panic!("{yaml} {options:?}: {:?}", e.diagnostics))
            .report
    };
    for yaml in [TINY, SHAKESPEARE] {
        let mut hint = Hint::default();
        for flags in Flag::all().map(Flags::only).chain([Flags::ALL, Flags::NONE]) {
            for (debug, layout, order) in [
                (None, Kind::Packed, Order::Memory),
                (None, Kind::Packed, Order::Source),
                (None, Kind::Stride, Order::Memory),
                (debug(true, true, true), Kind::Packed, Order::Memory),
                (debug(true, false, true), Kind::Stride, Order::Memory),
                (debug(false, false, false), Kind::Packed, Order::Memory),
            ] {
                let options = Options {
                    fuse: Some(flags),
                    layout: Some(layout),
                    order: Some(order),
                    debug,
                    ..Options::default()
                };
                let report = with(yaml, &options, &Hint::default());
                assert_eq!(told(&report), "", "{yaml} {options:?}");
                let near = with(yaml, &options, &hint);
                assert_eq!(told(&near), "", "{yaml} near another plan: {options:?}");
                hint = Hint::new(&report);
            }
        }
    }
}

/// An activation that lives for more than one step and is no alias of anything.
fn activation(r: &mut Report) -> Option<&mut Tensor> {
    let aliased: BTreeSet<String> = r.tensors.iter().filter_map(|t| t.alias_of.clone()).collect();
    let plain = |t: &&mut Tensor| {
        t.region == "activations"
            && t.last > t.first
            && t.layout == "row-major"
            && t.alias_of.is_none()
            && !aliased.contains(&t.id)
    };
    r.tensors.iter_mut().find(plain)
}

fn region<'a>(r: &'a mut Report, name: &str) -> Option<&'a mut report::Region> {
    r.totals.regions.iter_mut().find(|r| r.name == name)
}

/// The last region that has bytes.
fn held(r: &mut Report) -> Option<&mut report::Region> {
    r.totals.regions.iter_mut().rev().find(|r| r.bytes > 0)
}

/// Positions of two activations of one entry, both live in some step and of different sizes.
fn live_pair(r: &Report) -> Option<(usize, usize)> {
    let own = |t: &Tensor| t.region == "activations";
    let pairs = (0..r.tensors.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
    let mut pairs = pairs.filter(|(a, b)| {
        let (a, b) = (&r.tensors[*a], &r.tensors[*b]);
        let alias = a.alias_of.is_some() || b.alias_of.is_some();
        own(a) && own(b) && !alias && a.entry == b.entry && a.first <= b.last && b.first <= a.last && a.bytes != b.bytes
    });
    pairs.next()
}

fn axis_step(r: &mut Report) -> Option<&mut Step> {
    let axis = |s: &&mut Step| matches!(&s.partition, Partition::Axis { axis, .. } if axis != "heads");
    r.steps.iter_mut().find(axis)
}

/// Puts `edit` to the partition of the first step that rows or columns divide.
fn cut(r: &mut Report, edit: fn(&mut String, &mut u64, &mut u64)) -> Option<()> {
    match &mut axis_step(r)?.partition {
        Partition::Axis { axis, length, granule } => edit(axis, length, granule),
        Partition::Serial { .. } => return None,
    }
    Some(())
}

/// Puts `edit` to the ranges of the first division, for four workers.
fn ranges(r: &mut Report, edit: fn(&mut Vec<u64>)) -> Option<()> {
    Some(edit(r.partitions.first_mut()?.ranges.get_mut(1)?))
}

type Mutation = (&'static str, &'static str, fn(&mut Report) -> Option<()>);

/// What is done to a report, and the code of the rule that it breaks.
const MUTATIONS: &[Mutation] = &[
    ("a name without end", codes::LIMITS, |r| {
        Some(r.tensors[0].id = "x".repeat(2000))
    }),
    ("a shape without end", codes::LIMITS, |r| {
        Some(r.tensors[0].shape = vec![1; 9])
    }),
    ("two tensors of one name", codes::NAMES, |r| {
        Some(r.tensors.push(r.tensors[0].clone()))
    }),
    ("two steps of one name", codes::NAMES, |r| {
        Some(r.steps.push(r.steps[0].clone()))
    }),
    ("two weights of one name", codes::NAMES, |r| {
        Some(r.weights.push(r.weights[0].clone()))
    }),
    ("two regions of one name", codes::NAMES, |r| {
        Some(r.totals.regions.push(r.totals.regions[0].clone()))
    }),
    ("two entries of one name", codes::NAMES, |r| {
        Some(r.header.entries.push(r.header.entries[0].clone()))
    }),
    ("an input that is nothing", codes::NAMES, |r| {
        Some(r.steps[0].inputs[0] = "nothing".into())
    }),
    ("an output that is nothing", codes::NAMES, |r| {
        Some(r.steps[0].outputs[0] = "nothing".into())
    }),
    ("an entry that is none", codes::NAMES, |r| {
        Some(r.steps[0].entry = "train".into())
    }),
    ("a tensor of no entry", codes::NAMES, |r| {
        Some(activation(r)?.entry = "train".into())
    }),
    ("a region that is none", codes::NAMES, |r| {
        Some(activation(r)?.region = "elsewhere".into())
    }),
    ("a tensor with a weight's name", codes::NAMES, |r| {
        Some(r.tensors[0].id = r.weights[1].name.clone())
    }),
    ("in place of what is not read", codes::NAMES, |r| {
        Some(r.steps[0].in_place_of = Some("nothing".into()))
    }),
    ("a peak in no step", codes::NAMES, |r| {
        Some(r.totals.peak.as_mut()?.step = "nothing".into())
    }),
    ("a peak of nothing", codes::NAMES, |r| {
        Some(r.totals.peak.as_mut()?.live[0].id = "nothing".into())
    }),
    ("no workers", codes::COUNTS, |r| Some(r.header.options.max_threads = 0)),
    ("endless workers", codes::COUNTS, |r| {
        Some(r.header.options.max_threads = u64::MAX)
    }),
    ("a batch beyond the context", codes::COUNTS, |r| {
        Some(r.header.options.batch = r.header.options.context + 1)
    }),
    ("another number of steps", codes::COUNTS, |r| {
        Some(r.header.entries[0].steps += 1)
    }),
    ("another number of barriers", codes::COUNTS, |r| {
        Some(r.header.entries[0].barriers += 1)
    }),
    ("other flops", codes::COUNTS, |r| Some(r.steps[0].flops += 1)),
    ("other traffic", codes::COUNTS, |r| {
        Some(r.steps[0].bytes_read = u64::MAX)
    }),
    ("a step that is gone", codes::COUNTS, |r| Some(drop(r.steps.remove(1)))),
    ("two steps at once", codes::COUNTS, |r| Some(r.steps[1].index = 0)),
    ("a step far away", codes::COUNTS, |r| Some(r.steps[1].index = u64::MAX)),
    ("more bytes than the shape", codes::BYTES, |r| {
        Some(r.tensors[0].bytes += 64)
    }),
    ("another shape", codes::BYTES, |r| Some(r.tensors[0].shape[0] += 1)),
    ("another element type", codes::BYTES, |r| {
        Some(activation(r)?.dtype = "f16".into())
    }),
    ("no element type", codes::BYTES, |r| {
        Some(r.weights[1].dtype = "f31".into())
    }),
    ("a weight with fewer bytes", codes::BYTES, |r| {
        Some(r.weights[1].bytes -= 64)
    }),
    ("a shape beyond numbers", codes::BYTES, |r| {
        Some(r.tensors[0].shape = vec![u64::MAX; 8])
    }),
    ("a region out of the arena", codes::REGIONS, |r| {
        Some(held(r)?.offset += 4096)
    }),
    ("a region at the end of numbers", codes::REGIONS, |r| {
        Some(held(r)?.offset = u64::MAX - 4095)
    }),
    ("regions that overlap", codes::REGIONS, |r| {
        Some(region(r, "kv")?.offset -= 4096)
    }),
    ("a smaller arena", codes::REGIONS, |r| Some(r.totals.arena_bytes -= 64)),
    ("a smaller region", codes::PLACES, |r| {
        Some(region(r, "activations")?.bytes -= 64)
    }),
    ("a tensor before its region", codes::PLACES, |r| {
        let start = region(r, "activations")?.offset;
        Some(activation(r)?.offset = start - 64)
    }),
    ("a tensor behind the arena", codes::PLACES, |r| {
        let end = r.totals.arena_bytes;
        Some(activation(r)?.offset = end.next_multiple_of(64))
    }),
    ("a tensor at the end of numbers", codes::PLACES, |r| {
        Some(activation(r)?.offset = u64::MAX - 63)
    }),
    ("a region that is not there", codes::PLACES, |r| {
        let before = r.totals.regions.len();
        let gone = |name: &str| ["io", "interleaved", "main"].contains(&name);
        r.totals.regions.retain(|r| !gone(&r.name));
        let tensors = r.tensors.iter().any(|t| gone(t.home()));
        (tensors && before > r.totals.regions.len()).then_some(())
    }),
    ("half a cache line on", codes::ALIGNMENT, |r| {
        Some(activation(r)?.offset += 32)
    }),
    ("an odd alignment", codes::ALIGNMENT, |r| Some(r.tensors[0].align = 96)),
    ("no alignment", codes::ALIGNMENT, |r| Some(r.tensors[0].align = 0)),
    ("a larger alignment", codes::ALIGNMENT, |r| {
        Some(r.tensors.iter_mut().for_each(|t| t.align = 1 << 40))
    }),
    ("a weight between cache lines", codes::ALIGNMENT, |r| {
        Some(r.weights[1].offset += 8)
    }),
    ("a larger arena", codes::TOTALS, |r| Some(r.totals.arena_bytes += 64)),
    ("another bound", codes::TOTALS, |r| {
        Some(r.totals.lower_bound_bytes -= 64)
    }),
    ("other naive bytes", codes::TOTALS, |r| Some(r.totals.naive_bytes += 64)),
    ("other bytes a token", codes::TOTALS, |r| {
        Some(r.totals.kv_bytes_per_token += 1)
    }),
    ("other bytes of a type", codes::TOTALS, |r| {
        Some(*r.totals.weights_bytes.values_mut().next()? += 1)
    }),
    ("a type that is not said", codes::TOTALS, |r| {
        Some(drop(r.totals.weights_bytes.pop_first()?))
    }),
    ("weights behind their region", codes::TOTALS, |r| {
        let end = region(r, "weights")?.bytes;
        Some(r.weights.last_mut()?.offset = end)
    }),
    ("scratch that is not there", codes::TOTALS, |r| {
        Some(r.steps[0].workspace_bytes += 4096)
    }),
    ("less live than there is", codes::TOTALS, |r| {
        let layout = r.header.options.layout.clone();
        (layout == "packed").then(|| r.steps.last_mut().unwrap().live_bytes = 0)
    }),
    ("another peak", codes::TOTALS, |r| {
        region(r, "activations")?;
        Some(r.totals.peak.as_mut()?.bytes += 64)
    }),
    ("another size at the peak", codes::TOTALS, |r| {
        Some(r.totals.peak.as_mut()?.live[0].bytes += 64)
    }),
    ("a bound above the bytes", codes::STATUS, |r| {
        Some(r.totals.regions[0].lower_bound = u64::MAX)
    }),
    ("optimal without reason", codes::STATUS, |r| {
        let region = r
            .totals
            .regions
            .iter_mut()
            .find(|r| r.status == Status::Optimal && r.bytes > 64)?;
        Some(region.lower_bound -= 64)
    }),
    ("a gap that is none", codes::STATUS, |r| {
        region(r, "activations")?;
        Some(r.totals.status = Status::Feasible { gap: 0 })
    }),
    ("a search that proves what is plain", codes::STATUS, |r| {
        Some(region(r, "kv")?.status = Status::OptimalSearch)
    }),
    ("worse than without reuse", codes::STATUS, |r| {
        Some(r.totals.regions[0].naive -= 64)
    }),
    ("a layout that was not tried", codes::STATUS, |r| {
        Some(region(r, "activations")?.plan.as_mut()?.chosen = "luck".into())
    }),
    ("more live than the peak", codes::STATUS, |r| {
        region(r, "activations")?;
        Some(r.steps[0].live_bytes = u64::MAX)
    }),
    ("a weight behind a gap", codes::WEIGHTS, |r| {
        Some(r.weights.last_mut()?.offset += 64)
    }),
    ("two weights at one place", codes::WEIGHTS, |r| {
        Some(r.weights[1].offset = r.weights[2].offset)
    }),
    ("two caches at one place", codes::WEIGHTS, |r| {
        let caches: Vec<u64> = r
            .tensors
            .iter()
            .filter(|t| t.region == "kv")
            .map(|t| t.offset)
            .collect();
        Some(r.tensors.iter_mut().find(|t| t.region == "kv")?.offset = *caches.last()?)
    }),
    ("a step that writes a weight", codes::WEIGHTS, |r| {
        let weight = r.weights[1].name.clone();
        Some(r.steps[0].outputs.push(weight))
    }),
    ("a weight's place where there is none", codes::WEIGHTS, |r| {
        let place = &mut r.weights[0].place;
        *place = if place.is_some() { None } else { Some(0) };
        Some(())
    }),
    ("no granule", codes::PARTITION, |r| cut(r, |_, _, granule| *granule = 0)),
    ("no length", codes::PARTITION, |r| cut(r, |_, length, _| *length = 0)),
    ("a length beyond numbers", codes::PARTITION, |r| {
        cut(r, |_, length, _| *length = u64::MAX)
    }),
    ("ranges with a gap", codes::PARTITION, |r| ranges(r, |cuts| cuts[0] = 1)),
    ("ranges that overlap", codes::PARTITION, |r| {
        ranges(r, |cuts| cuts[1] = u64::MAX)
    }),
    ("ranges that end early", codes::PARTITION, |r| {
        ranges(r, |cuts| *cuts.last_mut().unwrap() -= 1)
    }),
    ("ranges for fewer workers", codes::PARTITION, |r| {
        ranges(r, |cuts| cuts.truncate(2))
    }),
    ("a division that is not listed", codes::PARTITION, |r| {
        Some(drop(r.partitions.pop()?))
    }),
    ("a division that is listed twice", codes::PARTITION, |r| {
        Some(r.partitions.push(r.partitions.first()?.clone()))
    }),
    ("another gap of a plan", codes::STATUS, |r| {
        Some(region(r, "activations")?.plan.as_mut()?.gap += 64)
    }),
    ("an unknown axis", codes::PARTITION, |r| {
        cut(r, |axis, _, _| *axis = "diagonals".into())
    }),
    ("another length", codes::PARTS, |r| cut(r, |_, length, _| *length /= 2)),
    ("another granule", codes::PARTS, |r| {
        cut(r, |_, _, granule| *granule *= 3)
    }),
    ("another axis", codes::PARTS, |r| {
        cut(r, |axis, _, _| {
            *axis = if axis == "rows" { "columns" } else { "rows" }.into();
        })
    }),
    ("a part that is not said", codes::PARTS, |r| {
        Some(drop(r.steps[0].parts.pop_first()?))
    }),
    ("no parts at all", codes::PARTS, |r| {
        Some(r.steps.iter_mut().for_each(|s| s.parts.clear()))
    }),
    ("an unknown part", codes::PARTS, |r| {
        let (_, operands) = r.steps[0].parts.pop_first()?;
        Some(drop(r.steps[0].parts.insert("rows/0".into(), operands)))
    }),
    ("a part of something else", codes::PARTS, |r| {
        Some(r.steps[0].parts.values_mut().next()?.push("x".into()))
    }),
    ("a second part that is not the division's", codes::PARTS, |r| {
        let step = axis_step(r)?;
        let name = step.inputs[0].clone();
        Some(step.parts.entry("rows/77".into()).or_default().push(name))
    }),
    ("read in part and written in another", codes::RACE, |r| {
        let step = axis_step(r)?;
        let output = step.outputs[0].clone();
        Some(step.parts.entry("all".into()).or_default().push(output))
    }),
    ("a row that is read in part", codes::PARTS, |r| {
        let whole = |s: &&mut Step| {
            let divided = matches!(s.partition, Partition::Axis { .. });
            divided && s.entry == "decode" && s.kernel == "project" && s.parts.contains_key("all")
        };
        let step = r.steps.iter_mut().find(whole)?;
        let names = step.parts.remove("all")?;
        let part = step.parts.keys().find(|part| part.starts_with("columns/"))?.clone();
        Some(step.parts.entry(part).or_default().extend(names))
    }),
    ("a cache that is read in part", codes::PARTS, |r| {
        let step = r
            .steps
            .iter_mut()
            .find(|s| s.kernel.starts_with("attention") && s.parts.contains_key("all"))?;
        if matches!(step.partition, Partition::Serial { .. }) {
            return None;
        }
        let names = step.parts.remove("all")?;
        Some(step.parts.entry("private".into()).or_default().extend(names))
    }),
    ("an output that all write", codes::PARTS, |r| {
        let step = axis_step(r)?;
        let output = step.outputs[0].clone();
        step.parts.values_mut().for_each(|names| names.retain(|n| *n != output));
        Some(step.parts.entry("all".into()).or_default().push(output))
    }),
    ("scratch for fewer workers", codes::PARTS, |r| {
        let step = r
            .steps
            .iter_mut()
            .find(|s| s.entry == "decode" && s.workspace_bytes > 0)?;
        step.workspace_bytes -= 1;
        Some(())
    }),
    ("a longer life", codes::LIFETIMES, |r| Some(activation(r)?.last += 1)),
    ("a shorter life", codes::LIFETIMES, |r| Some(activation(r)?.last -= 1)),
    ("a later birth", codes::LIFETIMES, |r| Some(activation(r)?.first += 1)),
    ("an endless life", codes::LIFETIMES, |r| {
        Some(activation(r)?.last = u64::MAX)
    }),
    ("dead before it is born", codes::LIFETIMES, |r| {
        Some(activation(r)?.first = u64::MAX)
    }),
    ("never used", codes::LIFETIMES, |r| {
        let mut unused = activation(r)?.clone();
        unused.id = "unused".into();
        Some(r.tensors.push(unused))
    }),
    ("read and never written", codes::ORDER, |r| {
        let step = r
            .steps
            .iter_mut()
            .find(|s| s.entry == "prefill" && s.outputs.len() == 1 && s.index > 0)?;
        Some(step.outputs.clear())
    }),
    ("found in another place", codes::ORDER, |r| {
        let found = r
            .tensors
            .iter_mut()
            .find(|t| t.entry == "head" && t.first == 0 && t.region == "activations" && t.id.contains("residual"))?;
        Some(found.offset += 64)
    }),
    ("two live tensors at one place", codes::OVERLAP, |r| {
        let (a, b) = live_pair(r)?;
        Some(r.tensors[a].offset = r.tensors[b].offset)
    }),
    ("an activation in the cache", codes::OVERLAP, |r| {
        let cache = r.tensors.iter().find(|t| t.region == "kv")?.offset;
        Some(activation(r)?.offset = cache)
    }),
    ("an activation in the weights", codes::OVERLAP, |r| {
        let weight = r.weights.last()?;
        let place = weight.place.unwrap_or(weight.offset);
        Some(activation(r)?.offset = place)
    }),
    ("an alias that is forgotten", codes::OVERLAP, |r| {
        Some(r.tensors.iter_mut().find(|t| t.alias_of.is_some())?.alias_of = None)
    }),
    ("an alias of nothing", codes::IN_PLACE, |r| {
        Some(activation(r)?.alias_of = Some("nothing".into()))
    }),
    ("an alias of itself", codes::IN_PLACE, |r| {
        let tensor = activation(r)?;
        Some(tensor.alias_of = Some(tensor.id.clone()))
    }),
    ("an alias of something else", codes::IN_PLACE, |r| {
        let (a, b) = live_pair(r)?;
        Some(r.tensors[a].alias_of = Some(r.tensors[b].id.clone()))
    }),
    ("in place, and not said", codes::IN_PLACE, |r| {
        Some(r.steps.iter_mut().find(|s| s.in_place_of.is_some())?.in_place_of = None)
    }),
    ("in place of what stays", codes::IN_PLACE, |r| {
        let step = r.steps.iter_mut().find(|s| s.in_place_of.is_none())?;
        Some(step.in_place_of = Some(step.inputs[0].clone()))
    }),
    ("a kernel that cannot", codes::IN_PLACE, |r| {
        Some(r.steps.iter_mut().find(|s| s.in_place_of.is_some())?.kernel = "quantize".into())
    }),
    ("a tensor in no memory", codes::MEMORIES, |r| {
        r.totals.memories.first()?;
        Some(r.tensors[0].memory = None)
    }),
    ("a tensor in a memory where there are none", codes::MEMORIES, |r| {
        let none = r.totals.memories.is_empty();
        none.then(|| r.tensors[0].memory = Some("fast".into()))
    }),
    ("a tensor whose accesses are not said", codes::MEMORIES, |r| {
        r.totals.memories.first()?;
        Some(r.tensors[0].accesses = None)
    }),
    ("a tensor that is touched more", codes::MEMORIES, |r| {
        Some(*activation(r)?.accesses.as_mut()? += 1)
    }),
    ("a tensor in another memory", codes::PLACES, |r| {
        let last = r.totals.memories.last()?.name.clone();
        let tensor = r.tensors.iter_mut().find(|t| t.memory.as_ref() != Some(&last))?;
        Some(tensor.memory = Some(last))
    }),
    ("a tensor behind its memory", codes::PLACES, |r| {
        let memory = r.totals.memories.first()?.name.clone();
        let end = region(r, &memory).map(|r| r.offset + r.bytes)?;
        let tensor = r.tensors.iter_mut().find(|t| t.memory.as_ref() == Some(&memory))?;
        Some(tensor.offset = end.next_multiple_of(64))
    }),
    ("a tensor in an unknown memory", codes::NAMES, |r| {
        r.totals.memories.first()?;
        Some(r.tensors[0].memory = Some("nothing".into()))
    }),
    ("two memories of one name", codes::NAMES, |r| {
        Some(r.totals.memories.push(r.totals.memories.first()?.clone()))
    }),
    ("a memory without a region", codes::MEMORIES, |r| {
        Some(r.totals.memories.first_mut()?.name = "nothing".into())
    }),
    ("a memory of other bytes", codes::MEMORIES, |r| {
        Some(r.totals.memories.last_mut()?.bytes += 64)
    }),
    ("a memory of another bound", codes::MEMORIES, |r| {
        Some(r.totals.memories.last_mut()?.lower_bound -= 64)
    }),
    ("a memory of other accesses", codes::MEMORIES, |r| {
        Some(r.totals.memories.first_mut()?.accesses += 1)
    }),
    ("weights in a memory that has none", codes::MEMORIES, |r| {
        Some(r.totals.memories.first_mut()?.weights_bytes += 64)
    }),
    ("a memory of another status", codes::MEMORIES, |r| {
        Some(r.totals.memories.last_mut()?.status = Status::Feasible { gap: 1 })
    }),
    ("a memory that is moved", codes::MEMORIES, |r| {
        r.totals.memories.first()?;
        r.totals.arena_bytes += 8192;
        Some(held(r)?.offset += 8192)
    }),
    ("a memory over its capacity", codes::STATUS, |r| {
        let memory = r.totals.memories.first_mut()?;
        Some(memory.capacity = Some(memory.bytes.checked_sub(1)?))
    }),
    ("a capacity that is made up", codes::STATUS, |r| {
        let memory = r.totals.memories.last_mut()?;
        let by = Status::OverBudget { by: 7 };
        memory.status = by;
        let name = memory.name.clone();
        Some(region(r, &name)?.status = by)
    }),
    ("memory that nobody lacks", codes::STATUS, |r| {
        Some(r.totals.status = Status::OverBudget { by: 12345 })
    }),
    ("a budget that is exceeded and not said", codes::STATUS, |r| {
        r.totals.budgets.iter().find(|b| b.bytes > b.limit)?;
        Some(r.totals.status = Status::Feasible { gap: 1 })
    }),
    ("a budget of other bytes", codes::TOTALS, |r| {
        let known = |b: &&mut report::Limit| ["arena", "scratch"].contains(&b.name.as_str());
        Some(r.totals.budgets.iter_mut().find(known)?.bytes += 1)
    }),
    ("a budget of nothing", codes::NAMES, |r| {
        Some(r.totals.budgets.first_mut()?.name = "nothing".into())
    }),
    ("a plan that is not as good as it says", codes::STATUS, |r| {
        Some(r.header.entries[0].plan.as_mut()?.status = Status::OptimalSearch)
    }),
    ("in place by columns of what all read", codes::RACE, |r| {
        let step = r
            .steps
            .iter_mut()
            .find(|s| s.in_place_of.is_some() && s.entry == "decode")?;
        let input = step.in_place_of.clone()?;
        step.parts.values_mut().for_each(|names| names.retain(|n| *n != input));
        Some(step.parts.entry("all".into()).or_default().push(input))
    }),
];

#[test]
fn every_mutation_is_found_by_its_rule() {
    let bases = bases();
    let mut unused: BTreeSet<&str> = MUTATIONS.iter().map(|m| m.0).collect();
    let codes_met: BTreeSet<&str> = MUTATIONS.iter().map(|m| m.1).collect();
    for (label, base) in &bases {
        for (name, code, mutate) in MUTATIONS {
            let mut report = base.clone();
            if mutate(&mut report).is_none() {
                continue;
            }
            assert!(report != *base, "{label}: {name} changes nothing");
            assert!(
                found(&report).contains(code),
                "{label}: {name} is not {code}, but\n{}",
                told(&report)
            );
            unused.remove(name);
        }
    }
    assert_eq!(unused, BTreeSet::new(), "apply to no report");
    for rule in codes::ALL.iter().filter(|rule| rule.code != codes::SCHEMA) {
        assert!(codes_met.contains(rule.code), "no mutation breaks {}", rule.code);
    }
}

/// Each barrier that is taken away is missed, and by the step that it stood before.
#[test]
fn no_barrier_can_be_spared() {
    for (label, base) in bases() {
        for i in (0..base.steps.len()).filter(|i| base.steps[*i].barrier.is_some()) {
            let mut report = base.clone();
            let step = &mut report.steps[i];
            step.barrier = None;
            let (id, entry) = (step.id.clone(), step.entry.clone());
            let row = report.header.entries.iter_mut().find(|e| e.name == entry).unwrap();
            row.barriers -= 1;
            // An entry's first step is met by nothing.
            let place = format!("steps[{i}].barrier");
            let race = check(&report)
                .into_iter()
                .find(|v| v.code == codes::RACE && v.place == place);
            let race = race.unwrap_or_else(|| panic!("{label}: {entry} does not miss the barrier before `{id}`"));
            assert!(
                race.message.contains(&format!("a barrier is missing before `{id}`")),
                "{}",
                race.message
            );
        }
    }
}

/// A view may be read as long as nobody writes what it looks at.
#[test]
fn a_view_is_no_overlap() {
    let mut report = planned(TINY, Flags::ALL, Kind::Packed, None);
    let whole = activation(&mut report).unwrap().clone();
    let mut view = whole.clone();
    (view.id, view.first, view.alias_of) = ("view".into(), whole.last, Some(whole.id.clone()));
    let reads = |s: &&mut Step| s.entry == whole.entry && s.index == whole.last;
    let step = report.steps.iter_mut().find(reads).unwrap();
    step.inputs.push(view.id.clone());
    let part = step.parts.values_mut().find(|names| names.contains(&whole.id)).unwrap();
    part.push(view.id.clone());
    report.tensors.push(view);
    assert_eq!(told(&report), "");
    let mut early = report.clone();
    early.tensors.last_mut().unwrap().first = whole.first;
    assert!(found(&early).contains(codes::IN_PLACE), "{}", told(&early));
    let mut outside = report.clone();
    outside.tensors.last_mut().unwrap().offset += 64;
    assert!(found(&outside).contains(codes::IN_PLACE), "{}", told(&outside));
    let written = report
        .steps
        .iter_mut()
        .find(|s| s.entry == whole.entry && s.index == whole.last)
        .unwrap();
    written.clobbers.push("view".into());
    assert!(found(&report).contains(codes::IN_PLACE), "{}", told(&report));
}

/// A tensor that is two inputs of a step, or is read in two parts, is no mistake.
#[test]
fn an_operand_may_have_several_parts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("twice.yaml");
    let text = std::fs::read_to_string(root().join(SHAKESPEARE)).unwrap();
    let last = "- {op: select_row, name: last, in: [layers.x]}";
    assert!(text.contains(last));
    let twice = "- {op: add, name: twice, in: [layers.x, layers.x]}\n      ";
    let text = text.replace(last, &format!("{twice}{}", last.replace("layers.x", "twice")));
    std::fs::write(&path, text).unwrap();
    for (label, report) in forms(path.to_str().unwrap(), None) {
        assert_eq!(told(&report), "", "{label}");
    }
    let mut apart = 0;
    for (label, base) in bases() {
        for i in (0..base.steps.len()).filter(|i| base.steps[*i].barrier.is_some()) {
            let mut report = base.clone();
            let Partition::Axis { axis, granule, .. } = report.steps[i].partition.clone() else {
                continue;
            };
            let step = &mut report.steps[i];
            let read = |name: &&String| step.inputs.contains(name) && !step.clobbers.contains(name);
            let Some(name) = step.parts.get("all").and_then(|names| names.iter().find(read)).cloned() else {
                continue;
            };
            step.parts
                .entry(format!("{axis}/{granule}"))
                .or_default()
                .push(name.clone());
            if !found(&report).contains(codes::PARTS) {
                assert_eq!(told(&report), "", "{label} {name}");
                apart += 1;
            }
        }
    }
    assert!(apart > 10, "{apart}");
}

// The oracle: which bytes each worker touches, for a few numbers of workers.

fn split(n: u64, granule: u64, ith: u64, nth: u64) -> Range<u64> {
    let units = n.div_ceil(granule);
    (units * ith / nth * granule).min(n)..(units * (ith + 1) / nth * granule).min(n)
}

/// The bytes of `t` that a worker touches, or none where the report does not say which.
fn touched(step: &Step, t: &Tensor, part: &str, ith: u64, nth: u64) -> Option<Vec<Range<u64>>> {
    let whole = t.offset..t.offset + t.bytes;
    if matches!(step.partition, Partition::Serial { .. }) {
        return Some(if ith == 0 { vec![whole] } else { Vec::new() });
    }
    let Some((kind, granule)) = part.split_once('/') else {
        return (part == "all").then(|| vec![whole]);
    };
    let granule: u64 = granule.parse().unwrap();
    let (rows, cols) = (t.shape[0], t.shape[1]);
    let row = t.bytes / rows;
    if kind == "rows" {
        let own = split(rows, granule, ith, nth);
        return Some(vec![t.offset + own.start * row..t.offset + own.end * row]);
    }
    let own = split(cols, granule, ith, nth);
    let pieces = |at: u64| -> Vec<Range<u64>> {
        if t.dtype != "q8" {
            let element = row / cols;
            return vec![at + own.start * element..at + own.end * element];
        }
        let plane = cols + cols / 32 * 8;
        let scales = |at: u64| at + own.start / 32 * 4..at + own.end / 32 * 4;
        (0..2)
            .map(|p| at + p * plane)
            .flat_map(|at| {
                [
                    at + own.start..at + own.end,
                    scales(at + cols),
                    scales(at + cols + cols / 32 * 4),
                ]
            })
            .collect()
    };
    Some((0..rows).flat_map(|r| pieces(t.offset + r * row)).collect())
}

/// Whether two workers meet in bytes that one of them writes, between two barriers. Parts that are private meet nothing
/// here but what has bytes in common with them in another step.
fn races(r: &Report) -> bool {
    let find = |entry: &str, name: &str| {
        let of = |e: &str| r.tensors.iter().find(|t| t.entry == e && t.id == name);
        of(entry).or_else(|| of(""))
    };
    for entry in &r.header.entries {
        let steps: Vec<&Step> = r.steps.iter().filter(|s| s.entry == entry.name).collect();
        // (step, tensor, part, writes), since the last barrier.
        let mut since: Vec<(&Step, &Tensor, &str, bool)> = Vec::new();
        for step in steps {
            if step.barrier.is_some() {
                since.clear();
            }
            let named = step
                .parts
                .iter()
                .flat_map(|(part, names)| names.iter().map(move |n| (part.as_str(), n)));
            for (part, name) in named {
                let Some(tensor) = find(&step.entry, name) else {
                    continue;
                };
                let writes = !step.inputs.contains(name) || step.clobbers.contains(name);
                since.push((step, tensor, part, writes));
            }
            let new: Vec<_> = since.iter().filter(|(s, ..)| std::ptr::eq(*s, step)).copied().collect();
            for (a, (old_step, old, old_part, old_writes)) in since.iter().enumerate() {
                for (b, (_, tensor, part, writes)) in new.iter().enumerate() {
                    let itself = a == since.len() - new.len() + b;
                    let apart = old.offset + old.bytes <= tensor.offset || tensor.offset + tensor.bytes <= old.offset;
                    if itself || apart || !(*writes || *old_writes) {
                        continue;
                    }
                    if meet((old_step, old, old_part), (step, tensor, part)) {
                        return true;
                    }
                }
            }
        }
    }
    false
}

fn meet(a: (&Step, &Tensor, &str), b: (&Step, &Tensor, &str)) -> bool {
    for nth in [2, 3, 5] {
        for (i, j) in (0..nth)
            .flat_map(|i| (0..nth).map(move |j| (i, j)))
            .filter(|(i, j)| i != j)
        {
            let (Some(x), Some(y)) = (touched(a.0, a.1, a.2, i, nth), touched(b.0, b.1, b.2, j, nth)) else {
                return !std::ptr::eq(a.0, b.0);
            };
            if x.iter().any(|x| y.iter().any(|y| x.start < y.end && y.start < x.end)) {
                return true;
            }
        }
    }
    false
}

/// Whether two tensors of an entry that are live in one step have a byte in common, other than by an alias.
fn overlaps(r: &Report) -> bool {
    let own: Vec<&Tensor> = r.tensors.iter().filter(|t| !t.entry.is_empty()).collect();
    own.iter().enumerate().any(|(i, a)| {
        own[..i].iter().any(|b| {
            let bytes = a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
            let time = a.first <= b.last && b.first <= a.last;
            let alias = a.alias_of.as_ref() == Some(&b.id) || b.alias_of.as_ref() == Some(&a.id);
            a.entry == b.entry && bytes && time && !alias
        })
    })
}

/// Every activation moved by a cache line either way, and every pair of them swapped: what the oracle sees, the judge
/// sees; and what the judge lets pass, the oracle does.
#[test]
fn the_oracle_of_bytes_and_workers_finds_nothing_more() {
    let (mut accepted, mut raced, mut overlapped) = (0, 0, 0);
    for (label, base) in forms(TINY, None).into_iter().chain(forms(TINY, Some((32, 3)))) {
        let activations: Vec<usize> = (0..base.tensors.len())
            .filter(|i| base.tensors[*i].region == "activations")
            .collect();
        let mut mutants = Vec::new();
        for (n, i) in activations.iter().enumerate() {
            for delta in [-4096, -64, 64, 4096] {
                let mut report = base.clone();
                let offset = &mut report.tensors[*i].offset;
                *offset = offset.saturating_add_signed(delta);
                mutants.push(report);
            }
            for j in activations[..n].iter().rev().take(3) {
                let mut report = base.clone();
                (report.tensors[*i].offset, report.tensors[*j].offset) =
                    (base.tensors[*j].offset, base.tensors[*i].offset);
                mutants.push(report);
            }
        }
        for i in 0..base.steps.len() {
            let mut report = base.clone();
            report.steps[i].barrier = None;
            mutants.push(report);
            for name in &base.steps[i].inputs {
                let mut report = base.clone();
                report.steps[i]
                    .parts
                    .entry("all".into())
                    .or_default()
                    .push(name.clone());
                mutants.push(report);
            }
        }
        for report in &mutants {
            let found = found(report);
            let (race, overlap) = (races(report), overlaps(report));
            assert!(
                !race || found.contains(codes::RACE),
                "{label}: a race is not found\n{}",
                told(report)
            );
            assert!(
                !overlap || found.contains(codes::OVERLAP),
                "{label}: an overlap is not found\n{}",
                told(report)
            );
            raced += usize::from(race);
            overlapped += usize::from(overlap);
            accepted += usize::from(found.is_empty());
        }
    }
    assert!(
        accepted > 20 && raced > 100 && overlapped > 100,
        "{accepted} {raced} {overlapped}"
    );
}

// Text from anywhere.

fn tiny_json() -> String {
    report::to_json(&planned(TINY, Flags::ALL, Kind::Packed, None))
}

fn load(folder: &Path, bytes: &[u8]) -> Result<Report, Vec<&'static str>> {
    let path = folder.join("report.json");
    std::fs::write(&path, bytes).unwrap();
    report::load(&path).map_err(|problems| {
        assert!(
            problems.iter().all(|p| p.file.is_some() && p.help.is_some()),
            "{problems:?}"
        );
        problems.iter().map(|p| p.code).collect()
    })
}

#[test]
fn a_report_that_is_cut_is_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let json = tiny_json();
    assert_eq!(
        load(folder.path(), json.as_bytes())
            .map(|r| report::to_json(&r))
            .as_deref(),
        Ok(json.as_str())
    );
    let end = json.trim_end().len();
    for cut in 0..end {
        assert!(report::from_json(&json[..cut]).is_err(), "cut to {cut} bytes");
    }
    for cut in (0..end).step_by(151) {
        let bytes = &json.as_bytes()[..cut];
        assert_eq!(load(folder.path(), bytes), Err(vec!["CK0907"]), "cut to {cut} bytes");
    }
}

/// Flipped bits: an error with a code, or a report that breaks no rule; no other outcome.
#[test]
fn flipped_bytes_are_noticed_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let json = tiny_json();
    let mut state = 7u64;
    let mut below = |n: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let mut refused = 0;
    for _ in 0..4000 {
        let mut bytes = json.clone().into_bytes();
        for _ in 0..1 + below(3) {
            let at = below(bytes.len());
            bytes[at] = match below(4) {
                0 => b"0123456789"[below(10)],
                1 => b"{}[],:\"-e. \\"[below(12)],
                2 => bytes[at] ^ (1 << below(8)),
                _ => below(256) as u8,
            };
        }
        match load(folder.path(), &bytes) {
            Ok(report) => assert_eq!(told(&report), ""),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 3000, "only {refused}");
}

#[test]
fn malformed_reports_are_errors_with_a_place() {
    let folder = tempfile::tempdir().unwrap();
    let json = tiny_json();
    let batch = "\"batch\": 16";
    let edits = [
        ("ckc-layout/1", "ckc-layout/2", "CK1001"),
        (batch, "\"batch\": -1", "CK0907"),
        (batch, "\"batch\": 1.5", "CK0907"),
        (batch, "\"batch\": 1e400", "CK0907"),
        (batch, "\"batch\": 99999999999999999999999", "CK0907"),
        (batch, "\"batch\": \"16\"", "CK0907"),
        (batch, "\"batch\": null", "CK0907"),
        (batch, "\"batch\": 16, \"batch\": 16", "CK0907"),
        (batch, "\"batch\": 16, \"bitch\": 16", "CK0907"),
        ("\"batch\": 16,", "", "CK0907"),
        ("\"f32\": ", "\"f32\": 1, \"f32\": ", "CK0907"),
        ("\"parts\":{", "\"parts\":{\"all\":[],\"all\":[],", "CK0907"),
        ("\"totals\":", "\"totals\": {}, \"totals\":", "CK0907"),
        ("\"kind\":\"axis\"", "\"kind\":\"spiral\"", "CK0907"),
        ("\"offset\":", "\"offset\":18446744073709551615,\"was\":", "CK0907"),
    ];
    for (from, to, code) in edits {
        let broken = json.replacen(from, to, 1);
        assert_ne!(broken, json, "{from} is not in the report");
        assert_eq!(load(folder.path(), broken.as_bytes()), Err(vec![code]), "{to}");
    }
    let deep = [&b"["[..], b"{\"header\":", b"{\"a\":["].map(|open| open.repeat(200_000));
    for bytes in [
        &b""[..],
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"{\"header\":{\"schema\":1}}",
    ]
    .into_iter()
    .chain(deep.iter().map(|d| &d[..]))
    {
        assert_eq!(load(folder.path(), bytes), Err(vec!["CK0907"]));
    }
    assert!(report::load(folder.path()).is_err() && report::load(&folder.path().join("none")).is_err());
}

/// A hundred thousand steps that all touch the same bytes, without a barrier: told in a moment, and shortly.
#[test]
fn a_report_made_to_be_slow_is_not() {
    let mut report = planned(TINY, Flags::NONE, Kind::Packed, None);
    let (step, tensor) = (report.steps[0].clone(), activation(&mut report).unwrap().clone());
    let weight = report.weights[1].clone();
    for i in 0..100_000u64 {
        let mut t = tensor.clone();
        (t.id, t.entry) = (format!("t{i}"), step.entry.clone());
        (t.first, t.last) = (0, u64::MAX);
        t.offset += 64 * (i % 7);
        t.alias_of = Some(format!("t{}", i / 2));
        let mut s = step.clone();
        (s.id, s.index) = (format!("s{i}"), 1000 + i);
        s.inputs = vec!["t0".into(), format!("t{}", i / 3)];
        s.outputs = vec![t.id.clone()];
        s.in_place_of = Some("t0".into());
        s.parts = [(
            ["all", "private", "rows/4"][i as usize % 3].to_owned(),
            vec![t.id.clone(), "t0".into()],
        )]
        .into();
        report.tensors.push(t);
        report.steps.push(s);
        report.weights.push(weight.clone());
    }
    let violations = check(&report);
    assert!(violations.iter().any(|v| v.code == codes::RACE));
    assert!(violations.len() < 300, "{}", violations.len());
}

/// The same in one step, with as many memories, budgets and parts.
#[test]
fn a_step_made_to_be_slow_is_not() {
    let mut report = extended(TINY, EXTRAS[0], Flags::NONE);
    let tensor = activation(&mut report).unwrap().clone();
    let step = report.steps.iter().position(|s| s.entry == tensor.entry).unwrap();
    let memory = report.totals.memories[0].clone();
    for i in 0..30_000u64 {
        let mut t = tensor.clone();
        (t.id, t.first, t.last) = (format!("t{i}"), i % 3, 3);
        (t.alias_of, t.memory) = (Some(format!("t{}", i / 2)), Some(format!("m{i}")));
        let step = &mut report.steps[step];
        step.in_place_of = Some(t.id.clone());
        let lists = [&mut step.inputs, &mut step.outputs, &mut step.clobbers];
        lists.into_iter().for_each(|names| names.push(t.id.clone()));
        for part in ["all".to_owned(), "private".into(), format!("rows/{i}")] {
            step.parts.entry(part).or_default().push(t.id.clone());
        }
        report.tensors.push(t);
        let mut m = memory.clone();
        m.name = format!("m{i}");
        report.totals.memories.push(m);
        report.totals.budgets.push(report::Limit {
            name: format!("m{i}"),
            ..Default::default()
        });
        report.totals.regions.push(report::Region {
            name: format!("m{i}"),
            offset: u64::MAX - i,
            bytes: u64::MAX / 2,
            status: Status::OverBudget { by: i },
            ..Default::default()
        });
    }
    let violations = check(&report);
    assert!(violations.iter().any(|v| v.code == codes::MEMORIES));
    assert!(violations.len() < 300, "{}", violations.len());
    let longest = violations.iter().map(|v| v.message.len()).max();
    assert!(longest < Some(10_000), "{longest:?}");
}

// The commands.

fn ckc(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ckc")).args(args).output().unwrap()
}

#[test]
fn verify_and_diff_judge_reports() {
    let folder = tempfile::tempdir().unwrap();
    let json = tiny_json();
    let mut report = report::from_json(&json).unwrap();
    let barrier = report.steps.iter().position(|s| s.barrier.is_some()).unwrap();
    report.steps[barrier].barrier = None;
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (good, bad) = (write("good.json", &json), write("bad.json", &report::to_json(&report)));
    let output = ckc(&["verify", &good]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("break no rule"));
    for (args, code) in [
        (&["verify", &bad][..], 1),
        (&["diff", &good, &bad], 2),
        (&["diff", &bad, &good], 2),
        (&["diff", &good, &good], 0),
    ] {
        let output = ckc(args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(
            code == 0 || text.contains("error[CK1018]") && text.contains("bad.json"),
            "{text}"
        );
    }
}
