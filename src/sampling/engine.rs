//! The sampling engine: batch workers that share a model, connected by bounded channels.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use crossbeam_channel::bounded;

use super::batch_worker::BatchWorker;
use super::job::{Job, Outcome, Result, SamplingError};
use super::ticket_queue::TicketQueue;
use crate::kernels::attention::BLOCK;
use crate::vlm::model::Model;
use crate::vlm::ops::LayerCache;
use crate::vlm::text::attention_heads;
use crate::vlm::tokenizer::Tokenizer;

/// Multiply-adds per token below which each thread runs a batch of its own instead of a part of
/// each matrix product.
const SMALL_MODEL: usize = 400_000_000;

/// Resource limits of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Memory of the KV cache in bytes, all workers together.
    pub cache_bytes: usize,
    /// Largest number of samples that run at once, all workers together.
    pub max_sequences: usize,
    /// Number of threads.
    pub threads: usize,
}

/// Draws samples. Its KV cache is allocated once.
#[derive(Debug)]
pub struct Engine<'a> {
    model: &'a Model,
    tokenizer: &'a Tokenizer,
    workers: Vec<WorkerMemory>,
    max_sequences: usize,
    threads: usize,
    stop: Arc<AtomicBool>,
}

#[derive(Debug)]
struct WorkerMemory {
    caches: Vec<LayerCache>,
    blocks: usize,
    pool: rayon::ThreadPool,
}

impl<'a> Engine<'a> {
    /// Allocates the KV cache and starts the threads. A small model on a CPU gets one worker per
    /// thread; otherwise all threads compute the matrix products of one worker.
    ///
    /// # Errors
    /// The cache does not fit in memory, or threads cannot be started.
    pub fn new(model: &'a Model, tokenizer: &'a Tokenizer, options: EngineOptions) -> Result<Self> {
        let threads = options.threads.max(1);
        let small = model.uses_cpu_kernels() && model.config.text.multiply_adds_per_token() < SMALL_MODEL;
        let workers = if small { threads.min(options.max_sequences.div_ceil(16)).max(1) } else { 1 };
        // Slots of the cache are indexed with 32 bits.
        let blocks = (options.cache_bytes / workers / bytes_per_block(model)).min(u32::MAX as usize / BLOCK);
        if model.device().is_cpu() && !can_allocate(workers * blocks * bytes_per_block(model)) {
            return Err(SamplingError::CacheMemory { bytes: options.cache_bytes });
        }
        let worker = |_| -> Result<WorkerMemory> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads / workers).build();
            let pool = pool.map_err(|e| SamplingError::Threads(e.to_string()))?;
            Ok(WorkerMemory { caches: model.caches(blocks)?, blocks, pool })
        };
        let memory = (0..workers).map(worker).collect::<Result<_, _>>()?;
        let max_sequences = options.max_sequences.div_ceil(workers).max(1);
        Ok(Self { model, tokenizer, workers: memory, max_sequences, threads, stop: Arc::default() })
    }

    /// Makes the engine abandon running samples once `stop` is true; their jobs have no outcome.
    #[must_use]
    pub fn with_stop_flag(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop, ..self }
    }

    /// Returns the bytes of KV cache that hold `sequences` sequences of up to `tokens` tokens at
    /// once in the worst case, without prefix sharing.
    pub fn cache_bytes_for(model: &Model, sequences: usize, tokens: usize) -> usize {
        // A prompt's last block and a sample's first one may both be partial.
        sequences * (tokens.div_ceil(BLOCK) + 2) * bytes_per_block(model)
    }

    /// Draws the samples of every job. `prepare` turns `items` into jobs on other threads, ahead of
    /// the model, which gets them in the order of the items; `finish` takes the outcomes on the
    /// calling thread, in the order of their completion.
    ///
    /// # Errors
    /// The model or a thread failed. An error of a single prompt is in its outcome instead.
    pub fn run<T: Send>(
        &mut self,
        items: impl Iterator<Item = T> + Send,
        prepare: impl Fn(T) -> Option<Job> + Sync,
        mut finish: impl FnMut(Outcome),
    ) -> Result<()> {
        /// Prepared jobs that wait for a worker; each preparing thread may hold one more.
        const AHEAD: usize = 16;
        let (send_job, jobs) = bounded::<Job>(AHEAD);
        let (done, outcomes) = bounded::<Outcome>(4 * AHEAD);
        let items = TicketQueue::new(items);
        let (model, tokenizer, max_sequences) = (self.model, self.tokenizer, self.max_sequences);
        let stop = Arc::clone(&self.stop);
        thread::scope(|scope| {
            let (items, prepare) = (&items, &prepare);
            for _ in 0..self.threads.min(AHEAD) {
                let send_job = send_job.clone();
                scope.spawn(move || {
                    while let Some((mut ticket, item)) = items.take() {
                        let job = prepare(item);
                        if !ticket.wait() || job.is_some_and(|job| send_job.send(job).is_err()) {
                            return;
                        }
                    }
                });
            }
            drop(send_job);
            let workers: Vec<_> = self
                .workers
                .iter_mut()
                .map(|WorkerMemory { caches, blocks, pool }| {
                    let (jobs, done) = (jobs.clone(), done.clone());
                    let worker = BatchWorker::new(model, tokenizer, caches, *blocks, max_sequences, Arc::clone(&stop));
                    scope.spawn(move || pool.install(|| worker.run(&jobs, &done)))
                })
                .collect();
            drop((jobs, done));
            // Consumed inside the scope, so that a panic in `finish` closes the channel and no
            // worker waits for space in it.
            outcomes.into_iter().for_each(&mut finish);
            let ended = workers.into_iter().map(|worker| {
                worker.join().unwrap_or_else(|_| Err(SamplingError::Threads("a sampling thread panicked".to_owned())))
            });
            ended.collect::<Result<Vec<()>, _>>().map(|_| ())
        })
    }
}

/// Whether the system can allocate this many bytes. Checked first, because a failed allocation of
/// the blocks would abort the process.
fn can_allocate(bytes: usize) -> bool {
    let mut memory = Vec::<u8>::new();
    let allocated = memory.try_reserve_exact(bytes).is_ok();
    // Keeps the compiler from removing the unused allocation.
    std::hint::black_box(&mut memory);
    allocated
}

fn bytes_per_block(model: &Model) -> usize {
    let heads = attention_heads(&model.config.text);
    let floats = heads.key_block() + heads.value_block();
    floats * model.dtype().size_in_bytes() * model.config.text.num_hidden_layers
}
