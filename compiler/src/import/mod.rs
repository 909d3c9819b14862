//! GGUF files and Hugging Face folders to YAML.
