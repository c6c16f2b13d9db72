//! `visplay model generate`: samples from a checkpoint for one prompt.

use std::sync::Arc;
use std::thread;

use clap::Args;
use serde::Serialize;

use super::prompt::{LoadedPrompt, PromptArgs};
use crate::cli::{CommandError, Result, Ui};
use crate::random::Seed;
use crate::sampling::{Engine, EngineOptions, FinishReason, Job, Sample, SamplingOptions};
use crate::vlm::grid::Grid;

/// Maximum number of samples decoded at once.
const MAX_SEQUENCES: usize = 256;
/// Maximum memory of the KV cache, in bytes.
const MAX_CACHE: usize = 4 << 30;

/// Sample responses to a prompt with or without an image.
///
/// A sample depends only on the model, the prompt, the options, the seed and its number. Each token
/// comes with its log-probability under the temperature-scaled distribution, before top-k and
/// top-p. Placeholders of images and videos are never sampled; a response ends at `<|im_end|>` or
/// at an end token of `generation_config.json`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  visplay model generate --model data/nano --image scene.png --prompt \"How many red \
                        circles are there?\" --samples 8 --seed 1\n  \
                        visplay model generate --model models/qwen2.5-vl-3b --prompt \"Hello\" --temperature 0 --json"
)]
pub struct ModelGenerateArgs {
    #[command(flatten)]
    prompt: PromptArgs,
    /// Number of samples.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    samples: u32,
    /// Sampling temperature; 0 decodes greedily.
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Sample only from the K most likely tokens.
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Sample only from the smallest set of tokens with total probability P.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// Maximum number of tokens per sample.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_tokens: u32,
    /// Text that ends a sample; may be repeated.
    #[arg(long = "stop", value_name = "TEXT")]
    stop_strings: Vec<String>,
    /// Sampling seed.
    #[arg(long, value_name = "S", default_value_t = Seed(0))]
    seed: Seed,
}

#[derive(Debug, Serialize)]
struct Generation {
    prompt_tokens: usize,
    image_grid: Option<Grid>,
    samples: Vec<Sample>,
}

/// Runs `visplay model generate`.
pub fn cmd_model_generate(args: &ModelGenerateArgs, ui: &Ui) -> Result<()> {
    let mut options = SamplingOptions {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        max_tokens: args.max_tokens as usize,
        stop_tokens: Vec::new(),
        stop_strings: args.stop_strings.clone(),
        forbidden: Vec::new(),
    };
    options.validate().map_err(CommandError::from_input)?;
    let prompted = args.prompt.load()?;
    options.stop_tokens.clone_from(&prompted.checkpoint.stop_tokens);
    let generated = generate(args, options, &prompted)?;
    if ui.json {
        return ui.result_json(&generated);
    }
    for (number, sample) in generated.samples.iter().enumerate() {
        let reason = match sample.finish_reason {
            FinishReason::Stop => "",
            FinishReason::Length => ", cut off at --max-tokens",
        };
        ui.say(format!("sample {}: {} tokens{reason}", number + 1, sample.token_ids.len()));
        ui.result(&sample.text)?;
    }
    Ok(())
}

fn generate(args: &ModelGenerateArgs, options: SamplingOptions, prompted: &LoadedPrompt) -> Result<Generation> {
    let LoadedPrompt { checkpoint, ids, image } = prompted;
    let model = &checkpoint.model;
    let sequences = (args.samples as usize).min(MAX_SEQUENCES);
    let max_tokens = ids.len() + args.max_tokens as usize;
    let one = Engine::cache_bytes_for(model, 1, max_tokens);
    if one > MAX_CACHE {
        return Err(CommandError::usage(format!(
            "a prompt of {} tokens with --max-tokens {} needs a KV cache of {:.1} GiB; the limit is {} GiB: lower --max-tokens",
            ids.len(),
            args.max_tokens,
            one as f64 / f64::from(1 << 30),
            MAX_CACHE >> 30,
        )));
    }
    let engine_options = EngineOptions {
        // A smaller cache decodes fewer samples at once.
        cache_bytes: Engine::cache_bytes_for(model, sequences, max_tokens).min(MAX_CACHE),
        max_sequences: sequences,
        threads: thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let mut engine = Engine::new(model, &checkpoint.tokenizer, engine_options).map_err(CommandError::from_failure)?;
    let job = Job {
        id: 0,
        ids: ids.clone(),
        images: image.iter().cloned().collect(),
        streams: (0..u64::from(args.samples)).map(|sample| args.seed.stream("generate", "", sample)).collect(),
        options: Arc::new(options),
    };
    let mut outcome = None;
    engine.run(std::iter::once(job), Some, |o| outcome = Some(o)).map_err(CommandError::from_failure)?;
    let Some(outcome) = outcome else { return Err(CommandError::failed("the engine returned no samples")) };
    Ok(Generation {
        prompt_tokens: outcome.prompt_tokens,
        image_grid: image.as_ref().map(|image| image.grid()),
        samples: outcome.samples.map_err(CommandError::from_failure)?,
    })
}
