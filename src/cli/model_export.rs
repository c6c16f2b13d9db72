//! `visplay model export`: a checkpoint as a folder that transformers loads.

use std::path::PathBuf;

use clap::Args;

use super::error::CommandError;
use super::exit;
use super::model_inspect::ComputeType;
use super::ui::Ui;
use crate::vlm::config::Config;
use crate::vlm::export::{ExportOptions, export};
use crate::vlm::weights::Weights;

/// Write a checkpoint as a Hugging Face folder: flat config, published tensor names, safetensors.
///
/// Both config layouts and both tensor namings are read; the tokenizer's and processor's files are copied.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  visplay model export models/trained exported/\n  \
                        visplay model export models/trained exported/ --type bf16 --shard-size 2000000000")]
pub(super) struct ModelExportArgs {
    /// The checkpoint folder.
    dir: PathBuf,
    /// The folder to write; it must not exist.
    out: PathBuf,
    /// The number format to write [default: each tensor's own].
    #[arg(long = "type", value_enum)]
    stored: Option<ComputeType>,
    /// The most bytes of tensors in a file.
    #[arg(long, value_name = "BYTES", default_value_t = ExportOptions::default().shard_bytes)]
    shard_size: u64,
}

/// Runs `visplay model export`.
pub(super) fn cmd_model_export(args: &ModelExportArgs, ui: &Ui) -> Result<(), CommandError> {
    let config = Config::load(&args.dir).map_err(|e| CommandError::from_chain(exit::USAGE, &e))?;
    let weights = Weights::open(&args.dir, &config).map_err(|e| CommandError::from_chain(exit::USAGE, &e))?;
    let options = ExportOptions { dtype: args.stored.map(ComputeType::stored), shard_bytes: args.shard_size };
    let exported = export(&args.out, &config, &weights, Some(&args.dir), options)
        .map_err(|e| CommandError::from_chain(exit::FAILED, &e))?;
    if ui.json {
        return ui.result_json(&exported);
    }
    exported.files.iter().try_for_each(|file| ui.result(args.out.join(file).display().to_string()))
}
