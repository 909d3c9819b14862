//! No barrier can be spared; and what looks like a race, and is none.

use ckc::fuse::Flags;
use ckc::layout::Kind;
use ckc::report::{Entry, Partition, Step, check, codes};

use crate::fixtures::*;

/// Each barrier that is taken away is missed, and by the step that it stood before.
#[test]
fn no_barrier_can_be_spared() {
    for (label, base) in bases() {
        for i in (0..base.steps.len()).filter(|i| base.steps[*i].barrier.is_some()) {
            let mut report = base.clone();
            let step = &mut report.steps[i];
            let unless = step.barrier.take().unwrap().unless;
            let (id, entry) = (step.id.clone(), step.entry.clone());
            let row = report.header.entries.iter_mut().find(|e| e.name == entry).unwrap();
            *count(row, unless) -= 1;
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

/// Where it counts the barriers of that kind.
fn count(row: &mut Entry, unless: Option<u64>) -> &mut u64 {
    match unless {
        None => &mut row.barriers,
        Some(_) => &mut row.barriers_unless,
    }
}

/// A barrier that only some numbers of workers wait at is missed where all must, and where other numbers must.
#[test]
fn no_barrier_may_be_passed_by_workers_that_need_it() {
    let (mut always, mut other) = (0, 0);
    for (label, base) in bases() {
        for i in 0..base.steps.len() {
            let Some(barrier) = &base.steps[i].barrier else {
                continue;
            };
            let mut report = base.clone();
            let wrong = match barrier.unless {
                // All small numbers of workers divide it.
                Some(heads) => 720_720 * heads,
                None => 12,
            };
            report.steps[i].barrier.as_mut().unwrap().unless = Some(wrong);
            let entry = report.steps[i].entry.clone();
            let row = report.header.entries.iter_mut().find(|e| e.name == entry).unwrap();
            *count(row, barrier.unless) -= 1;
            *count(row, Some(wrong)) += 1;
            assert_eq!(found(&report), [codes::RACE].into(), "{label} {i}: {}", told(&report));
            *(if barrier.unless.is_none() {
                &mut always
            } else {
                &mut other
            }) += 1;
        }
    }
    assert!(always > 100 && other > 20, "{always} {other}");
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
