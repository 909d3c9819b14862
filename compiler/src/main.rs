//! The `ckc` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ckc::cli::main()
}
