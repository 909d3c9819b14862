//! Every kind of op, on the tensors of one call.
//!
//! The graph was verified: ids exist, operands are as many as the kind takes, and shapes agree.

use super::{InterpretError, Interpreter, Select, Weights, math};
use crate::graph::{Attention, CacheId, Op, OpKind, Part, RopeId, Sink, Source, TensorId, WeightId};

/// The tensors of one call so far, by id.
pub(super) struct Call {
    pub ids: Vec<Vec<u32>>,
    pub rows: Vec<Vec<f32>>,
}

impl Call {
    fn get(&self, id: TensorId) -> &[f32] {
        &self.rows[id.index()]
    }

    fn set(&mut self, id: TensorId, rows: Vec<f32>) {
        self.rows[id.index()] = rows;
    }
}

impl<W: Weights + ?Sized> Interpreter<'_, W> {
    pub(super) fn op(&mut self, op: &Op, call: &mut Call) -> Result<(), InterpretError> {
        let x = |i: usize| op.inputs[i];
        let w = |i: usize| op.weights[i];
        match &op.kind {
            OpKind::Embedding => {
                let rows = self.embed(op, x(0), w(0), call)?;
                call.set(op.outputs[0], rows);
            }
            OpKind::RmsNorm { eps } => {
                let rows = self.norm(call.get(x(0)), w(0), *eps)?;
                call.set(op.outputs[0], rows);
            }
            OpKind::Linear { bias } => {
                let rows = self.linear(call.get(x(0)), w(0), bias.then(|| w(1)))?;
                call.set(op.outputs[0], rows);
            }
            OpKind::Rope(rope) => {
                let rows = self.rotate(call.get(x(0)).to_vec(), *rope, self.graph.tensor(x(0)).cols);
                call.set(op.outputs[0], rows);
            }
            OpKind::Attention(attention) => {
                self.push_keys(attention.cache, call.get(x(1)));
                self.push_values(attention.cache, call.get(x(2)));
                let rows = self.attend(call.get(x(0)), attention);
                call.set(op.outputs[0], rows);
            }
            OpKind::Glu { gate } => {
                let rows = math::glu(*gate, call.get(x(0)), call.get(x(1)));
                call.set(op.outputs[0], rows);
            }
            OpKind::Add => {
                let rows = math::add(call.get(x(0)), call.get(x(1)));
                call.set(op.outputs[0], rows);
            }
            OpKind::SelectRow => {
                let all = call.get(x(0));
                let first = match self.select {
                    Select::Last => all.len() - self.graph.tensor(x(0)).cols,
                    Select::All => 0,
                };
                let rows = all[first..].to_vec();
                call.set(op.outputs[0], rows);
            }
            OpKind::Quantize => {
                let rows = call.get(x(0)).to_vec();
                call.set(op.outputs[0], rows);
            }
            OpKind::CacheKeys(cache) => self.push_keys(*cache, call.get(x(0))),
            OpKind::CacheValues(cache) => self.push_values(*cache, call.get(x(0))),
            OpKind::Attend(attention) => {
                let rows = self.attend(call.get(x(0)), attention);
                call.set(op.outputs[0], rows);
            }
            OpKind::EmbedNorm { eps } => {
                let normed = self.source(op, Source::EmbedNorm { eps: *eps }, call)?;
                call.set(op.outputs[1], normed);
            }
            OpKind::AddNorm { eps } => {
                let normed = self.source(op, Source::AddNorm { eps: *eps }, call)?;
                call.set(op.outputs[1], normed);
            }
            OpKind::Project { source, parts } => {
                let rows = self.source(op, *source, call)?;
                self.project(op, *source, parts, &rows, call)?;
            }
            OpKind::ProjectGlu { source, gate } => {
                let rows = self.source(op, *source, call)?;
                let first = source.arity().weights;
                let gates = self.linear(&rows, w(first), None)?;
                let ups = self.linear(&rows, w(first + 1), None)?;
                call.set(op.outputs[source.arity().outputs], math::glu(*gate, &gates, &ups));
            }
            OpKind::AttendProject { attention, bias } => {
                let attended = self.attend(call.get(x(0)), attention);
                let rows = self.linear(&attended, w(0), bias.then(|| w(1)))?;
                call.set(op.outputs[0], rows);
            }
        }
        Ok(())
    }

    /// The rows that a prologue makes of the op's first operands and weights; writes the prologue's outputs.
    fn source(&self, op: &Op, source: Source, call: &mut Call) -> Result<Vec<f32>, InterpretError> {
        let x = |i: usize| op.inputs[i];
        match source {
            Source::Rows => Ok(call.get(x(0)).to_vec()),
            Source::Norm { eps } => self.norm(call.get(x(0)), op.weights[0], eps),
            Source::AddNorm { eps } => {
                let sum = math::add(call.get(x(0)), call.get(x(1)));
                let normed = self.norm(&sum, op.weights[0], eps)?;
                call.set(op.outputs[0], sum);
                Ok(normed)
            }
            Source::EmbedNorm { eps } => {
                let rows = self.embed(op, x(0), op.weights[0], call)?;
                let normed = self.norm(&rows, op.weights[1], eps)?;
                call.set(op.outputs[0], rows);
                Ok(normed)
            }
            Source::Glu { gate } => Ok(math::glu(gate, call.get(x(0)), call.get(x(1)))),
        }
    }

    fn project(
        &mut self,
        op: &Op,
        source: Source,
        parts: &[Part],
        x: &[f32],
        call: &mut Call,
    ) -> Result<(), InterpretError> {
        let (mut weight, mut output) = (source.arity().weights, source.arity().outputs);
        for part in parts {
            let matrix = op.weights[weight];
            let rows = self.linear(x, matrix, part.bias.then(|| op.weights[weight + 1]))?;
            let cols = self.graph.weight(matrix).rows;
            let stored = match part.sink {
                Sink::Store => Some(rows),
                Sink::Rope(rope) => Some(self.rotate(rows, rope, cols)),
                Sink::RopeKeys(rope, cache) => {
                    let keys = self.rotate(rows, rope, cols);
                    self.push_keys(cache, &keys);
                    None
                }
                Sink::Values(cache) => {
                    self.push_values(cache, &rows);
                    None
                }
            };
            if let Some(rows) = stored {
                call.set(op.outputs[output], rows);
                output += 1;
            }
            weight += part.weights();
        }
        Ok(())
    }

    fn read(&self, id: WeightId, row: usize, out: &mut [f32]) -> Result<(), InterpretError> {
        self.weights.row(id, row, out).map_err(|cause| InterpretError::Weight {
            source: self.graph.weight(id).source.clone(),
            cause,
        })
    }

    fn vector(&self, id: WeightId) -> Result<Vec<f32>, InterpretError> {
        let mut out = vec![0.0; self.graph.weight(id).cols];
        self.read(id, 0, &mut out)?;
        Ok(out)
    }

    fn embed(&self, op: &Op, ids: TensorId, table: WeightId, call: &Call) -> Result<Vec<f32>, InterpretError> {
        let ids = &call.ids[ids.index()];
        let (vocabulary, cols) = (self.graph.weight(table).rows, self.graph.weight(table).cols);
        let mut rows = vec![0.0; ids.len() * cols];
        for (token, (&id, row)) in ids.iter().zip(rows.chunks_exact_mut(cols)).enumerate() {
            if id as usize >= vocabulary {
                return Err(InterpretError::UnknownId {
                    op: op.name.clone(),
                    token,
                    id,
                    vocabulary,
                });
            }
            self.read(table, id as usize, row)?;
        }
        Ok(rows)
    }

    fn norm(&self, x: &[f32], weight: WeightId, eps: f32) -> Result<Vec<f32>, InterpretError> {
        Ok(math::rms_norm(x, &self.vector(weight)?, eps))
    }

    /// `x W^T + bias`: rows of the matrix outside, tokens inside, so that every row is read once.
    fn linear(&self, x: &[f32], matrix: WeightId, bias: Option<WeightId>) -> Result<Vec<f32>, InterpretError> {
        let (out, cols) = (self.graph.weight(matrix).rows, self.graph.weight(matrix).cols);
        let bias = bias.map(|id| self.vector(id)).transpose()?;
        let x: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        let mut y = vec![0.0; x.len() / cols * out];
        let mut row = vec![0.0; cols];
        let mut wide = vec![0.0; cols];
        for i in 0..out {
            self.read(matrix, i, &mut row)?;
            for (wide, &v) in wide.iter_mut().zip(&row) {
                *wide = f64::from(v);
            }
            let bias = bias.as_ref().map_or(0.0, |bias| f64::from(bias[i]));
            for (t, x) in x.chunks_exact(cols).enumerate() {
                y[t * out + i] = (math::dot(x, &wide) + bias) as f32;
            }
        }
        Ok(y)
    }

    fn rotate(&self, mut rows: Vec<f32>, rope: RopeId, cols: usize) -> Vec<f32> {
        let table = &self.graph.ropes[rope.index()];
        let frequencies = &self.frequencies[rope.index()];
        math::rope(
            &mut rows,
            cols,
            self.position,
            table.head_dim,
            table.pairing,
            frequencies,
        );
        rows
    }

    fn push_keys(&mut self, cache: CacheId, rows: &[f32]) {
        self.caches[cache.index()].keys.extend_from_slice(rows);
    }

    fn push_values(&mut self, cache: CacheId, rows: &[f32]) {
        self.caches[cache.index()].values.extend_from_slice(rows);
    }

    fn attend(&self, q: &[f32], attention: &Attention) -> Vec<f32> {
        let shape = &self.graph.caches[attention.cache.index()];
        let cache = &self.caches[attention.cache.index()];
        let heads = math::Heads {
            heads: attention.heads,
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
            scale: attention.scale,
            softcap: attention.softcap,
            window: attention.window,
        };
        math::attend(q, &cache.keys, &cache.values, self.position, &heads)
    }
}
