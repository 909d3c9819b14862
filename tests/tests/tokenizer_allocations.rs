//! Encoding allocates nothing once its scratch is there; a counting allocator is the judge.

use std::path::Path;

use ck_runtime::tokenizer::{Decoder, EncodeOptions, Scratch, Tokenizer};
use ck_tests::Counting;
use ckc::tokenizer::{from_hf, from_sentencepiece};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn encoding_and_decoding_allocate_nothing() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/tokenizers");
    let mut blobs: Vec<Vec<u8>> = ["bytelevel_gpt2", "bytelevel_llama3", "bytelevel_qwen2"]
        .iter()
        .map(|name| from_hf(&data.join(name)).unwrap())
        .collect();
    blobs.push(from_sentencepiece(&data.join("spm_bpe/tokenizer.model")).unwrap());

    // One word of one letter, marks that sort, text that grows threefold under NFC, spaces that escape, and plain text.
    let len = 60_000;
    let texts = [
        "a",
        "\u{301}\u{323}",
        "\u{1D160}",
        " ",
        "It's 12345 words,\r\n  and <|endoftext|> more. ",
    ]
    .map(|part| part.repeat(len / part.len()));
    for blob in &blobs {
        let tokenizer = Tokenizer::new(blob).unwrap();
        let mut ids = vec![0; tokenizer.max_ids(len)];
        for text in &texts {
            let mut scratch = Scratch::with_capacity(text.len());
            for parse_special in [true, false] {
                let options = EncodeOptions {
                    add_special: true,
                    parse_special,
                };
                let (count, allocated) =
                    Counting::calls(|| tokenizer.encode(text, options, &mut scratch, &mut ids).unwrap());
                assert_eq!(allocated, 0, "encoding {:?}...", &text[..text.floor_char_boundary(12)]);
                let mut decoded = String::with_capacity(4 * len);
                let mut decoder = Decoder::new(false);
                let ((), allocated) = Counting::calls(|| {
                    for &id in &ids[..count] {
                        decoder.push(&tokenizer, id, &mut decoded).unwrap();
                    }
                    decoder.finish(&mut decoded);
                });
                assert_eq!(allocated, 0, "decoding");
            }
        }
        let (_, allocated) = Counting::calls(|| Tokenizer::new(blob).unwrap());
        assert_eq!(allocated, 0, "opening");
    }
}
