//! Lifetimes, aliasing, the arena planner, the lower bound; an independent verifier.
