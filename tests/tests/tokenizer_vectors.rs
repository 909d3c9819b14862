//! Recorded encodings: every text of every recorded tokenizer gives the recorded ids, and back.

use std::fs::File;
use std::path::Path;

use ck_runtime::tokenizer::{EncodeOptions, Tokenizer};
use ck_tests::shared;
use ckc::source::gguf;
use ckc::tokenizer::{GgufVocab, from_gguf, from_hf, from_sentencepiece};
use serde_json::Value;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/tokenizers");

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u32)
        .collect()
}

/// Texts with their ids and what these decode to, as the original wrote them down.
fn check_recorded(name: &str, blob: &[u8], options: EncodeOptions, skip_special: bool) {
    let tokenizer = Tokenizer::new(blob).unwrap();
    let cases = json(&Path::new(DATA).join(name).join("encodings.json"));
    let cases = cases.as_array().unwrap();
    assert!(cases.len() > 50);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let found = tokenizer.encode_to_vec(text, options).unwrap();
        assert_eq!(found, ids(&case["ids"]), "{name}: {text:?}");
        assert_eq!(
            tokenizer.decode(&found, skip_special).unwrap(),
            case["decoded"].as_str().unwrap(),
            "{name}: {text:?}"
        );
    }
}

#[test]
fn byte_level_tokenizers_match_their_records() {
    let options = EncodeOptions {
        add_special: true,
        parse_special: true,
    };
    for (name, skip_special) in [
        ("bytelevel_gpt2", false),
        ("bytelevel_llama3", true),
        ("bytelevel_qwen2", false),
    ] {
        check_recorded(
            name,
            &from_hf(&Path::new(DATA).join(name)).unwrap(),
            options,
            skip_special,
        );
    }
}

#[test]
fn sentencepiece_matches_its_record() {
    let blob = from_sentencepiece(&Path::new(DATA).join("spm_bpe/tokenizer.model")).unwrap();
    check_recorded("spm_bpe", &blob, EncodeOptions::default(), false);
    let tokenizer = Tokenizer::new(&blob).unwrap();
    assert_eq!(tokenizer.bos(), Some(1));
    assert_eq!(tokenizer.eos_ids().collect::<Vec<_>>(), [2]);
    let with_bos = tokenizer
        .encode_to_vec(
            "",
            EncodeOptions {
                add_special: true,
                parse_special: false,
            },
        )
        .unwrap();
    assert_eq!(with_bos, [1]);
}

#[test]
fn the_prompt_of_the_shipped_model_matches() {
    let Some(folder) = shared("demo-model") else { return };
    let golden = json(&folder.join("golden.json"));
    let blob = from_hf(&folder).unwrap();
    let tokenizer = Tokenizer::new(&blob).unwrap();
    let expected = ids(&golden["input_ids"]);
    assert_eq!(tokenizer.bos().map(u64::from), golden["bos"].as_u64());
    let prompt = golden["prompt"].as_str().unwrap();
    assert_eq!(
        tokenizer
            .encode_to_vec(
                prompt,
                EncodeOptions {
                    add_special: true,
                    ..EncodeOptions::default()
                }
            )
            .unwrap(),
        expected
    );
    let greedy = tokenizer.decode(&ids(&golden["greedy_ids"]), true).unwrap();
    assert_eq!(greedy, golden["greedy_text"].as_str().unwrap());
    assert!(tokenizer.is_eos(1));
}

fn gguf_blob(path: &Path) -> Vec<u8> {
    let file = File::open(path).unwrap();
    let len = file.metadata().unwrap().len();
    let header = gguf::read(std::io::BufReader::new(file), len).unwrap();
    from_gguf(&GgufVocab::from_metadata(&header.metadata).unwrap().unwrap())
        .unwrap()
        .blob
}

#[test]
fn real_vocabularies_match_llama_cpp() {
    for name in ["gpt-2", "llama-bpe", "llama-spm", "qwen2"] {
        let Some(path) = shared(&format!("tokenizers/ggml-vocab-{name}.gguf")) else {
            continue;
        };
        let blob = gguf_blob(&path);
        let tokenizer = Tokenizer::new(&blob).unwrap();
        let with = |extension: &str| std::fs::read_to_string(path.with_extension(extension)).unwrap();
        let (texts, expected) = (with("gguf.inp"), with("gguf.out"));
        let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
        let expected: Vec<&str> = expected.lines().collect();
        assert!(expected.len() > 40);
        for (text, line) in texts.iter().zip(&expected) {
            let ids: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            assert_eq!(
                tokenizer.encode_to_vec(text, EncodeOptions::default()).unwrap(),
                ids,
                "{name}: {text:?}"
            );
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), *text, "{name}");
        }
    }
}
