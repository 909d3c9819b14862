//! The IR: ops, tensors, shapes; verifier, text dump, reference interpreter.
