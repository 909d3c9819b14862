//! Text to ids and back through tables made at compile time.
