//! Property: a fused op gives the bits of the ops that it stands for, for any shapes.

use ck_kernels::{
    dtype::ActType,
    ops::{Gate, Pairing},
};
use ck_tests::{Builder, Random, Stored, random_weights};
use ckc::graph::{
    Attention, CacheId, Graph, OpKind, Part, Rope, RopeId, RopeScaling, Sink, Source, TensorId, WeightId,
    interpret::{Input, Interpreter, Select},
};
use proptest::prelude::*;

/// What the op in front of a projection is.
#[derive(Clone, Copy, Debug)]
enum Front {
    Rows,
    Norm,
    AddNorm,
    EmbedNorm,
    Glu,
}

/// The shapes and choices of one case.
#[derive(Clone, Copy, Debug)]
struct Shape {
    front: Front,
    hidden: usize,
    out: usize,
    kv_heads: usize,
    group: usize,
    half_dim: usize,
    rotated: usize,
    pairing: Pairing,
    window: usize,
    softcap: f32,
    bias: bool,
    gate: Gate,
    chunks: [usize; 2],
    seed: u64,
}

const EPS: f32 = 1e-5;
const VOCABULARY: usize = 11;

fn shapes() -> impl Strategy<Value = Shape> {
    let front = prop_oneof![
        Just(Front::Rows),
        Just(Front::Norm),
        Just(Front::AddNorm),
        Just(Front::EmbedNorm),
        Just(Front::Glu)
    ];
    let sizes = (1..20usize, 1..20usize, 1..4usize, 1..4usize, 1..6usize);
    let pairing = prop_oneof![Just(Pairing::Halves), Just(Pairing::Interleaved)];
    let gate = prop_oneof![Just(Gate::Silu), Just(Gate::GeluTanh)];
    let attention = (
        pairing,
        0..5usize,
        prop_oneof![Just(0.0f32), Just(3.0)],
        any::<prop::sample::Index>(),
    );
    let rest = (any::<bool>(), gate, [1..6usize, 1..6], any::<u64>());
    (front, sizes, attention, rest).prop_map(|(front, sizes, attention, (bias, gate, chunks, seed))| {
        let (hidden, out, kv_heads, group, half_dim) = sizes;
        let (pairing, window, softcap, rotated) = attention;
        Shape {
            front,
            hidden,
            out,
            kv_heads,
            group,
            half_dim,
            rotated: rotated.index(half_dim) + 1,
            pairing,
            window,
            softcap,
            bias,
            gate,
            chunks,
            seed,
        }
    })
}

/// What stands in front of a projection, fused or not, and the operands it leaves.
struct Prologue {
    source: Source,
    inputs: Vec<TensorId>,
    weights: Vec<WeightId>,
    outputs: Vec<TensorId>,
}

impl Shape {
    fn head_dim(&self) -> usize {
        2 * self.half_dim
    }

    fn builder(&self) -> Builder {
        Builder::new("case", 16, 16)
    }

    /// Adds the front: as ops when unfused (the source is then `Rows`), or only its operands.
    fn prologue(&self, b: &mut Builder, fused: bool) -> Prologue {
        let cols = self.hidden;
        let rows = |b: &mut Builder, name: &str| b.input(name, ActType::F32, cols);
        let (source, inputs, weights) = match self.front {
            Front::Rows => (Source::Rows, vec![rows(b, "a")], vec![]),
            Front::Norm => (
                Source::Norm { eps: EPS },
                vec![rows(b, "a")],
                vec![b.vector("norm", cols)],
            ),
            Front::AddNorm => {
                let inputs = vec![rows(b, "a"), rows(b, "b")];
                (Source::AddNorm { eps: EPS }, inputs, vec![b.vector("norm", cols)])
            }
            Front::EmbedNorm => {
                let weights = vec![b.matrix("table", VOCABULARY, cols), b.vector("norm", cols)];
                (
                    Source::EmbedNorm { eps: EPS },
                    vec![b.input("ids", ActType::U32, 1)],
                    weights,
                )
            }
            Front::Glu => {
                let inputs = vec![rows(b, "a"), rows(b, "b")];
                (Source::Glu { gate: self.gate }, inputs, vec![])
            }
        };
        if fused {
            let n = source.arity().outputs;
            let outputs = (0..n)
                .map(|_| b.tensor("x", ActType::F32, ckc::graph::Rows::Tokens, cols))
                .collect();
            return Prologue {
                source,
                inputs,
                weights,
                outputs,
            };
        }
        let norm = OpKind::RmsNorm { eps: EPS };
        let x = match source {
            Source::Rows => inputs[0],
            Source::Norm { .. } => b.op1("normed", norm, &inputs, &weights, cols),
            Source::AddNorm { .. } => {
                let sum = b.op1("x", OpKind::Add, &inputs, &[], cols);
                b.op1("normed", norm, &[sum], &weights, cols)
            }
            Source::EmbedNorm { .. } => {
                let rows = b.op1("x", OpKind::Embedding, &inputs, &weights[..1], cols);
                b.op1("normed", norm, &[rows], &weights[1..], cols)
            }
            Source::Glu { gate } => b.op1("glu", OpKind::Glu { gate }, &inputs, &[], cols),
        };
        Prologue {
            source: Source::Rows,
            inputs: vec![x],
            weights: vec![],
            outputs: vec![],
        }
    }

    /// A projection's weights.
    fn matrix(&self, b: &mut Builder, name: &str, rows: usize, cols: usize) -> Vec<WeightId> {
        let mut weights = vec![b.matrix(name, rows, cols)];
        if self.bias {
            weights.push(b.vector(&format!("{name}.bias"), rows));
        }
        weights
    }

    fn rope(&self, b: &mut Builder) -> RopeId {
        b.rope(Rope {
            theta: 1000.0,
            dims: 2 * self.rotated,
            head_dim: self.head_dim(),
            pairing: self.pairing,
            scaling: RopeScaling::None,
        })
    }

    fn attention(&self, cache: CacheId) -> Attention {
        Attention {
            cache,
            heads: self.kv_heads * self.group,
            scale: 0.4,
            softcap: self.softcap,
            window: self.window,
        }
    }

    /// Front, q/k/v with rotation and cache, attention, output projection.
    fn attention_block(&self, fused: bool) -> Graph {
        let mut b = self.builder();
        let p = self.prologue(&mut b, fused);
        let (rope, cache) = (self.rope(&mut b), b.cache("kv", self.kv_heads, self.head_dim()));
        let kv_cols = self.kv_heads * self.head_dim();
        let cols = kv_cols * self.group;
        let bias = self.bias;
        let attention = self.attention(cache);
        let [wq, wk, wv] = [("q", cols), ("k", kv_cols), ("v", kv_cols)]
            .map(|(name, rows)| self.matrix(&mut b, name, rows, self.hidden));
        let wo = self.matrix(&mut b, "o", self.out, cols);
        if fused {
            let sinks = [Sink::Rope(rope), Sink::RopeKeys(rope, cache), Sink::Values(cache)];
            let parts = sinks.map(|sink| Part { bias, sink }).to_vec();
            let q = b.tensor("q_rope", ActType::F32, ckc::graph::Rows::Tokens, cols);
            let outputs = [&p.outputs[..], &[q]].concat();
            let weights = [p.weights, wq, wk, wv].concat();
            b.op(
                "qkv",
                OpKind::Project {
                    source: p.source,
                    parts,
                },
                &p.inputs,
                &weights,
                &outputs,
            );
            let y = b.op1("y", OpKind::AttendProject { attention, bias }, &[q], &wo, self.out);
            b.graph.outputs.push(y);
            return b.graph;
        }
        let linear = OpKind::Linear { bias };
        let q = b.op1("q", linear.clone(), &p.inputs, &wq, cols);
        let q = b.op1("q_rope", OpKind::Rope(rope), &[q], &[], cols);
        let k = b.op1("k", linear.clone(), &p.inputs, &wk, kv_cols);
        let k = b.op1("k_rope", OpKind::Rope(rope), &[k], &[], kv_cols);
        let v = b.op1("v", linear.clone(), &p.inputs, &wv, kv_cols);
        let attended = b.op1("attn", OpKind::Attention(attention), &[q, k, v], &[], cols);
        let y = b.op1("y", linear, &[attended], &wo, self.out);
        b.graph.outputs.push(y);
        b.graph
    }

    /// Front, gate and up, activation.
    fn mlp_block(&self, fused: bool) -> Graph {
        let mut b = self.builder();
        let p = self.prologue(&mut b, fused);
        let [gate, up] = ["gate", "up"].map(|name| b.matrix(name, self.out, self.hidden));
        let kind = self.gate;
        let y = if fused {
            let y = b.tensor("y", ActType::F32, ckc::graph::Rows::Tokens, self.out);
            let outputs = [&p.outputs[..], &[y]].concat();
            let weights = [&p.weights[..], &[gate, up]].concat();
            let source = p.source;
            b.op(
                "y",
                OpKind::ProjectGlu { source, gate: kind },
                &p.inputs,
                &weights,
                &outputs,
            );
            y
        } else {
            let linear = OpKind::Linear { bias: false };
            let [gate, up] =
                [("gate", gate), ("up", up)].map(|(name, w)| b.op1(name, linear.clone(), &p.inputs, &[w], self.out));
            b.op1("y", OpKind::Glu { gate: kind }, &[gate, up], &[], self.out)
        };
        b.graph.outputs.push(y);
        b.graph
    }

    /// The front alone, where there is an op of its own for it.
    fn norm_block(&self, fused: bool) -> Option<Graph> {
        let kind = match self.front {
            Front::AddNorm => OpKind::AddNorm { eps: EPS },
            Front::EmbedNorm => OpKind::EmbedNorm { eps: EPS },
            Front::Rows | Front::Norm | Front::Glu => return None,
        };
        let mut b = self.builder();
        let p = self.prologue(&mut b, fused);
        let y = if fused {
            let y = b.tensor("normed", ActType::F32, ckc::graph::Rows::Tokens, self.hidden);
            b.op("normed", kind, &p.inputs, &p.weights, &[p.outputs[0], y]);
            y
        } else {
            p.inputs[0]
        };
        b.graph.outputs.push(y);
        Some(b.graph)
    }

    /// The named tensors that both forms have, after each chunk.
    fn run(&self, graph: &Graph, names: &[&str]) -> Vec<Vec<f32>> {
        let tensors = random_weights(graph, self.seed);
        let stored = Stored {
            graph,
            tensors: &tensors,
        };
        let mut random = Random::new(self.seed);
        let mut interpreter = Interpreter::new(graph, &stored, Select::All).expect("a valid graph");
        let mut seen = Vec::new();
        for tokens in self.chunks {
            let ids: Vec<u32> = (0..tokens)
                .map(|_| (random.next_u64() % VOCABULARY as u64) as u32)
                .collect();
            let rows: Vec<Vec<f32>> = graph
                .inputs
                .iter()
                .map(|_| random.floats(tokens * self.hidden))
                .collect();
            let inputs: Vec<Input> = graph
                .inputs
                .iter()
                .zip(&rows)
                .map(|(id, rows)| match graph.tensor(*id).act {
                    ActType::U32 => Input::Ids(&ids),
                    _ => Input::Rows(rows),
                })
                .collect();
            let values = interpreter.run_inputs(tokens, &inputs).expect("a chunk");
            seen.extend(
                names
                    .iter()
                    .filter_map(|name| values.named(graph, name))
                    .map(<[f32]>::to_vec),
            );
        }
        seen
    }

    fn same(&self, unfused: &Graph, fused: &Graph, names: &[&str]) {
        let (want, got) = (self.run(unfused, names), self.run(fused, names));
        let bits = |rows: &[Vec<f32>]| rows.iter().flatten().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert!(!want.is_empty() && want.iter().flatten().all(|v| v.is_finite()));
        assert_eq!(bits(&got), bits(&want), "\n{unfused}\n{fused}");
    }
}

proptest! {
    #[test]
    fn attention_blocks_agree(shape in shapes()) {
        shape.same(&shape.attention_block(false), &shape.attention_block(true), &["x", "q_rope", "y"]);
    }

    #[test]
    fn mlp_blocks_agree(shape in shapes()) {
        shape.same(&shape.mlp_block(false), &shape.mlp_block(true), &["x", "y"]);
    }

    #[test]
    fn norms_agree(shape in shapes()) {
        if let (Some(unfused), Some(fused)) = (shape.norm_block(false), shape.norm_block(true)) {
            shape.same(&unfused, &fused, &["x", "normed"]);
        }
    }
}
