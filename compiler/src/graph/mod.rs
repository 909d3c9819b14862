//! The IR: ops over named tensors, with the verifier, the text dump and the reference interpreter.
//!
//! One [`Graph`] describes a model for any number of tokens. Passes rewrite it; [`verify`] runs after each of them.

pub mod dump;
pub mod interpret;
mod signature;
mod types;
pub mod verify;

pub use signature::*;
pub use types::*;
