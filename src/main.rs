//! The `visplay` command.

use std::process::ExitCode;

use visplay::huge_pages::HugePages;

#[global_allocator]
static ALLOCATOR: HugePages = HugePages;

fn main() -> ExitCode {
    visplay::cli::main()
}
