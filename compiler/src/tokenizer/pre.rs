//! Which pre-tokenizer: by the exact regular expression or by GGUF's name for it.

use ck_runtime::tokenizer::format::PreTokenizer;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Regular expressions of `Split` pre-tokenizers.
pub(super) const PATTERNS: [(&str, PreTokenizer); 3] = [
    (GPT2, PreTokenizer::Gpt2),
    (LLAMA3, PreTokenizer::Llama3),
    (QWEN2, PreTokenizer::Qwen2),
];

/// What a name in `tokenizer.ggml.pre` stands for: llama.cpp keeps these properties in its source, not in the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct GgufPre {
    pub name: &'static str,
    pub pre_tokenizer: PreTokenizer,
    /// The model's own tokenizer normalises to NFC. llama.cpp does not; the ids then differ from those of the training.
    pub nfc: bool,
    pub ignore_merges: bool,
    /// BOS goes before a text when `add_bos_token` does not say.
    pub add_bos: bool,
}

/// The names that are supported.
pub(super) const GGUF_PRE: [GgufPre; 10] = [
    gguf("gpt-2", PreTokenizer::Gpt2, false, false),
    gguf("phi-2", PreTokenizer::Gpt2, false, false),
    gguf("llama-bpe", PreTokenizer::Llama3, false, true),
    gguf("llama3", PreTokenizer::Llama3, false, true),
    gguf("llama-v3", PreTokenizer::Llama3, false, true),
    gguf("qwen2", PreTokenizer::Qwen2, true, false),
    gguf("deepseek-r1-qwen", PreTokenizer::Qwen2, true, false),
    gguf("smollm", PreTokenizer::DigitsGpt2, false, false),
    gguf("starcoder", PreTokenizer::DigitsGpt2, false, false),
    gguf("refact", PreTokenizer::DigitsGpt2, false, false),
];

const fn gguf(name: &'static str, pre_tokenizer: PreTokenizer, nfc: bool, llama3: bool) -> GgufPre {
    GgufPre {
        name,
        pre_tokenizer,
        nfc,
        ignore_merges: llama3,
        add_bos: llama3,
    }
}

/// Names for a message.
pub(super) fn gguf_names() -> String {
    GGUF_PRE.map(|pre| pre.name).join(", ")
}
