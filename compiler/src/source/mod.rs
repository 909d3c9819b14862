//! Weights where they come from: GGUF and safetensors files, read tensor by tensor. Untrusted input.
