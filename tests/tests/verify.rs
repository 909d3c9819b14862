//! Every rule of the graph verifier fires, and valid graphs pass.

use std::collections::BTreeSet;

use ck_kernels::dtype::{ActType, DType};
use ck_tests::{Form, LlamaConfig, Stored, llama_graph, random_weights};
use ckc::{
    fuse::{self, Division, Flag, Flags},
    graph::{
        CacheId, Graph, Op, OpKind, RopeId, RopeScaling, Rows, Sink, Source, TensorId, WeightId,
        dump::dump,
        interpret::{Interpreter, Select},
        verify::{Rule, verify, verify_lowered},
    },
};

/// A small llama with quantised matrices: rows are whole blocks of 32.
fn quantised() -> LlamaConfig {
    LlamaConfig {
        hidden: 32,
        intermediate: 64,
        head_dim: 8,
        dtype: DType::Q8_0,
        ..LlamaConfig::small()
    }
}

fn language() -> Graph {
    llama_graph(&LlamaConfig::small(), Form::Language)
}

fn lowered() -> Graph {
    llama_graph(&quantised(), Form::Lowered)
}

fn fused(flags: Flags) -> Graph {
    let config = fuse::Config {
        flags,
        sites: Vec::new(),
    };
    fuse::fuse(
        &llama_graph(&LlamaConfig::small(), Form::Lowered),
        &config,
        Division::Tokens,
    )
    .graph
}

fn fully_fused() -> Graph {
    fused(Flags::ALL)
}

/// Norms stand alone, fused with what is in front of them.
fn front_fused() -> Graph {
    fused(Flags::only(Flag::EmbedNorm).with(Flag::AddNorm))
}

fn op<'a>(graph: &'a mut Graph, name: &str) -> &'a mut Op {
    graph
        .ops
        .iter_mut()
        .find(|op| op.name == name)
        .unwrap_or_else(|| panic!("no op {name}"))
}

fn position(graph: &Graph, name: &str) -> usize {
    graph
        .ops
        .iter()
        .position(|op| op.name == name)
        .unwrap_or_else(|| panic!("no op {name}"))
}

fn tensor(graph: &Graph, name: &str) -> TensorId {
    let index = graph
        .tensors
        .iter()
        .position(|t| t.name == name)
        .unwrap_or_else(|| panic!("no tensor {name}"));
    TensorId(index as u32)
}

fn weight(graph: &Graph, source: &str) -> WeightId {
    let index = graph
        .weights
        .iter()
        .position(|w| w.source == source)
        .unwrap_or_else(|| panic!("no weight {source}"));
    WeightId(index as u32)
}

/// The only op of the fused graph that a predicate holds for.
fn kind(graph: &mut Graph, is: impl Fn(&OpKind) -> bool) -> &mut Op {
    graph
        .ops
        .iter_mut()
        .find(|op| is(&op.kind))
        .expect("an op of that kind")
}

fn set_cols(graph: &mut Graph, name: &str, cols: usize) {
    let id = tensor(graph, name);
    graph.tensors[id.index()].cols = cols;
}

fn set_act(graph: &mut Graph, name: &str, act: ActType) {
    let id = tensor(graph, name);
    graph.tensors[id.index()].act = act;
}

fn set_attention(graph: &mut Graph, set: impl Fn(&mut ckc::graph::Attention)) {
    for op in &mut graph.ops {
        if let OpKind::Attention(a) | OpKind::Attend(a) | OpKind::AttendProject { attention: a, .. } = &mut op.kind {
            set(a);
        }
    }
}

const Q: &str = "model.layers.0.self_attn.q_proj.weight";
const NORM: &str = "model.layers.0.input_layernorm.weight";

struct Case {
    rule: Rule,
    graph: fn() -> Graph,
    breaks: fn(&mut Graph),
    /// Part of the message.
    says: &'static str,
}

macro_rules! cases {
    ($($rule:ident, $graph:ident, $says:literal, $breaks:expr;)+) => {
        &[$(Case { rule: Rule::$rule, graph: $graph, breaks: $breaks, says: $says }),+]
    };
}

const CASES: &[Case] = cases! {
    IdRange, language, "op layers.0.q (linear): tensor id 9999 of", |g| op(g, "layers.0.q").inputs[0] = TensorId(9999);
    IdRange, language, "tensor id 9999 of", |g| op(g, "layers.0.q").outputs[0] = TensorId(9999);
    IdRange, language, "weight id 9999 of", |g| op(g, "layers.0.q").weights[0] = WeightId(9999);
    IdRange, language, "rope id 7 of 1", |g| op(g, "layers.0.q_rope").kind = OpKind::Rope(RopeId(7));
    IdRange, lowered, "cache id 7 of 2", |g| op(g, "layers.0.keys").kind = OpKind::CacheKeys(CacheId(7));
    IdRange, language, "input id 9999 of", |g| g.inputs.push(TensorId(9999));
    IdRange, language, "output id 9999 of", |g| g.outputs.push(TensorId(9999));
    Arity, language, "1 tensor operands, the kind has 2", |g| { op(g, "layers.0.attn_add").inputs.pop(); };
    Arity, language, "1 weights, the kind has 2", |g| { op(g, "layers.0.q").weights.pop(); };
    Arity, language, "2 weights, the kind has 1", |g| op(g, "layers.0.q").kind = OpKind::Linear { bias: false };
    Arity, lowered, "1 outputs, the kind has 0", |g| {
        let out = tensor(g, "layers.0.q");
        op(g, "layers.0.keys").outputs.push(out);
    };
    Arity, fully_fused, "weights, the kind has", |g| {
        kind(g, |k| matches!(k, OpKind::Project { .. })).weights.pop();
    };
    Arity, fully_fused, "outputs, the kind has", |g| {
        kind(g, |k| matches!(k, OpKind::Project { .. })).outputs.pop();
    };
    Arity, fully_fused, "a projection without matrices", |g| {
        let op = kind(g, |k| matches!(k, OpKind::Project { .. }));
        op.kind = OpKind::Project { source: Source::Rows, parts: Vec::new() };
    };
    WrittenTwice, language, "writes layers.0.q f32[T,16] again", |g| {
        let out = tensor(g, "layers.0.q");
        op(g, "layers.1.q").outputs[0] = out;
    };
    WrittenTwice, language, "writes ids u32[T,1] again", |g| {
        let ids = tensor(g, "ids");
        op(g, "layers.1.q").outputs[0] = ids;
    };
    WrittenTwice, language, "input ids u32[T,1] twice", |g| g.inputs.push(g.inputs[0]);
    ReadBeforeWrite, language, "reads layers.0.gate f32[T,12] before", |g| {
        let (glu, gate) = (position(g, "layers.0.act"), position(g, "layers.0.gate"));
        g.ops.swap(glu, gate);
    };
    ReadBeforeWrite, language, "reads layers.0.attn_norm f32[T,8] before", |g| {
        let norm = position(g, "layers.0.attn_norm");
        g.ops.remove(norm);
    };
    Clobbered, fully_fused, "reads layers.0.q_rope f32[T,16] that layers.0.attn overwrote", |g| {
        let q = tensor(g, "layers.0.q_rope");
        let attends = g.ops.iter_mut().filter(|op| matches!(op.kind, OpKind::AttendProject { .. }));
        attends.last().expect("two layers").inputs[0] = q;
    };
    Clobbered, fully_fused, "an input or output of the graph", |g| {
        let q = tensor(g, "layers.0.q_rope");
        g.outputs.push(q);
    };
    Rows, language, "has Selected rows instead of Tokens", |g| {
        let id = tensor(g, "layers.0.up");
        g.tensors[id.index()].rows = Rows::Selected;
    };
    Rows, language, "last f32[T,8] has Tokens rows instead of Selected", |g| {
        let id = tensor(g, "last");
        g.tensors[id.index()].rows = Rows::Tokens;
    };
    Rows, language, "instead of Tokens", |g| {
        for name in ["layers.0.q", "layers.0.q_rope"] {
            let id = tensor(g, name);
            g.tensors[id.index()].rows = Rows::Selected;
        }
    };
    ActType, language, "operand ids f32[T,1] is not u32", |g| set_act(g, "ids", ActType::F32);
    ActType, language, "token ids have one column", |g| set_cols(g, "ids", 2);
    ActType, language, "f16 is for KV caches only", |g| set_act(g, "layers.0.q", ActType::F16);
    ActType, language, "output layers.0.q u32[T,16] is not f32", |g| set_act(g, "layers.0.q", ActType::U32);
    ActType, lowered, "output layers.0.attn_norm.q8 f32[T,32] is not q8", |g| {
        set_act(g, "layers.0.attn_norm.q8", ActType::F32);
    };
    ActType, lowered, "operand layers.0.q8 q8[T,32] is not f32", |g| {
        let id = tensor(g, "layers.0.attn_norm.q8");
        g.tensors[id.index()].name = "layers.0.q8".into();
        op(g, "layers.0.attn_add").inputs[0] = id;
    };
    ActType, lowered, "q8 rows are whole blocks of 32", |g| set_cols(g, "layers.0.attn_norm.q8", 40);
    ActType, language, "cache layers.0.kv: q8 instead of f32 or f16", |g| g.caches[0].act = ActType::Q8;
    Cols, language, "embed f32[T,8] and layers.0.o f32[T,9] differ in columns", |g| set_cols(g, "layers.0.o", 9);
    Cols, language, "no columns", |g| set_cols(g, "layers.0.o", 0);
    Cols, language, "layers.0.gate f32[T,12] and layers.0.up f32[T,13] differ", |g| set_cols(g, "layers.0.up", 13);
    Cols, front_fused, "(embed_norm): embed f32[T,8] and layers.0.attn_norm f32[T,9] differ", |g| {
        set_cols(g, "layers.0.attn_norm", 9);
    };
    Cols, front_fused, "(add_norm): embed f32[T,8] and layers.0.mlp_norm f32[T,9] differ", |g| {
        set_cols(g, "layers.0.mlp_norm", 9);
    };
    WeightShape, language, "(linear): model.layers.0.self_attn.q_proj.weight f32 16x9 takes 9 columns, \
        layers.0.attn_norm f32[T,8] has 8", |g| { let id = weight(g, Q); g.weights[id.index()].cols = 9; };
    WeightShape, language, "gives 17 columns, layers.0.q f32[T,16] has 16", |g| {
        let id = weight(g, Q);
        g.weights[id.index()].rows = 17;
    };
    WeightShape, language, "norm model.layers.0.input_layernorm.weight f32 9 is not as long", |g| {
        let id = weight(g, NORM);
        g.weights[id.index()].cols = 9;
    };
    WeightShape, language, "has not one element a row", |g| {
        let id = weight(g, "model.layers.0.self_attn.q_proj.bias");
        g.weights[id.index()].cols = 15;
    };
    WeightShape, language, "rows of model.embed_tokens.weight f32 10x9 are not rows of embed", |g| {
        let id = weight(g, "model.embed_tokens.weight");
        g.weights[id.index()].cols = 9;
    };
    WeightShape, language, "a vector of 2 rows", |g| { let id = weight(g, NORM); g.weights[id.index()].rows = 2; };
    WeightShape, language, "weight model.embed_tokens.weight f32 0x8: empty", |g| g.weights[0].rows = 0;
    WeightShape, fully_fused, "(project): model.layers.0.self_attn.q_proj.weight f32 17x8 gives 17 columns", |g| {
        let id = weight(g, Q);
        g.weights[id.index()].rows = 17;
    };
    WeightShape, fully_fused, "(project_glu): model.layers.0.mlp.up_proj.weight f32 13x8 gives 13", |g| {
        let id = weight(g, "model.layers.0.mlp.up_proj.weight");
        g.weights[id.index()].rows = 13;
    };
    WeightShape, fully_fused, "(attend_project): model.layers.0.self_attn.o_proj.weight f32 8x15 takes 15", |g| {
        let id = weight(g, "model.layers.0.self_attn.o_proj.weight");
        g.weights[id.index()].cols = 15;
    };
    WeightShape, fully_fused, "(project_glu): norm model.layers.0.post_attention_layernorm.weight f32 9", |g| {
        let id = weight(g, "model.layers.0.post_attention_layernorm.weight");
        g.weights[id.index()].cols = 9;
    };
    WeightType, language, "is a vector where a matrix is due", |g| {
        let norm = weight(g, NORM);
        op(g, "layers.0.q").weights[0] = norm;
    };
    WeightType, language, "is a matrix where a vector is due", |g| {
        let q = weight(g, Q);
        op(g, "layers.0.attn_norm").weights[0] = q;
    };
    WeightType, language, "vectors are f32", |g| { let id = weight(g, NORM); g.weights[id.index()].dtype = DType::F16; };
    WeightType, language, "columns are not whole blocks of 32", |g| {
        let id = weight(g, Q);
        g.weights[id.index()].dtype = DType::Q4_0;
    };
    WeightType, lowered, "layers.0.attn_norm.q8 q8[T,32] meets model.layers.0.self_attn.q_proj.weight f16 32x32", |g| {
        let id = weight(g, Q);
        g.weights[id.index()].dtype = DType::F16;
    };
    Heads, language, "queries layers.0.q_rope f32[T,16] are not 6 heads of 4", |g| set_attention(g, |a| a.heads = 6);
    Heads, language, "4 query heads do not share 3 key/value heads evenly", |g| g.caches[0].kv_heads = 3;
    Heads, language, "0 query heads do not share", |g| set_attention(g, |a| a.heads = 0);
    Heads, language, "keys of 8 columns, layers.0.kv holds 4 heads of 4", |g| g.caches[0].kv_heads = 4;
    Heads, fully_fused, "(project): values of 8 columns, layers.0.kv holds 4 heads of 4", |g| g.caches[0].kv_heads = 4;
    Heads, lowered, "(cache_values): values of 16 columns, layers.0.kv holds 4 heads of 8", |g| g.caches[0].kv_heads = 4;
    Heads, fully_fused, "(attend_project): queries layers.0.q_rope", |g| set_attention(g, |a| a.heads = 6);
    Heads, language, "cache layers.0.kv: 0 heads of 4", |g| g.caches[0].kv_heads = 0;
    Heads, language, "layers.0.kv holds 18446744073709551615 heads", |g| g.caches[0].kv_heads = usize::MAX;
    Rope, language, "3 of 4 elements of a head rotate", |g| g.ropes[0].dims = 3;
    Rope, language, "6 of 4 elements of a head rotate", |g| g.ropes[0].dims = 6;
    Rope, language, "theta is 0", |g| g.ropes[0].theta = 0.0;
    Rope, language, "theta is NaN", |g| g.ropes[0].theta = f64::NAN;
    Rope, language, "factor is -1", |g| g.ropes[0].scaling = RopeScaling::Linear { factor: -1.0 };
    Rope, language, "llama3 scaling with factor 8, low 4, high 4", |g| g.ropes[0].scaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 4.0,
        high_freq_factor: 4.0,
        original: 64.0,
    };
    Rope, language, "16 columns are no whole heads of 6", |g| g.ropes[0].head_dim = 6;
    Rope, fully_fused, "rope0 turns heads of 8, the cache's have 4", |g| g.ropes[0].head_dim = 8;
    CacheWrites, lowered, "cache layers.0.kv: keys written 0 times", |g| {
        let keys = position(g, "layers.0.keys");
        g.ops.remove(keys);
    };
    CacheWrites, lowered, "cache layers.0.kv: keys written 2 times", |g| {
        op(g, "layers.0.values").kind = OpKind::CacheKeys(CacheId(0));
    };
    CacheWrites, fully_fused, "cache layers.0.kv: values written 2 times", |g| {
        for op in &mut g.ops {
            if let OpKind::Project { parts, .. } = &mut op.kind {
                for part in parts.iter_mut().filter(|part| matches!(part.sink, Sink::Values(_))) {
                    part.sink = Sink::Values(CacheId(0));
                }
            }
        }
    };
    CacheReads, lowered, "op layers.0.attn (attend): attends layers.0.kv before its values are written", |g| {
        let (attend, values) = (position(g, "layers.0.attn"), position(g, "layers.0.values"));
        g.ops.swap(attend, values);
    };
    CacheReads, lowered, "op layers.0.values (cache_values): writes layers.0.kv after it was attended", |g| {
        let (attend, values) = (position(g, "layers.0.attn"), position(g, "layers.0.values"));
        g.ops.swap(attend, values);
    };
    CacheReads, lowered, "cache layers.1.kv: never attended", |g| set_attention(g, |a| a.cache = CacheId(0));
    Dead, language, "op layers.1.up (linear): nothing needs layers.1.up f32[T,12]", |g| {
        let gate = tensor(g, "layers.1.gate");
        op(g, "layers.1.act").inputs[1] = gate;
    };
    Dead, language, "op logits (linear): nothing needs logits f32[1,10]", |g| {
        let norm = tensor(g, "norm");
        g.outputs = vec![norm];
    };
    Unused, language, "weight lm_head.weight f32 10x8: no op uses it", |g| {
        let table = weight(g, "model.embed_tokens.weight");
        op(g, "logits").weights[0] = table;
    };
    Unused, language, "rope1: no op uses it", |g| g.ropes.push(g.ropes[0].clone());
    Outputs, language, "no outputs", |g| g.outputs.clear();
    Outputs, language, "output logits f32[1,10] is never written", |g| {
        g.ops.pop();
    };
    Names, language, "tensor layers.0.q: the name is taken", |g| {
        let k = tensor(g, "layers.0.k");
        g.tensors[k.index()].name = "layers.0.q".into();
    };
    Names, language, "op layers.0.q: the name is taken", |g| op(g, "layers.0.k").name = "layers.0.q".into();
    Names, language, "cache layers.0.kv: the name is taken", |g| g.caches[1].name = "layers.0.kv".into();
    Names, language, "weight model.norm.weight: the name is taken", |g| g.weights[1].source = "model.norm.weight".into();
    Names, language, "op: without a name", |g| op(g, "layers.0.k").name.clear();
    Parameter, language, "graph llama: context is 0", |g| g.context = 0;
    Parameter, language, "graph llama: batch is 0", |g| g.batch = 0;
    Parameter, language, "eps is -1", |g| op(g, "norm").kind = OpKind::RmsNorm { eps: -1.0 };
    Parameter, language, "eps is NaN", |g| op(g, "norm").kind = OpKind::RmsNorm { eps: f32::NAN };
    Parameter, fully_fused, "(project_glu): eps is inf", |g| {
        for op in &mut g.ops {
            if let OpKind::ProjectGlu { source, .. } = &mut op.kind {
                *source = match source {
                    Source::AddNorm { .. } => Source::AddNorm { eps: f32::INFINITY },
                    other => panic!("{other:?}"),
                };
            }
        }
    };
    Parameter, language, "scale is NaN", |g| set_attention(g, |a| a.scale = f32::NAN);
    Parameter, language, "softcap is -1", |g| set_attention(g, |a| a.softcap = -1.0);
};

#[test]
fn valid_graphs_pass_in_every_form() {
    let mut graphs = vec![language(), lowered(), fully_fused(), front_fused()];
    for flag in Flag::all() {
        graphs.extend([fused(Flags::only(flag)), fused(Flags::ALL.without(flag))]);
    }
    for graph in graphs {
        if let Err(found) = verify(&graph) {
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            panic!("{}\n{graph}", found.join("\n"));
        }
    }
}

#[test]
fn every_broken_graph_is_refused_by_its_rule() {
    for case in CASES {
        let mut graph = (case.graph)();
        (case.breaks)(&mut graph);
        let found = verify(&graph).expect_err(case.says);
        let listed: Vec<String> = found.iter().map(|v| format!("{:?}: {v}", v.rule)).collect();
        let fires = found
            .iter()
            .any(|v| v.rule == case.rule && v.to_string().contains(case.says));
        assert!(
            fires,
            "no {:?} that says {:?}, but\n{}",
            case.rule,
            case.says,
            listed.join("\n")
        );
    }
}

#[test]
fn every_rule_has_a_graph_that_breaks_it() {
    let covered: BTreeSet<Rule> = CASES.iter().map(|case| case.rule).collect();
    // Broken below: valid graphs that are not lowered.
    let all: BTreeSet<Rule> = Rule::ALL
        .iter()
        .copied()
        .filter(|rule| *rule != Rule::Lowered)
        .collect();
    assert_eq!(covered, all);
}

#[test]
fn lowered_graphs_are_told_from_others() {
    for graph in [lowered(), fully_fused(), front_fused()] {
        assert_eq!(verify_lowered(&graph), Ok(()));
    }
    let mut unquantised = lowered();
    let rows = tensor(&unquantised, "layers.0.attn_norm");
    op(&mut unquantised, "layers.0.q").inputs[0] = rows;
    let cases = [
        (
            language(),
            "op layers.0.attn (attention): attention still writes its cache by itself; no kernel does both",
        ),
        (
            unquantised,
            "op layers.0.q (linear): layers.0.attn_norm f32[T,32] meets model.layers.0.self_attn.q_proj.weight \
             q8_0 32x32, which multiplies q8 rows",
        ),
    ];
    for (graph, says) in cases {
        assert_eq!(verify(&graph), Ok(()));
        let found = verify_lowered(&graph).expect_err(says);
        assert!(found.iter().all(|v| v.rule == Rule::Lowered));
        assert_eq!(found[0].to_string(), says);
    }
}

#[test]
fn what_passes_can_be_interpreted_whatever_its_ids_are() {
    let edits: [fn(&mut Op, u32); 3] = [
        |op, id| op.inputs.iter_mut().for_each(|x| x.0 = id),
        |op, id| op.outputs.iter_mut().for_each(|x| x.0 = id),
        |op, id| op.weights.iter_mut().for_each(|x| x.0 = id),
    ];
    for make in [language, lowered, fully_fused, front_fused] {
        let graph = make();
        let tensors = random_weights(&graph, 3);
        for index in 0..graph.ops.len() {
            for id in (0..graph.tensors.len() as u32).step_by(3).chain([u32::MAX]) {
                for edit in edits {
                    let mut edited = graph.clone();
                    edit(&mut edited.ops[index], id);
                    let passes = verify(&edited).is_ok();
                    assert!(
                        !passes || id != u32::MAX || edited == graph,
                        "{}",
                        graph.ops[index].name
                    );
                    if passes {
                        let stored = Stored {
                            graph: &edited,
                            tensors: &tensors,
                        };
                        let mut interpreter = Interpreter::new(&edited, &stored, Select::Last).expect("it passed");
                        interpreter.run(&[1, 2]).expect("valid ids");
                        assert!(!dump(&edited).is_empty());
                    }
                }
            }
        }
    }
}
