//! The checksum of packed files.
