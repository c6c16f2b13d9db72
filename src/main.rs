//! The `visplay` program: sets the allocator and runs the command line.

use std::process::ExitCode;

use visplay::huge_pages::HugePages;

#[global_allocator]
static ALLOCATOR: HugePages = HugePages;

fn main() -> ExitCode {
    visplay::cli::main()
}
