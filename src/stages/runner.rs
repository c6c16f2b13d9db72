//! The shard runner that all stages share: plan, claim, run, reconcile, publish.
//!
//! A stage gives the [`Action`] of each of its shards and computes shards. The runner looks up
//! which shards have a result already, computes the others in parallel on rayon, and publishes each
//! as soon as it is finished. So an interrupted run resumes, several processes share the work, and
//! unchanged work is not repeated.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::progress::{Interrupt, Progress};
use super::{Result, StageError};
use crate::store::{Action, ActionKey, ClaimOutcome, Counts, Output, Process, RunInfo, StageResult, Store, now_ms};

/// Interval between checks whether another process has finished a shard.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A step of the pipeline: a function from actions to results.
pub trait Stage: Sync {
    /// The unit of work.
    type Shard: Sync;
    /// Name of the work in progress, such as `measuring images`.
    const PHASE: &'static str;
    /// Whether several shards may be computed at once. `false` for a stage whose single shards keep
    /// the whole machine busy.
    const IS_CONCURRENT: bool = true;
    /// Returns the name of the work in progress, for a stage that has one name for each role.
    fn phase(&self) -> &'static str {
        Self::PHASE
    }
    /// Returns the action of a shard: everything that its result depends on.
    fn action(&self, shard: &Self::Shard) -> Action;
    /// Returns the number of progress units of a shard.
    fn units(&self, _shard: &Self::Shard) -> u64 {
        1
    }
    /// Computes a shard. The output is a function of its action only, whatever the thread, the
    /// batch or the attempt.
    ///
    /// # Errors
    /// The shard cannot be computed; nothing of it is published then.
    fn run_shard(&self, shard: &Self::Shard, runner: &Runner<'_>) -> Result<ShardOutput>;
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
    pub fn run<S: Stage>(&self, stage: &S, shards: &[S::Shard]) -> Result<StageRun> {
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
    fn plan<S: Stage>(&self, stage: &S, shards: &[S::Shard]) -> Result<Vec<ActionKey>> {
        shards.par_iter().map(|shard| Ok(self.store.put_action(&stage.action(shard))?)).collect()
    }

    /// Returns the stored results, or an error that says what would be computed.
    fn stored_results<S: Stage>(&self, stage: &S, keys: &[ActionKey]) -> Result<StageRun> {
        let stored = keys.iter().map(|&key| self.store.result_with_outputs(key)).collect::<Result<Vec<_>, _>>()?;
        let missing = stored.iter().filter(|result| result.is_none()).count();
        if let Some(first) = stored.iter().position(Option::is_none) {
            let action = Box::new(self.store.action(keys[first])?);
            return Err(StageError::WouldRun { phase: stage.phase(), missing, shards: keys.len(), action });
        }
        Ok(StageRun { results: stored.into_iter().flatten().collect(), computed: 0 })
    }

    fn run_planned<S: Stage>(&self, stage: &S, shards: &[S::Shard], keys: &[ActionKey]) -> Result<StageRun> {
        let mut results: Vec<Option<StageResult>> = vec![None; keys.len()];
        let mut pending: Vec<usize> = (0..keys.len()).collect();
        let mut computed = 0;
        loop {
            let try_one = |&i: &usize| (i, self.try_shard(stage, &shards[i], keys[i]));
            let attempts: Vec<(usize, Result<ShardAttempt>)> = if S::IS_CONCURRENT {
                pending.par_iter().map(try_one).collect()
            } else {
                pending.iter().map(try_one).collect()
            };
            pending.clear();
            let mut failure = None;
            for (i, attempt) in attempts {
                match attempt {
                    Ok(ShardAttempt::Computed(result)) => {
                        computed += 1;
                        results[i] = Some(result);
                    }
                    Ok(ShardAttempt::Found(result)) => results[i] = Some(result),
                    Ok(ShardAttempt::Elsewhere) => pending.push(i),
                    // An interruption must not hide a failure.
                    Err(e) if matches!(failure, None | Some(StageError::Interrupted)) => failure = Some(e),
                    Err(_) => {}
                }
            }
            if let Some(e) = failure {
                return Err(e);
            }
            if pending.is_empty() {
                return Ok(StageRun { results: results.into_iter().flatten().collect(), computed });
            }
            self.interrupt.check()?;
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn try_shard<S: Stage>(&self, stage: &S, shard: &S::Shard, key: ActionKey) -> Result<ShardAttempt> {
        self.interrupt.check()?;
        let find = || {
            let found = self.store.result_with_outputs(key)?;
            if found.is_some() {
                self.progress.advance(stage.units(shard));
            }
            Ok::<_, StageError>(found.map(ShardAttempt::Found))
        };
        if let Some(found) = find()? {
            return Ok(found);
        }
        let ClaimOutcome::Acquired(_claim) = self.store.claim(key)? else { return Ok(ShardAttempt::Elsewhere) };
        // Another process may have finished the shard between the lookup and the claim.
        if let Some(found) = find()? {
            return Ok(found);
        }
        let result = self.compute(stage, shard, key)?;
        Ok(ShardAttempt::Computed(self.store.publish_result(&result)?))
    }

    fn compute<S: Stage>(&self, stage: &S, shard: &S::Shard, key: ActionKey) -> Result<StageResult> {
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
    Computed(StageResult),
    /// The store has its result already.
    Found(StageResult),
    /// Another process is computing it.
    Elsewhere,
}
