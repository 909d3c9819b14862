//! The text form of graphs, as snapshots.

use ck_kernels::dtype::DType;
use ck_tests::{Form, LlamaConfig, llama_graph};
use ckc::{
    fuse::{self, Division},
    graph::{Graph, RopeScaling, TensorId, WeightId, dump::dump},
};

/// One layer of a small quantised llama.
fn config() -> LlamaConfig {
    LlamaConfig {
        layers: 1,
        hidden: 32,
        intermediate: 64,
        head_dim: 8,
        dtype: DType::Q4_0,
        window: 16,
        scaling: RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original: 64.0,
        },
        ..LlamaConfig::small()
    }
}

fn fused(graph: &Graph) -> Graph {
    fuse::fuse(graph, &fuse::Config::default(), Division::Tokens).graph
}

#[test]
fn the_language_form() {
    insta::assert_snapshot!(dump(&llama_graph(&config(), Form::Language)));
}

#[test]
fn the_lowered_form() {
    insta::assert_snapshot!(dump(&llama_graph(&config(), Form::Lowered)));
}

#[test]
fn the_fused_form_of_a_float_model() {
    let config = LlamaConfig {
        dtype: DType::F32,
        ..config()
    };
    insta::assert_snapshot!(dump(&fused(&llama_graph(&config, Form::Lowered))));
}

#[test]
fn broken_graphs_have_a_text_too() {
    let mut graph = llama_graph(&config(), Form::Language);
    graph.ops.truncate(2);
    graph.ops[0].outputs.push(TensorId(900));
    graph.ops[1].inputs[0] = TensorId(901);
    graph.ops[1].weights[0] = WeightId(902);
    graph.outputs = vec![TensorId(903)];
    let text = dump(&graph);
    let ops: Vec<&str> = text.lines().skip_while(|line| *line != "ops").collect();
    insta::assert_snapshot!(ops.join("\n"), @"
    ops
      %embed, %?900 = embedding(%ids) w[model.embed_tokens.weight q4_0 10x32] -> f32[T,32], ?
      # layer 0
      %layers.0.attn_norm = rmsnorm(%?901) {eps=1e-5} w[?902] -> f32[T,32]

    outputs
      %?903
    ");
}
