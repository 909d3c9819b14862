//! `ckc`: from a model description to a Rust program and its memory plan.
//!
//! Modules in the order data flows.

pub mod cli;
pub mod diag;
pub mod emit;
pub mod fuse;
pub mod graph;
pub mod import;
pub mod model;
pub mod pack;
pub mod plan;
pub mod report;
pub mod schedule;
pub mod source;
pub mod tokenizer;
