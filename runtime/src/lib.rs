//! What a runner stands on: it owns memory, threads, barriers and reports; kernels do the math.

pub mod arena;
pub mod cli;
pub mod error;
pub mod hash;
pub mod pool;
pub mod report;
pub mod runner;
pub mod sample;
pub mod tokenizer;
pub mod weights;

pub use ck_kernels as kernels;
