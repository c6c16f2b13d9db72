//! What `model generate` and `model score` share: a checkpoint, and one prompt with an image or
//! none.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::cli::args::{DeviceArgs, DtypeArgs};
use crate::cli::error::CommandError;
use crate::cli::exit;
use crate::imaging::{Limits, PixelBudget, decode};
use crate::sampling::ImageInput;
use crate::vlm::checkpoint::Checkpoint;
use crate::vlm::named_tensors::Purpose;
use crate::vlm::ops::Ops;
use crate::vlm::prompt::Prompt;

/// The prompt: in the model's chat format, the system text, then the image, then the text.
#[derive(Debug, Args)]
pub struct PromptArgs {
    /// The checkpoint folder.
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// An image file; without it the prompt is text only.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// What is asked.
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// The system text.
    #[arg(long, value_name = "TEXT", default_value = "You are a helpful assistant.")]
    system: String,
    /// The fewest pixels of the resized image, instead of the checkpoint's limit.
    #[arg(long, value_name = "N")]
    min_pixels: Option<u64>,
    /// The most pixels of the resized image, instead of the checkpoint's limit.
    #[arg(long, value_name = "N")]
    max_pixels: Option<u64>,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    compute: DtypeArgs,
}

/// A loaded checkpoint and the prompt's tokens and image.
pub struct Prompted {
    pub checkpoint: Checkpoint,
    pub ids: Vec<u32>,
    pub image: Option<Arc<ImageInput>>,
}

impl PromptArgs {
    /// Loads the checkpoint and makes the prompt.
    pub fn load(&self) -> Result<Prompted, CommandError> {
        let unusable = |e: &dyn std::error::Error| CommandError::from_chain(exit::USAGE, e);
        let device = self.device.open()?;
        let dtype = self.compute.on(&device);
        let mut checkpoint =
            Checkpoint::load(&self.model, dtype, &device, Ops::Kernels, Purpose::Sampling).map_err(|e| unusable(&e))?;
        let limits = checkpoint.processor.budget();
        let budget = PixelBudget {
            min_pixels: self.min_pixels.unwrap_or(limits.min_pixels),
            max_pixels: self.max_pixels.unwrap_or(limits.max_pixels),
        };
        if budget.min_pixels > budget.max_pixels {
            let message =
                format!("at least {} and at most {} pixels leave no image", budget.min_pixels, budget.max_pixels);
            return Err(CommandError::usage(message).with_hint("give --min-pixels and --max-pixels together"));
        }
        checkpoint.processor = checkpoint.processor.with_budget(budget);
        let image = self.image.as_deref().map(|file| read_image(file, &checkpoint)).transpose()?;
        let merge = checkpoint.model.config.vision.spatial_merge_size;
        let prompt = Prompt::chat(&self.system, image.as_ref().map(|i| i.grid().tokens(merge)), &self.prompt);
        let ids = checkpoint.tokenizer.encode_prompt(&prompt).map_err(|e| unusable(&e))?;
        Ok(Prompted { checkpoint, ids, image: image.map(Arc::new) })
    }
}

fn read_image(file: &Path, checkpoint: &Checkpoint) -> Result<ImageInput, CommandError> {
    let unusable = |problem: String| CommandError::usage(format!("{}: {problem}", file.display()));
    let limits = Limits::default();
    let bytes = fs::metadata(file).map_err(|e| unusable(e.to_string()))?.len();
    if bytes > limits.max_bytes {
        return Err(unusable(format!("{bytes} bytes are more than an image may have ({})", limits.max_bytes)));
    }
    let bytes = fs::read(file).map_err(|e| unusable(e.to_string()))?;
    let decoded = decode(&bytes, &limits).map_err(|e| unusable(e.to_string()))?;
    let patches = checkpoint.processor.process(&decoded.pixels).map_err(|e| unusable(e.to_string()))?;
    Ok(ImageInput::new(patches))
}
