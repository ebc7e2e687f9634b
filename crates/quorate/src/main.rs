//! The `quorate` executable.

use std::process::ExitCode;

fn main() -> ExitCode {
    quorate::cli::run()
}
