//! Comparison of a device's results with the CPU kernels' and transformers', on tiny checkpoints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use super::{Check, CheckupError, Result, bf16, read_json};
use crate::ids::Digest;
use crate::imaging::{Limits, decode};
use crate::random::Seed;
use crate::sampling::{Engine, EngineOptions, ImageInput, Job, Sample, SamplingOptions, score};
use crate::training::supervised::cross_entropy;
use crate::training::{AdamW, AdamWSettings, ComputeSettings, Continuation, PrefixGroup, TrainScope, TrainableModel};
use crate::vlm::checkpoint::PROCESSOR_FILE;
use crate::vlm::config::Config;
use crate::vlm::image_processor::{ImageProcessor, Patches};
use crate::vlm::model::Model;
use crate::vlm::named_tensors::{CheckpointTensors, Purpose};
use crate::vlm::ops::Ops;
use crate::vlm::tokenizer::Tokenizer;
use crate::vlm::weights::Weights;

/// Results of transformers, recorded by `tests/oracles/model.py`.
#[derive(Deserialize)]
struct ReferenceValues {
    response_ids: Vec<u32>,
    prompts: Vec<ExpectedPrompt>,
    checkpoints: BTreeMap<String, Vec<ExpectedOutput>>,
}

#[derive(Deserialize)]
struct ExpectedPrompt {
    images: Vec<String>,
    prompt_ids: Vec<u32>,
}

#[derive(Deserialize)]
struct ExpectedOutput {
    greedy: Vec<u32>,
    logprobs: Vec<f32>,
}

/// A prompt and its images, cut into patches.
struct Prompt {
    ids: Vec<u32>,
    images: Vec<Arc<Patches>>,
}

/// Inputs and expected results, shared by all checkpoints.
struct Cases {
    folder: PathBuf,
    expected: ReferenceValues,
    prompts: Vec<Prompt>,
    tokenizer: Tokenizer,
}

type NamedValues = BTreeMap<String, Vec<f32>>;

/// Results of a device for one checkpoint.
struct CheckpointOutputs {
    /// Log-probabilities of the recorded response, by prompt.
    logprobs: Vec<Vec<f32>>,
    /// Greedy samples, by prompt.
    greedy: Vec<Vec<u32>>,
    /// Random samples, by prompt.
    samples: Vec<Sample>,
    /// Gradients, by weight.
    gradients: NamedValues,
    /// Weights after a step of AdamW.
    stepped: NamedValues,
}

/// Compares the device with the CPU and with transformers on every checkpoint of the folder.
pub(super) fn check(checkpoints: &Path, device: &Device, ops: Ops) -> Result<Vec<Check>> {
    let cases = Cases::read(checkpoints)?;
    let (mut transformers, mut logprobs, mut gradients, mut steps) = (0f64, 0f64, 0f64, 0f64);
    let (mut greedy, mut unequal) = (0u32, 0u32);
    let mut narrow_difference = bf16::MeanDifference::default();
    for (name, expected_outputs) in &cases.expected.checkpoints {
        let reference = cases.compute(name, &Device::Cpu, Ops::Kernels)?;
        let outputs = cases.compute(name, device, ops)?;
        let repeated = cases.compute(name, device, ops)?;
        unequal += u32::from(outputs.digest() != repeated.digest());
        for (i, expected) in expected_outputs.iter().enumerate() {
            transformers = transformers.max(max_difference(&outputs.logprobs[i], &expected.logprobs));
            logprobs = logprobs.max(max_difference(&outputs.logprobs[i], &reference.logprobs[i]));
            greedy += u32::from(outputs.greedy[i] != expected.greedy);
        }
        for (name, gradient) in &reference.gradients {
            let other = outputs.gradients.get(name).map_or(&[][..], Vec::as_slice);
            gradients = gradients.max(distance(other, gradient) / norm(gradient).max(f64::MIN_POSITIVE));
            let other = outputs.stepped.get(name).map_or(&[][..], Vec::as_slice);
            steps = steps.max(distance(other, &reference.stepped[name]) / norm(&reference.stepped[name]));
        }
        let narrow = cases.logprobs(&cases.model(name, DType::BF16, device, ops)?)?;
        narrow_difference.add(&narrow.concat(), &reference.logprobs.concat());
    }
    let recorded = bf16::read_transformers_deviation(checkpoints)?.checkpoints;
    let peer = cases.expected.checkpoints.keys().filter_map(|name| recorded.get(name)).sum::<f64>()
        / cases.expected.checkpoints.len() as f64;
    let (nats, norms) = ("nats, the largest difference", "of a tensor's norm, the largest");
    let bf16_unit = "of the difference in transformers, on average";
    let bf16_ratio = narrow_difference.mean() / peer;
    Ok(vec![
        Check::new("log-probabilities in f32, compared with transformers", transformers, 1e-4, nats),
        Check::new("log-probabilities in f32, compared with the CPU", logprobs, 1e-4, nats),
        Check::new("greedy samples with the cache, compared with transformers", f64::from(greedy), 0.0, "that differ"),
        Check::new("gradients in f32, compared with the CPU", gradients, 1e-4, norms),
        Check::new("weights after a step in f32, compared with the CPU", steps, 1e-4, norms),
        Check::new("all of this computed a second time", f64::from(unequal), 0.0, "checkpoints with different bits"),
        Check::new("log-probabilities in bf16, compared with f32 on the CPU", bf16_ratio, 1.5, bf16_unit),
    ])
}

impl Cases {
    fn read(folder: &Path) -> Result<Self> {
        let mut expected: ReferenceValues = read_json(&folder.join("parity.json"))?;
        expected.checkpoints.retain(|name, _| folder.join(name).is_dir());
        if expected.checkpoints.is_empty() {
            return Err(CheckupError::data(folder, "none of the checkpoints of parity.json is there"));
        }
        let tokenizer = Tokenizer::load_unchecked(folder).map_err(CheckupError::at(folder))?;
        // All checkpoints process images in the same way, so the processor of any of them is used.
        let file = folder.join("tied-1").join(PROCESSOR_FILE);
        let processor = ImageProcessor::from_file(&file).map_err(CheckupError::at(&file))?;
        let image = |name: &String| -> Result<Arc<Patches>> {
            let file = folder.join("images").join(name);
            let bytes = std::fs::read(&file).map_err(CheckupError::at(&file))?;
            let pixels = decode(&bytes, &Limits::default()).map_err(CheckupError::at(&file))?.pixels;
            Ok(Arc::new(processor.process(&pixels).map_err(CheckupError::at(&file))?))
        };
        let prompt = |prompt: &ExpectedPrompt| -> Result<Prompt> {
            let images = prompt.images.iter().map(image).collect::<Result<_, _>>()?;
            Ok(Prompt { ids: prompt.prompt_ids.clone(), images })
        };
        let prompts = expected.prompts.iter().map(prompt).collect::<Result<_, _>>()?;
        Ok(Self { folder: folder.to_owned(), expected, prompts, tokenizer })
    }

    fn compute(&self, name: &str, device: &Device, ops: Ops) -> Result<CheckpointOutputs> {
        let model = self.model(name, DType::F32, device, ops)?;
        let logprobs = self.logprobs(&model)?;
        let lengths: Vec<usize> = self.expected.checkpoints[name].iter().map(|output| output.greedy.len()).collect();
        let greedy = self.draw(&model, |i| SamplingOptions::greedy(lengths[i], Vec::new()))?;
        let random = SamplingOptions { temperature: 1.0, top_k: Some(40), ..SamplingOptions::greedy(16, Vec::new()) };
        let samples = self.draw(&model, |_| random.clone())?;
        let (gradients, stepped) = self.train(name, device, ops)?;
        let greedy = greedy.into_iter().map(|sample| sample.token_ids).collect();
        Ok(CheckpointOutputs { logprobs, greedy, samples, gradients, stepped })
    }

    fn open(&self, name: &str) -> Result<(Config, Weights)> {
        let folder = self.folder.join(name);
        let config = Config::load(&folder).map_err(CheckupError::at(&folder))?;
        let weights = Weights::open(&folder, &config).map_err(CheckupError::at(&folder))?;
        Ok((config, weights))
    }

    fn model(&self, name: &str, dtype: DType, device: &Device, ops: Ops) -> Result<Model> {
        let (config, weights) = self.open(name)?;
        Ok(Model::new(config, &CheckpointTensors { weights: &weights, dtype, device, ops }, Purpose::Sampling)?)
    }

    /// Scores the recorded response after each prompt.
    fn logprobs(&self, model: &Model) -> Result<Vec<Vec<f32>>> {
        let one = |prompt: &Prompt| -> Result<Vec<f32>> {
            let images: Vec<ImageInput> = prompt.images.iter().map(|p| ImageInput::new(p.as_ref().clone())).collect();
            let images: Vec<&ImageInput> = images.iter().collect();
            Ok(score(model, &prompt.ids, &images, &self.expected.response_ids)?)
        };
        self.prompts.iter().map(one).collect()
    }

    /// Draws a sample after each prompt.
    fn draw(&self, model: &Model, options: impl Fn(usize) -> SamplingOptions) -> Result<Vec<Sample>> {
        const SEQUENCES: usize = 16;
        let cache_bytes = Engine::cache_bytes_for(model, SEQUENCES, 300);
        let engine_options = EngineOptions { cache_bytes, max_sequences: SEQUENCES, threads: thread_count() };
        let mut engine = Engine::new(model, &self.tokenizer, engine_options)?;
        let jobs = self.prompts.iter().enumerate().map(|(i, prompt)| Job {
            id: i as u64,
            ids: prompt.ids.clone(),
            images: prompt.images.iter().map(|p| Arc::new(ImageInput::new(p.as_ref().clone()))).collect(),
            streams: vec![Seed(3).stream("checkup", &i.to_string(), 0)],
            options: Arc::new(options(i)),
        });
        let jobs: Vec<Job> = jobs.collect();
        let mut samples = BTreeMap::new();
        engine.run(jobs.into_iter(), Some, |outcome| {
            samples.insert(outcome.id, outcome.samples);
        })?;
        samples.into_values().map(|samples| Ok(samples?.swap_remove(0))).collect()
    }

    /// Computes the gradients of all weights, and the weights after a step.
    fn train(&self, name: &str, device: &Device, ops: Ops) -> Result<(NamedValues, NamedValues)> {
        let (config, weights) = self.open(name)?;
        let source = CheckpointTensors { weights: &weights, dtype: DType::F32, device: &Device::Cpu, ops };
        let weights = TrainableModel::new(&config, TrainScope::All, &source, Seed(0), DType::F32, device)?;
        let prefix_group = |prompt: &Prompt| PrefixGroup {
            prefix: prompt.ids.clone(),
            images: prompt.images.iter().map(|image| Arc::new(Arc::clone(image).into())).collect(),
            continuations: vec![Continuation::response(self.expected.response_ids.clone())],
        };
        let prefix_groups: Vec<PrefixGroup> = self.prompts.iter().map(prefix_group).collect();
        let (threads, micro_batch_tokens) = (thread_count(), 400);
        let compute = ComputeSettings { temperature: 1.0, micro_batch_tokens, layers_per_checkpoint: 1, threads };
        let (_, _, gradients) = cross_entropy(&weights, &prefix_groups, compute)?;
        // A large epsilon keeps the denominator away from zero. With the usual one, a weight whose
        // gradient is only rounding noise would move as far as any other, in either direction.
        let settings = AdamWSettings { eps: 1e-3, ..AdamWSettings::default() };
        AdamW::new(settings, weights.variables())?.update(weights.variables(), &gradients, 1e-3)?;
        let values = gradients.iter().map(|(name, gradient)| Ok((name.clone(), to_f32_vec(gradient)?)));
        let values = values.collect::<Result<_>>()?;
        let stepped = weights.variables().iter().map(|(name, v)| Ok((name.clone(), to_f32_vec(v.as_tensor())?)));
        Ok((values, stepped.collect::<Result<_>>()?))
    }
}

impl CheckpointOutputs {
    /// Computes a digest of every bit.
    fn digest(&self) -> Digest {
        let mut bytes = Vec::new();
        let mut put = |values: &[f32]| values.iter().for_each(|v| bytes.extend_from_slice(&v.to_bits().to_le_bytes()));
        self.logprobs.iter().for_each(|values| put(values));
        self.samples.iter().for_each(|sample| put(&sample.logprobs));
        self.gradients.values().chain(self.stepped.values()).for_each(|values| put(values));
        let tokens = self.greedy.iter().chain(self.samples.iter().map(|sample| &sample.token_ids));
        tokens.flatten().for_each(|token| bytes.extend_from_slice(&token.to_le_bytes()));
        Digest::of(&bytes)
    }
}

pub(super) fn thread_count() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub(super) fn to_f32_vec(x: &Tensor) -> Result<Vec<f32>> {
    Ok(x.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// Returns the largest absolute difference; infinite if the lengths differ or a difference is NaN.
pub(super) fn max_difference(a: &[f32], b: &[f32]) -> f64 {
    let pairs = a.iter().zip(b).map(|(a, b)| f64::from((a - b).abs()));
    let largest = pairs.fold(0.0, |largest, d| if d.is_nan() { f64::INFINITY } else { d.max(largest) });
    if a.len() == b.len() { largest } else { f64::INFINITY }
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt()
}

/// Returns the norm of the difference; infinite if the lengths differ or it is not finite.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let sum = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt();
    if a.len() == b.len() && sum.is_finite() { sum } else { f64::INFINITY }
}
