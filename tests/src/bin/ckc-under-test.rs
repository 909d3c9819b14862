//! The `ckc` command as this package's tests find it: cargo tells a test where binaries of its own package are.

use std::process::ExitCode;

fn main() -> ExitCode {
    ckc::cli::main()
}
