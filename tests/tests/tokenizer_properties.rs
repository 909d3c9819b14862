//! Properties of the tokenizer: agreement with Hugging Face's, round trips, work, and damaged tables.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ck_runtime::tokenizer::{Decoder, EncodeOptions, Scratch, Tokenizer};
use ckc::tokenizer::{from_hf, from_sentencepiece};
use proptest::prelude::*;
use serde_json::json;

const BYTE_LEVEL: [&str; 3] = ["bytelevel_gpt2", "bytelevel_llama3", "bytelevel_qwen2"];

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tokenizers").join(name)
}

/// Blobs of the byte-level tokenizers, each with the oracle's reading of the same file.
static TOKENIZERS: LazyLock<Vec<(&str, Vec<u8>, tokenizers::Tokenizer)>> = LazyLock::new(|| {
    let load = |name| {
        let oracle = tokenizers::Tokenizer::from_file(data(name).join("tokenizer.json")).unwrap();
        (name, from_hf(&data(name)).unwrap(), oracle)
    };
    BYTE_LEVEL.map(load).into()
});

static SENTENCEPIECE: LazyLock<Vec<u8>> =
    LazyLock::new(|| from_sentencepiece(&data("spm_bpe/tokenizer.model")).unwrap());

/// Stretches that meet in awkward ways: contractions, every kind of space, digits of other scripts, marks in and out of
/// order, Hangul in parts, joined emoji, control tokens and their beginnings.
const AWKWARD: [&str; 72] = [
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "\u{A0}",
    "\u{2003}",
    "\u{3000}",
    "\u{85}",
    "\u{200B}",
    "\u{2028}",
    "\r",
    "\u{B}",
    "'s",
    "'S",
    "'ſ",
    "'T",
    "'re",
    "'RE",
    "'vE",
    "'m",
    "'ll",
    "'LL",
    "'Ll",
    "'d",
    "'",
    "''",
    "’s",
    "ſ",
    "K",
    "a",
    "Word",
    "hello",
    "ROMEO",
    "1",
    "12",
    "1234",
    "٣٤",
    "५६७",
    "½",
    "Ⅷ",
    "²",
    "中",
    "文字",
    "нещо",
    "कि",
    "ก็",
    "é",
    "e\u{301}",
    "a\u{323}\u{307}",
    "a\u{307}\u{323}",
    "\u{301}",
    "\u{344}",
    "\u{1D160}",
    "ᄀ",
    "ᅡ",
    "ᆨ",
    "가",
    "각",
    "Å",
    "ﬁ",
    "ß",
    "😶\u{200D}🌫\u{FE0F}",
    "🦙",
    "\u{10FFFF}",
    "\u{E000}",
    "!",
    "...",
    "_",
    "<|endoftext|>",
    "<|im_start|>",
    "<|",
];

fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => prop::sample::select(&AWKWARD[..]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => "[ -~]{0,8}",
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Characters whose normalisation the oracle takes from an older version of Unicode: assigned after Unicode 12.
fn newer_than_the_oracle(text: &str) -> bool {
    use unicode_normalization::UnicodeNormalization;
    let normalized = tokenizers::NormalizedString::from(text);
    let mut old = normalized;
    old.nfc();
    old.get() != text.nfc().collect::<String>()
}

/// Failures are shown in full; no file of seeds is kept.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn ids_are_those_of_the_oracle(text in text(), add_special: bool) {
        for (name, blob, oracle) in TOKENIZERS.iter() {
            if *name == "bytelevel_qwen2" && newer_than_the_oracle(&text) {
                continue;
            }
            let tokenizer = Tokenizer::new(blob).unwrap();
            let options = EncodeOptions { add_special, parse_special: true };
            let expected = oracle.encode(text.as_str(), add_special).unwrap();
            prop_assert_eq!(tokenizer.encode_to_vec(&text, options).unwrap(), expected.get_ids(), "{}: {:?}", name, text);
            let decoded = oracle.decode(expected.get_ids(), true).unwrap();
            prop_assert_eq!(tokenizer.decode(expected.get_ids(), true).unwrap(), decoded);
        }
    }

    #[test]
    fn text_survives_a_round_trip(text in text(), parse_special: bool) {
        use unicode_normalization::UnicodeNormalization;
        let options = EncodeOptions { add_special: false, parse_special };
        for (name, blob, _) in TOKENIZERS.iter() {
            let tokenizer = Tokenizer::new(blob).unwrap();
            let ids = tokenizer.encode_to_vec(&text, options).unwrap();
            let expected = if *name == "bytelevel_qwen2" { text.nfc().collect() } else { text.clone() };
            prop_assert_eq!(tokenizer.decode(&ids, false).unwrap(), expected);
        }
        let tokenizer = Tokenizer::new(&SENTENCEPIECE).unwrap();
        let ids = tokenizer.encode_to_vec(&text, EncodeOptions::default()).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, false).unwrap(), text.replace('▁', " "));
    }

    /// Streaming gives the same text as decoding at once, valid at every step, for any ids.
    #[test]
    fn streaming_never_splits_a_character(ids in prop::collection::vec(0u32..1000, 0..40)) {
        for blob in TOKENIZERS.iter().map(|(_, blob, _)| blob).chain([&*SENTENCEPIECE]) {
            let tokenizer = Tokenizer::new(blob).unwrap();
            let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.token_bytes(id).unwrap()).copied().collect();
            let mut decoder = Decoder::continuing(false);
            let mut text = String::new();
            for &id in &ids {
                decoder.push(&tokenizer, id, &mut text).unwrap();
            }
            decoder.finish(&mut text);
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }

    /// A buffer that is too small is an error that says what is needed, and then it suffices.
    #[test]
    fn a_small_buffer_says_what_is_needed(text in text(), capacity in 0usize..8) {
        let (_, blob, _) = &TOKENIZERS[1];
        let tokenizer = Tokenizer::new(blob).unwrap();
        let options = EncodeOptions { add_special: true, parse_special: false };
        let expected = tokenizer.encode_to_vec(&text, options).unwrap();
        let mut buffer = vec![0; capacity];
        let result = tokenizer.encode(&text, options, &mut Scratch::default(), &mut buffer);
        if expected.len() <= capacity {
            prop_assert_eq!(result, Ok(expected.len()));
        } else {
            let error = result.unwrap_err().to_string();
            prop_assert!(error.contains(&format!("has {} tokens", expected.len())), "{}", error);
        }
        prop_assert!(expected.len() <= tokenizer.max_ids(text.len()));
    }
}

/// The oracle and this tokenizer on added tokens with every switch, which no recorded file has.
#[test]
fn added_tokens_match_the_oracle_with_every_switch() {
    let folder = tempfile::tempdir().unwrap();
    let base = std::fs::read(data("bytelevel_qwen2/tokenizer.json")).unwrap();
    for bits in 0..32u32 {
        let mut file: serde_json::Value = serde_json::from_slice(&base).unwrap();
        let on = |bit: u32| bits & (1 << bit) != 0;
        let token = |id: u32, content: &str| {
            json!({"id": id, "content": content, "single_word": on(0), "lstrip": on(1), "rstrip": on(2),
                   "normalized": on(3), "special": on(4)})
        };
        let added = file["added_tokens"].as_array_mut().unwrap();
        added.extend([
            token(1024, "<x>"),
            token(1025, "<x>y"),
            token(1026, "word"),
            token(1027, "cafe\u{301}"),
        ]);
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, file.to_string()).unwrap();
        let mut oracle = tokenizers::Tokenizer::from_file(&path).unwrap();
        let blob = from_hf(&path).unwrap();
        let tokenizer = Tokenizer::new(&blob).unwrap();
        for text in [
            "<x>",
            "a<x>b",
            "a <x> b",
            "  <x>\n\n<x>  ",
            "<x>y<x>",
            "words word, sword word_ word",
            "café cafe\u{301} x",
            "<x><x> <x>",
            "\u{3000}<x>\u{A0}",
            "<<x>>",
            "<x",
        ] {
            for parse_special in [true, false] {
                oracle.set_encode_special_tokens(!parse_special);
                let expected = oracle.encode(text, false).unwrap();
                let options = EncodeOptions {
                    add_special: false,
                    parse_special,
                };
                let found = tokenizer.encode_to_vec(text, options).unwrap();
                assert_eq!(
                    found,
                    expected.get_ids(),
                    "{text:?}, switches {bits:05b}, specials {parse_special}"
                );
            }
        }
    }
}

/// Work is counted, not timed: n log n candidates at most, where a quadratic loop would need a million times a million.
#[test]
fn one_repeated_character_takes_linear_work() {
    const LEN: usize = 1 << 20;
    for c in ["a", " ", "\n", "'", "<", "é", "\u{301}"] {
        let text = c.repeat(LEN / c.len());
        for blob in TOKENIZERS.iter().map(|(_, blob, _)| blob).chain([&*SENTENCEPIECE]) {
            let tokenizer = Tokenizer::new(blob).unwrap();
            let mut scratch = Scratch::default();
            let mut ids = vec![0; tokenizer.max_ids(text.len())];
            let len = tokenizer
                .encode(&text, EncodeOptions::default(), &mut scratch, &mut ids)
                .unwrap();
            assert!(
                scratch.merge_steps() <= 2 * (3 * LEN as u64),
                "{c:?}: {} steps",
                scratch.merge_steps()
            );
            assert_eq!(tokenizer.decode(&ids[..len], false).unwrap(), text);
        }
    }
}

/// Everything a caller can do with a tokenizer.
fn exercise(blob: &[u8]) {
    let Ok(tokenizer) = Tokenizer::new(blob) else { return };
    let mut decoder = Decoder::new(true);
    let mut text = String::new();
    for (parse_special, add_special) in [(true, true), (false, false)] {
        let options = EncodeOptions {
            add_special,
            parse_special,
        };
        let sample = "Hello's <|endoftext|> <s>1234  \r\n e\u{301}\u{323} 각 中 \u{1D160}🦙";
        for id in tokenizer.encode_to_vec(sample, options).unwrap_or_default() {
            decoder.push(&tokenizer, id, &mut text).unwrap();
        }
    }
    decoder.finish(&mut text);
    let ids = tokenizer.eos_ids().chain(tokenizer.bos()).chain(tokenizer.unk());
    assert!(ids.into_iter().all(|id| tokenizer.token_bytes(id).is_ok()));
    assert!(tokenizer.token_bytes(tokenizer.vocab_len() as u32).is_err());
    _ = tokenizer.special_id("<|endoftext|>");
}

#[test]
fn every_prefix_of_a_blob_is_refused() {
    for blob in [&TOKENIZERS[2].1, &*SENTENCEPIECE] {
        for len in 0..blob.len() {
            assert!(Tokenizer::new(&blob[..len]).is_err(), "{len} of {} bytes", blob.len());
        }
    }
}

proptest! {
    #![proptest_config(cases(3000))]

    #[test]
    fn flipped_bytes_do_no_harm(
        which in 0usize..4,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..12),
    ) {
        let mut blob = TOKENIZERS.get(which).map_or(&*SENTENCEPIECE, |(_, blob, _)| blob).clone();
        let headers = 256.min(blob.len());
        for (index, value, in_header) in flips {
            let len = if in_header { headers } else { blob.len() };
            blob[index.index(len)] = value;
        }
        exercise(&blob);
    }
}

/// What is not supported is refused by name, with what is.
#[test]
fn unsupported_files_are_refused_with_a_reason() {
    let base = std::fs::read(data("bytelevel_llama3/tokenizer.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    type Change = fn(&mut serde_json::Value);
    let cases: [(&str, Change); 9] = [
        ("model.type: Unigram is not supported (supported: BPE", |file| {
            file["model"]["type"] = json!("Unigram");
        }),
        ("pre_tokenizer.pretokenizers[0]: not supported", |file| {
            file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!(r"\w+|\W+");
        }),
        ("normalizer: not supported: {\"type\":\"Lowercase\"}", |file| {
            file["normalizer"] = json!({"type": "Lowercase"});
        }),
        ("post_processor: not supported", |file| {
            file["post_processor"] = json!({"type": "Other"});
        }),
        ("decoder: not supported", |file| {
            file["decoder"] = json!({"type": "WordPiece"});
        }),
        ("model.merges[0]: \"no\" and \"such\"", |file| {
            file["model"]["merges"][0] = json!(["no", "such"]);
        }),
        ("model.dropout: not supported here", |file| {
            file["model"]["dropout"] = json!(0.5);
        }),
        ("no token for the byte(s) 0x41", |file| {
            _ = file["model"]["vocab"].as_object_mut().unwrap().shift_remove("A");
            file["model"]["merges"] = json!([]);
        }),
        ("the largest id is 4294967295", |file| {
            file["model"]["vocab"]["zzz"] = json!(u32::MAX);
        }),
    ];
    for (expected, change) in cases {
        let mut file: serde_json::Value = serde_json::from_slice(&base).unwrap();
        change(&mut file);
        std::fs::write(&path, file.to_string()).unwrap();
        let problems = from_hf(&path).unwrap_err();
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(
            texts.iter().any(|text| text.contains(expected)),
            "{expected}: {texts:?}"
        );
    }
    for len in (0..base.len()).step_by(997) {
        std::fs::write(&path, &base[..len]).unwrap();
        assert!(from_hf(&path).is_err());
    }
}

/// Both spellings of merges, and the order of keys, are the same tokenizer.
#[test]
fn the_blob_depends_on_the_meaning_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    for (name, blob, _) in TOKENIZERS.iter() {
        let mut file: serde_json::Value =
            serde_json::from_slice(&std::fs::read(data(name).join("tokenizer.json")).unwrap()).unwrap();
        for merge in file["model"]["merges"].as_array_mut().unwrap() {
            *merge = json!(format!("{} {}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap()));
        }
        file["model"]["vocab"].as_object_mut().unwrap().sort_keys();
        std::fs::write(&path, file.to_string()).unwrap();
        assert_eq!(from_hf(&path).unwrap(), *blob, "{name}");
    }
}
