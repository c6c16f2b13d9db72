//! The commands, one file each: parsing, printing and exit codes, and nothing else.

pub mod error;
pub mod exit;
pub mod schema;
pub mod ui;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::error::CommandError;
use self::ui::Ui;

/// Evolves a vision-language model from a folder of unlabelled images.
#[derive(Debug, Parser)]
#[command(name = "visplay", version, max_term_width = 110)]
struct Cli {
    /// Print results as JSON, for scripts.
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing but results and errors.
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Schema(schema::SchemaArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { exit::USAGE } else { exit::DONE });
        }
    };
    let ui = Ui { json: cli.json, quiet: cli.quiet };
    match run(&cli.command, &ui) {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(e) => {
            e.print();
            ExitCode::from(e.code)
        }
    }
}

fn run(command: &Command, ui: &Ui) -> Result<(), CommandError> {
    match command {
        Command::Schema(args) => schema::cmd_schema(args, ui),
    }
}
