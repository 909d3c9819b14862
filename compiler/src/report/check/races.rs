//! Between two barriers no worker touches bytes that another writes.
//!
//! Two accesses meet if they have a byte in common, one of them writes, and they are not certain to give each byte to one
//! and the same worker. That is certain if both divide the same bytes in the same way: same place, as many rows (or the
//! same columns of the same type), same granules; then it holds for any number of workers and of tokens. A step that one
//! worker does alone meets only steps that others take part in.
//!
//! Barriers that stand unless the workers divide a number of heads make several programs of one: every set of such numbers
//! that some number of workers divides is judged by itself. There, parts that are whole heads are equal parts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Range;

use super::Say;
use super::view::{Part, Touch, View, bytes};
use crate::report::types::Partition;

/// Which worker has which byte. Accesses of one class never meet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class<'a> {
    /// Worker 0 has all.
    Alone,
    /// So many rows, which are as long as each other, cut in granules.
    Rows(Range2, u64, u64),
    /// Columns of `shape`, cut in granules.
    Columns(Range2, &'a str, &'a [u64], u64),
    /// Its own of so many heads.
    Heads(Range2, &'a [u64], u64),
    /// As much of `shape` as any other worker.
    Equal(Range2, &'a str, &'a [u64]),
    /// The part that this step alone gives a worker of these bytes.
    OfStep(usize, Range2, &'a [u64]),
    /// Any worker has any byte: the tensor's alone, in this step.
    Any(usize, usize),
}

/// A range that can be ordered.
type Range2 = (u64, u64);

/// One step's use of one tensor.
struct Access<'a> {
    step: usize,
    tensor: usize,
    bytes: Range<u64>,
    class: Class<'a>,
    writes: bool,
}

pub fn check(view: &View<'_>, say: &mut Say<'_>) {
    if view.report.header.options.max_threads <= 1 {
        return;
    }
    for (entry, line) in &view.lines {
        // One of a pair of steps.
        let mut told = BTreeSet::new();
        for divided in worlds(view, &line.steps) {
            let barrier = |step: &usize| {
                let barrier = view.report.steps[*step].barrier.as_ref();
                barrier.is_some_and(|b| b.unless.is_none_or(|heads| !divided.contains(&heads)))
            };
            let mut rest = &line.steps[..];
            while let Some((_, later)) = rest.split_first() {
                let length = 1 + later.iter().position(barrier).unwrap_or(later.len());
                let (stretch, after) = rest.split_at(length);
                rest = after;
                judge(view, stretch, &divided, |a, b| {
                    if told.insert((a.step, b.step)) {
                        say(format!("steps[{}].barrier", b.step), tell(view, entry, a, b));
                    }
                });
            }
        }
    }
}

/// The most workers that are looked at; no plan has room for more.
const MOST: u64 = 1024;

/// Of the numbers that the steps' barriers and parts depend on, the sets that a number of workers divides.
fn worlds(view: &View<'_>, steps: &[usize]) -> BTreeSet<BTreeSet<u64>> {
    let barriers = steps
        .iter()
        .filter_map(|s| view.report.steps[*s].barrier.as_ref()?.unless);
    let parts = steps
        .iter()
        .flat_map(|s| &view.touches[*s])
        .filter_map(|t| match t.part {
            Some(Part::Even { heads }) => Some(heads),
            _ => None,
        });
    let numbers: BTreeSet<u64> = barriers.chain(parts).collect();
    let workers = 2..=view.report.header.options.max_threads.min(MOST);
    let divided = |n: u64| {
        numbers
            .iter()
            .copied()
            .filter(|heads| heads.is_multiple_of(n))
            .collect()
    };
    workers.map(divided).collect()
}

/// Finds the meetings of the steps of one stretch without barriers, by workers whose number divides these.
fn judge<'a>(
    view: &View<'a>,
    stretch: &[usize],
    divided: &BTreeSet<u64>,
    mut found: impl FnMut(&Access<'a>, &Access<'a>),
) {
    let mut accesses: Vec<Access<'_>> = Vec::new();
    for step in stretch {
        let touches = view.touches[*step].iter();
        accesses.extend(
            touches
                .map(|t| access(view, *step, t, divided))
                .filter(|a| !a.bytes.is_empty()),
        );
    }
    // By first byte, in the order of steps.
    accesses.sort_by_key(|a| a.bytes.start);
    let mut classes: BTreeMap<&Class<'_>, usize> = BTreeMap::new();
    let class: Vec<usize> = accesses
        .iter()
        .map(|a| {
            let next = classes.len();
            *classes.entry(&a.class).or_insert(next)
        })
        .collect();
    let mut ends = BinaryHeap::new();
    // What is open at the current byte, by class: everything, and what writes.
    let (mut open, mut writing) = (BTreeSet::new(), BTreeSet::new());
    for (i, new) in accesses.iter().enumerate() {
        while let Some(Reverse((_, closed))) = ends.peek().copied().filter(|Reverse((end, _))| *end <= new.bytes.start)
        {
            ends.pop();
            open.remove(&(class[closed], closed));
            writing.remove(&(class[closed], closed));
        }
        let among = if new.writes { &open } else { &writing };
        // If one of another class is open, it is the first or the last.
        let met = [among.first(), among.last()]
            .into_iter()
            .flatten()
            .find(|(c, _)| *c != class[i]);
        if let Some((_, other)) = met {
            let (a, b) = in_order(view, &accesses[*other], new);
            found(a, b);
        }
        open.insert((class[i], i));
        if new.writes {
            writing.insert((class[i], i));
        }
        ends.push(Reverse((new.bytes.end, i)));
    }
}

fn in_order<'a, 'b>(view: &View<'_>, a: &'a Access<'b>, b: &'a Access<'b>) -> (&'a Access<'b>, &'a Access<'b>) {
    if view.positions[a.step] <= view.positions[b.step] {
        (a, b)
    } else {
        (b, a)
    }
}

fn access<'a>(view: &View<'a>, step: usize, touch: &Touch, divided: &BTreeSet<u64>) -> Access<'a> {
    let tensor = &view.report.tensors[touch.tensor];
    let bytes = bytes(tensor);
    let place = (bytes.start, bytes.end);
    let serial = matches!(view.report.steps[step].partition, Partition::Serial { .. });
    let columns = tensor.shape.last().copied().unwrap_or(1);
    // So many units, of which every worker has as many.
    let equal = |units: u64| divided.iter().any(|heads| units.is_multiple_of(*heads));
    let class = match touch.part {
        _ if serial => Class::Alone,
        Some(Part::Even { heads }) if divided.contains(&heads) => Class::Equal(place, &tensor.dtype, &tensor.shape),
        Some(Part::Heads { heads }) if equal(heads) => Class::Equal(place, &tensor.dtype, &tensor.shape),
        Some(Part::Columns { granule }) if columns.is_multiple_of(granule) && equal(columns / granule) => {
            Class::Equal(place, &tensor.dtype, &tensor.shape)
        }
        Some(Part::Heads { heads }) => Class::Heads(place, &tensor.shape, heads),
        Some(Part::Rows { granule }) => Class::Rows(place, tensor.shape.first().copied().unwrap_or(1), granule),
        Some(Part::Columns { granule }) => Class::Columns(place, &tensor.dtype, &tensor.shape, granule),
        Some(Part::Private) => Class::OfStep(step, place, &tensor.shape),
        Some(Part::All | Part::Even { .. }) | None => Class::Any(step, touch.tensor),
    };
    Access {
        step,
        tensor: touch.tensor,
        bytes,
        class,
        writes: touch.writes,
    }
}

/// `a` comes first, or both are one step.
fn tell(view: &View<'_>, entry: &str, a: &Access<'_>, b: &Access<'_>) -> String {
    let step = |x: &Access<'_>| &view.report.steps[x.step].id;
    let does = |x: &Access<'_>| {
        let verb = if x.writes { "writes" } else { "reads" };
        format!("{verb} `{}`", view.report.tensors[x.tensor].id)
    };
    let (from, to) = (a.bytes.start.max(b.bytes.start), a.bytes.end.min(b.bytes.end));
    if a.step == b.step {
        let (does_a, does_b) = (does(a), does(b));
        return format!(
            "`{}` of {entry} {does_a} and {does_b} at {from}..{to}, on different workers",
            step(a)
        );
    }
    format!(
        "`{}` of {entry} {}, and `{}` {} at {from}..{to} on other workers: a barrier is missing before `{}`",
        step(a),
        does(a),
        step(b),
        does(b),
        step(b)
    )
}
