//! The command line: arguments, printed output and exit codes, and nothing else.

mod args;
mod command_line;
mod commands;
mod duration;
mod error;
mod exit;
mod job;
mod model_source;
mod output;
mod session;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use self::commands::Command;
// What nearly every command needs is named here once, as `crate::cli::..`.
use self::error::{CommandError, Result};
use self::output::format;
use self::output::ui::Ui;
use crate::{candle_threads, panics};

/// Evolve a vision-language model from a folder of unlabelled images.
#[derive(Debug, Parser)]
#[command(
    name = "visplay",
    version,
    max_term_width = 100,
    after_help = "Exit codes:
  0    success
  1    failure
  2    invalid command line or input
  3    a gate stopped the round
  4    the store is damaged
  5    another process works on the round already
  6    the device of this node cannot be used
  7    a source of images has no usable image
  75   drained: the same command continues
  130  interrupted by Ctrl-C, SIGTERM or SIGHUP

Examples:
  visplay evolve-round 1 --images ~/photos --evolution mine
  visplay status
  visplay verify --full"
)]
struct Cli {
    /// Print results as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Print only results and errors.
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    candle_threads::limit();
    panics::silence_guarded();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) if e.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = e.print();
            return ExitCode::from(exit::USAGE);
        }
        Err(e) if e.use_stderr() => {
            let e = command_line::usage_error(&e);
            e.print();
            return ExitCode::from(e.code);
        }
        // Help and the version are results.
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(exit::DONE);
        }
    };
    let ui = Ui { json: cli.json, quiet: cli.quiet };
    match commands::run(&cli.command, &ui) {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(e) => {
            e.print();
            ExitCode::from(e.code)
        }
    }
}
