//! Steps: a batch cut into micro-batches, taken through the model on all threads, added up and applied.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crossbeam_channel::bounded;

use super::TrainingError;
use super::gradients::Gradients;
use super::layerwise::{LayerwisePass, Objective, PassSettings, TokenStats};
use super::micro_batch::{MicroBatch, PrefixGroupSlice, cut};
use super::prefix_group::{PrefixGroup, check};
use super::trainable::TrainableModel;
use crate::vlm::named_tensors::NamedTensors;

/// Multiply-adds a token below which threads are better used on micro-batches of their own. Each then needs gradients of its own,
/// which a larger model cannot afford.
const SMALL_MODEL: usize = 20_000_000;

/// How a batch is computed. None of it changes a result but for rounding, and `threads` not even that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ComputeSettings {
    /// Divides the logits.
    pub temperature: f64,
    /// Tokens that go through the model together.
    pub micro_batch_tokens: usize,
    /// Layers whose graph is alive at once.
    pub layers_per_checkpoint: usize,
    /// Threads.
    pub threads: usize,
}

impl ComputeSettings {
    fn pass(&self) -> PassSettings {
        PassSettings { temperature: self.temperature, layers_per_checkpoint: self.layers_per_checkpoint }
    }
}

/// The log-probability and entropy of every target of the batch (prefix groups, continuations and tokens in order).
pub fn token_stats(
    weights: &TrainableModel,
    prefix_groups: &[PrefixGroup],
    compute: ComputeSettings,
) -> Result<Vec<TokenStats>, TrainingError> {
    run(weights, prefix_groups, compute, None).map(|(stats, _)| stats)
}

/// The same, and the gradients of the objective by every trained tensor.
pub fn gradients(
    weights: &TrainableModel,
    prefix_groups: &[PrefixGroup],
    objective: &dyn Objective,
    compute: ComputeSettings,
) -> Result<(Vec<TokenStats>, Gradients), TrainingError> {
    run(weights, prefix_groups, compute, Some(objective))
}

/// One micro-batch's part of a result.
type MicroBatchResult = (Vec<usize>, Vec<TokenStats>, Gradients);

fn run(
    weights: &TrainableModel,
    prefix_groups: &[PrefixGroup],
    compute: ComputeSettings,
    objective: Option<&dyn Objective>,
) -> Result<(Vec<TokenStats>, Gradients), TrainingError> {
    let config = weights.config();
    check(prefix_groups, config.text.vocab_size, config.tokens.image)?;
    let pieces = cut(prefix_groups, compute.micro_batch_tokens);
    let mut stats = vec![TokenStats::default(); prefix_groups.iter().map(PrefixGroup::targets).sum()];
    let mut sums = Gradients::new(weights.ops());
    let mut take = |(numbers, part, gradients): MicroBatchResult| -> Result<(), TrainingError> {
        numbers.into_iter().zip(part).for_each(|(number, token)| stats[number] = token);
        Ok(sums.merge(gradients)?)
    };
    if weights.uses_cpu_kernels() && config.text.multiply_adds_per_token() < SMALL_MODEL {
        // Every micro-batch has sums of its own, added in order: so the number of threads changes no bit.
        let workers = compute.threads.max(1).min(pieces.len());
        run_workers(weights, &pieces, compute, objective, workers, &mut take)?;
    } else {
        if objective.is_some() && weights.uses_cpu_kernels() {
            sums = Gradients::reserved(weights.ops(), weights.variables())?;
        }
        let pool = shared_pool(compute.threads)?;
        let layerwise = LayerwisePass::new(weights, compute.pass());
        for piece in &pieces {
            let (numbers, part) =
                on_first_thread(&pool, || run_micro_batch(&layerwise, piece, weights, objective, &mut sums))?;
            numbers.into_iter().zip(part).for_each(|(number, token)| stats[number] = token);
        }
    }
    Ok((stats, sums))
}

/// Takes a micro-batch through the model: its targets' numbers and stats; gradients are added to `gradients`.
fn run_micro_batch(
    layerwise: &LayerwisePass<'_>,
    pieces: &[PrefixGroupSlice<'_>],
    weights: &TrainableModel,
    objective: Option<&dyn Objective>,
    gradients: &mut Gradients,
) -> Result<(Vec<usize>, Vec<TokenStats>), TrainingError> {
    let batch = MicroBatch::new(pieces, weights.config())?;
    let stats = match objective {
        None => layerwise.forward(&batch)?,
        Some(objective) => layerwise.forward_backward(&batch, objective, gradients)?,
    };
    Ok((batch.numbers, stats))
}

/// A thread a lane; each takes the next micro-batch, and results are taken in the order of the micro-batches.
fn run_workers(
    weights: &TrainableModel,
    pieces: &[Vec<PrefixGroupSlice<'_>>],
    compute: ComputeSettings,
    objective: Option<&dyn Objective>,
    workers: usize,
    take: &mut impl FnMut(MicroBatchResult) -> Result<(), TrainingError>,
) -> Result<(), TrainingError> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<TrainingError>> = Mutex::new(None);
    let (send, parts) = bounded::<(usize, MicroBatchResult)>(2 * workers);
    let pools = (0..workers).map(|_| pool(1)).collect::<Result<Vec<_>, _>>()?;
    thread::scope(|scope| {
        for pool in &pools {
            let (send, next, failure) = (send.clone(), &next, &failure);
            scope.spawn(move || {
                let layerwise = LayerwisePass::new(weights, compute.pass());
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(piece) = pieces.get(number) else { return };
                    let mut gradients = Gradients::new(weights.ops());
                    match pool.install(|| run_micro_batch(&layerwise, piece, weights, objective, &mut gradients)) {
                        Ok((numbers, stats)) => {
                            if send.send((number, (numbers, stats, gradients))).is_err() {
                                return;
                            }
                        }
                        Err(error) => {
                            failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(error);
                            next.store(pieces.len(), Ordering::Relaxed);
                            return;
                        }
                    }
                }
            });
        }
        drop(send);
        let mut early = std::collections::BTreeMap::new();
        let mut due = 0;
        for (number, part) in parts {
            early.insert(number, part);
            while let Some(part) = early.remove(&due) {
                take(part)?;
                due += 1;
            }
        }
        match failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None if due < pieces.len() => Err(TrainingError::Threads("a micro-batch was not finished".to_owned())),
            None => Ok(()),
        }
    })
}

/// The pool that all steps of the process share. New threads would take their memory anew, beside what the ones before them
/// left to the allocator: three steps of a model of 60 million parameters took 800 MiB more.
fn shared_pool(threads: usize) -> Result<Arc<rayon::ThreadPool>, TrainingError> {
    static POOL: Mutex<Option<Arc<rayon::ThreadPool>>> = Mutex::new(None);
    let mut kept = POOL.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(pool) = kept.as_ref().filter(|pool| pool.current_num_threads() == threads.max(1)) {
        return Ok(Arc::clone(pool));
    }
    let pool = Arc::new(pool(threads)?);
    *kept = Some(Arc::clone(&pool));
    Ok(pool)
}

/// Does some work on the pool's first thread, which shares it out to the others. What one thread frees does not serve
/// another's allocations, so on whichever is free the memory of each would grow to what the work takes.
fn on_first_thread<T: Send>(
    pool: &rayon::ThreadPool,
    work: impl FnOnce() -> Result<T, TrainingError> + Send,
) -> Result<T, TrainingError> {
    let work = Mutex::new(Some(work));
    let take = || work.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    let done = pool.broadcast(|thread| if thread.index() == 0 { take().map(|work| work()) } else { None });
    match done.into_iter().flatten().next() {
        Some(result) => result,
        None => Err(TrainingError::Threads("the pool has no thread".to_owned())),
    }
}

fn pool(threads: usize) -> Result<rayon::ThreadPool, TrainingError> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .build()
        .map_err(|error| TrainingError::Threads(error.to_string()))
}
