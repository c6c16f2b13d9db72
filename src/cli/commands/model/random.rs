//! `visplay model random`: writes a checkpoint with random weights, for benchmarks and tests.

use std::path::PathBuf;

use clap::Args;

use crate::cli::args::Dtype;
use crate::cli::{CommandError, Result, Ui};
use crate::random::Seed;
use crate::vlm::config::Config;
use crate::vlm::export::{ExportOptions, export};
use crate::vlm::tensor_source::RandomTensors;
use crate::vlm::tokenizer::Tokenizer;

/// Write a checkpoint with random weights for a configuration.
#[derive(Debug, Args)]
#[command(hide = true)]
#[command(after_help = "Examples:\n  visplay model random --config tests/data/configs/qwen2.5-vl-3b.json --seed 1 \
                        --files-from data/nano random-3b")]
pub struct ModelRandomArgs {
    /// Configuration file of the model.
    #[arg(long)]
    config: PathBuf,
    /// Seed of the weights.
    #[arg(long, default_value_t = Seed(0))]
    seed: Seed,
    /// Dtype of the written tensors.
    #[arg(long, alias = "type", value_enum, value_name = "DTYPE", default_value_t = Dtype::Bf16)]
    dtype: Dtype,
    /// Checkpoint whose tokenizer and processor files are copied; its special token ids replace
    /// those of the configuration.
    #[arg(long)]
    files_from: Option<PathBuf>,
    /// Folder to write; it must not exist.
    out: PathBuf,
}

/// Runs `visplay model random`.
pub fn cmd_model_random(args: &ModelRandomArgs, ui: &Ui) -> Result<()> {
    let mut config = Config::load_file(&args.config).map_err(CommandError::from_input)?;
    if let Some(folder) = &args.files_from {
        let tokenizer = Tokenizer::load_unchecked(folder).map_err(CommandError::from_input)?;
        config.tokens = tokenizer.vision_tokens();
        let end = tokenizer.special().im_end;
        config.preserved_keys.insert("eos_token_id".to_owned(), end.into());
    }
    let dtype = args.dtype.stored();
    let source = RandomTensors { seed: args.seed, dtype, deviation: config.text.initializer_range };
    let exported = export(&args.out, &config, &source, args.files_from.as_deref(), ExportOptions::default())?;
    ui.say(format!("{} bytes of weights in {}", exported.tensor_bytes, args.out.display()));
    Ok(())
}
