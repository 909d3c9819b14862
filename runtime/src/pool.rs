//! Persistent workers, one wake per entry, a barrier.
