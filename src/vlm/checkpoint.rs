//! A loaded checkpoint: model, tokenizer, image processor, and the tokens that end an answer.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use serde_json::{Map, Value};

use super::config::{Config, ConfigError};
pub use super::image_processor::PROCESSOR_FILE;
use super::image_processor::{ImageProcessor, ImageProcessorError, ProcessorText};
use super::json_file::{JsonFileError, read_object};
use super::model::Model;
use super::named_tensors::{CheckpointTensors, Purpose};
use super::ops::Ops;
use super::tokenizer::{Tokenizer, TokenizerError};
use super::weights::{Weights, WeightsError};

/// Name of the file with the tokens that end an answer.
pub const GENERATION_FILE: &str = "generation_config.json";

/// A model and everything else that answering a prompt needs.
#[derive(Debug)]
pub struct Checkpoint {
    /// The model.
    pub model: Model,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The image processor, which cuts images into patches.
    pub processor: ImageProcessor,
    /// The tokens that end an answer: `<|im_end|>`, and those that `generation_config.json` names.
    pub stop_tokens: Vec<u32>,
}

/// A reason why a checkpoint cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The configuration is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights are not usable.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tokenizer is not usable.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The image processor is not usable.
    #[error(transparent)]
    Processor(#[from] ImageProcessorError),
    /// The generation configuration is not usable.
    #[error(transparent)]
    Json(#[from] JsonFileError),
    /// The image processor does not cut the patches that the vision tower takes.
    #[error("{}: {name} is {processor}, but the vision tower of config.json takes {model}", file.display())]
    Patches {
        /// The processor's file.
        file: PathBuf,
        /// Name of the value that differs.
        name: &'static str,
        /// Value in the processor.
        processor: usize,
        /// Value in the model.
        model: usize,
    },
    /// Building the towers failed.
    #[error("cannot build the model: {0}")]
    Model(#[from] candle_core::Error),
}

impl Checkpoint {
    /// Loads a checkpoint folder in `dtype` onto `device`.
    pub fn load(
        folder: &Path,
        dtype: DType,
        device: &Device,
        ops: Ops,
        purpose: Purpose,
    ) -> Result<Self, CheckpointError> {
        let config = Config::load(folder)?;
        let tokenizer = Tokenizer::load(folder, &config)?;
        let text = ProcessorText::find(folder)?;
        let processor = text.processor()?;
        check_patches(&text.path, &processor, &config)?;
        let stop_tokens = stop_tokens(folder, &tokenizer)?;
        let weights = Weights::open(folder, &config)?;
        let model = Model::new(config, &CheckpointTensors { weights: &weights, dtype, device, ops }, purpose)?;
        Ok(Self { model, tokenizer, processor, stop_tokens })
    }
}

/// Checks that the processor of `file` cuts the patches that the vision tower takes. Nothing else
/// would notice patches of the same length but another layout: the answers would only be worse.
pub(crate) fn check_patches(file: &Path, processor: &ImageProcessor, config: &Config) -> Result<(), CheckpointError> {
    let pairs = [
        ("merge_size", processor.merge_size, config.vision.spatial_merge_size),
        ("patch_size", processor.patch_size, config.vision.patch_size),
        ("temporal_patch_size", processor.temporal_patch_size, config.vision.temporal_patch_size),
        ("the length of a patch", processor.patch_dim(), config.vision.patch_len()),
    ];
    match pairs.into_iter().find(|(_, processor, model)| processor != model) {
        None => Ok(()),
        Some((name, processor, model)) => {
            Err(CheckpointError::Patches { file: file.to_owned(), name, processor, model })
        }
    }
}

fn stop_tokens(folder: &Path, tokenizer: &Tokenizer) -> Result<Vec<u32>, CheckpointError> {
    let keys = match read_object(&folder.join(GENERATION_FILE)) {
        Err(error) if error.is_absent() => Map::new(),
        read => read?,
    };
    Ok(stop_tokens_of(&Value::Object(keys), tokenizer))
}

/// Returns the tokens that end an answer: `<|im_end|>`, and those of a generation configuration.
pub fn stop_tokens_of(generation: &Value, tokenizer: &Tokenizer) -> Vec<u32> {
    let named = match generation.get("eos_token_id") {
        Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_u64).collect(),
        Some(id) => id.as_u64().into_iter().collect(),
        None => Vec::new(),
    };
    let mut tokens = vec![tokenizer.special().im_end];
    tokens.extend(named.into_iter().filter_map(|id| u32::try_from(id).ok()));
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}
