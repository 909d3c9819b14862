//! One reservation, one base pointer.
