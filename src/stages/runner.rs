//! The shard runner that all stages share: plan, claim, run, reconcile, publish.
//!
//! A stage gives the [`Action`] of each of its shards and computes shards. The runner looks up
//! which shards have a result already, computes the others in parallel on rayon, and publishes each
//! as soon as it is finished. So an interrupted run resumes, several processes share the work, and
//! unchanged work is not repeated.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::StageError;
use super::progress::{Interrupt, Progress};
use crate::store::{Action, ActionKey, ClaimOutcome, Counts, Output, Process, RunInfo, StageResult, Store, now_ms};

/// Interval between checks whether another process has finished a shard.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A step of the pipeline: a function from actions to results.
pub trait Stage: Sync {
    /// The unit of work.
    type Shard: Sync;
    /// Returns the name of the work in progress, such as `measuring images`.
    fn phase(&self) -> &'static str;
    /// Returns the action of a shard: everything that its result depends on.
    fn action(&self, shard: &Self::Shard) -> Action;
    /// Whether several shards may be computed at once. `false` for a stage whose single shards keep
    /// the whole machine busy.
    fn runs_concurrently(&self) -> bool {
        true
    }
    /// Returns the number of progress units of a shard.
    fn units(&self, _shard: &Self::Shard) -> u64 {
        1
    }
    /// Computes a shard. The output is a function of its action only, whatever the thread, the
    /// batch or the attempt.
    ///
    /// # Errors
    /// The shard cannot be computed; nothing of it is published then.
    fn run_shard(&self, shard: &Self::Shard, runner: &Runner<'_>) -> Result<ShardOutput, StageError>;
}

/// A shard's output.
#[derive(Debug, Default)]
pub struct ShardOutput {
    /// The objects written, in reading order.
    pub outputs: Vec<Output>,
    /// The row counts, which must add up.
    pub counts: Counts,
    /// Further statistics, functions of the action.
    pub statistics: BTreeMap<String, u64>,
    /// The results that it was computed from.
    pub upstream: Vec<ActionKey>,
}

/// Runs the shards of stages over a store.
#[derive(Clone, Copy)]
pub struct Runner<'a> {
    /// The store that shards are looked up in and published to.
    pub store: &'a Store,
    /// Receives progress events.
    pub progress: &'a dyn Progress,
    /// The user's request to stop.
    pub interrupt: &'a Interrupt,
    /// Whether to compute nothing: a shard without a result ends the run with
    /// [`StageError::WouldRun`].
    pub dry_run: bool,
}

/// The results of a stage's shards, and how many of them this process computed.
#[derive(Debug, Default)]
pub struct StageRun {
    /// The result of each shard, in order.
    pub results: Vec<StageResult>,
    /// Number of shards that this process computed.
    pub computed: usize,
}

impl Runner<'_> {
    /// Computes every shard of a stage that has no usable result yet, and returns the results of
    /// all shards in order.
    ///
    /// # Errors
    /// The error of the first shard (in order) that failed; results of finished shards are kept.
    pub fn run<S: Stage>(&self, stage: &S, shards: &[S::Shard]) -> Result<StageRun, StageError> {
        let keys = self.plan(stage, shards)?;
        if self.dry_run {
            return self.stored_results(stage, &keys);
        }
        let total = shards.iter().map(|s| stage.units(s)).sum();
        self.progress.begin(stage.phase(), total);
        let outcome = self.run_planned(stage, shards, &keys);
        self.progress.end();
        outcome
    }

    /// Stores the action of every shard.
    fn plan<S: Stage>(&self, stage: &S, shards: &[S::Shard]) -> Result<Vec<ActionKey>, StageError> {
        shards.par_iter().map(|shard| Ok(self.store.put_action(&stage.action(shard))?)).collect()
    }

    /// Returns the stored results, or an error that says what would be computed.
    fn stored_results<S: Stage>(&self, stage: &S, keys: &[ActionKey]) -> Result<StageRun, StageError> {
        let stored = keys.iter().map(|&key| self.store.result_with_outputs(key)).collect::<Result<Vec<_>, _>>()?;
        let missing = stored.iter().filter(|result| result.is_none()).count();
        if let Some(first) = stored.iter().position(Option::is_none) {
            let action = Box::new(self.store.action(keys[first])?);
            return Err(StageError::WouldRun { phase: stage.phase(), missing, shards: keys.len(), action });
        }
        Ok(StageRun { results: stored.into_iter().flatten().collect(), computed: 0 })
    }

    fn run_planned<S: Stage>(
        &self,
        stage: &S,
        shards: &[S::Shard],
        keys: &[ActionKey],
    ) -> Result<StageRun, StageError> {
        let slots: Vec<Mutex<Option<StageResult>>> = keys.iter().map(|_| Mutex::new(None)).collect();
        let mut pending: Vec<usize> = (0..keys.len()).collect();
        let mut computed = 0;
        loop {
            let try_one = |&i: &usize| (i, self.try_shard(stage, &shards[i], keys[i], &slots[i]));
            let attempts: Vec<(usize, Result<ShardAttempt, StageError>)> = if stage.runs_concurrently() {
                pending.par_iter().map(try_one).collect()
            } else {
                pending.iter().map(try_one).collect()
            };
            pending.clear();
            let mut failure = None;
            for (i, attempt) in attempts {
                match attempt {
                    Ok(ShardAttempt::Computed) => computed += 1,
                    Ok(ShardAttempt::Found) => {}
                    Ok(ShardAttempt::Elsewhere) => pending.push(i),
                    // An interruption must not hide a failure.
                    Err(StageError::Interrupted) if failure.is_some() => {}
                    Err(e) if failure.is_none() || matches!(failure, Some(StageError::Interrupted)) => {
                        failure = Some(e)
                    }
                    Err(_) => {}
                }
            }
            if let Some(e) = failure {
                return Err(e);
            }
            if pending.is_empty() {
                break;
            }
            self.interrupt.check()?;
            std::thread::sleep(POLL_INTERVAL);
        }
        let results =
            slots.into_iter().filter_map(|s| s.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
        Ok(StageRun { results, computed })
    }

    fn try_shard<S: Stage>(
        &self,
        stage: &S,
        shard: &S::Shard,
        key: ActionKey,
        slot: &Mutex<Option<StageResult>>,
    ) -> Result<ShardAttempt, StageError> {
        self.interrupt.check()?;
        let finish = |result, attempt| {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            Ok(attempt)
        };
        if let Some(result) = self.store.result_with_outputs(key)? {
            self.progress.advance(stage.units(shard));
            return finish(result, ShardAttempt::Found);
        }
        let ClaimOutcome::Acquired(_claim) = self.store.claim(key)? else { return Ok(ShardAttempt::Elsewhere) };
        // Another process may have finished the shard between the lookup and the claim.
        if let Some(result) = self.store.result_with_outputs(key)? {
            self.progress.advance(stage.units(shard));
            return finish(result, ShardAttempt::Found);
        }
        let result = self.compute(stage, shard, key)?;
        finish(self.store.publish_result(&result)?, ShardAttempt::Computed)
    }

    fn compute<S: Stage>(&self, stage: &S, shard: &S::Shard, key: ActionKey) -> Result<StageResult, StageError> {
        let (began_ms, clock) = (now_ms(), Instant::now());
        let output = stage.run_shard(shard, self)?;
        if !output.counts.reconcile() {
            return Err(StageError::Unreconciled { phase: stage.phase(), counts: output.counts });
        }
        let run = RunInfo {
            process: Process::current(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            began_ms,
            took_ms: u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        Ok(StageResult {
            action: key,
            outputs: output.outputs,
            counts: output.counts,
            statistics: output.statistics,
            upstream: output.upstream,
            run,
        })
    }
}

/// Outcome of one attempt at a shard.
enum ShardAttempt {
    /// This process computed it.
    Computed,
    /// The store has its result already.
    Found,
    /// Another process is computing it.
    Elsewhere,
}
