//! The checkpoint and prompt arguments shared by `model generate` and `model score`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::cli::args::{ComputeArgs, StoreArgs};
use crate::cli::model_source::ModelSource;
use crate::cli::{CommandError, Result};
use crate::imaging::{Limits, PixelBudget, decode};
use crate::input_kind::describe_instead_of_images;
use crate::sampling::ImageInput;
use crate::vlm::checkpoint::Checkpoint;
use crate::vlm::prompt::Prompt;

/// The prompt, in the model's chat format: the system text, the image, the text.
#[derive(Debug, Args)]
pub struct PromptArgs {
    /// Folder of a checkpoint, or the ref of a model in the store.
    #[arg(long, value_name = "DIR|REF")]
    model: PathBuf,
    /// Image file [default: a text-only prompt].
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Prompt text.
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// System text.
    #[arg(long, value_name = "TEXT", default_value = "You are a helpful assistant.")]
    system: String,
    /// Minimum number of pixels of the resized image, overriding the checkpoint.
    #[arg(long, value_name = "N")]
    min_pixels: Option<u64>,
    /// Maximum number of pixels of the resized image, overriding the checkpoint.
    #[arg(long, value_name = "N")]
    max_pixels: Option<u64>,
    #[command(flatten)]
    compute: ComputeArgs,
    #[command(flatten)]
    store: StoreArgs,
}

/// A loaded checkpoint with the prompt's tokens and image.
pub struct LoadedPrompt {
    pub checkpoint: Checkpoint,
    pub ids: Vec<u32>,
    pub image: Option<Arc<ImageInput>>,
}

impl PromptArgs {
    /// Loads the checkpoint and encodes the prompt.
    pub fn load(&self) -> Result<LoadedPrompt> {
        let (device, dtype) = self.compute.open()?;
        let mut checkpoint = ModelSource::open(&self.model, &self.store)?.checkpoint(dtype, &device)?;
        let limits = checkpoint.processor.budget;
        let budget = PixelBudget {
            min_pixels: self.min_pixels.unwrap_or(limits.min_pixels),
            max_pixels: self.max_pixels.unwrap_or(limits.max_pixels),
        };
        if budget.min_pixels > budget.max_pixels {
            let message =
                format!("the minimum of {} pixels is above the maximum of {}", budget.min_pixels, budget.max_pixels);
            return Err(CommandError::usage(message).with_hint("pass both --min-pixels and --max-pixels"));
        }
        checkpoint.processor = checkpoint.processor.with_budget(budget);
        let image = self.image.as_deref().map(|file| read_image(file, &checkpoint)).transpose()?;
        let merge = checkpoint.model.config.vision.spatial_merge_size;
        let prompt = Prompt::chat(&self.system, image.as_ref().map(|i| i.grid().tokens(merge)), &self.prompt);
        let ids = checkpoint.tokenizer.encode_prompt(&prompt).map_err(CommandError::from_input)?;
        Ok(LoadedPrompt { checkpoint, ids, image: image.map(Arc::new) })
    }
}

fn read_image(file: &Path, checkpoint: &Checkpoint) -> Result<ImageInput> {
    let unusable = |problem: String| CommandError::usage(format!("{}: {problem}", file.display()));
    let limits = Limits::default();
    let bytes = fs::metadata(file).map_err(|e| unusable(e.to_string()))?.len();
    if bytes > limits.max_bytes {
        return Err(unusable(format!("the file has {bytes} bytes, above the limit of {}", limits.max_bytes)));
    }
    let bytes = fs::read(file).map_err(|e| unusable(e.to_string()))?;
    let decoded = decode(&bytes, &limits).map_err(|e| match describe_instead_of_images(file) {
        Some(problem) => unusable(format!("not an image: {problem}")),
        None => unusable(e.to_string()),
    })?;
    let patches = checkpoint.processor.process(&decoded.pixels).map_err(|e| unusable(e.to_string()))?;
    Ok(ImageInput::new(patches))
}
