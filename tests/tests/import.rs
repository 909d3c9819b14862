//! Golden models and real vocabularies through `ckc import`, in both layouts of `config.json`.

use std::{fs, path::Path};

use ck_kernels::dtype::DType;
use ck_tests::{Gguf, GgufValue, shared, small_llama, small_model};
use ckc::{
    diag::Diagnostic,
    import::{Imported, Options, import},
    model::{self, LoadOptions},
    source::Source,
};

fn run(path: &Path, dtype: Option<DType>) -> Result<Imported, Vec<Diagnostic>> {
    import(
        path,
        &Options {
            dtype,
            folder: path.parent().unwrap(),
        },
    )
}

/// The description is one that compiles.
#[track_caller]
fn loads(yaml: &str) {
    let text = model::Source {
        name: "model.yaml".into(),
        text: yaml.into(),
    };
    let (model, problems) = model::load(text, &LoadOptions::default());
    assert!(model.is_some() && problems.is_empty(), "{problems:#?}\n{yaml}");
}

/// A copy of a golden folder whose `config.json` is the given file.
fn with_config(folder: &Path, config: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("model") {
            fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    fs::copy(folder.join(config), dir.path().join("config.json")).unwrap();
    dir
}

/// Without the lines that hold the folder's name.
fn body(yaml: &str) -> String {
    let named = |l: &&str| !l.contains("made by") && !l.starts_with("model:") && !l.contains("file:");
    yaml.lines().filter(named).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn golden(name: &str, expected: &[&str]) {
    let Some(folder) = shared(&format!("golden/{name}")) else {
        return;
    };
    let texts = ["config.json", "config.v5.json"].map(|config| {
        let dir = with_config(&folder, config);
        let imported = run(dir.path(), None).unwrap_or_else(|e| panic!("{name} {config}: {e:#?}"));
        assert_eq!(imported.notes, [""; 0], "{name} {config}");
        loads(&imported.yaml);
        body(&imported.yaml)
    });
    assert_eq!(texts[0], texts[1], "{name}: the two layouts say the same");
    for part in expected {
        assert!(texts[0].contains(part), "{name}: {part:?} not in\n{}", texts[0]);
    }
}

#[test]
fn golden_folders_in_both_layouts() {
    golden(
        "llama_tied",
        &[
            "dtype: f32",
            "logits, in: [final_norm], weight: model.embed_tokens.weight",
        ],
    );
    golden("llama_untied", &["logits, in: [final_norm], weight: lm_head.weight"]);
    golden("llama3_rope", &["original: 64.0", "theta: 500000.0"]);
    golden("llama_bf16", &["dtype: bf16"]);
    golden("llama_sharded", &["n_layers: 3", "weight: lm_head.weight"]);
    golden(
        "qwen2",
        &[
            "bias: \"model.layers.{i}.self_attn.k_proj.bias\"",
            "rms_norm_eps: 1.0e-6",
            "theta: 1000000.0",
        ],
    );
}

#[test]
fn unsupported_families_are_named() {
    for (folder, name) in [
        ("gemma2", "`gemma2` (Gemma2ForCausalLM)"),
        ("gemma3", "`gemma3_text` (Gemma3ForCausalLM)"),
        ("gpt2", "`gpt2` (GPT2LMHeadModel)"),
        ("mistral_swa", "`mistral` (MistralForCausalLM)"),
        ("mixtral", "`mixtral` (MixtralForCausalLM)"),
        ("olmo2", "`olmo2` (Olmo2ForCausalLM)"),
        ("phi3", "`phi3` (Phi3ForCausalLM)"),
        ("qwen3", "`qwen3` (Qwen3ForCausalLM)"),
        ("qwen3_moe", "`qwen3_moe` (Qwen3MoeForCausalLM)"),
    ] {
        let Some(path) = shared(&format!("golden/{folder}")) else {
            return;
        };
        let problems = run(&path, None).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].message.contains(name), "{}", problems[0].message);
        assert!(problems[0].help.as_deref().is_some_and(|h| h.contains("llama, qwen2")));
    }
}

#[test]
fn a_folder_that_ships_its_tokenizer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/shakespeare");
    let options = Options {
        dtype: Some(DType::Q8_0),
        folder: folder.parent().unwrap(),
    };
    let yaml = import(&folder, &options).unwrap().yaml;
    loads(&yaml);
    for part in [
        "model: shakespeare",
        "file: shakespeare",
        "tokenizer: shakespeare",
        "dtype: q8_0",
    ] {
        assert!(yaml.contains(part), "{part:?} not in\n{yaml}");
    }
}

#[test]
fn vocabularies_read_but_are_no_models() {
    for (name, tokens) in [
        ("gpt-2", 50_257),
        ("llama-bpe", 128_256),
        ("llama-spm", 32_000),
        ("qwen2", 151_936),
    ] {
        let Some(path) = shared(&format!("tokenizers/ggml-vocab-{name}.gguf")) else {
            return;
        };
        let source = Source::open(&path).unwrap();
        let metadata = source.gguf_metadata().unwrap();
        let found = metadata.strings("tokenizer.ggml.tokens").unwrap();
        assert_eq!(found.len(), tokens, "{name}");
        assert!(found.iter().all(|t| std::str::from_utf8(t).is_ok()), "{name}");
        assert_eq!(
            metadata.array("tokenizer.ggml.token_type").unwrap().scalars().count(),
            tokens
        );
        assert!(run(&path, None).is_err());
    }
}

fn gguf(build: &Gguf, version: u32) -> Result<Imported, Vec<Diagnostic>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.gguf");
    fs::write(&path, build.bytes(version)).unwrap();
    run(&path, None)
}

#[track_caller]
fn refused(build: &Gguf, expected: &[&str]) {
    let problems = gguf(build, 3).expect_err("must be refused");
    let messages: Vec<&str> = problems.iter().map(|d| d.message.as_str()).collect();
    assert_eq!(messages.len(), expected.len(), "{messages:?}");
    for (message, part) in messages.iter().zip(expected) {
        assert!(message.contains(part), "{part:?} not in {message:?}");
    }
}

#[track_caller]
fn says(build: &Gguf, expected: &[&str]) {
    let yaml = gguf(build, 3).unwrap().yaml;
    loads(&yaml);
    for part in expected {
        assert!(yaml.contains(part), "{part:?} not in\n{yaml}");
    }
}

#[test]
fn both_versions() {
    let expected = [
        "model: small-llama",
        "pairing: interleaved",
        "rms_norm_eps: 1.0e-5",
        "tokenizer: w.gguf",
        "head_dim: 16",
    ];
    says(&small_llama(), &expected);
    assert_eq!(gguf(&small_llama(), 2), gguf(&small_llama(), 3));
    for version in [0, 1, 4] {
        let message = &gguf(&small_llama(), version).unwrap_err()[0].message;
        assert!(
            message.contains(&format!("version {version} is not supported")),
            "{message}"
        );
    }
    assert!(
        gguf(&small_llama(), 3u32.swap_bytes()).unwrap_err()[0]
            .message
            .contains("big-endian")
    );
}

#[test]
fn rotary_scaling() {
    says(
        &small_llama().floats("rope_freqs.weight", &[8]),
        &["scaling: {factors: rope_freqs.weight}"],
    );
    let linear = small_llama()
        .with("llama.rope.scaling.type", GgufValue::str("linear"))
        .with("llama.rope.scaling.factor", GgufValue::f32(4.0));
    says(&linear, &["scaling: {linear: {factor: 4.0}}"]);
    let yarn = linear.change("llama.rope.scaling.type", Some(GgufValue::str("yarn")));
    refused(&yarn, &["`yarn` is not supported"]);
    says(
        &small_llama().change("llama.rope.freq_base", None),
        &["has no `llama.rope.freq_base`: 10000"],
    );
    says(
        &small_llama().with("llama.rope.dimension_count", GgufValue::u32(8)),
        &["dims: 8"],
    );
    refused(
        &small_llama().with("llama.rope.dimension_count", GgufValue::u32(15)),
        &["15 rotary dimensions"],
    );
}

#[test]
fn output_matrix_and_biases_are_seen_by_their_tensors() {
    says(
        &small_llama().floats("output.weight", &[40, 32]),
        &["weight: output.weight"],
    );
    refused(
        &small_llama().floats("blk.0.attn_q.bias", &[32]),
        &["2 tensors are missing"],
    );
    let biases = small_llama()
        .floats("blk.0.attn_q.bias", &[32])
        .floats("blk.0.attn_k.bias", &[16])
        .floats("blk.0.attn_v.bias", &[16]);
    says(&biases, &["bias: \"blk.{i}.attn_v.bias\""]);
}

#[test]
fn what_is_refused() {
    let arch = |name: &str| small_llama().change("general.architecture", Some(GgufValue::str(name)));
    refused(&arch("gemma2"), &["`gemma2` is not supported"]);
    refused(&arch("qwen2").change("llama.block_count", None), &["missing"; 6]);
    refused(
        &small_llama().change("general.architecture", None),
        &["`general.architecture` is missing"],
    );
    refused(
        &small_llama().change("llama.context_length", None),
        &["`llama.context_length` is missing"],
    );
    let eps = "llama.attention.layer_norm_rms_epsilon";
    refused(
        &small_llama().change(eps, None),
        &["layer_norm_rms_epsilon` is missing"],
    );
    refused(
        &small_llama().with("llama.expert_count", GgufValue::u32(8)),
        &["`llama.expert_count` = 8"],
    );
    says(&small_llama().with("llama.expert_count", GgufValue::u32(0)), &[]);
    refused(
        &small_llama().with("llama.vocab_size", GgufValue::u32(41)),
        &["41, but `token_embd.weight` has 40"],
    );
    refused(
        &small_llama().with("split.count", GgufValue::u32(2)),
        &["one of 2 parts"],
    );
    says(
        &small_llama().with("llama.new_key", GgufValue::u32(5)),
        &["`llama.new_key` = 5, which is not understood"],
    );
    refused(&small_llama().floats("extra", &[3]), &["tensor `extra` is not used"]);
    let q5_k = Gguf::tensor(small_llama(), "output.weight", &[40, 256], 13, vec![0; 40 * 176]);
    refused(&q5_k, &["shape [40, 256], the model needs [40, 32]"]);
    let iq4_nl = Gguf::tensor(small_llama(), "output.weight", &[40, 32], 20, vec![0; 40 * 18]);
    refused(
        &iq4_nl,
        &["`output.weight` is stored as IQ4_NL, which is not supported"],
    );
}

/// As quantisers mix them: the most frequent type is the model's, the others are exceptions.
#[test]
fn matrices_keep_their_types() {
    let mixed = ["attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_up"]
        .into_iter()
        .fold(small_llama(), |file, name| {
            file.retype(&format!("blk.0.{name}.weight"), 6, 22)
        })
        .retype("blk.0.attn_v.weight", 8, 34)
        .retype("blk.0.ffn_down.weight", 7, 24)
        .retype("token_embd.weight", 3, 20);
    says(
        &mixed,
        &[
            "dtype: q5_0",
            "blk.0.attn_v.weight: q8_0",
            "blk.0.ffn_down.weight: q5_1",
            "token_embd.weight: q4_1",
        ],
    );
}

#[test]
fn qwen2_pairs_halves_and_has_biases() {
    let qwen2 = small_model("qwen2")
        .floats("blk.0.attn_q.bias", &[32])
        .floats("blk.0.attn_k.bias", &[16])
        .floats("blk.0.attn_v.bias", &[16]);
    says(&qwen2, &["pairing: halves", "bias: \"blk.{i}.attn_q.bias\""]);
    refused(&small_model("qwen2"), &["3 tensors are missing"]);
}
