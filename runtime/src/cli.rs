//! The command line of every runner.
