//! Weights to the packed file.
