//! The layout report: one set of types, three renderings, diff.
