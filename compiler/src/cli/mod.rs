//! Arguments in, exit codes out; no logic.

mod args;
mod run;

use std::process::ExitCode;

use clap::Parser;

/// Exit code: the input is wrong.
pub const WRONG_INPUT: u8 = 1;
/// Exit code: the command line is wrong.
pub const USAGE: u8 = 2;
/// Exit code: a budget is exceeded.
pub const OVER_BUDGET: u8 = 3;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let args = args::Args::parse();
    if let Err(e) = crate::output::clean_up_on_interrupt() {
        eprintln!("warning: an interruption will leave unfinished files behind: {e}");
    }
    ExitCode::from(run::run(&args))
}
