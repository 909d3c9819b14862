//! Encoding allocates nothing once its scratch is there; a counting allocator is the judge.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use ck_runtime::tokenizer::{Decoder, EncodeOptions, Scratch, Tokenizer};
use ckc::tokenizer::{from_hf, from_sentencepiece};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a constant-initialised thread-local only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATIONS.get();
    let result = run();
    (result, ALLOCATIONS.get() - before)
}

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
                    allocations(|| tokenizer.encode(text, options, &mut scratch, &mut ids).unwrap());
                assert_eq!(allocated, 0, "encoding {:?}...", &text[..text.floor_char_boundary(12)]);
                let mut decoded = String::with_capacity(4 * len);
                let mut decoder = Decoder::new(false);
                let ((), allocated) = allocations(|| {
                    for &id in &ids[..count] {
                        decoder.push(&tokenizer, id, &mut decoded).unwrap();
                    }
                    decoder.finish(&mut decoded);
                });
                assert_eq!(allocated, 0, "decoding");
            }
        }
        let (_, allocated) = allocations(|| Tokenizer::new(blob).unwrap());
        assert_eq!(allocated, 0, "opening");
    }
}
