//! `visplay model export`: writes a checkpoint that transformers can load.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use clap::Args;

use crate::cli::args::Dtype;
use crate::cli::{CommandError, Result, Ui};
use crate::training::adapter::{AdapterError, LoraAdapter};
use crate::vlm::config::Config;
use crate::vlm::export::{ExportOptions, export};
use crate::vlm::named_tensors::CheckpointTensors;
use crate::vlm::ops::Ops;
use crate::vlm::parameters::parameters;
use crate::vlm::safetensors_header::StoredType;
use crate::vlm::tensor_source::TensorSource;
use crate::vlm::weights::Weights;

/// Write a checkpoint as a Hugging Face folder: flat config, published tensor names, safetensors.
///
/// Reads both layouts of config.json and both tensor naming schemes, and copies the files of the
/// tokenizer and the processor. With --adapter, merges a LoRA adapter written by PEFT or by
/// `visplay warm-start --adapter-out` into the checkpoint.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  visplay model export models/trained exported/\n  \
                        visplay model export models/trained exported/ --dtype bf16 --shard-size 2000000000\n  \
                        visplay model export models/base merged/ --adapter models/adapter")]
pub struct ModelExportArgs {
    /// Folder of the checkpoint.
    dir: PathBuf,
    /// Folder to write; it must not exist.
    out: PathBuf,
    /// Folder of a LoRA adapter to merge into the weights.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Dtype of the written tensors [default: as stored in the checkpoint].
    #[arg(long, alias = "type", value_enum, value_name = "DTYPE")]
    dtype: Option<Dtype>,
    /// Maximum number of tensor bytes per file.
    #[arg(long, value_name = "BYTES", default_value_t = ExportOptions::default().shard_bytes)]
    shard_size: u64,
}

/// Runs `visplay model export`.
pub fn cmd_model_export(args: &ModelExportArgs, ui: &Ui) -> Result<()> {
    let config = Config::load(&args.dir).map_err(CommandError::from_input)?;
    let weights = Weights::open(&args.dir, &config).map_err(CommandError::from_input)?;
    let options = ExportOptions { dtype: args.dtype.map(Dtype::stored), shard_bytes: args.shard_size };
    let merged = args.adapter.as_ref().map(|adapter| merge(adapter, &config, &weights)).transpose()?;
    let source = merged.as_ref().map_or(&weights as &dyn TensorSource, |merged| merged);
    let exported = export(&args.out, &config, source, Some(&args.dir), options)?;
    if ui.json {
        return ui.result_json(&exported);
    }
    exported.files.iter().try_for_each(|file| ui.result(args.out.join(file).display().to_string()))
}

/// Returns the tensors with the adapter merged, in their dtypes of the checkpoint.
fn merge(adapter: &Path, config: &Config, weights: &Weights) -> Result<BTreeMap<String, Tensor>> {
    let source = CheckpointTensors { weights, dtype: DType::F32, device: &Device::Cpu, ops: Ops::Kernels };
    let mut merged =
        LoraAdapter::read(adapter, config).and_then(|a| a.merged(config, &source)).map_err(CommandError::from_input)?;
    for parameter in parameters(config) {
        let Some(tensor) = merged.get_mut(&parameter.name) else { continue };
        let stored = weights.raw(&parameter.name).map_err(CommandError::from_input)?.dtype;
        let dtype = match stored {
            StoredType::BF16 => DType::BF16,
            StoredType::F16 => DType::F16,
            _ => DType::F32,
        };
        *tensor = tensor.to_dtype(dtype).map_err(|e| CommandError::from_input(AdapterError::from(e)))?;
    }
    Ok(merged)
}
