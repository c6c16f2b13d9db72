//! `visplay model`: commands for checkpoints outside an evolution.

mod export;
mod generate;
mod inspect;
mod prompt;
mod random;
mod score;

use clap::{Args, Subcommand};

use crate::cli::{Result, Ui};

/// Inspect, export and sample from model checkpoints.
#[derive(Debug, Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    command: Command,
}

commands! {
    Inspect(inspect::ModelInspectArgs) => inspect::cmd_model_inspect,
    Generate(generate::ModelGenerateArgs) => generate::cmd_model_generate,
    Score(score::ModelScoreArgs) => score::cmd_model_score,
    Export(export::ModelExportArgs) => export::cmd_model_export,
    Random(random::ModelRandomArgs) => random::cmd_model_random,
}

/// Runs `visplay model`.
pub fn cmd_model(args: &ModelArgs, ui: &Ui) -> Result<()> {
    run(&args.command, ui)
}
