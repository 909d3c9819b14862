//! Rules of one op: shapes, element types and parameters of its operands. Ids exist and operands are the right number.

use ck_kernels::dtype::ActType;

use super::{Rule, Violations};
use crate::graph::{Attention, CacheId, Graph, Op, OpKind, RopeId, Rows, Sink, Source, Tensor, Weight};

pub(super) fn check(graph: &Graph, op: &Op, found: &mut Violations) {
    let mut check = Check { graph, op, found };
    check.rows();
    check.act_types();
    check.parameters();
    check.shapes();
}

struct Check<'a> {
    graph: &'a Graph,
    op: &'a Op,
    found: &'a mut Violations,
}

/// The element types an operand may have.
fn accepted(kind: &OpKind, operand: usize) -> &'static [ActType] {
    let ids = matches!(kind, OpKind::Embedding | OpKind::EmbedNorm { .. })
        || matches!(kind.source(), Some(Source::EmbedNorm { .. }));
    let rows = matches!(kind, OpKind::Linear { .. }) || matches!(kind.source(), Some(Source::Rows));
    match (operand, ids, rows) {
        (0, true, _) => &[ActType::U32],
        // Before lowering every linear reads f32, whatever its weights are.
        (0, _, true) => &[ActType::F32, ActType::Q8],
        _ => &[ActType::F32],
    }
}

/// The element types an output may have.
fn written(kind: &OpKind, last: bool) -> &'static [ActType] {
    match kind {
        OpKind::Quantize => &[ActType::Q8],
        OpKind::ProjectGlu { .. } if last => &[ActType::F32, ActType::Q8],
        _ => &[ActType::F32],
    }
}

impl<'a> Check<'a> {
    fn input(&self, i: usize) -> &'a Tensor {
        self.graph.tensor(self.op.inputs[i])
    }

    fn output(&self, i: usize) -> &'a Tensor {
        self.graph.tensor(self.op.outputs[i])
    }

    fn weight(&self, i: usize) -> &'a Weight {
        self.graph.weight(self.op.weights[i])
    }

    fn fail(&mut self, rule: Rule, detail: String) {
        self.found.op(rule, self.op, detail);
    }

    fn tensors(&self) -> impl Iterator<Item = &'a Tensor> + use<'a> {
        let graph = self.graph;
        self.op
            .inputs
            .iter()
            .chain(&self.op.outputs)
            .map(move |id| graph.tensor(*id))
    }

    fn rows(&mut self) {
        let kind = &self.op.kind;
        if matches!(kind, OpKind::SelectRow) {
            for (tensor, rows) in [(self.input(0), Rows::Tokens), (self.output(0), Rows::Selected)] {
                if tensor.rows != rows {
                    self.fail(
                        Rule::Rows,
                        format!("{tensor} has {:?} rows instead of {rows:?}", tensor.rows),
                    );
                }
            }
            return;
        }
        let needs_positions = !kind.ropes().is_empty() || !kind.effects().is_empty();
        let rows = if needs_positions {
            Rows::Tokens
        } else {
            self.input(0).rows
        };
        for tensor in self.tensors() {
            if tensor.rows != rows {
                self.fail(
                    Rule::Rows,
                    format!("{tensor} has {:?} rows instead of {rows:?}", tensor.rows),
                );
            }
        }
    }

    fn act_types(&mut self) {
        let kind = &self.op.kind;
        for (i, id) in self.op.inputs.iter().enumerate() {
            let tensor = self.graph.tensor(*id);
            let accepted = accepted(kind, i);
            if !accepted.contains(&tensor.act) {
                let names: Vec<&str> = accepted.iter().map(|act| act.name()).collect();
                self.fail(Rule::ActType, format!("operand {tensor} is not {}", names.join(" or ")));
            }
        }
        for (i, id) in self.op.outputs.iter().enumerate() {
            let tensor = self.graph.tensor(*id);
            let written = written(kind, i + 1 == self.op.outputs.len());
            if !written.contains(&tensor.act) {
                let names: Vec<&str> = written.iter().map(|act| act.name()).collect();
                self.fail(Rule::ActType, format!("output {tensor} is not {}", names.join(" or ")));
            }
        }
        if self
            .op
            .inputs
            .first()
            .is_some_and(|id| self.graph.tensor(*id).act == ActType::Q8)
        {
            for id in kind.matrices(&self.op.weights) {
                let weight = self.graph.weight(id);
                if !weight.dtype.quantised() {
                    let x = self.input(0);
                    self.fail(Rule::WeightType, format!("{x} meets {weight}, which is not quantised"));
                }
            }
        }
    }

    fn parameters(&mut self) {
        let eps = match (&self.op.kind, self.op.kind.source()) {
            (&OpKind::RmsNorm { eps } | &OpKind::EmbedNorm { eps } | &OpKind::AddNorm { eps }, _)
            | (_, Some(Source::Norm { eps } | Source::AddNorm { eps } | Source::EmbedNorm { eps })) => Some(eps),
            _ => None,
        };
        if let Some(eps) = eps.filter(|eps| !eps.is_finite() || *eps < 0.0) {
            self.fail(Rule::Parameter, format!("eps is {eps}"));
        }
        if let Some(a) = self.op.kind.attention() {
            if !a.scale.is_finite() {
                self.fail(Rule::Parameter, format!("scale is {}", a.scale));
            }
            if !(a.softcap.is_finite() && a.softcap >= 0.0) {
                self.fail(Rule::Parameter, format!("softcap is {}", a.softcap));
            }
        }
    }

    fn shapes(&mut self) {
        match &self.op.kind {
            OpKind::Embedding => self.table(self.weight(0), self.output(0)),
            OpKind::RmsNorm { .. } => {
                self.equal(self.input(0), self.output(0));
                self.norm(self.weight(0), self.input(0));
            }
            OpKind::Linear { bias } => self.linear(0, *bias, self.input(0), self.output(0)),
            OpKind::Rope(rope) => {
                self.equal(self.input(0), self.output(0));
                self.rotated(*rope, self.input(0).cols);
            }
            OpKind::Attention(a) => {
                self.equal(self.input(0), self.output(0));
                self.attention(a, self.input(0));
                self.cached(a.cache, self.input(1).cols, "keys");
                self.cached(a.cache, self.input(2).cols, "values");
            }
            OpKind::Glu { .. } | OpKind::Add => {
                self.equal(self.input(0), self.input(1));
                self.equal(self.input(0), self.output(0));
            }
            OpKind::SelectRow | OpKind::Quantize => self.equal(self.input(0), self.output(0)),
            OpKind::CacheKeys(cache) => self.cached(*cache, self.input(0).cols, "keys"),
            OpKind::CacheValues(cache) => self.cached(*cache, self.input(0).cols, "values"),
            OpKind::Attend(a) => {
                self.equal(self.input(0), self.output(0));
                self.attention(a, self.input(0));
            }
            OpKind::EmbedNorm { .. } => {
                self.table(self.weight(0), self.output(0));
                self.norm(self.weight(1), self.output(0));
                self.equal(self.output(0), self.output(1));
            }
            OpKind::AddNorm { .. } => {
                self.equal(self.input(0), self.input(1));
                self.equal(self.input(0), self.output(0));
                self.equal(self.input(0), self.output(1));
                self.norm(self.weight(0), self.input(0));
            }
            OpKind::Project { source, parts } => {
                let x = self.source(source);
                let (mut weight, mut output) = (source.arity().weights, source.arity().outputs);
                for part in parts {
                    let matrix = self.weight(weight);
                    self.matrix(matrix, x);
                    if part.bias {
                        self.bias(self.weight(weight + 1), matrix);
                    }
                    if part.sink.stores() {
                        self.product(matrix, self.output(output));
                        output += 1;
                    }
                    self.sink(part.sink, matrix.rows);
                    weight += part.weights();
                }
            }
            OpKind::ProjectGlu { source, .. } => {
                let x = self.source(source);
                let (weight, output) = (source.arity().weights, source.arity().outputs);
                for i in [weight, weight + 1] {
                    self.matrix(self.weight(i), x);
                    self.product(self.weight(i), self.output(output));
                }
            }
            OpKind::AttendProject { attention, bias } => {
                self.attention(attention, self.input(0));
                self.linear(0, *bias, self.input(0), self.output(0));
            }
        }
    }

    /// Checks the prologue and gives a tensor of the shape of the rows that the matrices see.
    fn source(&mut self, source: &Source) -> &'a Tensor {
        match source {
            Source::Rows => self.input(0),
            Source::Norm { .. } => {
                self.norm(self.weight(0), self.input(0));
                self.input(0)
            }
            Source::AddNorm { .. } => {
                self.equal(self.input(0), self.input(1));
                self.equal(self.input(0), self.output(0));
                self.norm(self.weight(0), self.input(0));
                self.input(0)
            }
            Source::EmbedNorm { .. } => {
                self.table(self.weight(0), self.output(0));
                self.norm(self.weight(1), self.output(0));
                self.output(0)
            }
            Source::Glu { .. } => {
                self.equal(self.input(0), self.input(1));
                self.input(0)
            }
        }
    }

    fn sink(&mut self, sink: Sink, rows: usize) {
        match sink {
            Sink::Store => {}
            Sink::Rope(rope) => self.rotated(rope, rows),
            Sink::RopeKeys(rope, cache) => {
                self.rotated(rope, rows);
                self.cached(cache, rows, "keys");
                let (turned, stored) = (
                    self.graph.ropes[rope.index()].head_dim,
                    self.graph.caches[cache.index()].head_dim,
                );
                if turned != stored {
                    self.fail(
                        Rule::Rope,
                        format!("rope{} turns heads of {turned}, the cache's have {stored}", rope.0),
                    );
                }
            }
            Sink::Values(cache) => self.cached(cache, rows, "values"),
        }
    }

    fn equal(&mut self, a: &Tensor, b: &Tensor) {
        if a.cols != b.cols {
            self.fail(Rule::Cols, format!("{a} and {b} differ in columns"));
        }
    }

    fn table(&mut self, table: &Weight, rows: &Tensor) {
        self.is_matrix(table);
        if table.cols != rows.cols {
            self.fail(Rule::WeightShape, format!("rows of {table} are not rows of {rows}"));
        }
    }

    fn norm(&mut self, norm: &Weight, x: &Tensor) {
        self.is_vector(norm);
        if norm.cols != x.cols {
            self.fail(Rule::WeightShape, format!("norm {norm} is not as long as rows of {x}"));
        }
    }

    fn linear(&mut self, weight: usize, bias: bool, x: &Tensor, y: &Tensor) {
        let matrix = self.weight(weight);
        self.matrix(matrix, x);
        self.product(matrix, y);
        if bias {
            self.bias(self.weight(weight + 1), matrix);
        }
    }

    fn matrix(&mut self, matrix: &Weight, x: &Tensor) {
        self.is_matrix(matrix);
        if matrix.cols != x.cols {
            self.fail(
                Rule::WeightShape,
                format!("{matrix} takes {} columns, {x} has {}", matrix.cols, x.cols),
            );
        }
    }

    fn product(&mut self, matrix: &Weight, y: &Tensor) {
        if matrix.rows != y.cols {
            self.fail(
                Rule::WeightShape,
                format!("{matrix} gives {} columns, {y} has {}", matrix.rows, y.cols),
            );
        }
    }

    fn bias(&mut self, bias: &Weight, matrix: &Weight) {
        self.is_vector(bias);
        if bias.cols != matrix.rows {
            self.fail(
                Rule::WeightShape,
                format!("bias {bias} of {matrix} has not one element a row"),
            );
        }
    }

    fn is_matrix(&mut self, weight: &Weight) {
        if weight.vector {
            self.fail(Rule::WeightType, format!("{weight} is a vector where a matrix is due"));
        }
    }

    fn is_vector(&mut self, weight: &Weight) {
        if !weight.vector {
            self.fail(Rule::WeightType, format!("{weight} is a matrix where a vector is due"));
        }
    }

    fn rotated(&mut self, rope: RopeId, cols: usize) {
        let head_dim = self.graph.ropes[rope.index()].head_dim;
        if head_dim == 0 || !cols.is_multiple_of(head_dim) {
            self.fail(
                Rule::Rope,
                format!("{cols} columns are no whole heads of {head_dim} (rope{})", rope.0),
            );
        }
    }

    fn cached(&mut self, cache: CacheId, cols: usize, what: &str) {
        let cache = &self.graph.caches[cache.index()];
        if cache.kv_heads.checked_mul(cache.head_dim) != Some(cols) {
            let (name, heads, dim) = (&cache.name, cache.kv_heads, cache.head_dim);
            self.fail(
                Rule::Heads,
                format!("{what} of {cols} columns, {name} holds {heads} heads of {dim}"),
            );
        }
    }

    fn attention(&mut self, a: &Attention, q: &Tensor) {
        let cache = &self.graph.caches[a.cache.index()];
        if a.heads.checked_mul(cache.head_dim) != Some(q.cols) {
            let (heads, dim) = (a.heads, cache.head_dim);
            self.fail(Rule::Heads, format!("queries {q} are not {heads} heads of {dim}"));
        }
        if a.heads == 0 || cache.kv_heads == 0 || !a.heads.is_multiple_of(cache.kv_heads) {
            let (heads, kv_heads) = (a.heads, cache.kv_heads);
            self.fail(
                Rule::Heads,
                format!("{heads} query heads do not share {kv_heads} key/value heads evenly"),
            );
        }
    }
}
