//! `visplay model`: looks at checkpoints and uses them on their own, outside an evolution.

use clap::{Args, Subcommand};

use super::error::CommandError;
use super::model_export::{ModelExportArgs, cmd_model_export};
use super::model_generate::{ModelGenerateArgs, cmd_model_generate};
use super::model_inspect::{ModelInspectArgs, cmd_model_inspect};
use super::model_random::{ModelRandomArgs, cmd_model_random};
use super::model_score::{ModelScoreArgs, cmd_model_score};
use super::ui::Ui;

/// Inspect, export and try model checkpoints.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
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

/// Runs a command of the group.
pub(super) fn cmd_model(args: &ModelArgs, ui: &Ui) -> Result<(), CommandError> {
    match &args.command {
        ModelCommand::Inspect(args) => cmd_model_inspect(args, ui),
        ModelCommand::Generate(args) => cmd_model_generate(args, ui),
        ModelCommand::Score(args) => cmd_model_score(args, ui),
        ModelCommand::Export(args) => cmd_model_export(args, ui),
        ModelCommand::Random(args) => cmd_model_random(args, ui),
    }
}
