//! `ckc`: from a model description to a Rust program and its memory plan.
//!
//! Modules in the order data flows; [`compile`] joins them.

pub mod cli;
pub mod compile;

pub mod model;
pub mod source;
pub mod import;
pub mod tokenizer;
pub mod graph;
pub mod fuse;
pub mod costs;
pub mod schedule;
pub mod plan;
pub mod layout;
pub mod pack;
pub mod emit;
pub mod report;
pub mod explain;
pub mod shortage;
pub mod sweep;
pub mod verify;
pub mod bench;

pub mod codes;
pub mod diag;
mod glob;
pub mod output;
