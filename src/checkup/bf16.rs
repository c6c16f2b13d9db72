//! How near a device's bf16 comes to f32: on the nano model by bounds of our own, and beside what bf16 does to transformers.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device};
use serde::Deserialize;

use super::{Check, CheckupError};
use crate::imaging::{Limits, decode};
use crate::sampling::{ImageInput, argmax_tokens, score};
use crate::tables::{BenchmarkItem, read_file};
use crate::vlm::checkpoint::Checkpoint;
use crate::vlm::named_tensors::Purpose;
use crate::vlm::ops::Ops;

/// What transformers computes in f32 for the nano model, and the images that it sees.
const ITEMS: (&str, &str) = ("tests/oracles/nano_model.json", "data/benchmarks/scenes.parquet");
const NANO: &str = "data/nano";

/// What bf16 does to transformers, frozen by `tests/oracles/bf16.py`.
#[derive(Deserialize)]
pub(super) struct Frozen {
    /// By tiny checkpoint the mean distance of log-probabilities from those in f32, nats.
    pub(super) checkpoints: BTreeMap<String, f64>,
    nano: FrozenNano,
}

#[derive(Deserialize)]
struct FrozenNano {
    other_tokens: u32,
    tokens: u32,
}

/// A greedy response of transformers in f32.
#[derive(Deserialize)]
struct Item {
    prompt_ids: Vec<u32>,
    response_ids: Vec<u32>,
    logprobs: Vec<f32>,
}

/// Distances of log-probabilities.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    sum: f64,
    count: usize,
}

impl Gaps {
    pub(super) fn add(&mut self, found: &[f32], exact: &[f32]) {
        self.sum += found.iter().zip(exact).map(|(a, b)| f64::from((a - b).abs())).sum::<f64>();
        self.count += exact.len();
        if found.len() != exact.len() {
            self.sum = f64::INFINITY;
        }
    }

    /// Nats.
    pub(super) fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }
}

pub(super) fn transformers(data: &Path) -> Result<Frozen, CheckupError> {
    json(&data.join("bf16.json"))
}

/// The nano model's greedy responses, with bf16 weights and activations.
pub(super) fn check(data: &Path, device: &Device, ops: Ops) -> Result<Vec<Check>, CheckupError> {
    let (items, images) = (Path::new(ITEMS.0), Path::new(ITEMS.1));
    let frozen: Vec<Item> = json(items)?;
    let rows: Vec<BenchmarkItem> = read_file(images).map_err(|e| CheckupError::data(images, e))?;
    let folder = Path::new(NANO);
    let nano = Checkpoint::load(folder, DType::BF16, device, ops, Purpose::Sampling);
    let nano = nano.map_err(|e| CheckupError::data(folder, e))?;
    let (mut gaps, mut others, mut tokens) = (Gaps::default(), 0u32, 0u32);
    for (item, row) in frozen.iter().zip(&rows) {
        let problem = |e: &dyn std::fmt::Display| CheckupError::data(images, format!("{}: {e}", row.question));
        let pixels = decode(&row.image.bytes, &Limits::default()).map_err(|e| problem(&e))?.pixels;
        let patches = nano.processor.process(&pixels).map_err(|e| problem(&e))?;
        let image = ImageInput::new(patches);
        let (ids, response) = (&item.prompt_ids, &item.response_ids);
        gaps.add(&score(&nano.model, ids, &[&image], response)?, &item.logprobs);
        let likely = argmax_tokens(&nano.model, ids, &[&image], response)?;
        others += likely.iter().zip(&item.response_ids).filter(|(found, greedy)| found != greedy).count() as u32;
        tokens += item.response_ids.len() as u32;
    }
    let peer = transformers(data)?.nano;
    if peer.tokens != tokens {
        return Err(CheckupError::data(items, format!("{tokens} tokens, but bf16.json is of {}", peer.tokens)));
    }
    // One in a hundred, by our own bound, or as many as turn in transformers: some of these choices are near ties.
    let allowed = f64::from(peer.other_tokens).max(f64::from(tokens) / 100.0);
    Ok(vec![
        Check::new(
            "nano's log-probabilities in bf16, beside transformers in f32",
            gaps.mean(),
            2e-2,
            "nats, on average",
        ),
        Check::new(
            "nano's most likely tokens in bf16, beside transformers in f32",
            f64::from(others),
            allowed,
            "that differ",
        ),
    ])
}

fn json<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T, CheckupError> {
    let bytes = std::fs::read(file).map_err(|e| CheckupError::data(file, e))?;
    serde_json::from_slice(&bytes).map_err(|e| CheckupError::data(file, e))
}
