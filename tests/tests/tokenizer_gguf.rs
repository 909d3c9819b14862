//! Vocabularies of GGUF files that do not fit together.

use ck_runtime::tokenizer::{EncodeOptions, Tokenizer};
use ckc::tokenizer::{GgufVocab, from_gguf};

/// The 256 bytes in GPT-2's alphabet, then `ab`, `abc`, and no `abcd`.
fn vocab() -> GgufVocab {
    let printable = |byte: &u32| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let bytes = (0..256).filter(printable).chain(0x100..0x100 + 68);
    let mut tokens: Vec<Vec<u8>> = bytes
        .map(|code| char::from_u32(code).unwrap().to_string().into_bytes())
        .collect();
    tokens.extend(["ab", "abc"].map(|text| text.as_bytes().to_vec()));
    GgufVocab {
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens,
        merges: ["a b", "ab c", "abc d"].map(str::to_owned).to_vec(),
        bos: Some(300),
        eos: Some(300),
        ..GgufVocab::default()
    }
}

/// A vocabulary cut to its first tokens keeps working; what it lost is said.
#[test]
fn a_cut_vocabulary_leaves_out_what_names_lost_tokens() {
    let tables = from_gguf(&vocab()).unwrap();
    let left_out: Vec<String> = tables.left_out.iter().map(ToString::to_string).collect();
    assert_eq!(
        left_out,
        [
            "tokenizer.ggml.bos_token_id: left out: it is 300, and the vocabulary has 258 tokens",
            "tokenizer.ggml.eos_token_id: left out: it is 300, and the vocabulary has 258 tokens",
            "tokenizer.ggml.merges: left out: 1 of 3 merges, the first is 2, \"abc d\": \
             not two tokens whose concatenation is a token",
        ]
    );
    let tokenizer = Tokenizer::new(&tables.blob).unwrap();
    let ids = tokenizer.encode_to_vec("abcd", EncodeOptions::default()).unwrap();
    assert_eq!(tokenizer.decode(&ids, false).unwrap(), "abcd");
    assert_eq!((ids.len(), ids[0]), (2, 257));
}

#[test]
fn merges_that_are_not_merges_are_errors() {
    let refused = |merges: [&str; 3]| {
        let vocab = GgufVocab {
            merges: merges.map(str::to_owned).to_vec(),
            ..vocab()
        };
        from_gguf(&vocab).unwrap_err()[0].to_string()
    };
    assert!(refused(["a b", "abc", "ab c"]).contains("merge 1, \"abc\", is not two tokens with a space between"));
    assert!(refused(["x y", "y z", "z x"]).contains("left out: 3 of 3 merges"));
}
