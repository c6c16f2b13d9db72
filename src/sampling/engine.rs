//! The engine: workers that share a model, fed and emptied through bounded channels.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use crossbeam_channel::bounded;

use super::batch_worker::BatchWorker;
use super::job::{Job, Outcome, SamplingError};
use super::ticket_queue::TicketQueue;
use crate::kernels::attention::BLOCK;
use crate::vlm::model::Model;
use crate::vlm::ops::LayerCache;
use crate::vlm::text::attention_heads;
use crate::vlm::tokenizer::Tokenizer;

/// Multiply-adds a token below which threads are better used on samples of their own than on parts of one product.
const SMALL_MODEL: usize = 400_000_000;

/// What the engine may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Memory of the cache of keys and values, in bytes, all workers together.
    pub cache_bytes: usize,
    /// Samples that run at once, all workers together.
    pub max_sequences: usize,
    /// Threads.
    pub threads: usize,
}

/// Draws samples; its cache is allocated once.
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
    /// Allocates the cache and starts the threads; an error where there is no room for it. A small model on a CPU gets a worker a thread; otherwise all threads
    /// work on the products of one worker.
    pub fn new(model: &'a Model, tokenizer: &'a Tokenizer, options: EngineOptions) -> Result<Self, SamplingError> {
        let threads = options.threads.max(1);
        let small = model.uses_cpu_kernels() && model.config.text.multiply_adds_per_token() < SMALL_MODEL;
        let workers = if small { threads.min(options.max_sequences.div_ceil(16)).max(1) } else { 1 };
        // What stands in a block is named by a number of 32 bits.
        let blocks = (options.cache_bytes / workers / bytes_a_block(model)).min(u32::MAX as usize / BLOCK);
        if model.device().is_cpu() && !has_room(workers * blocks * bytes_a_block(model)) {
            return Err(SamplingError::CacheMemory { bytes: options.cache_bytes });
        }
        let worker = |_| -> Result<WorkerMemory, SamplingError> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads / workers).build();
            let pool = pool.map_err(|e| SamplingError::Threads(e.to_string()))?;
            Ok(WorkerMemory { caches: model.caches(blocks)?, blocks, pool })
        };
        let memory = (0..workers).map(worker).collect::<Result<_, _>>()?;
        let max_sequences = options.max_sequences.div_ceil(workers).max(1);
        Ok(Self { model, tokenizer, workers: memory, max_sequences, threads, stop: Arc::default() })
    }

    /// The same engine, which drops what it is drawing once `stop` is true: jobs that are not done then have no outcome.
    #[must_use]
    pub fn stopping_at(self, stop: Arc<AtomicBool>) -> Self {
        Self { stop, ..self }
    }

    /// The bytes of cache that hold `sequences` of up to `tokens` tokens at once, in the worst case of no shared prompt.
    pub fn cache_bytes_for(model: &Model, sequences: usize, tokens: usize) -> usize {
        // A prompt and a sample of it meet inside a block.
        sequences * (tokens.div_ceil(BLOCK) + 2) * bytes_a_block(model)
    }

    /// Draws the samples of every job. `prepare` makes jobs of `items` on other threads, ahead of the model, which gets them in the
    /// items' order; `finish` takes the outcomes on this one, in the order in which they come about.
    ///
    /// # Errors
    /// What concerns one prompt is in its outcome; an error here means that the model or a thread failed.
    pub fn run<T: Send>(
        &mut self,
        items: impl Iterator<Item = T> + Send,
        prepare: impl Fn(T) -> Option<Job> + Sync,
        mut finish: impl FnMut(Outcome),
    ) -> Result<(), SamplingError> {
        /// Jobs that wait ready for a worker; each thread that prepares may hold one more.
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
            // Taken in here, so that a panic in `finish` closes the channel: no worker waits for room in it.
            outcomes.into_iter().for_each(&mut finish);
            let ended = workers.into_iter().map(|worker| {
                worker.join().unwrap_or_else(|_| Err(SamplingError::Threads("a sampling thread panicked".to_owned())))
            });
            ended.collect::<Result<Vec<()>, _>>().map(|_| ())
        })
    }
}

/// Whether the machine gives so many bytes at once. Asked first, because who allocates the parts could only end the process.
fn has_room(bytes: usize) -> bool {
    let mut room = Vec::<u8>::new();
    let given = room.try_reserve_exact(bytes).is_ok();
    // Memory that nobody looks at need not be asked for: the compiler would do without.
    std::hint::black_box(&mut room);
    given
}

fn bytes_a_block(model: &Model) -> usize {
    let heads = attention_heads(&model.config.text);
    let floats = heads.key_block() + heads.value_block();
    floats * model.dtype().size_in_bytes() * model.config.text.num_hidden_layers
}
