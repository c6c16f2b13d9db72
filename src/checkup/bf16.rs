//! Deviation of a device's bf16 results from f32, against fixed bounds and transformers in bf16.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device};
use serde::Deserialize;

use super::{Check, CheckupError, Result, read_json};
use crate::imaging::{Limits, decode};
use crate::sampling::{ImageInput, argmax_tokens, score};
use crate::tables::{BenchmarkItem, read_file};
use crate::vlm::checkpoint::Checkpoint;
use crate::vlm::named_tensors::Purpose;
use crate::vlm::ops::Ops;

/// Greedy responses of transformers in f32 with the nano model, and the benchmark that they answer.
const RESPONSES: &str = include_str!("../../tests/oracles/nano_model.json");
pub(super) const ITEMS: &str = "data/benchmarks/scenes.parquet";
pub(super) const NANO: &str = "data/nano";

/// Deviation of transformers in bf16, recorded by `tests/oracles/bf16.py`.
#[derive(Deserialize)]
pub(super) struct TransformersDeviation {
    /// Mean absolute log-probability difference from f32 in nats, by checkpoint name.
    pub(super) checkpoints: BTreeMap<String, f64>,
    nano: NanoDeviation,
}

#[derive(Deserialize)]
struct NanoDeviation {
    other_tokens: u32,
    tokens: u32,
}

/// A greedy response of transformers in f32.
#[derive(Deserialize)]
struct GreedyResponse {
    prompt_ids: Vec<u32>,
    response_ids: Vec<u32>,
    logprobs: Vec<f32>,
}

/// Mean absolute difference of log-probabilities.
#[derive(Debug, Default)]
pub(super) struct MeanDifference {
    sum: f64,
    count: usize,
}

impl MeanDifference {
    pub(super) fn add(&mut self, values: &[f32], exact: &[f32]) {
        self.sum += values.iter().zip(exact).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>();
        self.count += exact.len();
        if values.len() != exact.len() {
            self.sum = f64::INFINITY;
        }
    }

    /// Returns the mean in nats; infinite if the numbers of values differed.
    pub(super) fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }
}

/// Reads the recorded deviation of transformers.
pub(super) fn read_transformers_deviation(checkpoints: &Path) -> Result<TransformersDeviation> {
    read_json(&checkpoints.join("bf16.json"))
}

/// Checks the nano model with bf16 weights and activations on recorded greedy responses.
pub(super) fn check(checkpoints: &Path, device: &Device, ops: Ops) -> Result<Vec<Check>> {
    let images = Path::new(ITEMS);
    let responses: Vec<GreedyResponse> =
        serde_json::from_str(RESPONSES).map_err(|e| CheckupError::data(Path::new("nano_model.json"), e))?;
    let rows: Vec<BenchmarkItem> = read_file(images).map_err(CheckupError::at(images))?;
    let folder = Path::new(NANO);
    let nano = Checkpoint::load(folder, DType::BF16, device, ops, Purpose::Sampling);
    let nano = nano.map_err(CheckupError::at(folder))?;
    let (mut difference, mut others, mut tokens) = (MeanDifference::default(), 0u32, 0u32);
    for (item, row) in responses.iter().zip(&rows) {
        let problem = |e: &dyn std::fmt::Display| CheckupError::data(images, format!("{}: {e}", row.question));
        let pixels = decode(&row.image.bytes, &Limits::default()).map_err(|e| problem(&e))?.pixels;
        let patches = nano.processor.process(&pixels).map_err(|e| problem(&e))?;
        let image = ImageInput::new(patches);
        let (ids, response) = (&item.prompt_ids, &item.response_ids);
        difference.add(&score(&nano.model, ids, &[&image], response)?, &item.logprobs);
        let likely = argmax_tokens(&nano.model, ids, &[&image], response)?;
        others += likely.iter().zip(&item.response_ids).filter(|(token, greedy)| token != greedy).count() as u32;
        tokens += item.response_ids.len() as u32;
    }
    let peer = read_transformers_deviation(checkpoints)?.nano;
    if peer.tokens != tokens {
        return Err(CheckupError::data(images, format!("{tokens} tokens, but bf16.json counts {}", peer.tokens)));
    }
    // Allow one in a hundred, or as many as in transformers: some choices are near ties.
    let allowed = f64::from(peer.other_tokens).max(f64::from(tokens) / 100.0);
    let (logprobs, likely_tokens) = (
        "nano's log-probabilities in bf16, compared with transformers in f32",
        "nano's most likely tokens in bf16, compared with transformers in f32",
    );
    Ok(vec![
        Check::new(logprobs, difference.mean(), 2e-2, "nats, on average"),
        Check::new(likely_tokens, f64::from(others), allowed, "that differ"),
    ])
}
