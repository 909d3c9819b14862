//! Fusion: one file per flag, one registry, one reason enum.
