//! The codes of diagnostics about layout reports (`CK10..`): one a rule, never reused.

/// The file cannot be read, is too large, or is not JSON of a report's shape.
pub const UNREADABLE: &str = "CK0907";
/// A report of another version.
pub const SCHEMA: &str = "CK1001";
/// A name that stands for two things, or for nothing.
pub const NAMES: &str = "CK1002";
