//! The shard runner that every stage shares: plan, claim, run, reconcile, publish.
//!
//! A stage says what each of its shards is (an [`Action`]) and how to make it. The runner finds which shards have a result
//! already, runs the others in parallel on rayon, and publishes each as it is done. So work that was stopped goes on
//! where it was, several processes share it, and what nobody changed is not done again.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::StageError;
use super::progress::{Interrupt, Progress};
use crate::store::{Action, ActionKey, ClaimOutcome, Counts, Output, Process, RunInfo, StageResult, Store, now_ms};

/// How long to wait before looking again whether another process has finished a shard.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// One step of the pipeline, as a function of actions.
pub trait Stage: Sync {
    /// A unit of work.
    type Shard: Sync;
    /// What to call the work in progress, such as `measuring images`.
    fn phase(&self) -> &'static str;
    /// What is asked for a shard: everything that its result depends on.
    fn action(&self, shard: &Self::Shard) -> Action;
    /// Whether several shards may be made at once. Not where a shard keeps the whole machine busy by itself.
    fn runs_concurrently(&self) -> bool {
        true
    }
    /// How many units of progress a shard is.
    fn units(&self, shard: &Self::Shard) -> u64;
    /// Makes a shard: a function of its action, whatever the thread, the batch or the attempt.
    ///
    /// # Errors
    /// Whatever keeps the shard from being made; nothing of it is published then.
    fn run_shard(&self, shard: &Self::Shard, runner: &Runner<'_>) -> Result<ShardOutput, StageError>;
}

/// What making a shard gave.
#[derive(Debug, Default)]
pub struct ShardOutput {
    /// The objects made, in reading order.
    pub outputs: Vec<Output>,
    /// The reconciliation of rows.
    pub counts: Counts,
    /// Further figures, functions of the action.
    pub figures: BTreeMap<String, u64>,
    /// The results that it was made from.
    pub upstream: Vec<ActionKey>,
}

/// Runs the shards of stages over a store.
#[derive(Clone, Copy)]
pub struct Runner<'a> {
    /// Where shards are found and published.
    pub store: &'a Store,
    /// Who hears of it.
    pub progress: &'a dyn Progress,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
    /// Make nothing: a shard that has no result yet ends the run with [`StageError::WouldRun`].
    pub dry_run: bool,
}

/// The results of a stage's shards, and how much of it was there already.
#[derive(Debug, Default)]
pub struct StageRun {
    /// A result for each shard, in order.
    pub results: Vec<StageResult>,
    /// Shards that this process made.
    pub made: usize,
}

impl Runner<'_> {
    /// Runs every shard of a stage that has no usable result yet, and returns the results of all in order.
    ///
    /// # Errors
    /// That of the first shard (in order) which failed; shards that were finished stay finished.
    pub fn run<S: Stage>(&self, stage: &S, shards: &[S::Shard]) -> Result<StageRun, StageError> {
        let keys = self.plan(stage, shards)?;
        if self.dry_run {
            return self.find(stage, &keys);
        }
        let total = shards.iter().map(|s| stage.units(s)).sum();
        self.progress.begin(stage.phase(), total);
        let ran = self.run_planned(stage, shards, &keys);
        self.progress.end();
        ran
    }

    /// Writes down the action of every shard.
    fn plan<S: Stage>(&self, stage: &S, shards: &[S::Shard]) -> Result<Vec<ActionKey>, StageError> {
        shards.par_iter().map(|shard| Ok(self.store.put_action(&stage.action(shard))?)).collect()
    }

    /// The results that are there, or what would have to be made.
    fn find<S: Stage>(&self, stage: &S, keys: &[ActionKey]) -> Result<StageRun, StageError> {
        let found = keys.iter().map(|&key| self.store.result_with_outputs(key)).collect::<Result<Vec<_>, _>>()?;
        let missing = found.iter().filter(|result| result.is_none()).count();
        if let Some(first) = found.iter().position(Option::is_none) {
            let action = Box::new(self.store.action(keys[first])?);
            return Err(StageError::WouldRun { phase: stage.phase(), missing, shards: keys.len(), action });
        }
        Ok(StageRun { results: found.into_iter().flatten().collect(), made: 0 })
    }

    fn run_planned<S: Stage>(
        &self,
        stage: &S,
        shards: &[S::Shard],
        keys: &[ActionKey],
    ) -> Result<StageRun, StageError> {
        let slots: Vec<Mutex<Option<StageResult>>> = keys.iter().map(|_| Mutex::new(None)).collect();
        let mut open: Vec<usize> = (0..keys.len()).collect();
        let mut made = 0;
        loop {
            let try_one = |&i: &usize| (i, self.try_shard(stage, &shards[i], keys[i], &slots[i]));
            let tries: Vec<(usize, Result<ShardAttempt, StageError>)> = if stage.runs_concurrently() {
                open.par_iter().map(try_one).collect()
            } else {
                open.iter().map(try_one).collect()
            };
            open.clear();
            let mut failure = None;
            for (i, tried) in tries {
                match tried {
                    Ok(ShardAttempt::Computed) => made += 1,
                    Ok(ShardAttempt::Found) => {}
                    Ok(ShardAttempt::Elsewhere) => open.push(i),
                    // A stop that a failure caused must not hide the failure.
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
            if open.is_empty() {
                break;
            }
            self.interrupt.check()?;
            std::thread::sleep(LOOK_AGAIN);
        }
        let results =
            slots.into_iter().filter_map(|s| s.into_inner().unwrap_or_else(PoisonError::into_inner)).collect();
        Ok(StageRun { results, made })
    }

    fn try_shard<S: Stage>(
        &self,
        stage: &S,
        shard: &S::Shard,
        key: ActionKey,
        slot: &Mutex<Option<StageResult>>,
    ) -> Result<ShardAttempt, StageError> {
        self.interrupt.check()?;
        let done = |result, tried| {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            Ok(tried)
        };
        if let Some(result) = self.store.result_with_outputs(key)? {
            self.progress.advance(stage.units(shard));
            return done(result, ShardAttempt::Found);
        }
        let ClaimOutcome::Acquired(_claim) = self.store.claim(key)? else { return Ok(ShardAttempt::Elsewhere) };
        // It may have been finished between the look and the claim.
        if let Some(result) = self.store.result_with_outputs(key)? {
            self.progress.advance(stage.units(shard));
            return done(result, ShardAttempt::Found);
        }
        let result = self.make(stage, shard, key)?;
        done(self.store.publish_result(&result)?, ShardAttempt::Computed)
    }

    fn make<S: Stage>(&self, stage: &S, shard: &S::Shard, key: ActionKey) -> Result<StageResult, StageError> {
        let (began_ms, clock) = (now_ms(), Instant::now());
        let made = stage.run_shard(shard, self)?;
        if !made.counts.reconcile() {
            return Err(StageError::Unreconciled { phase: stage.phase(), counts: made.counts });
        }
        let run = RunInfo {
            process: Process::current(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            began_ms,
            took_ms: u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        Ok(StageResult {
            action: key,
            outputs: made.outputs,
            counts: made.counts,
            figures: made.figures,
            upstream: made.upstream,
            run,
        })
    }
}

enum ShardAttempt {
    Computed,
    Found,
    Elsewhere,
}
