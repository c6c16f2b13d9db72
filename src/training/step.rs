//! Gradient accumulation: a batch is split into micro-batches, which run on all threads, and their
//! gradients are summed in order.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crossbeam_channel::bounded;

use super::gradients::Gradients;
use super::layerwise::{LayerwisePass, Objective, TokenStats};
use super::micro_batch::{MicroBatch, PrefixGroupSlice, split_into_micro_batches};
use super::prefix_group::{PrefixGroup, check};
use super::trainable::TrainableModel;
use super::{Result, TrainingError};
use crate::vlm::named_tensors::NamedTensors;

/// Multiply-adds per token below which each thread runs micro-batches of its own instead of sharing
/// one. Each thread then needs its own gradients, which a larger model cannot afford.
const SMALL_MODEL: usize = 20_000_000;

/// Settings of the computation of a batch. `micro_batch_tokens` and `layers_per_checkpoint` change
/// results by rounding only, `threads` not at all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ComputeSettings {
    /// Temperature: divides the logits.
    pub temperature: f64,
    /// Largest number of tokens of a micro-batch; a longer sequence is a micro-batch of its own.
    pub micro_batch_tokens: usize,
    /// Activation checkpointing: number of layers recomputed together in the backward pass.
    pub layers_per_checkpoint: usize,
    /// Number of threads.
    pub threads: usize,
}

impl ComputeSettings {
    fn pass<'a>(&self, weights: &'a TrainableModel) -> LayerwisePass<'a> {
        LayerwisePass::new(weights, self.temperature, self.layers_per_checkpoint)
    }
}

/// Computes the log-probability and entropy of every target, in the order of prefix groups,
/// continuations and tokens.
pub fn token_stats(
    weights: &TrainableModel,
    prefix_groups: &[PrefixGroup],
    compute: ComputeSettings,
) -> Result<Vec<TokenStats>> {
    run_batch(weights, prefix_groups, compute, None).map(|(stats, _)| stats)
}

/// Computes the statistics of every target and the gradient of the objective with respect to every
/// trained tensor.
pub fn gradients(
    weights: &TrainableModel,
    prefix_groups: &[PrefixGroup],
    objective: &dyn Objective,
    compute: ComputeSettings,
) -> Result<(Vec<TokenStats>, Gradients)> {
    run_batch(weights, prefix_groups, compute, Some(objective))
}

/// A micro-batch's result: its targets' indexes in the batch and statistics, and its gradients.
type MicroBatchResult = (Vec<usize>, Vec<TokenStats>, Gradients);

fn run_batch(
    weights: &TrainableModel,
    prefix_groups: &[PrefixGroup],
    compute: ComputeSettings,
    objective: Option<&dyn Objective>,
) -> Result<(Vec<TokenStats>, Gradients)> {
    let config = weights.config();
    check(prefix_groups, config.text.vocab_size, config.tokens.image)?;
    let micro_batches = split_into_micro_batches(prefix_groups, compute.micro_batch_tokens);
    let mut stats = vec![TokenStats::default(); prefix_groups.iter().map(PrefixGroup::targets).sum()];
    let mut sums = Gradients::new(weights.ops());
    let mut consume = |(target_indexes, part, gradients): MicroBatchResult| -> Result<()> {
        target_indexes.into_iter().zip(part).for_each(|(number, token)| stats[number] = token);
        Ok(sums.merge(gradients)?)
    };
    if weights.uses_cpu_kernels() && config.text.multiply_adds_per_token() < SMALL_MODEL {
        // Every micro-batch has its own gradients, which are added in order: the number of threads
        // changes no bit.
        let workers = compute.threads.max(1).min(micro_batches.len());
        run_workers(weights, &micro_batches, compute, objective, workers, &mut consume)?;
    } else {
        if objective.is_some() && weights.uses_cpu_kernels() {
            sums = Gradients::reserved(weights.ops(), weights.variables())?;
        }
        let pool = shared_pool(compute.threads)?;
        let layerwise = compute.pass(weights);
        for slices in &micro_batches {
            let (target_indexes, part) =
                on_first_thread(&pool, || run_micro_batch(&layerwise, slices, weights, objective, &mut sums))?;
            target_indexes.into_iter().zip(part).for_each(|(number, token)| stats[number] = token);
        }
    }
    Ok((stats, sums))
}

/// Runs a micro-batch through the model and returns the indexes of its targets in the batch with
/// their statistics; its gradients are added to `gradients`.
fn run_micro_batch(
    layerwise: &LayerwisePass<'_>,
    slices: &[PrefixGroupSlice<'_>],
    weights: &TrainableModel,
    objective: Option<&dyn Objective>,
    gradients: &mut Gradients,
) -> Result<(Vec<usize>, Vec<TokenStats>)> {
    let batch = MicroBatch::new(slices, weights.config())?;
    let stats = match objective {
        None => layerwise.forward(&batch)?,
        Some(objective) => layerwise.forward_backward(&batch, objective, gradients)?,
    };
    Ok((batch.target_indexes, stats))
}

/// Runs one thread per worker, each taking the next micro-batch; results are consumed in the order
/// of the micro-batches.
fn run_workers(
    weights: &TrainableModel,
    micro_batches: &[Vec<PrefixGroupSlice<'_>>],
    compute: ComputeSettings,
    objective: Option<&dyn Objective>,
    workers: usize,
    consume: &mut impl FnMut(MicroBatchResult) -> Result<()>,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let (send, results) = bounded::<(usize, Result<MicroBatchResult>)>(2 * workers);
    let pools = (0..workers).map(|_| build_pool(1)).collect::<Result<Vec<_>>>()?;
    thread::scope(|scope| {
        for pool in &pools {
            let (send, next) = (send.clone(), &next);
            scope.spawn(move || {
                let layerwise = compute.pass(weights);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(slices) = micro_batches.get(number) else { return };
                    let mut gradients = Gradients::new(weights.ops());
                    let work = || run_micro_batch(&layerwise, slices, weights, objective, &mut gradients);
                    let result = pool.install(work).map(|(indexes, stats)| (indexes, stats, gradients));
                    if result.is_err() {
                        // No worker takes another micro-batch.
                        next.store(micro_batches.len(), Ordering::Relaxed);
                    }
                    // The receiver is gone after an error.
                    if send.send((number, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut pending = BTreeMap::new();
        let mut next_result = 0;
        for (number, result) in results {
            pending.insert(number, result);
            while let Some(result) = pending.remove(&next_result) {
                consume(result?)?;
                next_result += 1;
            }
        }
        Ok(())
    })
}

/// Returns the thread pool that all steps of the process share. New threads would allocate new
/// heaps next to the memory that the previous ones left to the allocator: three steps of a model of
/// 60 million parameters took 800 MiB more.
fn shared_pool(threads: usize) -> Result<Arc<rayon::ThreadPool>> {
    static POOL: Mutex<Option<Arc<rayon::ThreadPool>>> = Mutex::new(None);
    let mut kept = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = kept.as_ref().filter(|pool| pool.current_num_threads() == threads.max(1)) {
        return Ok(Arc::clone(pool));
    }
    let pool = Arc::new(build_pool(threads)?);
    *kept = Some(Arc::clone(&pool));
    Ok(pool)
}

/// Runs `work` on the pool's first thread; parallel parts of it use the other threads too. glibc
/// does not reuse memory freed by one thread for another, so on changing threads the heap of each
/// would grow to the size of the whole work.
fn on_first_thread<T: Send>(pool: &rayon::ThreadPool, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let work = Mutex::new(Some(work));
    let take = || work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let done = pool.broadcast(|thread| if thread.index() == 0 { take().map(|work| work()) } else { None });
    let none = || Err(TrainingError::Threads("the thread pool is empty".to_owned()));
    done.into_iter().flatten().next().unwrap_or_else(none)
}

fn build_pool(threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .build()
        .map_err(|error| TrainingError::Threads(error.to_string()))
}
