//! `visplay model generate`: a checkpoint's answers to one prompt.

use std::sync::Arc;
use std::thread;

use clap::Args;
use serde::Serialize;

use super::prompt::{PromptArgs, Prompted};
use crate::cli::error::CommandError;
use crate::cli::exit;
use crate::cli::output::ui::Ui;
use crate::random::Seed;
use crate::sampling::{Engine, EngineOptions, FinishReason, Job, SamplingOptions};
use crate::vlm::grid::Grid;

/// The most samples that run at once.
const MAX_SEQUENCES: usize = 256;
/// The most memory of the cache of keys and values.
const MAX_CACHE: usize = 4 << 30;

/// Draw answers to a prompt about an image, or to a text.
///
/// A sample depends on the model, the prompt, the options, the seed and its number alone. Each
/// token comes with its log-probability under the temperature-scaled distribution, before top-k and
/// top-p. The placeholders of images and videos are never drawn; an answer ends at `<|im_end|>` and
/// at the tokens that `generation_config.json` names.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  visplay model generate --model data/nano --image scene.png --prompt \"How many red \
                        circles are there?\" --samples 8 --seed 1\n  \
                        visplay model generate --model models/qwen2.5-vl-3b --prompt \"Hello\" --temperature 0 --json"
)]
pub struct ModelGenerateArgs {
    #[command(flatten)]
    prompt: PromptArgs,
    /// Samples to draw.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    samples: u32,
    /// Divides the logits; 0 takes the likeliest token each time.
    #[arg(long, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    temperature: f64,
    /// Draw from the K likeliest tokens only.
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Draw from the fewest likeliest tokens that together have probability P.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// The most tokens of an answer.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    max_tokens: u32,
    /// A text that ends an answer; may be given several times.
    #[arg(long = "stop", value_name = "TEXT")]
    stop_strings: Vec<String>,
    /// The seed of the samples.
    #[arg(long, value_name = "S", default_value_t = Seed(0))]
    seed: Seed,
}

#[derive(Debug, Serialize)]
struct Generated {
    prompt_tokens: usize,
    image_grid: Option<Grid>,
    samples: Vec<GeneratedSample>,
}

#[derive(Debug, Serialize)]
struct GeneratedSample {
    text: String,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    finish_reason: FinishReason,
}

/// Runs `visplay model generate`.
pub fn cmd_model_generate(args: &ModelGenerateArgs, ui: &Ui) -> Result<(), CommandError> {
    let mut options = SamplingOptions {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        max_tokens: args.max_tokens as usize,
        stop_tokens: Vec::new(),
        stop_strings: args.stop_strings.clone(),
        forbidden: Vec::new(),
    };
    options.validate().map_err(|e| CommandError::from_chain(exit::USAGE, &e))?;
    let prompted = args.prompt.load()?;
    options.stop_tokens.clone_from(&prompted.checkpoint.stop_tokens);
    let generated = generate(args, options, &prompted)?;
    if ui.json {
        return ui.result_json(&generated);
    }
    for (number, sample) in generated.samples.iter().enumerate() {
        let reason = match sample.finish_reason {
            FinishReason::Stop => "",
            FinishReason::Length => ", cut at the token limit",
        };
        ui.say(format!("sample {}: {} tokens{reason}", number + 1, sample.token_ids.len()));
        ui.result(&sample.text)?;
    }
    Ok(())
}

fn generate(
    args: &ModelGenerateArgs,
    options: SamplingOptions,
    prompted: &Prompted,
) -> Result<Generated, CommandError> {
    let Prompted { checkpoint, ids, image } = prompted;
    let model = &checkpoint.model;
    let failed = |e: &dyn std::error::Error| CommandError::from_chain(exit::FAILED, e);
    let sequences = (args.samples as usize).min(MAX_SEQUENCES);
    let most = ids.len() + args.max_tokens as usize;
    let one = Engine::cache_bytes_for(model, 1, most);
    if one > MAX_CACHE {
        return Err(CommandError::usage(format!(
            "a prompt of {} tokens and an answer of --max-tokens {} would keep {:.1} GiB of keys and values; this command keeps at most {} GiB: ask for fewer tokens",
            ids.len(),
            args.max_tokens,
            one as f64 / f64::from(1 << 30),
            MAX_CACHE >> 30,
        )));
    }
    let engine_options = EngineOptions {
        // Beyond the limit fewer samples run at once.
        cache_bytes: Engine::cache_bytes_for(model, sequences, most).min(MAX_CACHE),
        max_sequences: sequences,
        threads: thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    let mut engine = Engine::new(model, &checkpoint.tokenizer, engine_options).map_err(|e| failed(&e))?;
    let job = Job {
        id: 0,
        ids: ids.clone(),
        images: image.iter().cloned().collect(),
        streams: (0..u64::from(args.samples)).map(|sample| args.seed.stream("generate", "", sample)).collect(),
        options: Arc::new(options),
    };
    let mut outcome = None;
    engine.run(std::iter::once(job), Some, |o| outcome = Some(o)).map_err(|e| failed(&e))?;
    let Some(outcome) = outcome else { return Err(CommandError::failed("the engine gave no answer")) };
    let samples = outcome.samples.map_err(|e| failed(&e))?.into_iter().map(|s| GeneratedSample {
        text: s.text,
        token_ids: s.token_ids,
        logprobs: s.logprobs,
        finish_reason: s.finish_reason,
    });
    Ok(Generated {
        prompt_tokens: outcome.prompt_tokens,
        image_grid: image.as_ref().map(|image| image.grid()),
        samples: samples.collect(),
    })
}
