//! A compiled program with its memory and workers.
