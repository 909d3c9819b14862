//! The reference interpreter against golden data of PyTorch and Hugging Face transformers.

use ck_kernels::{
    dtype::ActType,
    ops::{Gate, Pairing},
};
use ck_tests::{Builder, Form, LlamaConfig, Stored, Tensors, assert_close, llama_graph, shared};
use ckc::{
    fuse::{self, Division, Flag, Flags},
    graph::{
        Attention, Graph, OpKind, Part, Rope, RopeScaling, Sink, Source, TensorId,
        interpret::{Input, InterpretError, Interpreter, Select, frequencies},
    },
};

const OP_TOLERANCE: f32 = 1e-5;
const LOGIT_TOLERANCE: f32 = 5e-5;
const MODELS: [&str; 7] = [
    "llama_tied",
    "llama_untied",
    "llama3_rope",
    "qwen2",
    "llama_bf16",
    "llama_sharded",
    "mistral_swa",
];

struct Model {
    config: LlamaConfig,
    weights: Tensors,
    golden: Tensors,
}

/// The golden models that are there, by name.
fn models() -> impl Iterator<Item = (&'static str, Model)> {
    MODELS.into_iter().filter_map(|name| {
        let folder = shared(&format!("golden/{name}"))?;
        let model = Model {
            config: LlamaConfig::open(&folder),
            weights: Tensors::open_model(&folder),
            golden: Tensors::open(&folder.join("golden.safetensors")),
        };
        Some((name, model))
    })
}

/// The logits of every token, the prompt given in chunks.
fn logits(graph: &Graph, model: &Model, chunks: &[usize]) -> Vec<f32> {
    let weights = Stored {
        graph,
        tensors: &model.weights,
    };
    let mut interpreter = Interpreter::new(graph, &weights, Select::All).expect("a valid graph");
    let mut ids = &model.golden.get("input_ids").ids()[..];
    let mut logits = Vec::new();
    for chunk in chunks {
        let (now, later) = ids.split_at(*chunk);
        let values = interpreter.run(now).expect("a chunk of the prompt");
        logits.extend_from_slice(values.rows(graph.outputs[0]));
        ids = later;
    }
    assert!(ids.is_empty(), "chunks are the whole prompt");
    logits
}

#[test]
fn prompts_give_the_golden_logits_however_they_are_chunked() {
    for (name, model) in models() {
        let graph = llama_graph(&model.config, Form::Language);
        let golden = &model.golden.get("logits").data;
        let whole = logits(&graph, &model, &[24]);
        let error = assert_close(name, &whole, golden, LOGIT_TOLERANCE);
        println!("{name}: max abs error {error:e}");
        for chunks in [&[10, 14][..], &[1; 24], &[23, 1]] {
            assert_eq!(logits(&graph, &model, chunks), whole, "{name} in chunks {chunks:?}");
        }
    }
}

#[test]
fn hidden_states_are_the_golden_ones() {
    for (name, model) in models() {
        let graph = llama_graph(&model.config, Form::Language);
        let weights = Stored {
            graph: &graph,
            tensors: &model.weights,
        };
        let mut interpreter = Interpreter::new(&graph, &weights, Select::All).expect("a valid graph");
        let values = interpreter
            .run(&model.golden.get("input_ids").ids())
            .expect("the prompt");
        let hidden = model.golden.get("hidden");
        let layers = (1..model.config.layers).map(|layer| format!("layers.{}.mlp_add", layer - 1));
        let tensors = ["embed".to_string()]
            .into_iter()
            .chain(layers)
            .chain(["norm".to_string()]);
        for (i, tensor) in tensors.enumerate() {
            let got = values.named(&graph, &tensor).expect("a tensor of the graph");
            assert_close(&format!("{name} {tensor}"), got, hidden.part(i), LOGIT_TOLERANCE);
        }
    }
}

#[test]
fn greedy_decoding_gives_the_golden_ids() {
    for (name, model) in models() {
        let graph = llama_graph(&model.config, Form::Language);
        let weights = Stored {
            graph: &graph,
            tensors: &model.weights,
        };
        let mut interpreter = Interpreter::new(&graph, &weights, Select::Last).expect("a valid graph");
        let mut ids = model.golden.get("input_ids").ids();
        let mut generated = Vec::new();
        let want = model.golden.get("greedy_ids").ids();
        while generated.len() < want.len() {
            let values = interpreter.run(&ids).expect("within the context");
            let logits = values.rows(graph.outputs[0]);
            assert_eq!(logits.len(), model.config.vocabulary, "one row is selected");
            let golden = model.golden.get("greedy_logits").part(generated.len());
            assert_close(
                &format!("{name}, token {}", generated.len()),
                logits,
                golden,
                LOGIT_TOLERANCE,
            );
            let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
            ids = vec![best.expect("a vocabulary") as u32];
            generated.extend_from_slice(&ids);
        }
        assert_eq!(generated, want, "{name}");
    }
}

#[test]
fn lowered_and_fused_graphs_give_the_same_bits() {
    for (name, model) in models() {
        let lowered = llama_graph(&model.config, Form::Lowered);
        let want = logits(&llama_graph(&model.config, Form::Language), &model, &[10, 14]);
        assert_eq!(logits(&lowered, &model, &[10, 14]), want, "{name}, lowered");
        let sets = Flag::all()
            .flat_map(|flag| [Flags::only(flag), Flags::ALL.without(flag)])
            .chain([Flags::ALL]);
        for flags in sets {
            for division in [Division::Tokens, Division::Columns] {
                let config = fuse::Config {
                    flags,
                    sites: Vec::new(),
                };
                let fused = fuse::fuse(&lowered, &config, division).graph;
                let what = format!("{name}, {division:?}, {}", flags.names().join(","));
                assert_eq!(logits(&fused, &model, &[10, 14]), want, "{what}");
            }
        }
    }
}

/// An op's golden file as a graph of that one op: operands and results by their names in the file.
fn one_op(golden: &Tensors, kind: OpKind, inputs: &[&str], weights: &[&str], outputs: &[&str]) -> Graph {
    let mut b = Builder::new("op", 64, 64);
    let inputs: Vec<TensorId> = inputs
        .iter()
        .map(|name| match name.strip_prefix("in.ids") {
            Some(_) => b.input(name, ActType::U32, 1),
            None => b.input(name, ActType::F32, golden.get(name).matrix().1),
        })
        .collect();
    let weights: Vec<_> = weights
        .iter()
        .map(|name| match golden.get(name).shape[..] {
            [rows, cols] => b.matrix(name, rows, cols),
            _ => b.vector(name, golden.get(name).data.len()),
        })
        .collect();
    let rows = b.graph.tensor(inputs[0]).rows;
    let outputs: Vec<_> = outputs
        .iter()
        .map(|name| b.tensor(name, ActType::F32, rows, golden.get(name).matrix().1))
        .collect();
    b.op("op", kind, &inputs, &weights, &outputs);
    b.graph.outputs = outputs;
    b.graph
}

#[test]
fn ops_without_state_give_the_golden_values() {
    type Case = (
        &'static str,
        fn(f32) -> OpKind,
        &'static [&'static str],
        &'static [&'static str],
        &'static [&'static str],
    );
    let cases: &[Case] = &[
        ("embedding", |_| OpKind::Embedding, &["in.ids"], &["in.w"], &["out.y"]),
        (
            "rmsnorm",
            |eps| OpKind::RmsNorm { eps },
            &["in.x"],
            &["in.w"],
            &["out.y"],
        ),
        (
            "linear",
            |_| OpKind::Linear { bias: false },
            &["in.x"],
            &["in.w"],
            &["out.y"],
        ),
        (
            "linear_bias",
            |_| OpKind::Linear { bias: true },
            &["in.x"],
            &["in.w", "in.b"],
            &["out.y"],
        ),
        (
            "swiglu",
            |_| OpKind::Glu { gate: Gate::Silu },
            &["in.gate", "in.up"],
            &[],
            &["out.y"],
        ),
        (
            "geglu_tanh",
            |_| OpKind::Glu { gate: Gate::GeluTanh },
            &["in.gate", "in.up"],
            &[],
            &["out.y"],
        ),
        (
            "residual_rmsnorm",
            |eps| OpKind::AddNorm { eps },
            &["in.x", "in.r"],
            &["in.w"],
            &["out.h", "out.y"],
        ),
        (
            "rmsnorm_linear",
            |eps| OpKind::Project {
                source: Source::Norm { eps },
                parts: vec![Part {
                    bias: false,
                    sink: Sink::Store,
                }],
            },
            &["in.x"],
            &["in.w", "in.m"],
            &["out.y"],
        ),
    ];
    for (name, kind, inputs, weights, outputs) in cases {
        let Some(path) = shared(&format!("golden/ops/{name}.safetensors")) else {
            continue;
        };
        let golden = Tensors::open(&path);
        let eps = golden.params()["eps"].as_f64().unwrap_or(0.0) as f32;
        let graph = one_op(&golden, kind(eps), inputs, weights, outputs);
        let stored = Stored {
            graph: &graph,
            tensors: &golden,
        };
        let ids = inputs.iter().map(|name| golden.get(name).ids()).collect::<Vec<_>>();
        let values = inputs.iter().zip(&ids).map(|(name, ids)| match *name {
            "in.ids" => Input::Ids(ids),
            name => Input::Rows(&golden.get(name).data),
        });
        let tokens = golden.get(inputs[0]).shape[0];
        let mut interpreter = Interpreter::new(&graph, &stored, Select::All).expect("a valid graph");
        let values = interpreter
            .run_inputs(tokens, &values.collect::<Vec<_>>())
            .expect("one op");
        for (id, output) in graph.outputs.iter().zip(*outputs) {
            assert_close(
                &format!("{name} {output}"),
                values.rows(*id),
                &golden.get(output).data,
                OP_TOLERANCE,
            );
        }
    }
}

#[test]
fn rotations_are_the_golden_ones() {
    for name in ["rope_halves", "rope_interleaved", "rope_partial"] {
        let Some(path) = shared(&format!("golden/ops/{name}.safetensors")) else {
            continue;
        };
        let golden = Tensors::open(&path);
        let params = golden.params();
        let (x, y) = (golden.get("in.x"), golden.get("out.y"));
        let [batch, tokens, heads, head_dim] = x.shape[..] else {
            panic!("{name}: 4 axes")
        };
        let cols = heads * head_dim;
        let mut b = Builder::new("op", 64, 64);
        let rope = b.rope(Rope {
            theta: params["theta"].as_f64().expect("theta"),
            dims: params["nrot"].as_u64().expect("nrot") as usize,
            head_dim,
            pairing: if params["inter"] == true {
                Pairing::Interleaved
            } else {
                Pairing::Halves
            },
            scaling: RopeScaling::None,
        });
        let input = b.input("x", ActType::F32, cols);
        let output = b.op1("y", OpKind::Rope(rope), &[input], &[], cols);
        b.graph.outputs.push(output);
        let stored = Stored {
            graph: &b.graph,
            tensors: &golden,
        };
        let mut interpreter = Interpreter::new(&b.graph, &stored, Select::All).expect("a valid graph");
        let skipped = params["pos0"].as_u64().expect("pos0") as usize;
        for i in 0..batch {
            interpreter.reset();
            if skipped > 0 {
                interpreter
                    .run_inputs(skipped, &[Input::Rows(&vec![0.0; skipped * cols])])
                    .expect("tokens before");
            }
            let values = interpreter
                .run_inputs(tokens, &[Input::Rows(x.part(i))])
                .expect("one op");
            assert_close(name, values.rows(output), y.part(i), OP_TOLERANCE);
        }
    }
}

#[test]
fn attention_is_the_golden_one() {
    for name in [
        "attn_causal_gqa",
        "attn_window",
        "attn_softcap",
        "attn_decode",
        "attn_prefill_with_past",
    ] {
        let Some(path) = shared(&format!("golden/ops/{name}.safetensors")) else {
            continue;
        };
        let golden = Tensors::open(&path);
        let params = golden.params();
        let [q, k, v, y] = ["in.q", "in.k", "in.v", "out.y"].map(|name| golden.get(name));
        let [batch, tokens, heads, head_dim] = q.shape[..] else {
            panic!("{name}: 4 axes")
        };
        let (positions, kv_heads) = (k.shape[1], k.shape[2]);
        let (cols, kv_cols) = (heads * head_dim, kv_heads * head_dim);
        let mut b = Builder::new("op", 64, 64);
        let attention = Attention {
            cache: b.cache("kv", kv_heads, head_dim),
            heads,
            scale: params["scale"].as_f64().expect("scale") as f32,
            softcap: params["cap"].as_f64().unwrap_or(0.0) as f32,
            window: params["window"].as_u64().unwrap_or(0) as usize,
        };
        let inputs =
            [("q", cols), ("k", kv_cols), ("v", kv_cols)].map(|(name, cols)| b.input(name, ActType::F32, cols));
        let output = b.op1("y", OpKind::Attention(attention), &inputs, &[], cols);
        b.graph.outputs.push(output);
        let stored = Stored {
            graph: &b.graph,
            tensors: &golden,
        };
        let mut interpreter = Interpreter::new(&b.graph, &stored, Select::All).expect("a valid graph");
        let past = positions - tokens;
        for i in 0..batch {
            interpreter.reset();
            let (past_k, k) = k.part(i).split_at(past * kv_cols);
            let (past_v, v) = v.part(i).split_at(past * kv_cols);
            if past > 0 {
                let queries = vec![0.0; past * cols];
                let inputs = [&queries[..], past_k, past_v].map(Input::Rows);
                interpreter.run_inputs(past, &inputs).expect("tokens before");
            }
            let values = interpreter
                .run_inputs(tokens, &[q.part(i), k, v].map(Input::Rows))
                .expect("one op");
            assert_close(name, values.rows(output), y.part(i), OP_TOLERANCE);
        }
    }
}

#[test]
fn scaled_frequencies_follow_their_formulas() {
    let mut rope = Rope {
        theta: 10000.0,
        dims: 8,
        head_dim: 8,
        pairing: Pairing::Halves,
        scaling: RopeScaling::None,
    };
    let plain = [1.0, 0.1, 0.01, 0.001];
    let close = |got: Vec<f64>, want: [f64; 4]| {
        for (got, want) in got.iter().zip(want) {
            assert!((got / want - 1.0).abs() < 1e-12, "got {got}, want {want}");
        }
        assert_eq!(got.len(), 4);
    };
    close(frequencies(&rope, &[]), plain);
    rope.scaling = RopeScaling::Linear { factor: 4.0 };
    close(frequencies(&rope, &[]), plain.map(|f| f / 4.0));
    rope.scaling = RopeScaling::Factors {
        source: "rope_freqs.weight".into(),
    };
    close(
        frequencies(&rope, &[1.0, 1.0, 8.0, 32.0]),
        [1.0, 0.1, 0.01 / 8.0, 0.001 / 32.0],
    );
    // Wavelengths are 6.3, 63, 628 and 6283 positions: two kept, one on the ramp, one divided.
    rope.scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original: 1000.0,
    };
    let smooth = (1000.0 * 0.01 / std::f64::consts::TAU - 1.0) / 3.0;
    let ramp = (1.0 - smooth) * 0.01 / 8.0 + smooth * 0.01;
    close(frequencies(&rope, &[]), [1.0, 0.1, ramp, 0.001 / 8.0]);
}

#[test]
fn rotary_factors_are_read_from_the_weights() {
    let plain = llama_graph(&LlamaConfig::small(), Form::Language);
    let mut scaled = plain.clone();
    scaled.ropes[0].scaling = RopeScaling::Factors {
        source: "rope_freqs.weight".into(),
    };
    let run = |graph: &Graph, factors: Option<Vec<f32>>| -> Result<Vec<f32>, String> {
        let mut tensors = ck_tests::random_weights(graph, 7);
        if let Some(factors) = factors {
            tensors.insert("rope_freqs.weight", &[factors.len()], factors);
        }
        let stored = Stored {
            graph,
            tensors: &tensors,
        };
        let mut interpreter = Interpreter::new(graph, &stored, Select::Last).map_err(|e| e.to_string())?;
        let values = interpreter.run(&[1, 2, 3]).map_err(|e| e.to_string())?;
        Ok(values.rows(graph.outputs[0]).to_vec())
    };
    let want = run(&plain, None);
    assert_eq!(run(&scaled, Some(vec![1.0, 1.0])), want);
    assert_ne!(run(&scaled, Some(vec![1.0, 4.0])), want);
    let refused = [
        (None, "weight rope_freqs.weight: there is no such tensor"),
        (Some(vec![1.0]), "weight rope_freqs.weight: shape [1] instead of [2]"),
        (Some(vec![1.0, 0.0]), "rotary factor 1 of rope_freqs.weight is 0"),
        (Some(vec![f32::NAN, 1.0]), "rotary factor 0 of rope_freqs.weight is NaN"),
    ];
    for (factors, says) in refused {
        assert_eq!(run(&scaled, factors), Err(says.to_string()));
    }
}

#[test]
fn bad_calls_are_errors_and_leave_the_position() {
    let config = LlamaConfig::small();
    let graph = llama_graph(&config, Form::Language);
    let tensors = ck_tests::random_weights(&graph, 7);
    let stored = Stored {
        graph: &graph,
        tensors: &tensors,
    };
    let mut interpreter = Interpreter::new(&graph, &stored, Select::Last).expect("a valid graph");
    let first = interpreter.run(&[1, 2, 3]).expect("three tokens");
    assert!(matches!(interpreter.run(&[]), Err(InterpretError::Empty)));
    assert!(matches!(
        interpreter.run(&[4, 10]),
        Err(InterpretError::UnknownId {
            token: 1,
            id: 10,
            vocabulary: 10,
            ..
        })
    ));
    assert!(matches!(
        interpreter.run(&[0; 30]),
        Err(InterpretError::PastContext {
            position: 3,
            tokens: 30,
            context: 32
        })
    ));
    let rows = [Input::Rows(&[0.0])];
    assert!(matches!(
        interpreter.run_inputs(1, &rows),
        Err(InterpretError::Input { .. })
    ));
    assert!(matches!(
        interpreter.run_inputs(1, &[]),
        Err(InterpretError::InputCount { given: 0, inputs: 1 })
    ));
    assert_eq!(interpreter.position(), 3);
    interpreter.run(&[0; 29]).expect("the rest of the context");
    interpreter.reset();
    assert_eq!(interpreter.run(&[1, 2, 3]).expect("three tokens"), first);

    let empty = Tensors::default();
    let stored = Stored {
        graph: &graph,
        tensors: &empty,
    };
    let mut interpreter = Interpreter::new(&graph, &stored, Select::Last).expect("a valid graph");
    let error = interpreter.run(&[1]).expect_err("no weights");
    assert_eq!(
        error.to_string(),
        "weight model.embed_tokens.weight: there is no such tensor"
    );

    let mut broken = graph.clone();
    broken.outputs.clear();
    assert!(matches!(
        Interpreter::new(&broken, &stored, Select::Last),
        Err(InterpretError::Invalid(_))
    ));
}

#[test]
fn a_call_that_fails_half_way_leaves_nothing_in_the_caches() {
    struct Faulty<'a> {
        stored: Stored<'a>,
        fails: std::cell::Cell<bool>,
    }
    impl ckc::graph::interpret::Weights for Faulty<'_> {
        fn row(
            &self,
            id: ckc::graph::WeightId,
            row: usize,
            out: &mut [f32],
        ) -> Result<(), ckc::graph::interpret::WeightError> {
            if self.fails.get() && self.stored.graph.weight(id).source == "lm_head.weight" {
                return Err("cannot be read".into());
            }
            self.stored.row(id, row, out)
        }

        fn vector(&self, source: &str, out: &mut [f32]) -> Result<(), ckc::graph::interpret::WeightError> {
            self.stored.vector(source, out)
        }
    }
    let graph = llama_graph(&LlamaConfig::small(), Form::Language);
    let tensors = ck_tests::random_weights(&graph, 7);
    let stored = Stored {
        graph: &graph,
        tensors: &tensors,
    };
    let weights = Faulty {
        stored,
        fails: false.into(),
    };
    let mut interpreter = Interpreter::new(&graph, &weights, Select::Last).expect("a valid graph");
    interpreter.run(&[1, 2]).expect("two tokens");
    let want = interpreter.run(&[3, 4]).expect("two more");
    interpreter.reset();
    interpreter.run(&[1, 2]).expect("two tokens");
    weights.fails.set(true);
    assert!(interpreter.run(&[5]).is_err());
    weights.fails.set(false);
    assert_eq!(interpreter.run(&[3, 4]).expect("two more"), want);
}
