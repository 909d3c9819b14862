//! `ckc`: from a model description to a Rust program and its memory plan.
//!
//! Modules in the order data flows.

pub mod diag;
pub mod model;
pub mod source;
pub mod import;
pub mod tokenizer;
pub mod graph;
pub mod fuse;
pub mod schedule;
pub mod plan;
pub mod pack;
pub mod emit;
pub mod report;
pub mod cli;
