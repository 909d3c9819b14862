//! The order of steps: among those that the data allow, one with the least bytes live at once.
//!
//! The search knows a [`Dag`] of tasks and values, and nothing of steps. It cuts the dag where every order has run the
//! same tasks, and looks for the least peak of each piece, the fullest first, until no other piece can be above it. The
//! source's order is kept in every piece in which it is good enough, so that layers stay together and no barrier comes
//! from a change that saves nothing.

mod dag;
mod exact;
mod sorts;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use ck_kernels::dtype::ALIGN;

pub use dag::{Dag, Task, Value};

use super::access::{Access, Operand};
use super::in_place::{may_alias, same_shape};
use super::{Entry, Step};
use dag::{Indexed, Piece};
use exact::Found;

/// Which order the steps have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Kind {
    /// As the description has them.
    Source,
    /// One with the least peak; the source's, if that is as good.
    #[default]
    Memory,
}

/// An order of tasks, and how good it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ordered {
    /// The tasks.
    pub order: Vec<usize>,
    /// The most bytes live in the source's order.
    pub source: u64,
    /// The most bytes live in this order.
    pub peak: u64,
    /// No order needs less.
    pub least: u64,
}

/// States that the search of an entry looks at: some tenths of a second.
const NODES: u64 = 50_000;

/// The best order of a dag. A function of the dag alone.
pub fn best(dag: &Dag) -> Ordered {
    let of = Indexed::new(dag);
    let source: Vec<usize> = (0..dag.tasks.len()).collect();
    let needs = of.needs(&source);
    let mut parts: Vec<_> = of
        .cuts()
        .into_iter()
        .map(|range| (fullest(&needs[range.clone()]), range))
        .collect();
    parts.sort_by_key(|(peak, range)| (std::cmp::Reverse(*peak), range.start));
    let mut ordered = Ordered {
        order: source.clone(),
        source: fullest(&needs),
        peak: 0,
        least: 0,
    };
    let mut nodes = NODES;
    let mut known: BTreeMap<Dag, Found> = BTreeMap::new();
    let mut changed = Vec::new();
    for (peak, range) in parts {
        if peak <= ordered.peak {
            break;
        }
        let Piece { dag, entering } = of.piece(&source, &source, &range);
        let base = needs[range.start].0 - entering;
        let found = match known.get(&dag) {
            Some(found) => found.clone(),
            None => search(&dag, &mut nodes),
        };
        ordered.peak = ordered.peak.max(base + found.peak);
        ordered.least = ordered.least.max(base + found.least);
        changed.push((peak, range, base, found.clone(), dag.clone()));
        known.insert(dag, found);
    }
    for (peak, range, base, mut found, dag) in changed {
        if peak > ordered.peak {
            if dag.tasks.len() <= exact::MOST {
                exact::straighten(&Indexed::new(&dag), &mut found.order, ordered.peak - base);
            }
            let start = range.start;
            let slots = ordered.order[range].iter_mut().zip(&found.order);
            slots.for_each(|(slot, t)| *slot = start + t);
        }
    }
    ordered
}

fn fullest(needs: &[(u64, u64)]) -> u64 {
    needs.iter().map(|n| n.1).max().unwrap_or(0)
}

fn search(dag: &Dag, nodes: &mut u64) -> Found {
    let of = Indexed::new(dag);
    let mut order = sorts::portfolio(&of);
    if dag.tasks.len() <= exact::MOST {
        return exact::search(&of, order, nodes);
    }
    sorts::improve(&of, &mut order, nodes);
    Found {
        peak: of.peak(&order),
        order,
        least: of.floor(),
    }
}

/// What an operand takes of the memory that an order is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Bytes.
    pub bytes: u64,
    /// Whether it is there before the first step.
    pub given: bool,
    /// Whether it stays after the last step.
    pub kept: bool,
}

/// The steps of an entry as tasks. Operands that are not `counted` take no bytes; they decide, like the others, who waits
/// for whom: of two steps of which one writes what the other touches, the later one waits.
pub fn dag(entry: &Entry, counted: impl Fn(Operand) -> Option<Counted>) -> Dag {
    let mut dag = Dag::default();
    let mut touched: BTreeMap<Operand, Touched> = BTreeMap::new();
    for (t, step) in entry.steps.iter().enumerate() {
        let mut task = Task::default();
        for access in &step.accesses {
            if let Operand::Workspace(_) = access.operand {
                task.scratch += (step.workspace as u64).next_multiple_of(ALIGN as u64);
                continue;
            }
            let known = touched.entry(access.operand).or_insert_with(|| Touched {
                value: counted(access.operand).map(|c| {
                    dag.values.push(Value {
                        bytes: c.bytes.next_multiple_of(ALIGN as u64),
                        maker: (!c.given).then_some(t),
                        users: Vec::new(),
                        kept: c.kept,
                    });
                    dag.values.len() - 1
                }),
                ..Touched::default()
            });
            known.touch(t, access.write, &mut task.after);
            if let Some(value) = known.value.map(|v| &mut dag.values[v])
                && value.maker != Some(t)
                && value.users.last() != Some(&t)
            {
                value.users.push(t);
            }
        }
        task.after.sort_unstable();
        task.after.dedup();
        let value = |t| touched.get(&Operand::Tensor(t)).and_then(|known| known.value);
        let pairs = in_place(entry, step).filter_map(|(made, used)| Some((value(made)?, value(used)?)));
        task.in_place = pairs.filter(|(_, used)| !dag.values[*used].kept).collect();
        dag.tasks.push(task);
    }
    dag
}

/// The pairs of tensors that may share bytes in a step, if the order lets the one that is read die there.
fn in_place<'e>(
    entry: &'e Entry,
    step: &'e Step,
) -> impl Iterator<Item = (crate::graph::TensorId, crate::graph::TensorId)> + 'e {
    let op = &entry.graph.ops[step.op];
    let pattern = |t, write: bool| {
        let same = move |a: &&Access| a.operand == Operand::Tensor(t) && a.write == write;
        step.accesses.iter().find(same).map(|a| a.pattern)
    };
    may_alias(&op.kind, step.axis)
        .iter()
        .map(|&(out, input)| (op.outputs[out], op.inputs[input]))
        .filter(move |&(made, used)| {
            let outside = entry.graph.outputs.contains(&used) || entry.graph.inputs.contains(&used);
            let same_part = pattern(made, true).is_some() && pattern(made, true) == pattern(used, false);
            !outside && same_part && same_shape(&entry.graph, made, used)
        })
}

/// Who touched an operand since it was last written.
#[derive(Default)]
struct Touched {
    value: Option<usize>,
    writer: Option<usize>,
    readers: Vec<usize>,
}

impl Touched {
    /// Adds to `after` the tasks that this access has to wait for.
    fn touch(&mut self, t: usize, write: bool, after: &mut Vec<usize>) {
        after.extend(self.writer.filter(|w| *w != t));
        if write {
            after.extend(self.readers.drain(..).filter(|r| *r != t));
            self.writer = Some(t);
        } else {
            self.readers.push(t);
        }
    }
}
