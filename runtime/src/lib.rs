//! What a runner stands on: it owns memory, threads, barriers and reports; kernels do the math.

pub mod error;
pub mod hash;
pub mod arena;
pub mod weights;
pub mod pool;
pub mod tokenizer;
pub mod sample;
pub mod runner;
pub mod report;
pub mod cli;

pub use ck_kernels as kernels;
