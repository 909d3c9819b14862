//! Shared helpers of the tests: golden data, comparison, graphs built by hand.

mod builder;
mod compare;
mod counting;
mod gguf;
mod k_quants;
mod llama;
mod random;
mod session;
mod shape;
mod shared;
mod shipped;
mod tensors;

pub use builder::Builder;
pub use compare::{Difference, assert_close, assert_same_bits, relative};
pub use counting::Counting;
pub use gguf::{Gguf, GgufValue, small_llama, small_model};
pub use k_quants::k_quants;
pub use llama::{Form, LlamaConfig, llama_graph};
pub use random::{Random, random_weights};
pub use session::{Case, How, Session};
pub use shape::Shape;
pub use shared::shared;
pub use shipped::{pack_shipped, shipped};
pub use tensors::{Array, Stored, Tensors};
