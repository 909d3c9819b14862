//! Small files made by hand; the fuzzing of both formats is in `tests/untrusted.rs`.
