//! Scoring of a given response: its log-probabilities, and the model's most likely tokens.

use candle_core::{D, DType, Tensor};
use candle_nn::ops::log_softmax;

use super::image::ImageInput;
use super::job::{Result, SamplingError};
use crate::kernels::rowwise::shifted_exponentials;
use crate::vlm::model::Model;

/// Number of tokens whose logits are in memory at once.
const HEAD_TOKENS: usize = 128;

/// Returns the log-probability of each token of `response` after the prompt `ids` with `images`, at
/// temperature 1.
pub fn score(model: &Model, ids: &[u32], images: &[&ImageInput], response: &[u32]) -> Result<Vec<f32>> {
    let mut logprobs = Vec::with_capacity(response.len());
    for_each_logits(model, ids, images, response, |logits, tokens| {
        if !model.uses_cpu_kernels() {
            logprobs.extend(logprobs_on_device(logits, tokens)?);
            return Ok(());
        }
        let rows = logits.to_vec2::<f32>()?;
        for (row, token) in rows.iter().zip(tokens) {
            let (largest, sum) = shifted_exponentials(row, 1.0, &mut vec![0.0; row.len()]);
            if !largest.is_finite() || !sum.is_finite() {
                return Err(SamplingError::NotFinite);
            }
            logprobs.push((f64::from(row[*token as usize]) - f64::from(largest) - sum.ln()) as f32);
        }
        Ok(())
    })?;
    Ok(logprobs)
}

/// Returns the most likely token at the position of each token of `response`, given the prompt, the
/// images and the response before it.
pub fn argmax_tokens(model: &Model, ids: &[u32], images: &[&ImageInput], response: &[u32]) -> Result<Vec<u32>> {
    let mut tokens = Vec::with_capacity(response.len());
    for_each_logits(model, ids, images, response, |logits, _| {
        tokens.extend(logits.to_dtype(DType::F32)?.argmax(D::Minus1)?.to_vec1::<u32>()?);
        Ok(())
    })?;
    Ok(tokens)
}

/// Runs prompt and response through the model and calls `consume` with logits `[tokens,
/// vocabulary]` and the tokens that they predict, in order.
fn for_each_logits(
    model: &Model,
    ids: &[u32],
    images: &[&ImageInput],
    response: &[u32],
    mut consume: impl FnMut(&Tensor, &[u32]) -> Result<()>,
) -> Result<()> {
    if ids.is_empty() {
        return Err(SamplingError::EmptyPrompt);
    }
    let vocabulary = model.config.text.vocab_size;
    if let Some(token) = ids.iter().chain(response).find(|id| **id as usize >= vocabulary) {
        return Err(SamplingError::Vocabulary { token: *token, vocabulary });
    }
    let grids: Vec<_> = images.iter().map(|image| image.grid()).collect();
    let mut positions = model.positions(ids, &grids)?;
    positions.push_text(response.len());
    let features = images.iter().map(|image| image.features(model)).collect::<Result<Vec<_>, _>>()?;
    let features = if features.is_empty() { None } else { Some(Tensor::cat(&features, 0)?) };
    let prompt = model.embed(ids, features.as_ref())?;
    // An image token in the response is an ordinary token, not replaced by image features.
    let x = if response.is_empty() { prompt } else { Tensor::cat(&[prompt, model.text.embed(response)?], 0)? };
    let x = model.forward(x, &positions.tokens, vec![ids.len() + response.len()])?;
    for (chunk, tokens) in response.chunks(HEAD_TOKENS).enumerate() {
        let first = ids.len() - 1 + chunk * HEAD_TOKENS;
        consume(&model.logits(&x.narrow(0, first, tokens.len())?)?, tokens)?;
    }
    Ok(())
}

/// Computes log-probabilities of tokens from logits on a GPU; only they are copied to the host.
fn logprobs_on_device(logits: &Tensor, tokens: &[u32]) -> Result<Vec<f32>> {
    let log_p = log_softmax(&logits.to_dtype(DType::F32)?, D::Minus1)?;
    let index = Tensor::new(tokens, logits.device())?.unsqueeze(1)?; // [tokens, 1]
    let logprobs = log_p.gather(&index, 1)?.squeeze(1)?.to_vec1::<f32>()?;
    if logprobs.iter().any(|logprob| logprob.is_nan()) { Err(SamplingError::NotFinite) } else { Ok(logprobs) }
}
