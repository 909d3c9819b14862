//! The runtime report.
