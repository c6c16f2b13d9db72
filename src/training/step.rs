//! Steps: a batch cut into micro-batches, taken through the model on all threads, added up and applied.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crossbeam_channel::bounded;

use super::TrainingError;
use super::gradients::Gradients;
use super::layerwise::{Layerwise, Objective, Pass, TokenFigures};
use super::micro_batch::{MicroBatch, Piece, cut};
use super::trainable::Trainable;
use super::tree::{Tree, check};
use crate::vlm::named_tensors::NamedTensors;

/// Multiply-adds a token below which threads are better used on micro-batches of their own. Each then needs gradients of its own,
/// which a larger model cannot afford.
const SMALL_MODEL: usize = 20_000_000;

/// How a batch is computed. None of it changes a result but for rounding, and `threads` not even that.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compute {
    /// Divides the logits.
    pub temperature: f64,
    /// Tokens that go through the model together.
    pub micro_batch_tokens: usize,
    /// Layers whose graph is alive at once.
    pub layers_at_once: usize,
    /// Threads.
    pub threads: usize,
}

impl Compute {
    fn pass(&self) -> Pass {
        Pass { temperature: self.temperature, layers_at_once: self.layers_at_once }
    }
}

/// The log-probability and entropy of every target of the batch (trees, branches and tokens in order).
pub fn figures(weights: &Trainable, trees: &[Tree], compute: Compute) -> Result<Vec<TokenFigures>, TrainingError> {
    run(weights, trees, compute, None).map(|(figures, _)| figures)
}

/// The same, and the gradients of the objective by every trained tensor.
pub fn gradients(
    weights: &Trainable,
    trees: &[Tree],
    objective: &dyn Objective,
    compute: Compute,
) -> Result<(Vec<TokenFigures>, Gradients), TrainingError> {
    run(weights, trees, compute, Some(objective))
}

/// One micro-batch's part of a result.
type Part = (Vec<usize>, Vec<TokenFigures>, Gradients);

fn run(
    weights: &Trainable,
    trees: &[Tree],
    compute: Compute,
    objective: Option<&dyn Objective>,
) -> Result<(Vec<TokenFigures>, Gradients), TrainingError> {
    let config = weights.config();
    check(trees, config.text.vocab_size, config.tokens.image)?;
    let pieces = cut(trees, compute.micro_batch_tokens);
    let mut figures = vec![TokenFigures::default(); trees.iter().map(Tree::targets).sum()];
    let mut sums = Gradients::new(weights.ops());
    let mut take = |(numbers, part, gradients): Part| -> Result<(), TrainingError> {
        numbers.into_iter().zip(part).for_each(|(number, token)| figures[number] = token);
        Ok(sums.merge(gradients)?)
    };
    if weights.uses_cpu_kernels() && config.text.multiply_adds_per_token() < SMALL_MODEL {
        // Every micro-batch has sums of its own, added in order: so the number of threads changes no bit.
        let lanes = compute.threads.max(1).min(pieces.len());
        run_lanes(weights, &pieces, compute, objective, lanes, &mut take)?;
    } else {
        if objective.is_some() && weights.uses_cpu_kernels() {
            sums = Gradients::reserved(weights.ops(), weights.variables())?;
        }
        let pool = shared_pool(compute.threads)?;
        let layerwise = Layerwise::new(weights, compute.pass());
        for piece in &pieces {
            let (numbers, part) = on_first(&pool, || one(&layerwise, piece, weights, objective, &mut sums))?;
            numbers.into_iter().zip(part).for_each(|(number, token)| figures[number] = token);
        }
    }
    Ok((figures, sums))
}

/// Takes a micro-batch through the model: its targets' numbers and figures; gradients are added to `gradients`.
fn one(
    layerwise: &Layerwise<'_>,
    pieces: &[Piece<'_>],
    weights: &Trainable,
    objective: Option<&dyn Objective>,
    gradients: &mut Gradients,
) -> Result<(Vec<usize>, Vec<TokenFigures>), TrainingError> {
    let batch = MicroBatch::new(pieces, weights.config())?;
    let figures = match objective {
        None => layerwise.forward(&batch)?,
        Some(objective) => layerwise.forward_backward(&batch, objective, gradients)?,
    };
    Ok((batch.numbers, figures))
}

/// A thread a lane; each takes the next micro-batch, and results are taken in the order of the micro-batches.
fn run_lanes(
    weights: &Trainable,
    pieces: &[Vec<Piece<'_>>],
    compute: Compute,
    objective: Option<&dyn Objective>,
    lanes: usize,
    take: &mut impl FnMut(Part) -> Result<(), TrainingError>,
) -> Result<(), TrainingError> {
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<TrainingError>> = Mutex::new(None);
    let (send, parts) = bounded::<(usize, Part)>(2 * lanes);
    let pools = (0..lanes).map(|_| pool(1)).collect::<Result<Vec<_>, _>>()?;
    thread::scope(|scope| {
        for pool in &pools {
            let (send, next, failure) = (send.clone(), &next, &failure);
            scope.spawn(move || {
                let layerwise = Layerwise::new(weights, compute.pass());
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(piece) = pieces.get(number) else { return };
                    let mut gradients = Gradients::new(weights.ops());
                    match pool.install(|| one(&layerwise, piece, weights, objective, &mut gradients)) {
                        Ok((numbers, figures)) => {
                            if send.send((number, (numbers, figures, gradients))).is_err() {
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
fn on_first<T: Send>(
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
