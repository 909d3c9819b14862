//! Each operand of a step has a part, and the part is one that the step's division gives a worker.

use std::collections::BTreeSet;

use super::Say;
use super::view::{Part, Touch, View};
use crate::report::types::{Partition, Step, Tensor};

/// Columns of a residual that a kernel cuts whatever it cuts its outputs by: rows of a packed matrix that stay together.
const GROUP: u64 = 16;

/// Kernels that read whole rows of their inputs, whatever columns a worker writes.
const WHOLE_ROWS: &[&str] = &["embed", "embed_norm", "rmsnorm", "add_norm", "project", "project_glu"];

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    for (i, step) in view.report.steps.iter().enumerate() {
        let place = format!("steps[{i}].parts");
        let touched: BTreeSet<usize> = view.touches[i].iter().map(|t| t.tensor).collect();
        for (part, operands) in &step.parts {
            if Part::parse(part).is_none() {
                say(place.clone(), format!("no part is called `{part}`"));
            }
            for name in operands {
                let tensor = view.tensor(&step.entry, name);
                if !tensor.is_some_and(|t| touched.contains(&t)) {
                    let message = format!("`{name}` is no tensor that `{}` touches", step.id);
                    say(place.clone(), message);
                }
            }
        }
        for touch in &view.touches[i] {
            let tensor = &view.report.tensors[touch.tensor];
            let name = &tensor.id;
            match touch.part {
                None => say(
                    place.clone(),
                    format!("`{}` touches `{name}`, and the part is not said", step.id),
                ),
                Some(part) => {
                    if let Some(wrong) = judge(step, tensor, touch, part, view.scratch(step) == Some(touch.tensor)) {
                        say(
                            place.clone(),
                            format!("`{}` cannot touch `{part}` of `{name}`: {wrong}", step.id),
                        );
                    }
                }
            }
        }
        for touch in view.touches[i].iter().filter(|t| t.reads && !t.writes) {
            let tensor = &view.report.tensors[touch.tensor];
            let parts = view.touches_of(i, touch.tensor);
            let all = |t: &Touch| match t.part {
                Some(Part::Even { .. }) => by_heads(step),
                part => part == Some(Part::All),
            };
            if whole(step, tensor) && !parts.iter().any(all) {
                let message = format!(
                    "`{}` reads all of `{}`: that is what `{}` does",
                    step.id, tensor.id, step.kernel
                );
                say(place.clone(), message);
            }
        }
        if let Some(wrong) = halves(step) {
            say(format!("steps[{i}].halves"), wrong);
        }
        scratch(view, i, say);
    }
}

/// Whether the step's kernel reads all of an input on every worker.
fn whole(step: &Step, tensor: &Tensor) -> bool {
    let Partition::Axis { axis, .. } = &step.partition else {
        return false;
    };
    match step.kernel.as_str() {
        "select_row" => true,
        // Of a cache, in whole heads if it is that: see `Part::Even`.
        "attention" | "attention_split" | "attention_project" => tensor.entry.is_empty(),
        kernel => axis == "columns" && WHOLE_ROWS.contains(&kernel),
    }
}

/// Whether the workers take heads of a cache.
fn by_heads(step: &Step) -> bool {
    matches!(&step.partition, Partition::Axis { axis, .. } if axis == "heads")
}

/// Whether the tensor is a cache of so many heads.
fn cached(tensor: &Tensor, heads: u64) -> bool {
    tensor.entry.is_empty() && tensor.shape.first() == Some(&heads)
}

/// Whether the tensor is the queries of the step's heads, which share so many heads of a cache.
fn queries(step: &Step, tensor: &Tensor, heads: u64) -> bool {
    let Partition::Axis { axis, length, .. } = &step.partition else {
        return false;
    };
    let columns = tensor.shape.last().copied().unwrap_or(0);
    axis == "heads" && length.is_multiple_of(heads) && columns.is_multiple_of((*length).max(1))
}

/// Whether a step in two halves attends to the tensor's queries and leaves the result in their place.
fn attended(step: &Step, touch: &Touch) -> bool {
    step.kernel == "attention_project" && touch.reads && touch.writes
}

/// Where a kernel has two halves, its parts are what the first gives and the second takes; the workers meet between them.
fn halves(step: &Step) -> Option<String> {
    let even = |heads: u64| step.parts.contains_key(&Part::Even { heads }.to_string());
    let alone = matches!(step.partition, Partition::Serial { .. });
    match (step.kernel.as_str(), &step.halves) {
        ("attention_split" | "attention_project", None) if !alone => {
            Some(format!("`{}` is done in two halves, and no barrier is said", step.id))
        }
        ("attention_split", Some(barrier)) if !barrier.unless.is_some_and(even) => {
            Some(format!("`{}` divides no such heads evenly", step.id))
        }
        ("attention_project", Some(barrier)) if barrier.unless.is_some() => Some(format!(
            "`{}` projects what other workers attended to, however many there are",
            step.id
        )),
        ("attention_split" | "attention_project", _) | (_, None) => None,
        (kernel, Some(_)) => Some(format!("`{kernel}` has no halves")),
    }
}

/// Why a worker of this step cannot have this part of a tensor.
fn judge(step: &Step, tensor: &Tensor, touch: &Touch, part: Part, scratch: bool) -> Option<String> {
    let (axis, length, cut) = match &step.partition {
        // Where one worker does it all, every part is its own.
        Partition::Serial { .. } => return None,
        Partition::Axis { axis, length, granule } => (axis.as_str(), *length, *granule),
    };
    match part {
        Part::All if touch.writes => Some("every worker writes all of it".into()),
        Part::All => None,
        Part::Private if scratch || tensor.entry.is_empty() || axis == "heads" || attended(step, touch) => None,
        Part::Private => Some("only scratch, caches and heads have parts that no other step shares".into()),
        Part::Heads { heads } if !cached(tensor, heads) => Some(format!("it is no cache of {heads} heads")),
        // A head's columns stay together, so that a worker's are whole heads.
        Part::Heads { .. } => match tensor.shape[..] {
            [_, _, head] | [_, _, head, _]
                if axis == "columns" && cut == head && head.is_multiple_of(GROUP) && touch.writes =>
            {
                None
            }
            _ => Some(format!("{length} {axis} are divided by {cut}, not by heads")),
        },
        Part::Even { heads } if !cached(tensor, heads) && !queries(step, tensor, heads) => {
            Some(format!("it is neither a cache of {heads} heads nor their queries"))
        }
        Part::Even { heads } if touch.writes || axis != "heads" || !length.is_multiple_of(heads) => {
            Some(format!("{length} {axis} are no equal parts of {heads} heads"))
        }
        Part::Even { .. } => None,
        Part::Rows { granule } => {
            let [rows, _] = tensor.shape[..] else {
                return Some("it has no rows".into());
            };
            match axis {
                "rows" if granule == cut && rows == length => None,
                _ => Some(format!("it has {rows} rows, and {length} {axis} are divided by {cut}")),
            }
        }
        Part::Columns { granule } => {
            let [_, columns] = tensor.shape[..] else {
                return Some("it has no columns".into());
            };
            match axis {
                "columns" if (granule == cut || granule == GROUP) && columns <= length => None,
                "heads" if granule.checked_mul(length) == Some(columns) => None,
                _ => Some(format!(
                    "it has {columns} columns, and {length} {axis} are divided by {cut}"
                )),
            }
        }
    }
}

/// However many workers there are, each has scratch for itself: by rows a part a row, by heads a part a
/// head, by columns an equal share.
fn scratch(view: &View<'_>, index: usize, say: &mut Say<'_>) {
    let step = &view.report.steps[index];
    let owners = match &step.partition {
        Partition::Axis { axis, length, .. } if axis == "rows" || axis == "heads" => *length,
        Partition::Axis { axis, .. } if axis == "columns" => view.report.header.options.max_threads,
        _ => 1,
    };
    if !step.workspace_bytes.is_multiple_of(owners.max(1)) {
        let bytes = step.workspace_bytes;
        let message = format!("{bytes} bytes cannot be {owners} equal shares");
        say(format!("steps[{index}].workspace_bytes"), message);
    }
    if let Some(tensor) = view.scratch(step) {
        let own = &view.report.tensors[tensor];
        if (own.first, own.last) != (step.index, step.index) {
            let message = format!("`{}` is scratch of `{}` and of no other step", own.id, step.id);
            say(format!("tensors[{tensor}]"), message);
        }
    }
}
