//! `visplay model`: commands for checkpoints outside an evolution.

mod export;
mod generate;
mod inspect;
mod prompt;
mod random;
mod score;

use clap::{Args, Subcommand};

use self::export::{ModelExportArgs, cmd_model_export};
use self::generate::{ModelGenerateArgs, cmd_model_generate};
use self::inspect::{ModelInspectArgs, cmd_model_inspect};
use self::random::{ModelRandomArgs, cmd_model_random};
use self::score::{ModelScoreArgs, cmd_model_score};
use crate::cli::{Result, Ui};

/// Inspect, export and sample from model checkpoints.
#[derive(Debug, Args)]
pub struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    Inspect(ModelInspectArgs),
    Generate(ModelGenerateArgs),
    Score(ModelScoreArgs),
    Export(ModelExportArgs),
    Random(ModelRandomArgs),
}

/// Runs `visplay model`.
pub fn cmd_model(args: &ModelArgs, ui: &Ui) -> Result<()> {
    match &args.command {
        ModelCommand::Inspect(args) => cmd_model_inspect(args, ui),
        ModelCommand::Generate(args) => cmd_model_generate(args, ui),
        ModelCommand::Score(args) => cmd_model_score(args, ui),
        ModelCommand::Export(args) => cmd_model_export(args, ui),
        ModelCommand::Random(args) => cmd_model_random(args, ui),
    }
}
