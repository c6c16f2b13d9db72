//! Draws samples for rows of a table: what the questions, answers and evaluation stages share.
//!
//! The stream of a sample is keyed by (seed, stage, row, number of the sample), so that it is the same whatever shard, batch or
//! thread it is drawn in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::DType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::image_set::{ImageSet, Refusal};
use super::model::{LoadedModel, ModelHandle};
use super::role_prompt::RolePrompt;
use super::shared_while_used::SharedWhileUsed;
use super::{Runner, StageError};
use crate::ids::{Digest, ImageId};
use crate::random::Seed;
use crate::sampling::{
    Engine, EngineOptions, FinishReason, ImageInput, Job, Outcome, Sample, SamplingError, SamplingOptions,
};
use crate::tables::Finish;

/// How samples are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f64,
    /// Draw from this many of the likeliest tokens; 0 draws from all.
    pub top_k: u32,
    /// Draw from the fewest likeliest tokens that together have this probability; 1 draws from all.
    pub top_p: f64,
    /// The most tokens of a sample.
    pub max_tokens: u32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0, max_tokens: 1024 }
    }
}

impl Sampling {
    /// The same, taking the likeliest token each time.
    pub fn greedy(self) -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, ..self }
    }

    /// As the engine takes them.
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

    /// As an action names them.
    pub fn parameters(&self) -> Value {
        json!(self)
    }
}

/// What sampling may use of the machine. In f32 on the CPU results do not depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SamplingLimits {
    /// Memory of the cache of keys and values, in bytes.
    pub cache_bytes: u64,
    /// Samples that run at once.
    pub max_sequences: u32,
}

impl SamplingLimits {
    /// What actions name of how a model computes, with the room where results depend on it.
    fn named_in(self, compute: &Value) -> Value {
        let mut compute = compute.clone();
        if let (true, Some(compute)) = (limits_affect_results(&compute), compute.as_object_mut()) {
            compute.insert("cache_bytes".to_owned(), json!(self.cache_bytes));
            compute.insert("max_sequences".to_owned(), json!(self.max_sequences));
        }
        compute
    }
}

/// Whether results depend on the room, by what an action names of how a model computes.
///
/// A matrix product of candle's chooses the order of its sums by its shape, so that a sample's bits depend on what is drawn beside
/// it, and that depends on the room. Our kernels, which serve f32 on the CPU, are free of it.
pub fn limits_affect_results(compute: &Value) -> bool {
    compute["dtype"] != DType::F32.as_str() || compute.get("device").is_some()
}

/// A prompt of which samples are wanted.
#[derive(Debug, Clone)]
pub struct PromptRequest {
    /// What keys the randomness of its samples.
    pub row: Digest,
    /// The image; `None` for a text alone.
    pub image: Option<ImageId>,
    /// The question; empty for the Questioner.
    pub question: String,
}

/// The samples of a prompt.
#[derive(Debug)]
pub struct PromptSamples {
    /// Tokens of the prompt, those of the image included.
    pub prompt_tokens: u32,
    /// The samples.
    pub samples: Vec<Sample>,
}

/// Draws samples with one model, one prompt template and one engine.
pub struct PromptSampler<'a> {
    /// The model.
    pub model: &'a ModelHandle<'a>,
    /// The role's prompt.
    pub prompt: &'a RolePrompt,
    images: &'a ImageSet<'a>,
    room: SamplingLimits,
    engine: OnceLock<Mutex<Engine<'a>>>,
}

impl<'a> PromptSampler<'a> {
    /// A sampler; the model is loaded when it first draws.
    pub fn new(
        model: &'a ModelHandle<'a>,
        prompt: &'a RolePrompt,
        images: &'a ImageSet<'a>,
        room: SamplingLimits,
    ) -> Self {
        Self { model, prompt, images, room, engine: OnceLock::new() }
    }

    /// How the model computes, as actions of its samples name it; `compute` is what actions name that draw none.
    pub fn compute(&self, compute: &Value) -> Value {
        self.room.named_in(compute)
    }

    /// Draws `samples` samples of each prompt, in order; a prompt that cannot be put says why.
    ///
    /// # Errors
    /// The model cannot be loaded or fails, the store fails, or somebody asked to stop.
    pub fn sample(
        &self,
        requests: &[PromptRequest],
        samples: u32,
        sampling: &Sampling,
        (stage, seed): (&str, u64),
        runner: &Runner<'_>,
    ) -> Result<Vec<Result<PromptSamples, Refusal>>, StageError> {
        let loaded = self.model.get()?;
        let mut engine = self.engine(loaded, runner)?.lock().unwrap_or_else(PoisonError::into_inner);
        let work = JobBuilder {
            loaded,
            sampler: self,
            options: Arc::new(sampling.options(&loaded.assets.stop_tokens)),
            inputs: SharedWhileUsed::default(),
            stage,
            seed: Seed(seed),
            samples,
        };
        let refused: Mutex<BTreeMap<usize, Result<Refusal, StageError>>> = Mutex::default();
        let prepare = |i: usize| {
            if runner.interrupt.is_requested() {
                return None;
            }
            match work.job(i, &requests[i]) {
                Ok(job) => Some(job),
                Err(why) => {
                    refused.lock().unwrap_or_else(PoisonError::into_inner).insert(i, why);
                    None
                }
            }
        };
        let mut drawn: BTreeMap<usize, Outcome> = BTreeMap::new();
        engine.run(0..requests.len(), prepare, |outcome| {
            runner.progress.advance(u64::from(samples));
            drawn.insert(outcome.id as usize, outcome);
        })?;
        runner.interrupt.check()?;
        let mut refused = refused.into_inner().unwrap_or_else(PoisonError::into_inner);
        (0..requests.len())
            .map(|i| match (drawn.remove(&i), refused.remove(&i)) {
                (Some(outcome), _) => finished(outcome),
                (None, Some(refusal)) => Ok(Err(refusal?)),
                (None, None) => Err(StageError::Conflict(format!("the engine lost prompt {i}"))),
            })
            .collect()
    }

    fn engine(&self, loaded: &'a LoadedModel, runner: &Runner<'_>) -> Result<&Mutex<Engine<'a>>, StageError> {
        if self.engine.get().is_none() {
            let options = EngineOptions {
                cache_bytes: usize::try_from(self.room.cache_bytes).unwrap_or(usize::MAX),
                max_sequences: self.room.max_sequences as usize,
                threads: rayon::current_num_threads(),
            };
            let engine = Engine::new(&loaded.model, &loaded.assets.tokenizer, options)?;
            let engine = engine.stopping_at(runner.interrupt.flag());
            let _ = self.engine.set(Mutex::new(engine));
        }
        self.engine.get().ok_or_else(|| StageError::Conflict("the engine was not started".into()))
    }
}

fn finished(outcome: Outcome) -> Result<Result<PromptSamples, Refusal>, StageError> {
    match outcome.samples {
        Ok(samples) => Ok(Ok(PromptSamples { prompt_tokens: outcome.prompt_tokens as u32, samples })),
        // What the prompt itself is to blame for is a rejected row; everything else would be wrong for every prompt.
        Err(e @ (SamplingError::Placeholders(_) | SamplingError::EmptyPrompt | SamplingError::Vocabulary { .. })) => {
            Ok(Err(Refusal::new("prompt", e.to_string())))
        }
        Err(e) => Err(e.into()),
    }
}

struct JobBuilder<'w, 'a> {
    loaded: &'w LoadedModel,
    sampler: &'w PromptSampler<'a>,
    options: Arc<SamplingOptions>,
    /// Images in use: prompts about one image that are drawn together share what the vision tower makes of it.
    inputs: SharedWhileUsed<ImageId, ImageInput>,
    stage: &'w str,
    seed: Seed,
    samples: u32,
}

impl JobBuilder<'_, '_> {
    fn job(&self, i: usize, ask: &PromptRequest) -> Result<Job, Result<Refusal, StageError>> {
        let image = ask.image.map(|id| self.input(id)).transpose()?;
        let assets = &self.loaded.assets;
        let image_tokens = image.as_ref().map(|image| image.grid().tokens(assets.config.vision.spatial_merge_size));
        let tokens = self.sampler.prompt.tokens(&assets.tokenizer, image_tokens, &ask.question);
        let ids = tokens.map_err(|e| Ok(Refusal::new("prompt", e.to_string())))?;
        let row = ask.row.to_string();
        let streams = (0..u64::from(self.samples)).map(|n| self.seed.stream(self.stage, &row, n)).collect();
        Ok(Job { id: i as u64, ids, images: image.into_iter().collect(), streams, options: Arc::clone(&self.options) })
    }

    fn input(&self, id: ImageId) -> Result<Arc<ImageInput>, Result<Refusal, StageError>> {
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

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::model::compute;
    use super::*;

    #[test]
    fn the_room_is_named_where_results_depend_on_it() {
        let rooms = [(1 << 20, 8), (1 << 20, 9), (1 << 21, 8)];
        let named = |compute: &Value| {
            rooms.map(|(cache_bytes, max_sequences)| SamplingLimits { cache_bytes, max_sequences }.named_in(compute))
        };
        let of = |dtype| compute(dtype, &Device::Cpu, json!(0), json!(0));
        // Rounds that were made before must keep their keys.
        assert_eq!(named(&of(DType::F32)), [(); 3].map(|()| json!({"dtype": "f32", "max_pixels": 0, "min_pixels": 0})));
        let mut on_a_card = of(DType::F32);
        on_a_card["device"] = json!("cuda");
        for compute in [of(DType::BF16), of(DType::F16), on_a_card] {
            let [a, b, c] = named(&compute);
            assert!(a != b && b != c && a != c, "{a}, {b}, {c}");
            assert_eq!((&a["max_sequences"], &c["cache_bytes"]), (&json!(8), &json!(1 << 21)));
        }
    }
}
