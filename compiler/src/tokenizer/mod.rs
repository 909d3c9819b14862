//! tokenizer.json and GGUF vocabularies to the runtime's flat tables.
