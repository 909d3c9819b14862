//! What a runner stands on: it owns memory, threads, barriers and reports; kernels do the math.
//!
//! - [`layout`]: what an emitted program says about itself; [`program`]: what it is made of,
//! - [`weights`], [`arena`], [`pool`]: its file, its memory, its threads,
//! - [`machine`]: the three put together; [`runner`]: that with a program,
//! - [`tokenizer`], [`sample`]: text in, text out,
//! - [`report`], [`cli`]: what the machine did, and the command line,
//! - [`mod@bench`], [`profile`]: what the machine can do, how near the kernels come, and where a program's time goes,
//! - [`debug`]: what a program compiled for debugging checks about itself.

pub mod arena;
pub mod bench;
pub mod cli;
pub mod debug;
pub mod error;
pub mod hash;
mod json;
pub mod layout;
pub mod machine;
pub mod pool;
pub mod profile;
pub mod program;
pub mod report;
pub mod runner;
pub mod sample;
pub mod tokenizer;
pub mod weights;

pub use ck_kernels as kernels;
pub use error::Error;
pub use layout::{Layout, Segment, StepInfo};
pub use machine::Machine;
pub use program::{Lines, Program, Worker};
pub use report::Report;
pub use runner::{Config, Runner};
