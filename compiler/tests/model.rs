//! The shipped descriptions load, and become the graphs that they describe; whatever else is given, nothing panics.

use std::fs;
use std::path::{Path, PathBuf};

use ck_kernels::dtype::{ActType, DType};
use ckc::diag;
use ckc::fuse::{Flag, Flags};
use ckc::graph::{OpKind, Rows, verify};
use ckc::layout::Kind as Layout;
use ckc::model::{self, LoadOptions, Model, Source, codes};
use ckc::schedule::order::Kind as Order;
use proptest::prelude::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text_of(name: &str) -> String {
    fs::read_to_string(root().join("models").join(name)).expect("readable")
}

fn load_text(text: &str, options: &LoadOptions) -> Result<Model, String> {
    let source = Source {
        name: "models/m.yaml".to_string(),
        text: text.to_string(),
    };
    let (model, diagnostics) = model::load(source, options);
    let sources = [("models/m.yaml", text)];
    model.ok_or_else(|| diag::render(&diagnostics, &sources[..], false))
}

fn load(name: &str) -> Model {
    load_text(&text_of(name), &LoadOptions::default()).unwrap_or_else(|shown| panic!("{name}\n{shown}"))
}

/// Parameters of real models: what their weights add up to.
#[test]
fn real_models_have_their_true_sizes() {
    for (name, layers, parameters, heads, kv_heads) in [
        ("shakespeare.yaml", 4, 3_410_176, 8, 4),
        ("smollm2-135m.yaml", 30, 134_515_008, 9, 3),
        ("qwen2.5-0.5b.yaml", 24, 494_032_768, 14, 2),
        ("llama-3.2-1b.yaml", 16, 1_235_814_400, 32, 8),
        ("llama-3.1-8b.yaml", 32, 8_030_261_248, 32, 8),
    ] {
        let model = load(name);
        let graph = &model.graph;
        let counted: usize = graph.weights.iter().map(|w| w.rows * w.cols).sum();
        assert_eq!(counted, parameters, "{name}");
        assert_eq!((graph.caches.len(), graph.ropes.len()), (layers, 1), "{name}");
        assert!(
            graph
                .caches
                .iter()
                .all(|c| c.kv_heads == kv_heads && c.act == ActType::F16),
            "{name}"
        );
        assert_eq!(graph.ops.len(), 1 + 15 * layers + 3, "{name}");
        let counts = graph
            .ops
            .iter()
            .filter(|op| matches!(&op.kind, OpKind::Attention(a) if a.heads == heads));
        assert_eq!(counts.count(), layers, "{name}");
        assert_eq!(model.origins.ops.len(), graph.ops.len());
        assert_eq!(model.origins.weights.len(), graph.weights.len());
        verify::verify(graph).unwrap_or_else(|e| panic!("{name}: {e:?}"));
    }
}

#[test]
fn the_shipped_model_is_as_written() {
    let model = load("shakespeare.yaml");
    let graph = &model.graph;
    let names: Vec<&str> = graph.ops.iter().map(|op| op.name.as_str()).collect();
    assert_eq!(names[..3], ["embed", "layers.0.attn_norm", "layers.0.q"]);
    assert_eq!(names[names.len() - 3..], ["last", "final_norm", "logits"]);
    assert_eq!(graph.caches[3].name, "layers.3.kv");
    assert_eq!(
        (graph.ops[0].layer, graph.ops[1].layer, graph.ops[60].layer),
        (None, Some(0), Some(3))
    );
    assert_eq!((graph.context, graph.batch, model.max_positions), (512, 128, 512));
    assert_eq!(model.weights, Path::new("models/shakespeare"));
    assert_eq!(model.tokenizer.as_deref(), Some(Path::new("models/shakespeare")));
    assert_eq!(
        (model.layout, model.fusion.flags, model.dtype),
        (Layout::Packed, Flags::ALL, DType::BF16)
    );
    let logits = graph.tensor(graph.outputs[0]);
    assert_eq!((logits.rows, logits.cols), (Rows::Selected, 1024));
    // Tied: the table is one weight.
    assert_eq!(graph.ops[0].weights, graph.ops[names.len() - 1].weights);
    assert_eq!(graph.weights.iter().filter(|w| w.vector).count(), 9);
    assert!(
        graph
            .weights
            .iter()
            .all(|w| w.dtype == if w.vector { DType::F32 } else { DType::BF16 })
    );
    let place = &model.source.text[model.origins.weights[0].clone()];
    assert_eq!(place, "model.embed_tokens.weight");
}

#[test]
fn settings_are_read() {
    let text = text_of("shakespeare.yaml")
        + "kv: f32\nlayout: stride\norder: source\nfusion: {flags: 'all,-attn_proj', sites: {layers.*.gate: none}}\n\
           budget: {arena: 12MiB, weights: 4096}\n";
    let text = text.replace(
        "dtype: bf16",
        "dtype: q8_0, dtypes: {model.layers.*.mlp.down_proj.weight: f16}",
    );
    let options = LoadOptions {
        context: Some(100),
        batch: Some(7),
    };
    let model = load_text(&text, &options).unwrap_or_else(|shown| panic!("{shown}"));
    assert_eq!(
        (model.graph.context, model.graph.batch, model.layout, model.order),
        (100, 7, Layout::Stride, Order::Source)
    );
    assert_eq!(
        (model.budget.arena, model.budget.weights, model.budget.kv),
        (Some(12 << 20), Some(4096), None)
    );
    assert!(model.fusion.allows(Flag::NormQkv, "layers.0.q") && !model.fusion.allows(Flag::NormQkv, "layers.0.gate"));
    assert!(!model.fusion.allows(Flag::AttnProj, "layers.0.attn_out"));
    let dtype = |source: &str| model.graph.weights.iter().find(|w| w.source == source).map(|w| w.dtype);
    assert_eq!(dtype("model.layers.3.mlp.down_proj.weight"), Some(DType::F16));
    assert_eq!(dtype("model.layers.3.mlp.up_proj.weight"), Some(DType::Q8_0));
    assert!(model.graph.caches.iter().all(|c| c.act == ActType::F32));
}

#[test]
fn the_hash_is_of_what_is_said() {
    let text = text_of("shakespeare.yaml");
    let hash = |text: &str| load_text(text, &LoadOptions::default()).map(|model| model.sha256);
    let said = hash(&text).expect("loads");
    assert_eq!(said.len(), 64);
    let rewritten = format!(
        "# another comment\n{}",
        text.replace("shape: [T]}", "shape: [ \"T\" ] }")
    );
    assert_eq!(hash(&rewritten), Ok(said.clone()));
    let moved = text.replace("{context: 512, batch: 128,", "{batch: 128, context: 512,");
    assert_eq!(hash(&moved), Ok(said.clone()));
    assert_ne!(hash(&text.replace("1.0e-5", "1.0e-6")), Ok(said));
}

#[test]
fn the_schema_is_up_to_date() {
    let path = root().join("schemas/model.schema.json");
    let schema = model::schema();
    if std::env::var_os("CKC_BLESS").is_some() {
        fs::write(&path, &schema).expect("writable");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == schema,
        "schemas/model.schema.json is stale (CKC_BLESS=1 rewrites)"
    );
}

#[test]
fn unreadable_files_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("missing.yaml");
    let binary = folder.path().join("binary.yaml");
    fs::write(&binary, b"\xff\xfe\x00").expect("writable");
    let large = folder.path().join("large.yaml");
    fs::write(&large, vec![b'#'; (1 << 20) + 1]).expect("writable");
    for path in [missing, binary, large, folder.path().to_path_buf()] {
        let (model, diagnostics) = model::load_file(&path, &LoadOptions::default());
        assert!(model.is_none());
        assert_eq!(diagnostics[0].code, codes::UNREADABLE);
        assert!(diagnostics[0].message.contains(&path.display().to_string()));
    }
}

/// Files made to take long, or much memory or stack.
#[test]
fn hostile_files_end_quickly() {
    let bomb = (0..30).fold("a0: &a0 [x, x]\n".to_string(), |text, i| {
        text + &format!("a{}: &a{} [*a{i}, *a{i}]\n", i + 1, i + 1)
    });
    let chain = (1..30_000).fold("constants:\n  c0: 1\n".to_string(), |text, i| {
        text + &format!("  c{i}: c{} + 1\n", i - 1)
    });
    let unknown = (0..60_000).fold("constants:\n".to_string(), |text, i| {
        text + &format!("  c{i}: zzzzzzz\n")
    });
    let sum = format!("constants: {{a: {}}}\n", "1+".repeat(400_000));
    let nested = text_of("shakespeare.yaml").replace("count: n_layers", "count: 4096");
    for text in [
        bomb,
        chain,
        unknown,
        sum,
        "[".repeat(1 << 19),
        "{a: ".repeat(1 << 17),
        "- ".repeat(1 << 18),
        nested,
    ] {
        let start = std::time::Instant::now();
        let _ = load_text(&text, &LoadOptions::default());
        assert!(start.elapsed().as_secs() < 20, "{}", &text[..40]);
    }
}

/// A few bytes of `text` replaced by pieces of the language.
fn mutate(text: &str, edits: &[(prop::sample::Index, usize, String)]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for (at, len, piece) in edits {
        let start = at.index(bytes.len());
        let end = (start + len).min(bytes.len());
        bytes.splice(start..end, piece.bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn piece() -> impl Strategy<Value = String> {
    let words = [
        "",
        " ",
        "\n",
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "-",
        "\"",
        "'",
        "#",
        "&a ",
        "*a",
        "|",
        "!!str ",
        "<<",
        "0",
        "-1",
        "99999999999",
        "1e400",
        ".nan",
        "null",
        "true",
        "{i}",
        "sqrt(",
        "none",
        "x",
        "d_model",
        "layers.x",
        "\u{e9}",
    ];
    prop_oneof![prop::sample::select(words.to_vec()).prop_map(str::to_string), ".{0,3}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutations_never_panic(edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, piece()), 1..6)) {
        let base = fs::read_to_string(root().join("compiler/tests/diagnostics/base.yaml")).expect("readable");
        let text = mutate(&base, &edits);
        let source = Source { name: "m.yaml".to_string(), text: text.clone() };
        let (model, diagnostics) = model::load(source, &LoadOptions::default());
        prop_assert_eq!(model.is_some(), diagnostics.is_empty());
        diag::to_json(&diagnostics, &[("m.yaml", text.as_str())][..]);
        diag::render(&diagnostics, &[("m.yaml", text.as_str())][..], true);
        if let Some(model) = model {
            prop_assert!(verify::verify(&model.graph).is_ok(), "{}", text);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}|[ -~\n]{0,200}") {
        prop_assert!(load_text(&text, &LoadOptions::default()).is_err());
    }

    #[test]
    fn prefixes_never_panic(cut in any::<prop::sample::Index>()) {
        let text = text_of("shakespeare.yaml");
        let end = text.floor_char_boundary(cut.index(text.len()));
        let _ = load_text(&text[..end], &LoadOptions::default());
    }
}
