//! A batch worker of the engine: a KV cache, the samples that run on it, and the loop of continuous
//! batching that keeps the batch full.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{DType, Tensor};
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use rayon::prelude::*;

use super::block_pool::BlockPool;
use super::job::{Job, Outcome, Result, Sample, SamplingError};
use super::partial_sample::PartialSample;
use super::sample_on_device::{DrawParameters, sample_on_device};
use super::sample_token::{SampledToken, sample_token};
use crate::kernels::attention::BLOCK;
use crate::vlm::model::Model;
use crate::vlm::ops::{LayerCache, Step, StepSegment, floats};
use crate::vlm::rope::Positions;
use crate::vlm::tokenizer::Tokenizer;

/// Largest number of prompt tokens that are prefilled in one pass.
const PREFILL_TOKENS: usize = 1024;

/// A job with its finished samples.
struct JobProgress {
    job: Job,
    samples: Vec<Option<Sample>>,
    unfinished: usize,
}

/// A prefilled prompt whose samples have not all been started.
struct PrefilledPrompt {
    number: usize,
    blocks: Vec<u32>,
    length: usize,
    next_position: u32,
    /// Logits of the token after the prompt.
    logits: Vec<f32>,
    started: usize,
}

/// A running sample. Its last token is not in the cache yet.
struct RunningSample {
    /// Number of its job among the worker's jobs.
    number: usize,
    sample: usize,
    blocks: Vec<u32>,
    /// Number of reserved blocks that it may still take.
    reserved: usize,
    length: usize,
    next_position: u32,
    partial: PartialSample,
}

/// A batch worker.
pub(super) struct BatchWorker<'a> {
    model: &'a Model,
    tokenizer: &'a Tokenizer,
    caches: &'a mut [LayerCache],
    max_sequences: usize,
    forbidden: Vec<u32>,
    pool: BlockPool,
    /// Unfinished jobs by number.
    jobs: BTreeMap<usize, JobProgress>,
    next_number: usize,
    prompts: VecDeque<PrefilledPrompt>,
    running: Vec<RunningSample>,
    /// A job that does not fit yet.
    waiting: Option<Job>,
    /// Whether kernels are batch-invariant: a sample has the same bits whatever is in its batch.
    batch_invariant: bool,
    /// Set to true to abandon all running samples.
    stop: Arc<AtomicBool>,
}

impl<'a> BatchWorker<'a> {
    pub(super) fn new(
        model: &'a Model,
        tokenizer: &'a Tokenizer,
        caches: &'a mut [LayerCache],
        blocks: usize,
        max_sequences: usize,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let tokens = model.config.tokens;
        Self {
            model,
            tokenizer,
            caches,
            max_sequences,
            forbidden: vec![tokens.image, tokens.video],
            pool: BlockPool::new(blocks),
            jobs: BTreeMap::new(),
            next_number: 0,
            prompts: VecDeque::new(),
            running: Vec::new(),
            waiting: None,
            batch_invariant: model.uses_cpu_kernels(),
            stop,
        }
    }

    /// Runs until there are no more jobs and all samples are finished, or until `stop` is set.
    pub(super) fn run(mut self, jobs: &Receiver<Job>, done: &Sender<Outcome>) -> Result<()> {
        while !self.is_stopped() {
            let open = self.admit(jobs, done)?;
            if !self.running.is_empty() {
                self.decode(done)?;
            } else if !open && self.prompts.is_empty() && self.waiting.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Starts as much work as fits: samples of prefilled prompts first, then new prompts. Returns
    /// whether more jobs may come.
    fn admit(&mut self, jobs: &Receiver<Job>, done: &Sender<Outcome>) -> Result<bool> {
        loop {
            self.start_samples(done)?;
            if self.running.len() >= self.max_sequences || !self.prompts.is_empty() {
                return Ok(true);
            }
            let (batch, open) = self.collect(jobs, done);
            if batch.is_empty() {
                return Ok(open);
            }
            self.prefill(batch)?;
        }
    }

    /// Collects the jobs of one prefill pass: as many as fit the cache, the batch and
    /// [`PREFILL_TOKENS`]. Returns them and whether more jobs may come.
    ///
    /// If the kernels are not batch-invariant, the composition of a batch must not depend on how
    /// fast jobs are prepared: the worker then waits for the next job, although it could continue
    /// with the running samples.
    fn collect(&mut self, jobs: &Receiver<Job>, done: &Sender<Outcome>) -> (Vec<(Job, Positions)>, bool) {
        let (mut batch, mut tokens, mut samples) = (Vec::new(), 0, self.running.len());
        let mut available = self.pool.available();
        loop {
            let idle = self.running.is_empty() && self.prompts.is_empty() && batch.is_empty();
            let received = match self.waiting.take() {
                Some(job) => Ok(job),
                None if idle || !self.batch_invariant => jobs.recv().map_err(TryRecvError::from),
                None => jobs.try_recv(),
            };
            let job = match received {
                Ok(job) => job,
                Err(error) => return (batch, error == TryRecvError::Empty),
            };
            let positions = match self.check(&job) {
                Ok(positions) => positions,
                Err(error) => {
                    let _ = done.send(Outcome { id: job.id, prompt_tokens: job.ids.len(), samples: Err(error) });
                    continue;
                }
            };
            let needed = blocks_for_sample(job.ids.len(), job.options.max_tokens) + job.ids.len().div_ceil(BLOCK);
            let fits = needed <= available && (tokens == 0 || tokens + job.ids.len() <= PREFILL_TOKENS);
            if !fits || samples >= self.max_sequences {
                self.waiting = Some(job);
                return (batch, true);
            }
            available -= needed;
            tokens += job.ids.len();
            samples += job.streams.len();
            batch.push((job, positions));
        }
    }

    /// Checks that a job can run, and returns the positions of its prompt.
    fn check(&self, job: &Job) -> Result<Positions> {
        job.options.validate()?;
        if job.ids.is_empty() {
            return Err(SamplingError::EmptyPrompt);
        }
        let vocabulary = self.model.config.text.vocab_size;
        if let Some(token) = job.ids.iter().find(|id| **id as usize >= vocabulary) {
            return Err(SamplingError::Vocabulary { token: *token, vocabulary });
        }
        let needed = blocks_for_sample(job.ids.len(), job.options.max_tokens) + job.ids.len().div_ceil(BLOCK);
        if needed > self.pool.len() {
            let capacity = self.pool.len() * BLOCK;
            return Err(SamplingError::TooLong { needed: needed * BLOCK, capacity });
        }
        let grids: Vec<_> = job.images.iter().map(|image| image.grid()).collect();
        Ok(self.model.positions(&job.ids, &grids)?)
    }

    /// Prefills prompts, each once, and keeps the logits of the next token.
    fn prefill(&mut self, batch: Vec<(Job, Positions)>) -> Result<()> {
        let (mut embedded, mut positions, mut step, mut last) = (Vec::new(), Vec::new(), Step::default(), Vec::new());
        for (job, its_positions) in &batch {
            let features = job.images.iter().map(|image| image.features(self.model)).collect::<Result<Vec<_>, _>>()?;
            let features = if features.is_empty() { None } else { Some(Tensor::cat(&features, 0)?) };
            embedded.push(self.model.embed(&job.ids, features.as_ref())?);
            positions.extend_from_slice(&its_positions.tokens);
            last.push(positions.len() as u32 - 1);
            let count = job.ids.len().div_ceil(BLOCK);
            self.pool.reserve(count);
            let blocks = (0..count).filter_map(|_| self.pool.take_reserved()).collect();
            step.segments.push(StepSegment { tokens: job.ids.len(), context: 0, blocks });
        }
        let x = self.model.step(Tensor::cat(&embedded, 0)?, &positions, self.caches, &step)?;
        let x = x.index_select(&Tensor::new(last, x.device())?, 0)?;
        let rows = self.model.logits(&x)?.to_dtype(DType::F32)?.to_vec2::<f32>()?;
        for ((row, (job, positions)), segment) in rows.into_iter().zip(batch).zip(step.segments) {
            let (length, next_position) = (job.ids.len(), positions.next);
            let (number, unfinished) = (self.next_number, job.streams.len());
            self.next_number += 1;
            self.jobs.insert(number, JobProgress { job, samples: vec![None; unfinished], unfinished });
            let (blocks, logits) = (segment.blocks, row);
            self.prompts.push_back(PrefilledPrompt { number, blocks, length, next_position, logits, started: 0 });
        }
        Ok(())
    }

    /// Starts samples of prefilled prompts while the cache has space for a whole sample.
    fn start_samples(&mut self, done: &Sender<Outcome>) -> Result<()> {
        while let Some(mut prompt) = self.prompts.pop_front() {
            let Some(progress) = self.jobs.get(&prompt.number) else { continue };
            let (count, options) = (progress.samples.len(), progress.job.options.clone());
            let needed = blocks_for_sample(prompt.length, options.max_tokens);
            let fits = |worker: &Self| worker.running.len() < worker.max_sequences && needed <= worker.pool.available();
            while prompt.started < count && fits(self) && !self.is_stopped() {
                self.start_sample(&prompt, needed, done)?;
                prompt.started += 1;
            }
            if prompt.started < count {
                self.prompts.push_front(prompt);
                return Ok(());
            }
            prompt.blocks.iter().for_each(|block| self.pool.release(*block));
            if count == 0 {
                self.report(prompt.number, done);
            }
        }
        Ok(())
    }

    fn start_sample(&mut self, prompt: &PrefilledPrompt, needed: usize, done: &Sender<Outcome>) -> Result<()> {
        let sample = prompt.started;
        let Some(progress) = self.jobs.get(&prompt.number) else { return Ok(()) };
        let options = progress.job.options.clone();
        let uniform = if options.temperature > 0.0 { progress.job.streams[sample].uniform(0) } else { 0.0 };
        let sampled = sample_token(&prompt.logits, &options, &self.forbidden, uniform, &mut Vec::new());
        let SampledToken { token, logprob } = sampled.ok_or(SamplingError::NotFinite)?;
        let mut partial = PartialSample::default();
        if let Some(reason) = partial.push(token, logprob, &options, self.tokenizer) {
            self.complete(prompt.number, sample, partial.finish(reason, self.tokenizer), done);
            return Ok(());
        }
        self.pool.reserve(needed);
        let mut reserved = needed;
        let full = prompt.length / BLOCK;
        let mut blocks = prompt.blocks[..full].to_vec();
        blocks.iter().for_each(|block| self.pool.share(*block));
        if let Some(partial_block) = prompt.blocks.get(full)
            && let Some(own) = self.pool.take_reserved()
        {
            // The prompt's last block is partial, so the sample continues a copy (copy on write).
            reserved -= 1;
            self.caches.iter_mut().try_for_each(|cache| cache.copy_block(*partial_block, own))?;
            blocks.push(own);
        }
        let (number, length, next_position) = (prompt.number, prompt.length, prompt.next_position);
        self.running.push(RunningSample { number, sample, blocks, reserved, length, next_position, partial });
        Ok(())
    }

    /// Draws the next token of every running sample.
    fn decode(&mut self, done: &Sender<Outcome>) -> Result<()> {
        let (mut ids, mut positions, mut step) = (Vec::new(), Vec::new(), Step::default());
        for running in &mut self.running {
            if running.length / BLOCK == running.blocks.len()
                && let Some(block) = self.pool.take_reserved()
            {
                running.reserved -= 1;
                running.blocks.push(block);
            }
            ids.extend(running.partial.tokens.last());
            positions.push([running.next_position; 3]);
            step.segments.push(StepSegment { tokens: 1, context: running.length, blocks: running.blocks.clone() });
        }
        let x = self.model.step(self.model.text.embed(&ids)?, &positions, self.caches, &step)?;
        let sampled = self.sample_all(&self.model.logits(&x)?)?;
        let mut ended = Vec::new();
        for (place, (running, sampled)) in self.running.iter_mut().zip(sampled).enumerate() {
            running.length += 1;
            running.next_position += 1;
            let Some(progress) = self.jobs.get(&running.number) else { continue };
            let reason = running.partial.push(sampled.token, sampled.logprob, &progress.job.options, self.tokenizer);
            ended.extend(reason.map(|reason| (place, reason)));
        }
        for (place, reason) in ended.into_iter().rev() {
            let running = self.running.swap_remove(place);
            running.blocks.iter().for_each(|block| self.pool.release(*block));
            self.pool.unreserve(running.reserved);
            let sample = running.partial.finish(reason, self.tokenizer);
            self.complete(running.number, running.sample, sample, done);
        }
        Ok(())
    }

    /// Draws a token for every running sample from its row of the logits.
    fn sample_all(&self, logits: &Tensor) -> Result<Vec<SampledToken>> {
        let parameters = |running: &RunningSample| -> Option<DrawParameters<'_>> {
            let job = &self.jobs.get(&running.number)?.job;
            let greedy = job.options.temperature == 0.0;
            let position = running.partial.tokens.len() as u64;
            let uniform = if greedy { 0.0 } else { job.streams[running.sample].uniform(position) };
            Some(DrawParameters { options: &job.options, forbidden: &self.forbidden, uniform })
        };
        if !self.model.uses_cpu_kernels() {
            let draws: Option<Vec<DrawParameters<'_>>> = self.running.iter().map(parameters).collect();
            let sampled = sample_on_device(logits, &draws.unwrap_or_default())?;
            return sampled.into_iter().collect::<Option<Vec<_>>>().ok_or(SamplingError::NotFinite);
        }
        let sample = |running: &RunningSample, row: &[f32], scratch: &mut Vec<f32>| -> Option<SampledToken> {
            let DrawParameters { options, forbidden, uniform } = parameters(running)?;
            sample_token(row, options, forbidden, uniform, scratch)
        };
        let (logits, width) = (logits.contiguous()?, logits.dim(1)?);
        let values = floats(&logits)?;
        let pairs = self.running.par_iter().zip(values.par_chunks_exact(width));
        // A task draws several samples of a small vocabulary, to be worth a thread.
        let tasks = pairs.with_min_len((1 << 14) / width + 1);
        let sampled: Option<Vec<_>> = tasks.map_init(Vec::new, |s, (running, row)| sample(running, row, s)).collect();
        sampled.ok_or(SamplingError::NotFinite)
    }

    /// Stores a finished sample, and reports the job when all its samples are finished.
    fn complete(&mut self, number: usize, sample: usize, finished: Sample, done: &Sender<Outcome>) {
        if let Some(progress) = self.jobs.get_mut(&number) {
            progress.samples[sample] = Some(finished);
            progress.unfinished -= 1;
            if progress.unfinished == 0 {
                self.report(number, done);
            }
        }
    }

    fn report(&mut self, number: usize, done: &Sender<Outcome>) {
        if let Some(JobProgress { job, samples, .. }) = self.jobs.remove(&number) {
            let samples = Ok(samples.into_iter().flatten().collect());
            // The receiver is gone if the caller stopped early; the loop then ends with the jobs.
            let _ = done.send(Outcome { id: job.id, prompt_tokens: job.ids.len(), samples });
        }
    }
}

/// Returns the number of blocks that a sample may need besides the full ones of its prompt.
fn blocks_for_sample(prompt: usize, max_tokens: usize) -> usize {
    // The last token of a sample never enters the cache.
    (prompt + max_tokens - 1).div_ceil(BLOCK) - prompt / BLOCK
}
