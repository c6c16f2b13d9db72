//! `visplay model score`: log-probabilities of a given response.

use clap::Args;
use serde::Serialize;

use super::prompt::{LoadedPrompt, PromptArgs};
use crate::cli::{CommandError, Result, Ui};
use crate::sampling::score;
use crate::vlm::grid::Grid;

/// Show the log-probability of each token of a response, at temperature 1.
///
/// Special tokens in the response, such as `<|im_end|>`, are encoded as such.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  visplay model score --model data/nano --image scene.png --prompt \"How many red \
                        circles are there?\" --response '\\boxed{2}<|im_end|>'")]
pub struct ModelScoreArgs {
    #[command(flatten)]
    prompt: PromptArgs,
    /// Response to score.
    #[arg(long, value_name = "TEXT")]
    response: String,
}

#[derive(Debug, Serialize)]
struct TokenScores {
    prompt_tokens: usize,
    image_grid: Option<Grid>,
    token_ids: Vec<u32>,
    logprobs: Vec<f32>,
    total: f64,
}

/// Runs `visplay model score`.
pub fn cmd_model_score(args: &ModelScoreArgs, ui: &Ui) -> Result<()> {
    let LoadedPrompt { checkpoint, ids, image } = args.prompt.load()?;
    let response = checkpoint.tokenizer.encode(&args.response).map_err(CommandError::from_input)?;
    let images: Vec<_> = image.as_deref().into_iter().collect();
    let logprobs = score(&checkpoint.model, &ids, &images, &response).map_err(CommandError::from_failure)?;
    let scored = TokenScores {
        prompt_tokens: ids.len(),
        image_grid: image.as_ref().map(|image| image.grid()),
        total: logprobs.iter().copied().map(f64::from).sum(),
        token_ids: response,
        logprobs,
    };
    if ui.json {
        return ui.result_json(&scored);
    }
    for (token, logprob) in scored.token_ids.iter().zip(&scored.logprobs) {
        ui.result(format!("{logprob:>10.5}  {token:>6}  {:?}", checkpoint.tokenizer.decode(&[*token], false)))?;
    }
    ui.result(format!("{:>10.5}  total of {} tokens", scored.total, scored.token_ids.len()))
}
