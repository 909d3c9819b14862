//! Static memory planning: lifetimes in, byte offsets out, with a lower bound to judge them by.
//!
//! This module knows buffers, time and bytes. It does not know models, tensors, steps or kernels: a caller turns
//! whatever it has into a [`Problem`], calls [`solve()`], and hands the [`Solution`] to [`verify()`], which shares no code
//! with the planner.
//!
//! ```text
//! Problem ── region ──> one problem a region ── ticks ──> lifetimes alone say who conflicts
//!                                                │
//!                 rigid items <───── alias ──────┘
//!                      ├──────────── bound ──> lower bound
//!                      ├──────────── greedy ─> portfolio of layouts, best one kept, stop at the bound
//!                      └──────────── exact ──> search below the best one, within a budget of placements
//! ```
//!
//! Everything is a function of the problem alone: no clock, no hash order, no thread count. Work is counted in
//! rectangles looked at and in placements, never in time.

mod alias;
mod bound;
mod check;
mod error;
mod exact;
pub mod budget;
pub mod csv;
mod greedy;
mod item;
mod lifetime;
mod load;
mod merge;
mod problem;
mod region;
mod rehome;
mod settle;
mod solution;
mod solve;
mod ticks;
pub mod verify;

pub use error::PlanError;
pub use problem::{Alias, Buffer, Choice, Problem, Region};
pub use rehome::rehome;
pub use settle::settle;
pub use solution::{Candidate, Live, RegionPlan, Shortage, Solution, Status};
pub use solve::{Options, bound, solve, solve_with};
pub use verify::{Violation, verify};

#[cfg(test)]
mod tests;
