//! Steps as kernel calls with offsets: what the emitter writes down and `ckc verify` runs.

use ck_kernels::ops::{self, Kernel, Part, Slot, Source, Vector, Weight, Workspace};
use ck_kernels::partition::Axis;
use ck_runtime::{Worker, debug};

use super::{EntryLayout, Layout};
use crate::graph::{self, Attention, CacheId, Graph, Op, OpKind, RopeId, Sink, TensorId, WeightId};
use crate::schedule::access::Operand;
use crate::schedule::cost::source_weights;

/// A kernel with its operands: one variant a kernel of [`ck_kernels::ops`].
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// See [`ops::Embed`].
    Embed(ops::Embed),
    /// See [`ops::EmbedNorm`].
    EmbedNorm(ops::EmbedNorm),
    /// See [`ops::RmsNorm`].
    RmsNorm(ops::RmsNorm),
    /// See [`ops::AddNorm`].
    AddNorm(ops::AddNorm),
    /// See [`ops::Add`].
    Add(ops::Add),
    /// See [`ops::Glu`].
    Glu(ops::Glu),
    /// See [`ops::Rotate`].
    Rotate(ops::Rotate),
    /// See [`ops::Quantize`].
    Quantize(ops::Quantize),
    /// See [`ops::CacheKeys`].
    CacheKeys(ops::CacheKeys),
    /// See [`ops::CacheValues`].
    CacheValues(ops::CacheValues),
    /// See [`ops::SelectRow`].
    SelectRow(ops::SelectRow),
    /// See [`ops::Attention`].
    Attention(ops::Attention),
    /// See [`ops::AttentionSplit`].
    AttentionSplit(ops::AttentionSplit),
    /// See [`ops::AttentionProject`].
    AttentionProject(ops::AttentionProject),
    /// See [`ops::Project`].
    Project {
        /// The prologue.
        source: Source,
        /// The matrices and epilogues.
        parts: Vec<Part>,
        /// Scratch.
        workspace: Workspace,
        /// The division.
        axis: Axis,
    },
    /// See [`ops::ProjectGlu`].
    ProjectGlu(ops::ProjectGlu),
}

impl Call {
    /// Runs this worker's part.
    pub fn run(&self, w: &Worker<'_>) {
        self.on(w, None);
    }

    /// Runs this worker's part of step `index` of a debug run.
    pub fn watch(&self, w: &Worker<'_>, entry: &debug::Entry, index: usize) {
        self.on(w, Some((entry, index)));
    }

    fn on(&self, w: &Worker<'_>, watch: Option<(&debug::Entry, usize)>) {
        let go = Go { w, watch };
        match self {
            Call::Embed(k) => go.run(k),
            Call::EmbedNorm(k) => go.run(k),
            Call::RmsNorm(k) => go.run(k),
            Call::AddNorm(k) => go.run(k),
            Call::Add(k) => go.run(k),
            Call::Glu(k) => go.run(k),
            Call::Rotate(k) => go.run(k),
            Call::Quantize(k) => go.run(k),
            Call::CacheKeys(k) => go.run(k),
            Call::CacheValues(k) => go.run(k),
            Call::SelectRow(k) => go.run(k),
            Call::Attention(k) => go.run(k),
            Call::AttentionSplit(k) => go.run(k),
            Call::AttentionProject(k) => go.run(k),
            Call::ProjectGlu(k) => go.run(k),
            Call::Project {
                source,
                parts,
                workspace,
                axis,
            } => go.run(&ops::Project {
                source: *source,
                parts,
                workspace: *workspace,
                axis: *axis,
            }),
        }
    }

    /// The kernel's name, as in reports.
    pub fn kernel(&self) -> &'static str {
        match self {
            Call::Embed(_) => "embed",
            Call::EmbedNorm(_) => "embed_norm",
            Call::RmsNorm(_) => "rmsnorm",
            Call::AddNorm(_) => "add_norm",
            Call::Add(_) => "add",
            Call::Glu(_) => "glu",
            Call::Rotate(_) => "rotate",
            Call::Quantize(_) => "quantize",
            Call::CacheKeys(_) => "cache_keys",
            Call::CacheValues(_) => "cache_values",
            Call::SelectRow(_) => "select_row",
            Call::Attention(_) => "attention",
            Call::AttentionSplit(_) => "attention_split",
            Call::AttentionProject(_) => "attention_project",
            Call::Project { .. } => "project",
            Call::ProjectGlu(_) => "project_glu",
        }
    }
}

/// How a kernel is run.
struct Go<'a> {
    w: &'a Worker<'a>,
    watch: Option<(&'a debug::Entry, usize)>,
}

impl Go<'_> {
    fn run(&self, kernel: &(impl Kernel + Copy)) {
        match self.watch {
            Some((entry, index)) => self.w.watch(entry, index, *kernel),
            None => self.w.run(*kernel),
        }
    }
}

/// The call of the step at `index` of an entry.
pub fn call(layout: &Layout, entry: &EntryLayout, index: usize) -> Call {
    let step = &entry.entry.steps[index];
    let graph = &entry.entry.graph;
    let op = &graph.ops[step.op];
    Builder {
        layout,
        entry,
        graph,
        op,
        axis: step.axis,
        step: index,
    }
    .build()
}

/// The operand of a cache of that shape.
pub fn cache(layout: &Layout, shape: &graph::Cache, id: CacheId) -> ops::Cache {
    let (k, v) = layout.caches[id.index()];
    ops::Cache {
        k: k as usize,
        v: v as usize,
        kv_heads: shape.kv_heads,
        head_dim: shape.head_dim,
        context: layout.cache_positions,
        act: shape.act,
    }
}

struct Builder<'a> {
    layout: &'a Layout,
    entry: &'a EntryLayout,
    graph: &'a Graph,
    op: &'a Op,
    axis: Axis,
    step: usize,
}

impl Builder<'_> {
    fn slot(&self, tensor: TensorId) -> Slot {
        let t = self.graph.tensor(tensor);
        Slot {
            offset: self.entry.places[&Operand::Tensor(tensor)] as usize,
            cols: t.cols,
            act: t.act,
        }
    }

    fn input(&self, i: usize) -> Slot {
        self.slot(self.op.inputs[i])
    }

    fn output(&self, i: usize) -> Slot {
        self.slot(self.op.outputs[i])
    }

    fn weight(&self, id: WeightId) -> Weight {
        let w = self.graph.weight(id);
        Weight {
            offset: self.layout.weights[id.index()].arena as usize,
            rows: w.rows,
            cols: w.cols,
            dtype: w.dtype,
        }
    }

    fn vector(&self, id: WeightId) -> Vector {
        Vector {
            offset: self.layout.weights[id.index()].arena as usize,
            len: self.graph.weight(id).cols,
        }
    }

    fn norm(&self, weight: WeightId, eps: f32) -> ops::Norm {
        ops::Norm {
            weight: self.vector(weight),
            eps,
        }
    }

    fn rope(&self, id: RopeId) -> ops::Rope {
        let r = &self.graph.ropes[id.index()];
        ops::Rope {
            table: self.layout.ropes[id.index()].arena as usize,
            positions: self.graph.context,
            head_dim: r.head_dim,
            dims: r.dims,
            pairing: r.pairing,
        }
    }

    fn cache(&self, id: CacheId) -> ops::Cache {
        cache(self.layout, &self.graph.caches[id.index()], id)
    }

    fn attention(&self, a: &Attention, out: Slot, axis: Axis) -> ops::Attention {
        ops::Attention {
            q: self.input(0),
            cache: self.cache(a.cache),
            heads: a.heads,
            out,
            scale: a.scale,
            softcap: a.softcap,
            window: a.visible(),
            axis,
        }
    }

    fn workspace(&self) -> Workspace {
        let bytes = self.entry.entry.steps[self.step].workspace;
        let place = self.entry.places.get(&Operand::Workspace(self.step));
        Workspace {
            offset: place.map_or(0, |p| *p as usize),
            bytes,
        }
    }

    /// The prologue, and how many outputs it has.
    fn source(&self, source: &graph::Source) -> (Source, usize) {
        let w = &self.op.weights;
        match source {
            graph::Source::Rows => (Source::Rows(self.input(0)), 0),
            graph::Source::Norm { eps } => (
                Source::Norm {
                    x: self.input(0),
                    norm: self.norm(w[0], *eps),
                },
                0,
            ),
            graph::Source::AddNorm { eps } => {
                let norm = self.norm(w[0], *eps);
                let sum = self.output(0);
                (
                    Source::AddNorm {
                        x: self.input(0),
                        delta: self.input(1),
                        sum,
                        norm,
                    },
                    1,
                )
            }
            graph::Source::EmbedNorm { eps } => {
                let norm = self.norm(w[1], *eps);
                let out = self.output(0);
                (
                    Source::EmbedNorm {
                        ids: self.input(0),
                        table: self.weight(w[0]),
                        out,
                        norm,
                    },
                    1,
                )
            }
            graph::Source::Glu { gate } => (
                Source::Glu {
                    gate: self.input(0),
                    up: self.input(1),
                    kind: *gate,
                },
                0,
            ),
        }
    }

    fn parts(&self, parts: &[graph::Part], mut weights: &[WeightId], mut output: usize) -> Vec<Part> {
        let mut next = || {
            output += 1;
            self.output(output - 1)
        };
        parts
            .iter()
            .map(|part| {
                let (weight, bias) = (weights[0], part.bias.then(|| self.vector(weights[1])));
                weights = &weights[1 + usize::from(part.bias)..];
                let sink = match part.sink {
                    Sink::Store => ops::Sink::Store(next()),
                    Sink::Rope(r) => ops::Sink::Rope {
                        rope: self.rope(r),
                        out: next(),
                    },
                    Sink::RopeKeys(r, c) => ops::Sink::RopeKeys {
                        rope: self.rope(r),
                        cache: self.cache(c),
                    },
                    Sink::Values(c) => ops::Sink::Values { cache: self.cache(c) },
                };
                Part {
                    weight: self.weight(weight),
                    bias,
                    sink,
                }
            })
            .collect()
    }

    fn project(&self, source: &graph::Source, parts: &[graph::Part]) -> Call {
        let weights = &self.op.weights[source_weights(source)..];
        let (source, outputs) = self.source(source);
        Call::Project {
            source,
            parts: self.parts(parts, weights, outputs),
            workspace: self.workspace(),
            axis: self.axis,
        }
    }

    fn build(&self) -> Call {
        let (op, axis) = (self.op, self.axis);
        let store = |bias| graph::Part {
            bias,
            sink: Sink::Store,
        };
        match &op.kind {
            OpKind::Embedding => Call::Embed(ops::Embed {
                ids: self.input(0),
                table: self.weight(op.weights[0]),
                out: self.output(0),
                axis,
            }),
            OpKind::EmbedNorm { eps } => Call::EmbedNorm(ops::EmbedNorm {
                ids: self.input(0),
                table: self.weight(op.weights[0]),
                out: self.output(0),
                norm: self.norm(op.weights[1], *eps),
                normed: self.output(1),
                axis,
            }),
            OpKind::RmsNorm { eps } => Call::RmsNorm(ops::RmsNorm {
                x: self.input(0),
                norm: self.norm(op.weights[0], *eps),
                out: self.output(0),
                axis,
            }),
            OpKind::AddNorm { eps } => Call::AddNorm(ops::AddNorm {
                x: self.input(0),
                delta: self.input(1),
                sum: self.output(0),
                norm: self.norm(op.weights[0], *eps),
                out: self.output(1),
                axis,
            }),
            OpKind::Add => Call::Add(ops::Add {
                a: self.input(0),
                b: self.input(1),
                out: self.output(0),
                axis,
            }),
            OpKind::Glu { gate } => Call::Glu(ops::Glu {
                gate: self.input(0),
                up: self.input(1),
                kind: *gate,
                out: self.output(0),
                axis,
            }),
            OpKind::Rope(r) => Call::Rotate(ops::Rotate {
                x: self.input(0),
                rope: self.rope(*r),
                out: self.output(0),
                axis,
            }),
            OpKind::Quantize => Call::Quantize(ops::Quantize {
                x: self.input(0),
                out: self.output(0),
                axis,
            }),
            OpKind::CacheKeys(c) => Call::CacheKeys(ops::CacheKeys {
                x: self.input(0),
                cache: self.cache(*c),
                axis,
            }),
            OpKind::CacheValues(c) => Call::CacheValues(ops::CacheValues {
                x: self.input(0),
                cache: self.cache(*c),
                axis,
            }),
            OpKind::SelectRow => Call::SelectRow(ops::SelectRow {
                x: self.input(0),
                out: self.output(0),
                axis,
            }),
            OpKind::Attend(a) => {
                let attention = self.attention(a, self.output(0), axis);
                match self.workspace() {
                    Workspace { bytes: 0, .. } => Call::Attention(attention),
                    workspace => Call::AttentionSplit(ops::AttentionSplit { attention, workspace }),
                }
            }
            OpKind::AttendProject { attention, bias } => Call::AttentionProject(ops::AttentionProject {
                // The attention output stands in the rows of q until it is projected.
                attention: self.attention(attention, self.input(0), Axis::Heads),
                part: self.parts(&[store(*bias)], &op.weights, 0)[0],
                workspace: self.workspace(),
                axis,
            }),
            OpKind::Linear { bias } => self.project(&graph::Source::Rows, &[store(*bias)]),
            OpKind::Project { source, parts } => self.project(source, parts),
            OpKind::ProjectGlu { source, gate } => {
                let weights = &op.weights[source_weights(source)..];
                let (source, outputs) = self.source(source);
                Call::ProjectGlu(ops::ProjectGlu {
                    source,
                    gate: self.weight(weights[0]),
                    gate_bias: None,
                    up: self.weight(weights[1]),
                    up_bias: None,
                    kind: *gate,
                    out: self.output(outputs),
                    workspace: self.workspace(),
                    axis,
                })
            }
            OpKind::Attention(_) => unreachable!("attention is split before scheduling"),
        }
    }
}
