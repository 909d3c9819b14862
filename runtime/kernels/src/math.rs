//! The scalar functions `core` does not have.
