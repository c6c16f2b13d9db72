//! How fast a device is at what an evolution does, beside what it could be: images, prompts, samples, and a training step.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use serde::Serialize;

use super::random_weights::{RandomWeights, uniform};
use super::shapes::{Shapes, Work};
use super::{CheckupError, Limits, seconds};
use crate::device::DeviceClass;
use crate::kernels::attention::BLOCK;
use crate::random::Seed;
use crate::sampling::{Engine, EngineOptions, Job, SamplingOptions};
use crate::training::lora::{LoraSettings, TARGETS};
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
use crate::vlm::tokenizer::{TOKENIZER_FILE, Tokenizer};

/// How fast something is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rate {
    /// The model.
    pub model: &'static str,
    /// Its `config.json`, in a checkout.
    pub config: &'static str,
    /// What was done: vision, prefill, decode or update.
    pub what: &'static str,
    /// How much at once, in words.
    pub shape: String,
    /// The numbers of the same, by name: what a peer has to do.
    pub numbers: Numbers,
    /// The number format.
    pub dtype: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// The seconds that it took; none where it failed.
    pub seconds: Option<f64>,
    /// The count a second.
    pub per_second: Option<f64>,
    /// The share of the limit that this is.
    pub share: Option<f64>,
    /// The limit: copies of memory, or products of matrices.
    pub limit: &'static str,
    /// Whether our own kernels served; without them it is candle's operations alone, to be compared with.
    pub own_kernels: bool,
    /// The most memory that tensors took at once, in bytes; none on a CPU.
    pub peak_memory: Option<u64>,
    /// What there is to say about it.
    pub note: Option<String>,
}

/// The numbers of a shape.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Numbers {
    /// Images.
    pub images: usize,
    /// Patches along a side of an image.
    pub image_side: usize,
    /// Sequences at once; of an update its groups.
    pub batch: usize,
    /// Tokens of a prompt.
    pub prompt_tokens: usize,
    /// Responses to a prompt.
    pub responses: usize,
    /// Tokens of a response.
    pub response_tokens: usize,
}

/// A measurement before it is one.
struct Planned {
    what: &'static str,
    shape: String,
    numbers: Numbers,
    unit: &'static str,
    /// What is counted, in one run.
    count: f64,
    /// Bytes or operations of one run, and which of the two.
    needed: f64,
    limit: &'static str,
}

pub(super) fn measure(
    data: &Path,
    device: &Device,
    ops: Ops,
    shapes: Shapes,
    limits: &Limits,
    said: &impl Fn(&str),
) -> Result<Vec<Rate>, CheckupError> {
    let file = data.join(TOKENIZER_FILE);
    let bytes = std::fs::read(&file).map_err(|e| CheckupError::data(&file, e))?;
    let tokenizer = Tokenizer::from_bytes(&file, &bytes).map_err(|e| CheckupError::data(&file, e))?;
    let mut rates = Vec::new();
    for work in shapes.work() {
        let file = Path::new(work.file);
        let config = Config::parse(file, work.config).map_err(|e| CheckupError::data(file, e))?;
        let bench = Bench { work, counts: parameter_counts(&config), config, device, ops, limits };
        bench.sampling(&tokenizer, &mut rates, said)?;
        bench.sampling_without_kernels(&tokenizer, &mut rates, said)?;
        bench.update(&mut rates, said);
    }
    Ok(rates)
}

struct Bench<'a> {
    work: &'a Work,
    config: Config,
    counts: ParameterCounts,
    device: &'a Device,
    ops: Ops,
    limits: &'a Limits,
}

impl Bench<'_> {
    fn dtype(&self) -> DType {
        DeviceClass::of(self.device).default_dtype()
    }

    /// Images, prompts and samples, by one model.
    fn sampling(&self, tokenizer: &Tokenizer, rates: &mut Vec<Rate>, said: &impl Fn(&str)) -> Result<(), CheckupError> {
        let model = self.model(self.ops)?;
        let planned = self.vision_plan();
        said(&format!("{}: {}", self.work.model, planned.shape));
        rates.push(self.rate(planned, None, || self.vision(&model)));
        let planned = self.prefill_plan();
        said(&format!("{}: {}", self.work.model, planned.shape));
        rates.push(self.rate(planned, None, || self.prefill(&model)));
        for batch in self.work.batches {
            let planned = self.decode_plan(*batch);
            said(&format!("{}: {}", self.work.model, planned.shape));
            rates.push(self.rate(planned, None, || self.decode(&model, tokenizer, *batch)));
        }
        Ok(())
    }

    /// On a GPU, measures a prompt and samples by candle's operations alone, to be compared with our kernels for it.
    fn sampling_without_kernels(
        &self,
        tokenizer: &Tokenizer,
        rates: &mut Vec<Rate>,
        said: &impl Fn(&str),
    ) -> Result<(), CheckupError> {
        // Where our kernels failed to run, everything was measured without them.
        if self.device.is_cpu() || self.ops == Ops::Reference {
            return Ok(());
        }
        let model = self.model(Ops::Reference)?;
        let mut add = |planned: Planned, measure: &dyn Fn() -> Result<f64, CheckupError>| {
            said(&format!("{}: {}, without our kernels", self.work.model, planned.shape));
            let rate = self.rate(planned, Some("without our kernels".to_owned()), measure);
            rates.push(Rate { own_kernels: false, ..rate });
        };
        let batch = self.work.compared_batch;
        add(self.prefill_plan(), &|| self.prefill(&model));
        add(self.decode_plan(batch), &|| self.decode(&model, tokenizer, batch));
        Ok(())
    }

    fn model(&self, ops: Ops) -> Result<Model, CheckupError> {
        let source = RandomWeights::new(&self.config, self.dtype(), self.device, ops);
        Ok(Model::new(self.config.clone(), &source, Purpose::Sampling)?)
    }

    /// Measures one thing; what fails is a rate without figures and with the reason.
    fn rate(
        &self,
        planned: Planned,
        note: Option<String>,
        measure: impl FnOnce() -> Result<f64, CheckupError>,
    ) -> Rate {
        self.forget_peak_memory();
        let (seconds, problem) = match measure() {
            Ok(seconds) => (Some(seconds), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let a_second = match planned.limit {
            "copy" => self.limits.copy_bytes,
            _ => self.limits.operations(self.dtype()),
        };
        Rate {
            model: self.work.model,
            config: self.work.file,
            what: planned.what,
            shape: planned.shape,
            numbers: planned.numbers,
            dtype: self.dtype().as_str(),
            unit: planned.unit,
            seconds,
            per_second: seconds.map(|seconds| planned.count / seconds),
            share: seconds.map(|seconds| planned.needed / seconds / a_second),
            limit: planned.limit,
            own_kernels: self.ops == Ops::Kernels,
            peak_memory: self.peak_memory(),
            note: match (note, problem) {
                (Some(note), Some(problem)) => Some(format!("{note}; {problem}")),
                (note, problem) => note.or(problem),
            },
        }
    }

    #[cfg(feature = "cuda")]
    fn forget_peak_memory(&self) {
        if !self.device.is_cpu() {
            // Without it the figure is that of all measurements so far, which is no less true.
            let _ = crate::device::cuda::reset_peak_memory(self.device);
        }
    }

    #[cfg(not(feature = "cuda"))]
    fn forget_peak_memory(&self) {}

    #[cfg(feature = "cuda")]
    fn peak_memory(&self) -> Option<u64> {
        if self.device.is_cpu() { None } else { crate::device::cuda::peak_memory(self.device).ok() }
    }

    #[cfg(not(feature = "cuda"))]
    fn peak_memory(&self) -> Option<u64> {
        None
    }

    fn grid(&self) -> Grid {
        Grid::image(self.work.image_side, self.work.image_side)
    }

    fn vision_plan(&self) -> Planned {
        let Work { images, image_side, .. } = *self.work;
        let patches = (images * image_side * image_side) as f64;
        let unit = self.config.vision.merge_unit() as f64;
        let a_patch = (self.counts.patch_embedding + self.counts.vision_blocks) as f64;
        Planned {
            what: "vision",
            shape: format!("{images} images of {image_side} x {image_side} patches"),
            numbers: Numbers { images, image_side, ..Numbers::default() },
            unit: "patches",
            count: patches,
            needed: 2.0 * (a_patch * patches + self.counts.merger as f64 * patches / unit),
            limit: "products",
        }
    }

    fn vision(&self, model: &Model) -> Result<f64, CheckupError> {
        let grids = vec![self.grid(); self.work.images];
        let patches = self.work.images * self.grid().patches();
        let x = uniform((patches, self.config.vision.patch_len()), 1.0, DType::F32, &Device::Cpu)?;
        seconds(self.device, self.work.runs, || Ok(model.visual.forward(&x, &grids).map(drop)?))
    }

    fn prefill_plan(&self) -> Planned {
        let Work { prompts, prompt_tokens, .. } = *self.work;
        let tokens = (prompts * prompt_tokens) as f64;
        Planned {
            what: "prefill",
            shape: format!("{prompts} prompts of {prompt_tokens} tokens"),
            numbers: Numbers { batch: prompts, prompt_tokens, ..Numbers::default() },
            unit: "tokens",
            count: tokens,
            needed: 2.0 * (self.counts.text_layers as f64 * tokens + self.head() * prompts as f64),
            limit: "products",
        }
    }

    /// Weights of the projection onto the vocabulary.
    fn head(&self) -> f64 {
        (self.config.text.vocab_size * self.config.text.hidden_size) as f64
    }

    fn prefill(&self, model: &Model) -> Result<f64, CheckupError> {
        let Work { prompts, prompt_tokens, .. } = *self.work;
        let blocks = prompt_tokens.div_ceil(BLOCK);
        let mut caches = model.caches(prompts * blocks)?;
        let ids: Vec<u32> = (0..prompts * prompt_tokens).map(word).collect();
        let last: Vec<u32> = (1..=prompts).map(|i| (i * prompt_tokens - 1) as u32).collect();
        let positions: Vec<[u32; 3]> = (0..ids.len()).map(|i| [(i % prompt_tokens) as u32; 3]).collect();
        seconds(self.device, self.work.runs, || {
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

    fn decode_plan(&self, batch: usize) -> Planned {
        let Work { prompt_tokens, decoded_tokens, .. } = *self.work;
        let dtype = if self.dtype() == DType::BF16 { StoredType::BF16 } else { StoredType::F32 };
        let weights = (self.counts.text_layers as f64 + self.head()) * dtype.size() as f64;
        let context = prompt_tokens as f64 + decoded_tokens as f64 / 2.0;
        let keys_and_values = batch as f64 * context * kv_bytes_per_token(&self.config, dtype) as f64;
        Planned {
            what: "decode",
            shape: format!("batch {batch}, {decoded_tokens} tokens each after {prompt_tokens}"),
            numbers: Numbers { batch, prompt_tokens, response_tokens: decoded_tokens, ..Numbers::default() },
            unit: "tokens",
            count: (batch * decoded_tokens) as f64,
            needed: decoded_tokens as f64 * (weights + keys_and_values),
            limit: "copy",
        }
    }

    /// The engine as a stage runs it; the time to the first tokens is measured by itself and left out.
    fn decode(&self, model: &Model, tokenizer: &Tokenizer, batch: usize) -> Result<f64, CheckupError> {
        const FIRST: usize = 4;
        let Work { prompt_tokens, decoded_tokens, .. } = *self.work;
        let longest = prompt_tokens + FIRST + decoded_tokens;
        let options = EngineOptions {
            cache_bytes: Engine::cache_bytes_for(model, batch + 1, longest + BLOCK),
            max_sequences: batch,
            threads: threads(),
        };
        let mut engine = Engine::new(model, tokenizer, options)?;
        let mut time = |tokens: usize| {
            seconds(self.device, self.work.runs, || -> Result<(), CheckupError> {
                let options = SamplingOptions {
                    temperature: 1.0,
                    top_k: Some(40),
                    ..SamplingOptions::greedy(tokens, Vec::new())
                };
                let job = Job {
                    id: 0,
                    ids: (0..prompt_tokens).map(word).collect(),
                    images: Vec::new(),
                    streams: (0..batch as u64).map(|i| Seed(0).stream("checkup", "decode", i)).collect(),
                    options: Arc::new(options),
                };
                let mut failed = None;
                engine.run(std::iter::once(job), Some, |outcome| failed = outcome.samples.err())?;
                failed.map_or(Ok(()), |error| Err(error.into()))
            })
        };
        let first = time(FIRST)?;
        Ok((time(FIRST + decoded_tokens)? - first).max(f64::MIN_POSITIVE))
    }

    /// A training step of all weights, or of adapters where the GPU has no room for that.
    fn update(&self, rates: &mut Vec<Rate>, said: &impl Fn(&str)) {
        let Work { groups, responses, response_tokens, image_side, prompt_tokens, .. } = *self.work;
        let image = self.grid().tokens(self.config.vision.spatial_merge_size);
        let tokens = (groups * (prompt_tokens + image + responses * response_tokens)) as f64;
        let targets = (groups * responses * response_tokens) as f64;
        let patches = (groups * image_side * image_side) as f64;
        // Master weights, two moments and gradients of 32 bits, and the computing type's copy of a layer; or moments of 16.
        let fits = |bytes: f64| self.free_memory().is_none_or(|free| free as f64 > bytes * self.counts.total as f64);
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
        let products = self.counts.text_layers as f64 * tokens + self.head() * targets;
        let vision = (self.counts.patch_embedding + self.counts.vision_blocks) as f64 * patches;
        let planned = Planned {
            what: "update",
            shape: format!(
                "{groups} groups of {responses} responses of {response_tokens} tokens, {prompt_tokens} + {image} of a prompt"
            ),
            numbers: Numbers { images: groups, image_side, batch: groups, prompt_tokens, responses, response_tokens },
            unit: "tokens",
            count: tokens,
            // Forward, and back by inputs and by weights; what is computed again is not counted.
            needed: if all { 6.0 * (products + vision) } else { 4.0 * products + 2.0 * vision },
            limit: "products",
        };
        said(&format!("{}: {}", self.work.model, planned.shape));
        rates.push(self.rate(planned, note, || self.step(trained, moments)));
    }

    fn adapters(&self) -> TrainScope {
        TrainScope::Lora(LoraSettings { rank: 16, alpha: 32.0, targets: TARGETS.map(str::to_owned).to_vec() })
    }

    #[cfg(feature = "cuda")]
    fn free_memory(&self) -> Option<usize> {
        if self.device.is_cpu() {
            None
        } else {
            crate::device::cuda::gpu_info(self.device).ok().map(|gpu| gpu.free_memory)
        }
    }

    #[cfg(not(feature = "cuda"))]
    fn free_memory(&self) -> Option<usize> {
        None
    }

    fn step(&self, trained: TrainScope, moments: MomentType) -> Result<f64, CheckupError> {
        let Work { groups, responses, response_tokens, prompt_tokens, image_side, .. } = *self.work;
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
                .chain((0..prompt_tokens).map(|i| word(group + i)))
                .collect(),
            images: vec![Arc::new(Arc::clone(&patches).into())],
            continuations: (0..responses)
                .map(|r| Continuation::response((0..response_tokens).map(|i| word(group * 31 + r * 7 + i)).collect()))
                .collect(),
        };
        let prefix_groups: Vec<PrefixGroup> = (0..groups).map(prefix_group).collect();
        let compute = ComputeSettings {
            temperature: 1.0,
            micro_batch_tokens: 8192,
            layers_per_checkpoint: 1,
            threads: threads(),
        };
        seconds(self.device, self.work.runs, || -> Result<(), CheckupError> {
            let (_, _, gradients) = cross_entropy(&weights, &prefix_groups, compute)?;
            optimizer.update(weights.variables(), &gradients, 1e-6)?;
            Ok(())
        })
    }
}

/// A word of every model's vocabulary that stands for nothing else.
fn word(i: usize) -> u32 {
    (i * 7 % 251) as u32
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
