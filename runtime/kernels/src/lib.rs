//! Math on borrowed memory, and nothing else.
//!
//! This crate is `no_std` without `alloc`: a kernel that wants to allocate, lock or spawn does not compile.
//! Data flows through it top to bottom:
//!
//! - [`dtype`]: element types and their block geometry,
//! - [`quant`]: one file per weight format: decode, encode, pack,
//! - [`partition`]: which worker does what,
//! - [`math`]: the scalar functions `core` does not have,
//! - [`isa`]: primitives, once per instruction set, chosen once at start,
//! - [`ops`]: kernels over those primitives, one file each: what a step of an emitted program calls.
#![no_std]

pub mod dtype;
pub mod isa;
pub mod math;
pub mod ops;
pub mod partition;
pub mod quant;
