//! The graph verifier: runs after every pass.
