//! What the passes share: finding uses, replacing ops, recording sites.

pub(super) mod norm;

use super::{Config, Division, Flag, Reason, Site};
use crate::graph::{Graph, Op, OpKind, TensorId};

/// A graph under rewriting by one pass after the other.
pub(super) struct Rewriter<'a> {
    pub graph: Graph,
    pub sites: Vec<Site>,
    pub division: Division,
    config: &'a Config,
    flag: Flag,
}

impl<'a> Rewriter<'a> {
    pub fn new(graph: Graph, config: &'a Config, division: Division) -> Rewriter<'a> {
        Rewriter {
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

    /// Whether the current flag is allowed at the op.
    pub fn allowed(&self, op: usize) -> bool {
        self.config.allows(self.flag, &self.graph.ops[op].name)
    }

    /// The op that writes the tensor.
    pub fn producer(&self, tensor: TensorId) -> Option<usize> {
        self.graph.ops.iter().position(|op| op.outputs.contains(&tensor))
    }

    /// The ops that read the tensor, in order.
    pub fn consumers(&self, tensor: TensorId) -> Vec<usize> {
        let reads = |op: &&Op| op.inputs.contains(&tensor);
        (0..self.graph.ops.len())
            .filter(|i| reads(&&self.graph.ops[*i]))
            .collect()
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
        self.graph.ops[last] = op;
        for member in members.iter().rev().filter(|m| **m != last) {
            self.graph.ops.remove(*member);
        }
        self.sites.push(Site {
            flag: self.flag,
            site,
            outcome: Ok(away.iter().map(|t| self.graph.tensor(*t).name.clone()).collect()),
        });
    }

    /// The ops of a kind, as positions, in order.
    pub fn find(&self, is: impl Fn(&OpKind) -> bool) -> Vec<usize> {
        (0..self.graph.ops.len())
            .filter(|i| is(&self.graph.ops[*i].kind))
            .collect()
    }

    /// The position of the op of that name.
    pub fn named(&self, name: &str) -> Option<usize> {
        self.graph.ops.iter().position(|op| op.name == name)
    }

    /// Names of the ops at `positions`: positions move while a pass rewrites, names do not.
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
