//! From a model's graph to the three entries of a program: which steps, divided how, with which lifetimes.
//!
//! An entry is a straight line of steps over its own rewrite of the graph:
//! - `prefill`: the body for up to `batch` tokens, divided by tokens;
//! - `decode`: the body for one token, divided by columns of the weights;
//! - `head`: from the selected row to the logits, divided by columns.
//!
//! Nothing here knows offsets; [`barrier::place`] is told them by its caller.

pub mod access;
pub mod barrier;
pub mod cost;
mod division;
pub mod in_place;
pub(crate) mod lower;
pub mod order;

use std::collections::BTreeMap;

use ck_kernels::partition::Axis;

use crate::costs::Chosen;
use crate::fuse::{self, Division, Fused, Site};
use crate::graph::verify::{self, Rule};
use crate::graph::{Graph, Op, OpKind};
use access::{Access, Operand, accesses};
use barrier::{Barrier, Touch};

/// One kernel call of an entry.
#[derive(Clone, Debug)]
pub struct Step {
    /// The op of the entry's graph.
    pub op: usize,
    /// How the work is divided.
    pub axis: Axis,
    /// Length of that axis at the upper bounds: tokens, columns or heads.
    pub extent: usize,
    /// What it touches.
    pub accesses: Vec<Access>,
    /// Bytes of scratch.
    pub workspace: usize,
    /// Why workers meet within the step, if they do.
    pub halves: Option<Halves>,
}

/// What the two halves of a step are, between which workers meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halves {
    /// Attention of one token may divide its context, and puts together what was found in its chunks.
    Chunks {
        /// Key/value heads: where the number of workers divides that, there is one half.
        heads: usize,
    },
    /// Attention of several tokens, divided so that each worker has as much to do; then its projection, by tokens.
    Project,
}

impl Halves {
    fn of(graph: &Graph, op: &Op, axis: Axis, workspace: usize) -> Option<Halves> {
        match (&op.kind, axis) {
            (OpKind::Attend(a), _) if workspace > 0 => Some(Halves::Chunks {
                heads: graph.caches[a.cache.index()].kv_heads,
            }),
            (OpKind::AttendProject { .. }, Axis::Tokens { .. }) => Some(Halves::Project),
            _ => None,
        }
    }

    /// Where the number of workers divides this, nobody waits.
    pub fn unless(self) -> Option<usize> {
        match self {
            Halves::Chunks { heads } => Some(heads),
            Halves::Project => None,
        }
    }
}

/// A program over the shared state.
#[derive(Clone, Debug)]
pub struct Entry {
    /// `prefill`, `decode`, `head`.
    pub name: &'static str,
    /// The entry's own rewrite of the model; `batch` is the most tokens of one call.
    pub graph: Graph,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What fusion did.
    pub sites: Vec<Site>,
    /// The entry before fusion (no flag), and after each pass that changed it, scheduled: the report's before and after.
    pub stages: Vec<(Option<fuse::Flag>, Vec<Step>, Graph)>,
    /// How the work is divided.
    pub division: Division,
}

impl Entry {
    /// When the bytes of each tensor and workspace must hold their value, in steps, half-open: a step's operands and
    /// results are live together.
    ///
    /// Workers are only as far apart as barriers allow. With `barriers` given, an operand stays live up to the first
    /// barrier after its last use that always stands, so that reuse never needs a barrier of its own; without, every step
    /// is taken to start with one.
    pub fn lifetimes(&self, barriers: Option<&[Option<Barrier>]>) -> Vec<(Operand, std::ops::Range<u32>)> {
        let mut spans: Vec<(Operand, usize, usize)> = Vec::new();
        let mut known: BTreeMap<Operand, usize> = BTreeMap::new();
        for (index, step) in self.steps.iter().enumerate() {
            for access in &step.accesses {
                let at = *known.entry(access.operand).or_insert_with(|| {
                    spans.push((access.operand, index, index));
                    spans.len() - 1
                });
                spans[at].2 = index;
            }
        }
        // Where what is last used in a step ends: with the step, or at the next barrier.
        let mut ends: Vec<usize> = (1..=self.steps.len()).collect();
        if let Some(list) = barriers {
            let mut next = list.len();
            for (index, end) in ends.iter_mut().enumerate().rev() {
                *end = next;
                next = if list[index].is_some_and(|b| b.always()) {
                    index
                } else {
                    next
                };
            }
        }
        let clock = |step: usize| u32::try_from(step).expect("fewer than 2^32 steps");
        let span = |(operand, first, last)| (operand, clock(first)..clock(ends[last]));
        spans.into_iter().map(span).collect()
    }

    /// The barriers the entry needs by its data alone, if no two operands shared bytes.
    pub fn data_barriers(&self) -> Vec<Option<Barrier>> {
        let mut seen: BTreeMap<Operand, u64> = BTreeMap::new();
        let mut place = |operand: Operand| {
            let next = seen.len() as u64;
            let at = *seen.entry(operand).or_insert(next);
            at..at + 1
        };
        let touches: Vec<Vec<Touch>> = self
            .steps
            .iter()
            .map(|s| {
                s.accesses
                    .iter()
                    .map(|a| Touch {
                        access: *a,
                        bytes: place(a.operand),
                    })
                    .collect()
            })
            .collect();
        barrier::place(&touches)
    }

    /// The same steps in another order. The stages of fusion stay in the source's.
    pub fn reordered(&self, order: &[usize]) -> Entry {
        let mut graph = self.graph.clone();
        graph.ops = order.iter().map(|&i| self.graph.ops[i].clone()).collect();
        let step = |(index, &old): (usize, &usize)| {
            let mut step = self.steps[old].clone();
            step.op = index;
            for access in &mut step.accesses {
                if let Operand::Workspace(at) = &mut access.operand {
                    *at = index;
                }
            }
            step
        };
        let steps = order.iter().enumerate().map(step).collect();
        check("ordering", &graph);
        Entry {
            graph,
            steps,
            sites: self.sites.clone(),
            stages: self.stages.clone(),
            ..*self
        }
    }
}

/// Makes the three entries. What is `chosen` may divide single steps of `prefill` by columns.
///
/// # Panics
/// If a rewrite breaks the graph: a bug of the compiler, found by the verifier.
pub fn entries(model: &Graph, config: &fuse::Config, chosen: Option<&Chosen<'_>>) -> Vec<Entry> {
    let lowered = lower::split_attention(model);
    check("lowering", &lowered);
    let select = lowered
        .ops
        .iter()
        .position(|op| op.kind == OpKind::SelectRow)
        .unwrap_or(lowered.ops.len());
    let hidden = lowered.ops.get(select).map(|op| op.inputs[0]);

    let mut body = lowered.clone();
    body.ops.truncate(select);
    body.outputs = hidden.into_iter().collect();
    let mut decode = body.clone();
    decode.batch = 1;
    let mut head = lowered.clone();
    head.ops.drain(..select);
    head.inputs = hidden.into_iter().collect();
    head.batch = 1;
    head.caches.clear();

    vec![
        entry("prefill", body, config, Division::Tokens, chosen),
        entry("decode", decode, config, Division::Columns, chosen),
        entry("head", head, config, Division::Columns, chosen),
    ]
}

fn entry(
    name: &'static str,
    graph: Graph,
    config: &fuse::Config,
    division: Division,
    chosen: Option<&Chosen<'_>>,
) -> Entry {
    let unfused = graph;
    let Fused { graph, sites, stages } = fuse::fuse(&unfused, config, division);
    check("fusion", &graph);
    let finish = |graph: &Graph| {
        let graph = lower::quantise_activations(graph);
        check("quantisation", &graph);
        let steps = steps(&graph, division, chosen);
        (graph, steps)
    };
    let (graph, steps) = finish(&graph);
    let passes = stages.into_iter().map(|(flag, stage)| (Some(flag), stage));
    let stages = std::iter::once((None, unfused))
        .chain(passes)
        .map(|(flag, stage)| {
            let (graph, steps) = finish(&stage);
            (flag, steps, graph)
        })
        .collect();
    Entry {
        name,
        graph,
        steps,
        sites,
        stages,
        division,
    }
}

fn steps(graph: &Graph, division: Division, chosen: Option<&Chosen<'_>>) -> Vec<Step> {
    let uses = division::Uses::new(graph);
    (0..graph.ops.len())
        .map(|op| {
            let division = match (division, chosen) {
                (Division::Tokens, Some(chosen)) => chosen.division(graph, &graph.ops[op]),
                _ => division,
            };
            let (axis, extent) = division::divide(graph, &uses, op, division);
            let workspace = cost::workspace(graph, &graph.ops[op], axis);
            let accesses = accesses(graph, &graph.ops[op], axis, op, workspace > 0);
            let halves = Halves::of(graph, &graph.ops[op], axis, workspace);
            Step {
                op,
                axis,
                extent,
                accesses,
                workspace,
                halves,
            }
        })
        .collect()
}

/// An entry is a part of the model, so that it need not use every weight and cache.
fn check(pass: &str, graph: &Graph) {
    let violations = verify::verify(graph).err().unwrap_or_default();
    let broken: Vec<String> = violations
        .iter()
        .filter(|v| v.rule != Rule::Unused)
        .map(ToString::to_string)
        .collect();
    assert!(broken.is_empty(), "{pass} broke the graph:\n{}", broken.join("\n"));
}
