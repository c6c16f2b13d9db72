//! Speed of a device at the work of an evolution, compared with the device's limits: encoding
//! images, prefilling prompts, decoding samples, and a training step.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use super::parity::thread_count;
use super::random_weights::{RandomWeights, uniform};
use super::shapes::{Shapes, Workload};
use super::{CheckupError, Limits, Result, median_seconds};
use crate::device::{self, DeviceClass};
use crate::kernels::attention::BLOCK;
use crate::random::Seed;
use crate::sampling::{Engine, EngineOptions, Job, SamplingOptions};
use crate::training::lora::LoraSettings;
use crate::training::supervised::cross_entropy;
use crate::training::{
    AdamW, AdamWSettings, ComputeSettings, Continuation, MomentType, PrefixGroup, TrainScope, TrainableModel,
};
use crate::vlm::config::Config;
use crate::vlm::grid::Grid;
use crate::vlm::image_processor::Patches;
use crate::vlm::memory::{ParameterCounts, kv_bytes_per_token, parameter_counts};
use crate::vlm::model::Model;
use crate::vlm::named_tensors::Purpose;
use crate::vlm::ops::{Ops, Step, StepSegment};
use crate::vlm::safetensors_header::StoredType;
use crate::vlm::tokenizer::Tokenizer;

/// A measured speed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rate {
    /// Name of the model.
    pub model: &'static str,
    /// Path of its `config.json` in a checkout.
    pub config: &'static str,
    /// Operation: vision, prefill, decode or update.
    #[serde(rename = "what")]
    pub operation: &'static str,
    /// Size of the workload, in words.
    pub shape: String,
    /// Size of the workload, for a comparison with other software.
    pub numbers: WorkloadSize,
    /// Dtype of weights and activations.
    pub dtype: &'static str,
    /// Unit that is counted, such as tokens.
    pub unit: &'static str,
    /// Duration in seconds; `None` if it failed.
    pub seconds: Option<f64>,
    /// Units per second.
    pub per_second: Option<f64>,
    /// Fraction of the limit that was reached.
    pub share: Option<f64>,
    /// The limit: memory copies (`copy`), or matrix products (`products`).
    pub limit: &'static str,
    /// Whether our own kernels were used, or candle's operations alone for comparison.
    pub own_kernels: bool,
    /// Peak memory of tensors in bytes; `None` on a CPU.
    pub peak_memory: Option<u64>,
    /// Remark, or the reason for a failure.
    pub note: Option<String>,
}

/// Size of a workload; unused fields are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WorkloadSize {
    /// Number of images.
    pub images: usize,
    /// Patches along each side of an image.
    pub image_side: usize,
    /// Number of sequences at once, or of groups in an update.
    pub batch: usize,
    /// Tokens per prompt.
    pub prompt_tokens: usize,
    /// Responses per prompt.
    pub responses: usize,
    /// Tokens per response.
    pub response_tokens: usize,
}

/// A measurement to be taken.
struct Measurement {
    operation: &'static str,
    shape: String,
    numbers: WorkloadSize,
    unit: &'static str,
    /// Units per run.
    count: f64,
    /// Bytes or operations per run that the limit counts.
    needed: f64,
    limit: &'static str,
}

pub(super) fn measure(
    checkpoints: &Path,
    device: &Device,
    ops: Ops,
    shapes: Shapes,
    limits: &Limits,
    progress: &dyn Fn(&str),
) -> Result<Vec<Rate>> {
    let tokenizer = Tokenizer::load_unchecked(checkpoints).map_err(CheckupError::at(checkpoints))?;
    let mut rates = Vec::new();
    for work in shapes.workloads() {
        let file = Path::new(work.file);
        let config = Config::parse(file, work.config).map_err(CheckupError::at(file))?;
        let counts = parameter_counts(&config);
        let bench = Bench { work, counts, config, tokenizer: &tokenizer, device, ops, limits, progress };
        bench.measure_sampling(&mut rates)?;
        bench.measure_sampling_without_kernels(&mut rates)?;
        bench.measure_update(&mut rates);
    }
    Ok(rates)
}

struct Bench<'a> {
    work: &'a Workload,
    config: Config,
    counts: ParameterCounts,
    tokenizer: &'a Tokenizer,
    device: &'a Device,
    ops: Ops,
    limits: &'a Limits,
    progress: &'a dyn Fn(&str),
}

impl Bench<'_> {
    fn dtype(&self) -> DType {
        DeviceClass::from_device(self.device).default_dtype()
    }

    /// Measures the vision tower, prefilling and decoding.
    fn measure_sampling(&self, rates: &mut Vec<Rate>) -> Result<()> {
        let model = self.build_model(self.ops)?;
        rates.push(self.take_measurement(self.vision_plan(), None, || self.time_vision(&model)));
        rates.push(self.take_measurement(self.prefill_plan(), None, || self.time_prefill(&model)));
        for batch in self.work.batches {
            rates.push(self.take_measurement(self.decode_plan(*batch), None, || self.time_decode(&model, *batch)));
        }
        Ok(())
    }

    /// Repeats prefilling and decoding on a GPU with candle's operations alone, to show the gain of
    /// our kernels.
    fn measure_sampling_without_kernels(&self, rates: &mut Vec<Rate>) -> Result<()> {
        // If our kernels failed to run, everything was measured without them already.
        if self.device.is_cpu() || self.ops == Ops::Reference {
            return Ok(());
        }
        let model = self.build_model(Ops::Reference)?;
        let note = || Some("without our kernels".to_owned());
        let batch = self.work.compared_batch;
        let prefill = self.take_measurement(self.prefill_plan(), note(), || self.time_prefill(&model));
        let decode = self.take_measurement(self.decode_plan(batch), note(), || self.time_decode(&model, batch));
        rates.extend([prefill, decode].map(|rate| Rate { own_kernels: false, ..rate }));
        Ok(())
    }

    fn build_model(&self, ops: Ops) -> Result<Model> {
        let source = RandomWeights::new(&self.config, self.dtype(), self.device, ops);
        Ok(Model::new(self.config.clone(), &source, Purpose::Sampling)?)
    }

    /// Takes a measurement. A failure gives a rate without a speed and with the reason as its note.
    fn take_measurement(
        &self,
        measurement: Measurement,
        note: Option<String>,
        measure: impl FnOnce() -> Result<f64>,
    ) -> Rate {
        let remark = note.as_ref().map_or_else(String::new, |note| format!(", {note}"));
        (self.progress)(&format!("{}: {}{remark}", self.work.model, measurement.shape));
        device::reset_peak_memory(self.device);
        let (seconds, problem) = match measure() {
            Ok(seconds) => (Some(seconds), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let limit_per_second = match measurement.limit {
            "copy" => self.limits.copy_bytes,
            _ => self.limits.operations(self.dtype()),
        };
        Rate {
            model: self.work.model,
            config: self.work.file,
            operation: measurement.operation,
            shape: measurement.shape,
            numbers: measurement.numbers,
            dtype: self.dtype().as_str(),
            unit: measurement.unit,
            seconds,
            per_second: seconds.map(|seconds| measurement.count / seconds),
            share: seconds.map(|seconds| measurement.needed / seconds / limit_per_second),
            limit: measurement.limit,
            own_kernels: self.ops == Ops::Kernels,
            peak_memory: device::peak_memory(self.device),
            note: match (note, problem) {
                (Some(note), Some(problem)) => Some(format!("{note}; {problem}")),
                (note, problem) => note.or(problem),
            },
        }
    }

    fn grid(&self) -> Grid {
        Grid::image(self.work.image_side, self.work.image_side)
    }

    fn vision_plan(&self) -> Measurement {
        let Workload { images, image_side, .. } = *self.work;
        let patches = (images * image_side * image_side) as f64;
        let unit = self.config.vision.merge_unit() as f64;
        let per_patch = (self.counts.patch_embedding + self.counts.vision_blocks) as f64;
        Measurement {
            operation: "vision",
            shape: format!("{images} images of {image_side} x {image_side} patches"),
            numbers: WorkloadSize { images, image_side, ..WorkloadSize::default() },
            unit: "patches",
            count: patches,
            needed: 2.0 * (per_patch * patches + self.counts.merger as f64 * patches / unit),
            limit: "products",
        }
    }

    fn time_vision(&self, model: &Model) -> Result<f64> {
        let grids = vec![self.grid(); self.work.images];
        let patches = self.work.images * self.grid().patches();
        let x = uniform((patches, self.config.vision.patch_len()), 1.0, DType::F32, &Device::Cpu)?;
        median_seconds(self.device, self.work.runs, || Ok(model.visual.forward(&x, &grids).map(drop)?))
    }

    fn prefill_plan(&self) -> Measurement {
        let Workload { prompts, prompt_tokens, .. } = *self.work;
        let tokens = (prompts * prompt_tokens) as f64;
        Measurement {
            operation: "prefill",
            shape: format!("{prompts} prompts of {prompt_tokens} tokens"),
            numbers: WorkloadSize { batch: prompts, prompt_tokens, ..WorkloadSize::default() },
            unit: "tokens",
            count: tokens,
            needed: 2.0 * (self.counts.text_layers as f64 * tokens + self.head_weights() * prompts as f64),
            limit: "products",
        }
    }

    /// Returns the number of weights of the projection to the vocabulary.
    fn head_weights(&self) -> f64 {
        (self.config.text.vocab_size * self.config.text.hidden_size) as f64
    }

    fn time_prefill(&self, model: &Model) -> Result<f64> {
        let Workload { prompts, prompt_tokens, .. } = *self.work;
        let blocks = prompt_tokens.div_ceil(BLOCK);
        let mut caches = model.caches(prompts * blocks)?;
        let ids: Vec<u32> = (0..prompts * prompt_tokens).map(token_id).collect();
        let last: Vec<u32> = (1..=prompts).map(|i| (i * prompt_tokens - 1) as u32).collect();
        let positions: Vec<[u32; 3]> = (0..ids.len()).map(|i| [(i % prompt_tokens) as u32; 3]).collect();
        median_seconds(self.device, self.work.runs, || {
            let mut step = Step::default();
            for prompt in 0..prompts {
                let blocks = (prompt * blocks..(prompt + 1) * blocks).map(|block| block as u32).collect();
                step.segments.push(StepSegment { tokens: prompt_tokens, context: 0, blocks });
            }
            let x = model.step(model.text.embed(&ids)?, &positions, &mut caches, &step)?;
            let x = x.index_select(&Tensor::new(last.as_slice(), self.device)?, 0)?;
            Ok(model.logits(&x).map(drop)?)
        })
    }

    fn decode_plan(&self, batch: usize) -> Measurement {
        let Workload { prompt_tokens, decoded_tokens, .. } = *self.work;
        let dtype = if self.dtype() == DType::BF16 { StoredType::BF16 } else { StoredType::F32 };
        let weights = (self.counts.text_layers as f64 + self.head_weights()) * dtype.size() as f64;
        let context = prompt_tokens as f64 + decoded_tokens as f64 / 2.0;
        let keys_and_values = batch as f64 * context * kv_bytes_per_token(&self.config, dtype) as f64;
        Measurement {
            operation: "decode",
            shape: format!("batch {batch}, {decoded_tokens} tokens each after {prompt_tokens}"),
            numbers: WorkloadSize { batch, prompt_tokens, response_tokens: decoded_tokens, ..WorkloadSize::default() },
            unit: "tokens",
            count: (batch * decoded_tokens) as f64,
            needed: decoded_tokens as f64 * (weights + keys_and_values),
            limit: "copy",
        }
    }

    /// Times the engine as a stage runs it. The time up to the first tokens is measured separately
    /// and subtracted.
    fn time_decode(&self, model: &Model, batch: usize) -> Result<f64> {
        const FIRST_TOKENS: usize = 4;
        let Workload { prompt_tokens, decoded_tokens, .. } = *self.work;
        let longest = prompt_tokens + FIRST_TOKENS + decoded_tokens;
        let options = EngineOptions {
            cache_bytes: Engine::cache_bytes_for(model, batch + 1, longest + BLOCK),
            max_sequences: batch,
            threads: thread_count(),
        };
        let mut engine = Engine::new(model, self.tokenizer, options)?;
        let mut time = |tokens: usize| {
            median_seconds(self.device, self.work.runs, || -> Result<()> {
                let options = SamplingOptions {
                    temperature: 1.0,
                    top_k: Some(40),
                    ..SamplingOptions::greedy(tokens, Vec::new())
                };
                let job = Job {
                    id: 0,
                    ids: (0..prompt_tokens).map(token_id).collect(),
                    images: Vec::new(),
                    streams: (0..batch as u64).map(|i| Seed(0).stream("checkup", "decode", i)).collect(),
                    options: Arc::new(options),
                };
                let mut failed = None;
                engine.run(std::iter::once(job), Some, |outcome| failed = outcome.samples.err())?;
                failed.map_or(Ok(()), |error| Err(error.into()))
            })
        };
        let first = time(FIRST_TOKENS)?;
        Ok((time(FIRST_TOKENS + decoded_tokens)? - first).max(f64::MIN_POSITIVE))
    }

    /// Measures a training step of all weights, or of LoRA adapters if GPU memory is too small.
    fn measure_update(&self, rates: &mut Vec<Rate>) {
        let Workload { groups, responses, response_tokens, image_side, prompt_tokens, .. } = *self.work;
        let image = self.grid().tokens(self.config.vision.spatial_merge_size);
        let tokens = (groups * (prompt_tokens + image + responses * response_tokens)) as f64;
        let targets = (groups * responses * response_tokens) as f64;
        let patches = (groups * image_side * image_side) as f64;
        // Bytes per weight: 17 for master weights, two moments and gradients in 32 bits plus a copy
        // of a layer in the compute dtype; 13 with moments in 16 bits.
        let fits = |bytes: f64| {
            device::free_memory(self.device).is_none_or(|free| free as f64 > bytes * self.counts.total as f64)
        };
        let all = fits(13.0);
        let (trained, moments, note) = match (fits(17.0), all) {
            (true, _) => (TrainScope::All, MomentType::F32, None),
            (false, true) => {
                (TrainScope::All, MomentType::Bf16, Some("moments in bf16: those in f32 do not fit".to_owned()))
            }
            (false, false) => {
                let note = "adapters only: the optimizer of all weights does not fit".to_owned();
                (self.adapters(), MomentType::F32, Some(note))
            }
        };
        let products = self.counts.text_layers as f64 * tokens + self.head_weights() * targets;
        let vision = (self.counts.patch_embedding + self.counts.vision_blocks) as f64 * patches;
        let (images, batch) = (groups, groups);
        let numbers = WorkloadSize { images, image_side, batch, prompt_tokens, responses, response_tokens };
        let measurement = Measurement {
            operation: "update",
            shape: format!(
                "{groups} groups of {responses} responses of {response_tokens} tokens, {prompt_tokens} + {image} of a prompt"
            ),
            numbers,
            unit: "tokens",
            count: tokens,
            // Forward pass, and backward pass for inputs and weights, without recomputation.
            needed: if all { 6.0 * (products + vision) } else { 4.0 * products + 2.0 * vision },
            limit: "products",
        };
        rates.push(self.take_measurement(measurement, note, || self.time_step(trained, moments)));
    }

    fn adapters(&self) -> TrainScope {
        TrainScope::Lora(LoraSettings::on_all_targets(16, 32.0))
    }

    fn time_step(&self, trained: TrainScope, moments: MomentType) -> Result<f64> {
        let Workload { groups, responses, response_tokens, prompt_tokens, image_side, .. } = *self.work;
        let source = RandomWeights::new(&self.config, self.dtype(), self.device, self.ops);
        let weights = TrainableModel::new(&self.config, trained, &source, Seed(0), self.dtype(), self.device)?;
        let settings = AdamWSettings { moments, ..AdamWSettings::default() };
        let mut optimizer = AdamW::new(settings, weights.variables())?;
        let tokens = self.config.tokens;
        let image = self.grid().tokens(self.config.vision.spatial_merge_size);
        let values = vec![0.5f32; self.grid().patches() * self.config.vision.patch_len()];
        let patches = Arc::new(Patches { values, grid: [1, image_side, image_side] });
        let prefix_group = |group: usize| PrefixGroup {
            prefix: std::iter::repeat_n(tokens.image, image)
                .chain((0..prompt_tokens).map(|i| token_id(group + i)))
                .collect(),
            images: vec![Arc::new(Arc::clone(&patches).into())],
            continuations: (0..responses)
                .map(|r| {
                    Continuation::response((0..response_tokens).map(|i| token_id(group * 31 + r * 7 + i)).collect())
                })
                .collect(),
        };
        let prefix_groups: Vec<PrefixGroup> = (0..groups).map(prefix_group).collect();
        let (threads, micro_batch_tokens) = (thread_count(), 8192);
        let compute = ComputeSettings { temperature: 1.0, micro_batch_tokens, layers_per_checkpoint: 1, threads };
        median_seconds(self.device, self.work.runs, || -> Result<()> {
            let (_, _, gradients) = cross_entropy(&weights, &prefix_groups, compute)?;
            optimizer.update(weights.variables(), &gradients, 1e-6)?;
            Ok(())
        })
    }
}

/// Returns an ordinary token id, which is in every model's vocabulary.
fn token_id(i: usize) -> u32 {
    (i * 7 % 251) as u32
}
