//! `ckc verify`: the fused program against the interpreter, step by step.
