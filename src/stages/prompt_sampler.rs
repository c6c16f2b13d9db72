//! The prompt sampler: draws samples for rows of a table. The stages `questions`, `answers` and
//! `evaluation` share it.
//!
//! A sample's random stream is keyed by (seed, stage, row, sample number), so a sample does not
//! depend on its shard, batch or thread.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use once_cell::sync::OnceCell;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use super::compute_identity::SamplingLimits;

use super::compute_identity::ComputeIdentity;
use super::image_set::ImageSet;
use super::model::{LoadedModel, ModelHandle};
use super::role_prompt::RolePrompt;
use super::shared_while_used::SharedWhileUsed;
use super::{Rejection, Result, Runner, StageError};
use crate::ids::{Digest, GroupId, ImageId};
use crate::random::Seed;
use crate::sampling::{
    Engine, EngineOptions, FinishReason, ImageInput, Job, Outcome, Sample, SamplingError, SamplingOptions,
};
use crate::tables::Finish;

/// Settings of sampling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Divisor of the logits; 0 takes the likeliest token.
    pub temperature: f64,
    /// Number of likeliest tokens to draw from; 0 draws from all.
    pub top_k: u32,
    /// Probability mass of the smallest set of likeliest tokens to draw from; 1 draws from all.
    pub top_p: f64,
    /// Maximum number of tokens of a sample.
    pub max_tokens: u32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, max_tokens: 1024 }
    }
}

impl Sampling {
    /// Returns these settings with greedy decoding: the likeliest token at every position.
    pub fn greedy(self) -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, ..self }
    }

    /// Converts the settings to the engine's options.
    fn options(&self, stop_tokens: &[u32]) -> SamplingOptions {
        SamplingOptions {
            temperature: self.temperature,
            top_k: (self.top_k > 0).then_some(self.top_k as usize),
            top_p: (self.top_p < 1.0).then_some(self.top_p),
            max_tokens: self.max_tokens as usize,
            stop_tokens: stop_tokens.to_vec(),
            stop_strings: Vec::new(),
            forbidden: Vec::new(),
        }
    }
}

/// A request for samples of one prompt.
#[derive(Debug, Clone)]
pub struct PromptRequest {
    /// Key of the random streams of its samples.
    pub row: Digest,
    /// The image; `None` for a text-only prompt.
    pub image: Option<ImageId>,
    /// The question; empty for the Questioner.
    pub question: String,
}

/// The samples of a prompt.
#[derive(Debug)]
pub struct PromptSamples {
    /// Number of prompt tokens, image tokens included.
    pub prompt_tokens: u32,
    /// The samples.
    pub samples: Vec<Sample>,
}

/// Draws samples with one model, one prompt template and one sampling engine.
pub struct PromptSampler<'a> {
    /// The model.
    pub model: &'a ModelHandle<'a>,
    /// The role's prompt.
    pub prompt: &'a RolePrompt,
    /// How the model computes, under the sampling limits.
    pub compute: ComputeIdentity,
    images: &'a ImageSet<'a>,
    limits: SamplingLimits,
    engine: OnceCell<Mutex<Engine<'a>>>,
}

impl<'a> PromptSampler<'a> {
    /// Returns a sampler whose model is loaded on first use. `compute` describes how the model
    /// computes.
    pub fn new(
        model: &'a ModelHandle<'a>,
        prompt: &'a RolePrompt,
        images: &'a ImageSet<'a>,
        limits: SamplingLimits,
        compute: &ComputeIdentity,
    ) -> Self {
        Self { model, prompt, compute: compute.with_limits(limits), images, limits, engine: OnceCell::new() }
    }

    /// Returns the parameters of a stage's action: its own ones, the prompt, and how the model
    /// computes.
    pub(super) fn parameters<const N: usize>(&self, own: [(&str, Value); N]) -> BTreeMap<String, Value> {
        let shared = [("compute", json!(self.compute)), ("prompt", json!(self.prompt.id))];
        own.into_iter().chain(shared).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Returns the id of the group of samples of a row, drawn with a stage's `settings`.
    pub(super) fn group_id(&self, domain: &str, seed: u64, row: Digest, settings: &impl Serialize) -> GroupId {
        let (model, prompt) = (self.model.id.0, self.prompt.id.0);
        let knobs = Digest::of(json!([self.compute, settings]).to_string().as_bytes());
        let parts = [&seed.to_le_bytes()[..], model.as_bytes(), prompt.as_bytes(), row.as_bytes(), knobs.as_bytes()];
        GroupId(Digest::derive(domain, &parts))
    }

    /// Draws `samples` samples of each prompt and returns them in the order of the requests. An
    /// unusable prompt gives a rejection instead.
    ///
    /// # Errors
    /// The model cannot be loaded or fails, the store fails, or the command is interrupted.
    pub fn sample(
        &self,
        requests: &[PromptRequest],
        samples: u32,
        sampling: &Sampling,
        (stage, seed): (&str, u64),
        runner: &Runner<'_>,
    ) -> Result<Vec<Result<PromptSamples, Rejection>>> {
        let loaded = self.model.get()?;
        let mut engine = self.engine(loaded, runner)?.lock().unwrap_or_else(PoisonError::into_inner);
        let builder = JobBuilder {
            loaded,
            sampler: self,
            options: Arc::new(sampling.options(&loaded.assets.stop_tokens)),
            inputs: SharedWhileUsed::default(),
            stage,
            seed: Seed(seed),
            samples,
        };
        let rejected: Mutex<BTreeMap<usize, Result<Rejection>>> = Mutex::default();
        let prepare = |i: usize| {
            if runner.interrupt.is_requested() {
                return None;
            }
            let reject = |reason| rejected.lock().unwrap_or_else(PoisonError::into_inner).insert(i, reason);
            builder.build_job(i, &requests[i]).map_err(reject).ok()
        };
        let mut outcomes: BTreeMap<usize, Outcome> = BTreeMap::new();
        engine.run(0..requests.len(), prepare, |outcome| {
            runner.progress.advance(u64::from(samples));
            let drawn = outcome.samples.iter().flatten().map(|sample| sample.token_ids.len() as u64);
            runner.progress.tokens(drawn.sum());
            outcomes.insert(outcome.id as usize, outcome);
        })?;
        runner.interrupt.check()?;
        let mut rejected = rejected.into_inner().unwrap_or_else(PoisonError::into_inner);
        (0..requests.len())
            .map(|i| match (outcomes.remove(&i), rejected.remove(&i)) {
                (Some(outcome), _) => samples_of(outcome),
                (None, Some(rejection)) => Ok(Err(rejection?)),
                (None, None) => Err(StageError::Internal(format!("the sampling engine lost prompt {i}"))),
            })
            .collect()
    }

    fn engine(&self, loaded: &'a LoadedModel, runner: &Runner<'_>) -> Result<&Mutex<Engine<'a>>> {
        self.engine.get_or_try_init(|| {
            let options = EngineOptions {
                cache_bytes: usize::try_from(self.limits.cache_bytes).unwrap_or(usize::MAX),
                max_sequences: self.limits.max_sequences as usize,
                threads: rayon::current_num_threads(),
            };
            let engine = Engine::new(&loaded.model, &loaded.assets.tokenizer, options)?;
            Ok(Mutex::new(engine.with_stop_flag(runner.interrupt.flag())))
        })
    }
}

fn samples_of(outcome: Outcome) -> Result<Result<PromptSamples, Rejection>> {
    match outcome.samples {
        Ok(samples) => Ok(Ok(PromptSamples { prompt_tokens: outcome.prompt_tokens as u32, samples })),
        // A fault of this prompt rejects its row; any other error would occur for every prompt.
        Err(e @ (SamplingError::Placeholders(_) | SamplingError::EmptyPrompt | SamplingError::Vocabulary { .. })) => {
            Ok(Err(Rejection::new("prompt", e.to_string())))
        }
        Err(e) => Err(e.into()),
    }
}

/// Builds the sampling jobs of one call of [`PromptSampler::sample`].
struct JobBuilder<'w, 'a> {
    loaded: &'w LoadedModel,
    sampler: &'w PromptSampler<'a>,
    options: Arc<SamplingOptions>,
    /// Encoded images by id: prompts about one image share its encoding by the vision tower while
    /// their jobs run.
    inputs: SharedWhileUsed<ImageId, ImageInput>,
    stage: &'w str,
    seed: Seed,
    samples: u32,
}

impl JobBuilder<'_, '_> {
    fn build_job(&self, i: usize, request: &PromptRequest) -> Result<Job, Result<Rejection>> {
        let image = request.image.map(|id| self.encode_image(id)).transpose()?;
        let assets = &self.loaded.assets;
        let image_tokens = image.as_ref().map(|image| image.grid().tokens(assets.config.vision.spatial_merge_size));
        let tokens = self.sampler.prompt.tokens(&assets.tokenizer, image_tokens, &request.question);
        let ids = tokens.map_err(|e| Ok(Rejection::new("prompt", e.to_string())))?;
        let row = request.row.to_string();
        let streams = (0..u64::from(self.samples)).map(|n| self.seed.stream(self.stage, &row, n)).collect();
        Ok(Job { id: i as u64, ids, images: image.into_iter().collect(), streams, options: Arc::clone(&self.options) })
    }

    fn encode_image(&self, id: ImageId) -> Result<Arc<ImageInput>, Result<Rejection>> {
        self.inputs.get(id, || {
            let patches = self.sampler.images.patches(id, &self.loaded.assets.processor).map_err(Err)?.map_err(Ok)?;
            Ok(ImageInput::new(patches.as_ref().clone()))
        })
    }
}

impl From<FinishReason> for Finish {
    fn from(reason: FinishReason) -> Self {
        match reason {
            FinishReason::Stop => Self::Stop,
            FinishReason::Length => Self::Length,
        }
    }
}
