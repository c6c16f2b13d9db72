//! The `visplay` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    visplay::cli::main()
}
