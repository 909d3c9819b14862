//! Hugging Face folders made by hand, and what is refused.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::*;

/// A folder with the given config and the tensors of a model of one layer: width 8, 2 heads of 4, 1 key/value head,
/// MLP 16, 32 tokens; `lm_head.weight` if `head`.
fn folder(config: &Value, head: bool) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    fs::write(dir.path().join("model.safetensors"), weights(&tensors(head))).unwrap();
    dir
}

type Shapes = Vec<(String, Vec<usize>)>;

fn tensors(head: bool) -> Shapes {
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![32, 8]),
        (layer("input_layernorm"), vec![8]),
        (layer("self_attn.q_proj"), vec![8, 8]),
        (layer("self_attn.k_proj"), vec![4, 8]),
        (layer("self_attn.v_proj"), vec![4, 8]),
        (layer("self_attn.o_proj"), vec![8, 8]),
        (layer("post_attention_layernorm"), vec![8]),
        (layer("mlp.gate_proj"), vec![16, 8]),
        (layer("mlp.up_proj"), vec![16, 8]),
        (layer("mlp.down_proj"), vec![8, 16]),
        ("model.norm.weight".to_owned(), vec![8]),
    ];
    if head {
        tensors.push(("lm_head.weight".to_owned(), vec![32, 8]));
    }
    tensors
}

/// A safetensors file of f32 tensors, each filled with its own number.
fn weights(tensors: &Shapes) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (i, (name, shape)) in tensors.iter().enumerate() {
        let start = data.len();
        data.extend((0..shape.iter().product::<usize>()).flat_map(|_| (i as f32).to_le_bytes()));
        header.insert(
            name.clone(),
            json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}),
        );
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend(data);
    file
}

fn config() -> Value {
    json!({
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32, "hidden_size": 8,
        "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": false,
        "rope_theta": 10000.0,
    })
}

/// `config()` with some keys set, or removed where the value is the string `absent`.
fn changed(changes: &Value) -> Value {
    let mut config = config();
    for (key, value) in changes.as_object().unwrap() {
        if value == "absent" {
            config.as_object_mut().unwrap().remove(key);
        } else {
            config[key] = value.clone();
        }
    }
    config
}

fn run(dir: &Path) -> Result<Imported, Vec<Diagnostic>> {
    import(
        dir,
        &Options {
            dtype: None,
            folder: dir,
        },
    )
}

#[track_caller]
fn refused(changes: &Value, expected: &[&str]) {
    let dir = folder(&changed(changes), true);
    let problems = run(dir.path()).expect_err("must be refused");
    let messages: Vec<&str> = problems.iter().map(|d| d.message.as_str()).collect();
    assert_eq!(messages.len(), expected.len(), "{messages:?}");
    for (message, part) in messages.iter().zip(expected) {
        assert!(message.contains(part), "{part:?} not in {message:?}");
    }
}

#[track_caller]
fn says(changes: &Value, expected: &[&str]) {
    let dir = folder(&changed(changes), true);
    let yaml = run(dir.path()).unwrap().yaml;
    for part in expected {
        assert!(yaml.contains(part), "{part:?} not in:\n{yaml}");
    }
}

#[test]
fn names_what_is_not_supported() {
    refused(
        &json!({"model_type": "gemma2"}),
        &["`gemma2` (LlamaForCausalLM) is not supported"],
    );
    refused(&json!({"model_type": "absent"}), &["`model_type` is missing"]);
    refused(
        &json!({"architectures": ["LlamaForSequenceClassification"]}),
        &["LlamaForSequenceClassification"],
    );
    refused(&json!({"hidden_act": "gelu"}), &["`hidden_act` \"gelu\""]);
    refused(&json!({"quantization_config": {"bits": 4}}), &["`quantization_config`"]);
    refused(&json!({"sliding_window": 16}), &["sliding window of 16"]);
    refused(&json!({"layer_types": ["chunked_attention"]}), &["chunked_attention"]);
    refused(
        &json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}),
        &["`yarn` is not supported"],
    );
    refused(
        &json!({"rope_scaling": {"type": "dynamic", "factor": 4.0}}),
        &["`dynamic` is not supported"],
    );
}

#[test]
fn every_missing_key_is_an_error_of_its_own() {
    for key in [
        "vocab_size",
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "max_position_embeddings",
        "rms_norm_eps",
        "hidden_act",
    ] {
        refused(&json!({key: "absent"}), &[&format!("`{key}` is missing")]);
    }
    refused(
        &json!({"vocab_size": "absent", "rms_norm_eps": null, "hidden_size": "x"}),
        &[
            "`hidden_size` is \"x\"",
            "`vocab_size` is missing",
            "`rms_norm_eps` is missing",
        ],
    );
    refused(
        &json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}),
        &[
            "`low_freq_factor`",
            "`high_freq_factor`",
            "`original_max_position_embeddings`",
        ],
    );
}

#[test]
fn impossible_values() {
    refused(&json!({"num_key_value_heads": 0}), &["key/value heads of 0"]);
    refused(&json!({"num_hidden_layers": 1_000_000_000}), &["layers of 1000000000"]);
    refused(&json!({"hidden_size": u64::MAX, "head_dim": 4}), &["width of"]);
    refused(&json!({"hidden_size": -8}), &["`hidden_size` is -8"]);
    refused(
        &json!({"num_attention_heads": 3}),
        &["not a multiple of `num_attention_heads` 3"],
    );
    refused(
        &json!({"num_attention_heads": 0}),
        &["not a multiple of `num_attention_heads` 0"],
    );
    refused(&json!({"rms_norm_eps": 0.0}), &["epsilon of 0"]);
    refused(&json!({"rope_theta": -1.0}), &["base of -1"]);
    refused(&json!({"head_dim": 3}), &["3 rotary dimensions"]);
    refused(
        &json!({"rope_parameters": {"rope_theta": 5.0, "rope_type": "default"}}),
        &["`rope_theta` is 10000"],
    );
}

#[test]
fn tensors_must_fit_the_config() {
    refused(
        &json!({"vocab_size": 33}),
        &[
            "shape [32, 8], the model needs [33, 8]",
            "[32, 8], the model needs [33, 8]",
        ],
    );
    refused(&json!({"num_hidden_layers": 2}), &["9 tensors are missing"]);
    refused(&json!({"attention_bias": true}), &["4 tensors are missing"]);
    refused(&json!({"mlp_bias": true}), &["3 tensors are missing"]);
    refused(&json!({"tie_word_embeddings": true}), &["`lm_head.weight` is not used"]);
}

#[test]
fn tied_models_may_hold_a_copy_of_the_embedding() {
    let dir = folder(&changed(&json!({"tie_word_embeddings": true})), true);
    let mut shapes = tensors(true);
    let mut file = weights(&shapes);
    let bytes = 32 * 8 * 4;
    let end = file.len();
    file[end - bytes..].fill(0);
    fs::write(dir.path().join("model.safetensors"), file).unwrap();
    let yaml = run(dir.path()).unwrap().yaml;
    assert!(!yaml.contains("lm_head"), "{yaml}");

    shapes.push(("model.layers.0.self_attn.rotary_emb.inv_freq".into(), vec![2]));
    fs::write(dir.path().join("config.json"), config().to_string()).unwrap();
    fs::write(dir.path().join("model.safetensors"), weights(&shapes)).unwrap();
    assert!(run(dir.path()).unwrap().yaml.contains("weight: lm_head.weight"));
}

#[test]
fn defaults_are_said() {
    says(
        &json!({"rope_theta": "absent"}),
        &["# Note: config.json has no `rope_theta`: 10000", "theta: 10000.0"],
    );
    says(
        &json!({"tie_word_embeddings": "absent"}),
        &["`tie_word_embeddings`: false", "weight: lm_head.weight"],
    );
    let dir = folder(&changed(&json!({"tie_word_embeddings": "absent"})), false);
    assert!(
        run(dir.path()).unwrap_err()[0]
            .message
            .contains("no `lm_head.weight` either")
    );
    let heads = json!({"num_key_value_heads": "absent", "num_attention_heads": 1, "head_dim": 4});
    refused(
        &heads,
        &[
            "q_proj.weight` has shape [8, 8], the model needs [4, 8]",
            "o_proj.weight",
        ],
    );
}

#[test]
fn both_layouts_of_rotary_keys() {
    let llama3 = [
        "llama3:",
        "factor: 8.0",
        "low_freq_factor: 1.0",
        "high_freq_factor: 4.0",
        "original: 64.0",
    ];
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    });
    says(&json!({"rope_scaling": scaling}), &llama3);
    let mut new = scaling;
    new["rope_theta"] = json!(500_000.0);
    says(&json!({"rope_theta": "absent", "rope_parameters": new}), &llama3);
    says(
        &json!({"rope_theta": "absent", "rope_parameters": new}),
        &["theta: 500000.0"],
    );
    says(
        &json!({"rope_scaling": {"type": "linear", "factor": 2.5}}),
        &["{linear: {factor: 2.5}}"],
    );
    says(&json!({"rope_scaling": null}), &["scaling: none"]);
    says(
        &json!({"rope_parameters": {"rope_type": "default"}}),
        &["scaling: none", "theta: 10000.0"],
    );
    says(&json!({"partial_rotary_factor": 0.5}), &["dims: 2\n"]);
    says(&json!({"sliding_window": 64}), &["window: none"]);
}

#[test]
fn types_are_written_out() {
    says(&json!({}), &["dtype: f32"]);
    let dir = folder(&config(), true);
    let run = |dtype| {
        import(
            dir.path(),
            &Options {
                dtype: Some(dtype),
                folder: dir.path(),
            },
        )
    };
    assert!(run(DType::BF16).unwrap().yaml.contains("dtype: bf16"));
    let problems = run(DType::Q8_0).unwrap_err();
    assert_eq!(problems.len(), 9, "rows of 8 do not fill blocks of 32: {problems:?}");
    assert!(run(DType::Q4K).unwrap_err()[0].message.contains("256"));
}

#[test]
fn exceptions_to_the_majority() {
    let chosen = dtypes::Chosen::of([("a", DType::Q4K), ("b", DType::Q6K), ("c", DType::Q4K)].into_iter());
    assert_eq!(
        chosen,
        dtypes::Chosen {
            dtype: DType::Q4K,
            exceptions: vec![("b".into(), DType::Q6K)]
        }
    );
    let even = dtypes::Chosen::of([("a", DType::Q6K), ("b", DType::Q4K)].into_iter());
    assert_eq!(even.dtype, DType::Q4K);
}

#[test]
fn package_names() {
    for (name, expected) in [
        ("Llama 3.2 1B", "llama-3-2-1b"),
        ("7B_chat", "model-7b-chat"),
        ("--", "model-"),
        ("été", "t"),
        ("qwen2", "qwen2"),
    ] {
        assert_eq!(package_name(name), expected.trim_end_matches('-'), "{name}");
    }
}

#[test]
fn paths_are_relative_to_the_yaml() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::create_dir_all(dir.path().join("c")).unwrap();
    let [root, b, c] = ["", "a/b", "c"].map(|p| dir.path().join(p));
    assert_eq!(relative(&b, &c), "../a/b");
    assert_eq!(relative(&b, &b), ".");
    assert_eq!(relative(&root, &b), "../..");
    assert_eq!(relative(&c.join("x.gguf"), &c), "x.gguf");
}

#[test]
fn a_folder_without_config_or_weights() {
    let dir = tempfile::tempdir().unwrap();
    assert!(run(dir.path()).unwrap_err()[0].message.contains("no config.json"));
    fs::write(dir.path().join("config.json"), config().to_string()).unwrap();
    assert!(run(dir.path()).unwrap_err()[0].message.contains("no weights"));
    for broken in ["", "[]", "{", "{\"model_type\": 3}"] {
        fs::write(dir.path().join("model.safetensors"), weights(&tensors(true))).unwrap();
        fs::write(dir.path().join("config.json"), broken).unwrap();
        assert_eq!(run(dir.path()).unwrap_err().len(), 1, "{broken}");
    }
}
