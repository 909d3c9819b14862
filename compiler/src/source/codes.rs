//! The codes of diagnostics about weights: reading them (`CK06..`), importing (`CK07..`), packing (`CK08..`).

crate::codes::codes! {
    UNREADABLE "CK0601" "A file or folder cannot be read." "Look at the name and at the permissions.";
    GGUF "CK0602" "A file breaks a rule of GGUF." "Download or convert it again: it is cut or damaged.";
    SAFETENSORS "CK0603" "A file breaks a rule of safetensors, or an index does not fit its files." "Download it again: it is cut or damaged, or a shard is missing.";
    NO_TENSOR "CK0604" "A tensor that is asked for is not there." "Correct the name in the YAML; near names are listed.";
    STORED_TYPE "CK0605" "A tensor is stored in a type that cannot be read." "Convert the file to a type that can be: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K.";
    ROWS "CK0606" "A tensor has no such rows, or is not a vector." "Correct the shape in the YAML.";
    NO_DESCRIPTION "CK0701" "There is no model description to import, or it cannot be read." "Name a GGUF file, or a folder with a config.json.";
    ARCHITECTURE "CK0702" "The model's architecture is not supported." "Supported are llama and qwen2, dense.";
    MISSING_KEY "CK0703" "A key without a default is missing." "Add the key: what changes the result is not guessed.";
    BAD_VALUE "CK0704" "A key has a value that cannot be true of a model." "Correct the value.";
    UNSUPPORTED "CK0705" "A key asks for something that is not supported." "The message says what is.";
    TOKENIZER "CK0706" "A tokenizer is malformed, or does what the runtime cannot do." "Remove `tokenizer` from the YAML to go without: then only ids work.";
    MISSING "CK0801" "The model needs tensors that the weights file does not have." "Correct the names in the YAML, or the file.";
    UNUSED "CK0802" "The weights file has tensors that the model does not use." "Use them in the YAML, or name another file.";
    SHAPE "CK0803" "A tensor has another shape than the model says." "Correct the shape in the YAML.";
    CONVERSION "CK0804" "A tensor cannot be converted to the type asked for." "Ask for another `dtype`; K-quants pass through as they are.";
    BLOCKS "CK0805" "A tensor's rows are no whole number of blocks." "Ask for a type with smaller blocks.";
    FACTORS "CK0806" "Rotary factors are no numbers to divide by." "The file's `rope_freqs` are damaged: download it again.";
    UNWRITABLE "CK0810" "The packed file cannot be written." "Look at the folder's permissions and at the space that is left.";
}
