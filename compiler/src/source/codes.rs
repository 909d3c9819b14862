//! The codes of diagnostics about weights: reading them (`CK06..`), importing (`CK07..`), packing (`CK08..`). One a kind
//! of problem, never reused.

/// A file or folder cannot be read.
pub const UNREADABLE: &str = "CK0601";
/// A file breaks a rule of GGUF.
pub const GGUF: &str = "CK0602";
/// A file breaks a rule of safetensors, or an index does not fit its files.
pub const SAFETENSORS: &str = "CK0603";
/// A tensor that is asked for is not there.
pub const NO_TENSOR: &str = "CK0604";
/// A tensor is stored in a type that cannot be read.
pub const STORED_TYPE: &str = "CK0605";
/// A tensor has no such rows, or is not a vector.
pub const ROWS: &str = "CK0606";

/// There is no model description to import, or it cannot be read.
pub const NO_DESCRIPTION: &str = "CK0701";
/// The model's architecture is not supported.
pub const ARCHITECTURE: &str = "CK0702";
/// A key without a default is missing.
pub const MISSING_KEY: &str = "CK0703";
/// A key has a value that cannot be true of a model.
pub const BAD_VALUE: &str = "CK0704";
/// A key asks for something that is not supported.
pub const UNSUPPORTED: &str = "CK0705";

/// The model needs tensors that the weights file does not have.
pub const MISSING: &str = "CK0801";
/// The weights file has tensors that the model does not use.
pub const UNUSED: &str = "CK0802";
/// A tensor has another shape than the model says.
pub const SHAPE: &str = "CK0803";
/// A tensor cannot be converted to the type asked for.
pub const CONVERSION: &str = "CK0804";
/// A tensor's rows are no whole number of blocks.
pub const BLOCKS: &str = "CK0805";
/// Rotary factors are no numbers to divide by.
pub const FACTORS: &str = "CK0806";
/// The packed file cannot be written.
pub const UNWRITABLE: &str = "CK0810";
