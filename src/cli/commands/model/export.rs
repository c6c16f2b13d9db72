//! `visplay model export`: writes a checkpoint that transformers can load.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use clap::Args;

use crate::cli::args::{Dtype, StoreArgs};
use crate::cli::model_source::ModelSource;
use crate::cli::{CommandError, Result, Ui};
use crate::store::VerifyDepth;
use crate::training::adapter::{AdapterError, LoraAdapter};
use crate::vlm::config::Config;
use crate::vlm::export::{ExportError, ExportOptions, export_with, has_chat_template};
use crate::vlm::named_tensors::CheckpointTensors;
use crate::vlm::ops::Ops;
use crate::vlm::parameters::parameters;
use crate::vlm::safetensors_header::StoredType;
use crate::vlm::tensor_source::TensorSource;
use crate::vlm::weights::Weights;

/// Write a checkpoint as a Hugging Face folder: flat config, published tensor names, safetensors.
///
/// The checkpoint is a folder, or a model in the store, such as a trained Reasoner. Reads both
/// layouts of config.json and both tensor naming schemes, and copies the files of the tokenizer,
/// the chat template and the processor. With --adapter, merges a LoRA adapter written by PEFT or by
/// `visplay warm-start --adapter-out` into the checkpoint.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  visplay model export nano/round-0003/reasoner exported/\n  \
                        visplay model export models/trained exported/\n  \
                        visplay model export models/trained exported/ --dtype bf16 --shard-size 2000000000\n  \
                        visplay model export models/base merged/ --adapter models/adapter")]
pub struct ModelExportArgs {
    /// Folder of a checkpoint, or the ref of a model in the store.
    #[arg(value_name = "DIR|REF")]
    model: PathBuf,
    /// Folder to write; it must not exist.
    out: PathBuf,
    /// Folder of a LoRA adapter to merge into the weights.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// Folder of the base model, for files that the store does not have.
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Dtype of the written tensors [default: as stored in the checkpoint].
    #[arg(long, alias = "type", value_enum, value_name = "DTYPE")]
    dtype: Option<Dtype>,
    /// Maximum number of tensor bytes per file.
    #[arg(long, value_name = "BYTES", default_value_t = ExportOptions::default().shard_bytes)]
    shard_size: u64,
    #[command(flatten)]
    store: StoreArgs,
}

/// Advice for a model of which the store lacks files.
const ADVICE: &str = "pass the folder of the base model: `visplay model export REF OUT --base DIR`";

/// Runs `visplay model export`.
pub fn cmd_model_export(args: &ModelExportArgs, ui: &Ui) -> Result<()> {
    if args.out.symlink_metadata().is_ok() {
        return Err(ExportError::Exists(args.out.clone()).into());
    }
    let model = ModelSource::open(&args.model, &args.store)?;
    let side_files = model.side_files(args.base.as_deref(), ADVICE)?;
    let config = model.config()?;
    let weights = model.weights(&config, VerifyDepth::Full)?;
    let options = ExportOptions { dtype: args.dtype.map(Dtype::stored), shard_bytes: args.shard_size };
    let merged = args.adapter.as_ref().map(|adapter| merge(adapter, &config, &weights)).transpose()?;
    let source = merged.as_ref().map_or(&weights as &dyn TensorSource, |merged| merged);
    let exported = export_with(&args.out, &config, source, &side_files, options)?;
    if !has_chat_template(&side_files) {
        ui.say("note: the checkpoint has no chat template; other programs cannot chat with it");
    }
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
