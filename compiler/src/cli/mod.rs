//! Arguments in, exit codes out; no logic.
