//! What the passes share: finding uses, replacing ops, recording sites.

pub(super) mod norm;

use std::collections::BTreeMap;

use super::{Config, Division, Flag, Reason, Site};
use crate::graph::{Graph, Op, OpKind, TensorId};

/// A graph under rewriting by one pass after the other. During a pass positions stay what they are: an op that was
/// replaced is left behind, unseen, until the pass ends.
pub(super) struct Rewriter<'a> {
    pub graph: Graph,
    pub sites: Vec<Site>,
    pub division: Division,
    config: &'a Config,
    flag: Flag,
    index: Index,
}

/// Where things are in the graph's list of ops.
#[derive(Default)]
struct Index {
    /// By name; what was replaced is in none.
    ops: BTreeMap<String, usize>,
    /// The op that writes each tensor.
    writer: Vec<Option<usize>>,
    /// The ops that read each tensor, in order.
    readers: Vec<Vec<usize>>,
    /// Ops that were replaced.
    gone: Vec<bool>,
}

impl Index {
    fn new(graph: &Graph) -> Index {
        let mut index = Index {
            writer: vec![None; graph.tensors.len()],
            readers: vec![Vec::new(); graph.tensors.len()],
            gone: vec![false; graph.ops.len()],
            ..Index::default()
        };
        for (at, op) in graph.ops.iter().enumerate() {
            index.add(at, op);
        }
        index
    }

    fn add(&mut self, at: usize, op: &Op) {
        self.ops.insert(op.name.clone(), at);
        for t in &op.inputs {
            let readers = &mut self.readers[t.index()];
            if let Err(place) = readers.binary_search(&at) {
                readers.insert(place, at);
            }
        }
        op.outputs.iter().for_each(|t| self.writer[t.index()] = Some(at));
        self.gone[at] = false;
    }

    fn remove(&mut self, at: usize, op: &Op) {
        self.ops.remove(&op.name);
        op.inputs
            .iter()
            .for_each(|t| self.readers[t.index()].retain(|r| *r != at));
        op.outputs.iter().for_each(|t| self.writer[t.index()] = None);
        self.gone[at] = true;
    }
}

impl<'a> Rewriter<'a> {
    pub fn new(graph: Graph, config: &'a Config, division: Division) -> Rewriter<'a> {
        Rewriter {
            index: Index::new(&graph),
            graph,
            sites: Vec::new(),
            division,
            config,
            flag: Flag::EmbedNorm,
        }
    }

    /// Sites recorded from now on belong to `flag`.
    pub fn begin(&mut self, flag: Flag) {
        self.flag = flag;
    }

    /// The pass is over: what it replaced leaves the graph.
    pub fn end(&mut self) {
        let mut gone = self.index.gone.iter();
        self.graph.ops.retain(|_| !gone.next().expect("an element an op"));
        self.index = Index::new(&self.graph);
    }

    /// Whether the current flag is allowed at the op.
    pub fn allowed(&self, op: usize) -> bool {
        self.config.allows(self.flag, &self.graph.ops[op].name)
    }

    /// The op that writes the tensor.
    pub fn producer(&self, tensor: TensorId) -> Option<usize> {
        self.index.writer[tensor.index()]
    }

    /// The ops that read the tensor, in order.
    pub fn consumers(&self, tensor: TensorId) -> Vec<usize> {
        self.index.readers[tensor.index()].clone()
    }

    /// `Ok` if nobody but the ops in `inside` reads the tensor, and the program does not return it.
    pub fn private(&self, tensor: TensorId, inside: &[usize]) -> Result<(), Reason> {
        let name = || self.graph.tensor(tensor).name.clone();
        if self.graph.outputs.contains(&tensor) {
            return Err(Reason::RequestedOutput { tensor: name() });
        }
        match self.consumers(tensor).into_iter().find(|c| !inside.contains(c)) {
            Some(other) => Err(Reason::ConsumerOutside {
                tensor: name(),
                consumer: self.graph.ops[other].name.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Records that the current flag was refused at the op.
    pub fn refuse(&mut self, op: usize, reason: Reason) {
        self.sites.push(Site {
            flag: self.flag,
            site: self.graph.ops[op].name.clone(),
            outcome: Err(reason),
        });
    }

    /// Replaces the ops at `members` (ascending, the last one's position is where the new op stands) by one op that
    /// keeps the stable name of the member `anchor`. The op `site` is where the pattern was found, under which the
    /// user allows and the report lists it; `away` are the tensors that are never written any more.
    pub fn replace(
        &mut self,
        site: usize,
        members: &[usize],
        anchor: usize,
        away: &[TensorId],
        make: impl FnOnce(&Graph) -> Replacement,
    ) {
        let made = make(&self.graph);
        let name = self.graph.ops[anchor].name.clone();
        let site = self.graph.ops[site].name.clone();
        let fused_from = members
            .iter()
            .flat_map(|m| {
                let op = &self.graph.ops[*m];
                if op.fused_from.is_empty() {
                    vec![op.name.clone()]
                } else {
                    op.fused_from.clone()
                }
            })
            .collect();
        let op = Op {
            name,
            kind: made.kind,
            inputs: made.inputs,
            weights: made.weights,
            outputs: made.outputs,
            layer: self.graph.ops[*members.last().expect("a site has members")].layer,
            fused_from,
        };
        let last = *members.last().expect("a site has members");
        for member in members {
            self.index.remove(*member, &self.graph.ops[*member]);
        }
        self.index.add(last, &op);
        self.graph.ops[last] = op;
        self.sites.push(Site {
            flag: self.flag,
            site,
            outcome: Ok(away.iter().map(|t| self.graph.tensor(*t).name.clone()).collect()),
        });
    }

    /// The ops of a kind, as positions, in order.
    pub fn find(&self, is: impl Fn(&OpKind) -> bool) -> Vec<usize> {
        (0..self.graph.ops.len())
            .filter(|i| !self.index.gone[*i] && is(&self.graph.ops[*i].kind))
            .collect()
    }

    /// The position of the op of that name.
    pub fn named(&self, name: &str) -> Option<usize> {
        self.index.ops.get(name).copied()
    }

    /// Names of the ops at `positions`: an op that a pass makes keeps a name, not a position.
    pub fn names(&self, positions: &[usize]) -> Vec<String> {
        positions.iter().map(|i| self.graph.ops[*i].name.clone()).collect()
    }
}

/// The operands of a fused op.
pub(super) struct Replacement {
    pub kind: OpKind,
    pub inputs: Vec<TensorId>,
    pub weights: Vec<crate::graph::WeightId>,
    pub outputs: Vec<TensorId>,
}
