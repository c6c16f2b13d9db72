//! The shard runner that all stages share: plan, claim, run, reconcile, publish.
//!
//! A stage gives the [`Action`] of each of its shards and computes shards. The runner looks up
//! which shards have a result already, computes the others in parallel on rayon, and publishes each
//! as soon as it is finished. So an interrupted run resumes, several processes share the work, and
//! unchanged work is not repeated.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rayon::prelude::*;

use super::progress::{Interrupt, Progress, ShardCounts, ShardEvent};
use super::shard_watch::ShardWatch;
use super::{Result, StageError};
use crate::batch_job::BatchJob;
use crate::device::opened_gpu;
use crate::ids::Digest;
use crate::store::{
    Action, ActionKey, ClaimOutcome, Counts, Output, Process, RunInfo, ShardState, StageResult, Store, WorkerRole,
    now_ms, second_copy,
};

/// Pauses between two looks at shards that other processes compute. The first ones are short,
/// because most shards of a small model take less than a second.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
const PAUSE_GROWTH: f64 = 1.5;
/// Longest sleep without a check for a request to stop.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);
/// Number of pending shards that are looked at together.
const LOOKS: usize = 4;
/// Typical time of a shard of which nothing is known: a process hangs if it makes no progress for
/// five times as long.
const UNKNOWN_TIME: Duration = Duration::from_secs(360);
/// Number of shards whose median time is typical.
const ENOUGH_TIMES: usize = 3;

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
    /// Whether its shards need the weights of a model in training. Workers that do not train leave
    /// them to others.
    fn needs_trainer(&self) -> bool {
        false
    }
    /// Whether this process is to compute the shard now; `false` while another one is better
    /// prepared for it.
    ///
    /// # Errors
    /// The store cannot be read.
    fn is_turn(&self, _shard: &Self::Shard, _runner: &Runner<'_>) -> Result<bool> {
        Ok(true)
    }
    /// Returns the time that a shard typically takes, if it is known from elsewhere than the other
    /// shards of the same run.
    fn typical_time(&self) -> Option<Duration> {
        None
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

/// The time since a process last computed a shard.
#[derive(Debug)]
pub struct IdleClock {
    limit: Duration,
    since: Mutex<Instant>,
}

impl IdleClock {
    /// Starts the clock.
    pub fn start(limit: Duration) -> Self {
        Self { limit, since: Mutex::new(Instant::now()) }
    }

    /// Whether the process has been idle for longer than the limit.
    pub fn is_over(&self) -> bool {
        self.since.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > self.limit
    }

    /// Notes that the process has just worked.
    pub fn reset(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
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
    /// The work that this process takes.
    pub role: WorkerRole,
    /// The clock that ends a stage with [`StageError::Idle`] after some time without work.
    pub idle: Option<&'a IdleClock>,
    /// Whether to try shards again that were set aside.
    pub retry: bool,
}

impl<'a> Runner<'a> {
    /// Returns a runner that takes all work.
    pub fn new(store: &'a Store, progress: &'a dyn Progress, interrupt: &'a Interrupt) -> Self {
        Self { store, progress, interrupt, dry_run: false, role: WorkerRole::Any, idle: None, retry: false }
    }
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
        let mut run = PlannedRun::new(self, stage, shards, keys);
        let all = rotated(keys.len(), &Process::current());
        run.report_counts();
        run.try_shards(&all)?;
        let mut pause = FIRST_PAUSE;
        while !run.pending.is_empty() {
            self.wait(pause)?;
            let ready = run.look()?;
            let before = run.pending.len();
            run.try_shards(&ready)?;
            if run.pending.len() < before {
                pause = FIRST_PAUSE;
                continue;
            }
            if self.idle.is_some_and(IdleClock::is_over) {
                return Err(StageError::Idle);
            }
            pause = LONGEST_PAUSE.min(pause.mul_f64(PAUSE_GROWTH));
        }
        run.finish()
    }

    /// Sleeps for about `pause`. Workers that began to wait together look at different times.
    ///
    /// # Errors
    /// The process is to stop or to drain.
    fn wait(&self, pause: Duration) -> Result<()> {
        let until = Instant::now() + pause.mul_f64(0.75 + 0.5 * jitter());
        loop {
            self.interrupt.check_new_shard()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LONGEST_SLEEP));
        }
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
            job: BatchJob::current(),
            device: opened_gpu().map(str::to_owned),
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

/// The shards of a stage in an arbitrary order that differs between workers: each begins elsewhere,
/// so that they do not compete for the same shards.
fn rotated(shards: usize, process: &Process) -> Vec<usize> {
    let Process { host, pid, started } = process;
    let place = Digest::of(format!("{host} {pid} {started}").as_bytes());
    let first = u64::from_le_bytes(place.as_bytes()[..8].try_into().unwrap_or_default()) as usize % shards.max(1);
    (first..shards).chain(0..first).collect()
}

/// Returns a number from 0 to 1 that differs between calls and processes. It influences when a
/// process looks, never what it computes.
fn jitter() -> f64 {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    f64::from(nanos.wrapping_mul(2_654_435_761).wrapping_add(std::process::id())) / f64::from(u32::MAX)
}

/// A stage in progress: the results so far, and the shards that are still missing.
struct PlannedRun<'r, S: Stage> {
    runner: &'r Runner<'r>,
    stage: &'r S,
    shards: &'r [S::Shard],
    keys: &'r [ActionKey],
    results: Vec<Option<StageResult>>,
    /// Shards that this process may not or cannot compute now.
    pending: Vec<usize>,
    watches: BTreeMap<usize, ShardWatch>,
    set_aside: Vec<(ActionKey, Vec<Process>)>,
    computed: usize,
    /// The first of the pending shards to look at next.
    cursor: usize,
}

/// Outcome of one attempt at a shard.
enum ShardAttempt {
    /// This process computed it.
    Computed(StageResult),
    /// The store has its result already.
    Found(StageResult),
    /// Another process computes it, or is to compute it.
    Elsewhere,
    /// Workers were lost with it on two hosts.
    SetAside(Vec<Process>),
}

impl<'r, S: Stage> PlannedRun<'r, S> {
    fn new(runner: &'r Runner<'r>, stage: &'r S, shards: &'r [S::Shard], keys: &'r [ActionKey]) -> Self {
        let results = vec![None; keys.len()];
        let (pending, watches, set_aside) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { runner, stage, shards, keys, results, pending, watches, set_aside, computed: 0, cursor: 0 }
    }

    /// Tries these shards, in parallel if the stage allows it. Those that others compute become
    /// pending.
    fn try_shards(&mut self, indices: &[usize]) -> Result<()> {
        let this = &*self;
        let try_one = |&i: &usize| (i, this.try_shard(i));
        let attempts: Vec<(usize, Result<ShardAttempt>)> = if S::IS_CONCURRENT {
            indices.par_iter().map(try_one).collect()
        } else {
            let mut attempts = Vec::with_capacity(indices.len());
            for i in indices {
                let attempt = try_one(i);
                let has_failed = attempt.1.is_err();
                attempts.push(attempt);
                // Computing further shards after a failure would only delay its report.
                if has_failed {
                    break;
                }
            }
            attempts
        };
        let tried: BTreeSet<usize> = indices.iter().copied().collect();
        self.pending.retain(|i| !tried.contains(i));
        let mut failure: Option<(usize, StageError)> = None;
        for (i, attempt) in attempts {
            match attempt {
                Ok(ShardAttempt::Computed(result)) => {
                    self.computed += 1;
                    self.results[i] = Some(result);
                }
                Ok(ShardAttempt::Found(result)) => self.results[i] = Some(result),
                Ok(ShardAttempt::Elsewhere) => self.pending.push(i),
                Ok(ShardAttempt::SetAside(lost)) => self.set_aside.push((self.keys[i], lost)),
                // An interruption must not hide a failure; of several, the first shard's counts.
                Err(e) => {
                    let replaces = |(other, kept): &(usize, StageError)| {
                        is_request(kept) && !is_request(&e) || is_request(kept) == is_request(&e) && i < *other
                    };
                    if failure.as_ref().is_none_or(replaces) {
                        failure = Some((i, e));
                    }
                }
            }
        }
        self.report_counts();
        failure.map_or(Ok(()), |(_, e)| Err(e))
    }

    fn report_counts(&self) {
        let done = self.results.iter().flatten().count() as u64;
        let counts = ShardCounts { done, total: self.keys.len() as u64, typical: self.typical_time() };
        self.runner.progress.shards(counts);
    }

    fn try_shard(&self, i: usize) -> Result<ShardAttempt> {
        let Self { runner, stage, .. } = *self;
        let (shard, key) = (&self.shards[i], self.keys[i]);
        runner.interrupt.check()?;
        let find = || {
            let found = runner.store.result_with_outputs(key)?;
            if found.is_some() {
                runner.progress.advance(stage.units(shard));
            }
            Ok::<_, StageError>(found.map(ShardAttempt::Found))
        };
        if let Some(found) = find()? {
            return Ok(found);
        }
        if !self.may_compute() || !stage.is_turn(shard, runner)? {
            return Ok(ShardAttempt::Elsewhere);
        }
        if let ShardState::Held(_) = runner.store.shard_state(key)? {
            return Ok(ShardAttempt::Elsewhere);
        }
        runner.interrupt.check_new_shard()?;
        let _claim = match runner.store.claim(key, runner.retry)? {
            ClaimOutcome::Acquired(claim) => claim,
            ClaimOutcome::HeldBy(_) => return Ok(ShardAttempt::Elsewhere),
            ClaimOutcome::SetAside(lost) => return Ok(ShardAttempt::SetAside(lost)),
        };
        // Another process may have finished the shard between the lookup and the claim.
        runner.store.shard_state(key)?;
        if let Some(found) = find()? {
            return Ok(found);
        }
        self.compute(i).map(ShardAttempt::Computed)
    }

    /// Whether this worker computes shards of this stage at all.
    fn may_compute(&self) -> bool {
        self.runner.role == WorkerRole::Any || !self.stage.needs_trainer()
    }

    /// Computes a shard and publishes its result.
    fn compute(&self, i: usize) -> Result<StageResult> {
        let Self { runner, stage, .. } = *self;
        runner.progress.shard(&ShardEvent::Began(self.keys[i]));
        let published = runner
            .compute(stage, &self.shards[i], self.keys[i])
            .and_then(|result| Ok(runner.store.publish_result(&result)?));
        runner.progress.shard(&ShardEvent::Ended { is_done: published.is_ok() });
        if let Some(idle) = runner.idle {
            idle.reset();
        }
        published
    }

    /// Looks at some of the pending shards and returns those to try now.
    fn look(&mut self) -> Result<Vec<usize>> {
        let mut ready = Vec::new();
        for _ in 0..self.pending.len().min(LOOKS) {
            self.cursor = (self.cursor + 1) % self.pending.len();
            let i = self.pending[self.cursor];
            match self.runner.store.shard_state(self.keys[i])? {
                ShardState::Done => ready.push(i),
                ShardState::Free if self.may_compute() && self.stage.is_turn(&self.shards[i], self.runner)? => {
                    ready.push(i);
                }
                ShardState::Free => {}
                ShardState::Held(holder) => self.watch(i, holder)?,
            }
        }
        Ok(ready)
    }

    /// Watches a shard that another process computes. If that process hangs, its lease is revoked;
    /// if it is slow and this worker has nothing else to do, this worker computes the shard too.
    fn watch(&mut self, i: usize, holder: Process) -> Result<()> {
        let Self { runner, stage, .. } = *self;
        let typical = self.typical_time();
        let watch = match self.watches.entry(i) {
            Entry::Occupied(watch) if watch.get().holder == holder => watch.into_mut(),
            entry => {
                runner.progress.shard(&ShardEvent::Awaited(self.keys[i], holder.clone()));
                entry.insert_entry(ShardWatch::new(holder)).into_mut()
            }
        };
        if watch.is_stuck(runner.store, typical.unwrap_or(UNKNOWN_TIME))? {
            let holder = &watch.holder;
            runner.progress.say(&format!(
                "process {} on {} has made no progress for {} minutes; its shard of {} is handed out again",
                holder.pid,
                holder.host,
                watch.standstill().as_secs() / 60,
                stage.phase()
            ));
            return Ok(runner.store.revoke_lease(self.keys[i], &watch.holder)?);
        }
        if typical.is_some_and(|typical| watch.is_slow(typical))
            && self.may_compute()
            && stage.is_turn(&self.shards[i], runner)?
        {
            self.compute_second_copy(i)?;
        }
        Ok(())
    }

    /// Computes a shard that another process computes as well, unless a third one does so already.
    /// The first result wins; both are the same.
    fn compute_second_copy(&mut self, i: usize) -> Result<()> {
        self.runner.interrupt.check_new_shard()?;
        let ClaimOutcome::Acquired(_claim) = self.runner.store.claim(second_copy(self.keys[i]), true)? else {
            return Ok(());
        };
        if self.runner.store.shard_state(self.keys[i])? == ShardState::Done {
            return Ok(());
        }
        let result = self.compute(i)?;
        self.computed += 1;
        self.results[i] = Some(result);
        self.pending.retain(|other| *other != i);
        Ok(())
    }

    /// Returns the time that a shard of this stage typically takes: the median of those done, if
    /// there are enough.
    fn typical_time(&self) -> Option<Duration> {
        self.stage.typical_time().or_else(|| {
            let mut times: Vec<u64> = self.results.iter().flatten().map(|result| result.run.took_ms).collect();
            times.sort_unstable();
            (times.len() >= ENOUGH_TIMES).then(|| Duration::from_millis(times[times.len() / 2]))
        })
    }

    fn finish(self) -> Result<StageRun> {
        if !self.set_aside.is_empty() {
            return Err(StageError::SetAside { phase: self.stage.phase(), shards: self.set_aside });
        }
        Ok(StageRun { results: self.results.into_iter().flatten().collect(), computed: self.computed })
    }
}

/// Whether an error is a request to stop, which says nothing about the work.
fn is_request(e: &StageError) -> bool {
    matches!(e, StageError::Interrupted | StageError::Drained)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_begin_at_different_shards_and_cover_all() {
        let firsts: BTreeSet<usize> = (0..40)
            .map(|pid| {
                let order = rotated(16, &Process { host: "a".into(), pid, started: 1 });
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..16).collect::<Vec<_>>());
                order[0]
            })
            .collect();
        assert!(firsts.len() > 10, "{firsts:?}");
        assert!(rotated(0, &Process::current()).is_empty());
    }

    #[test]
    fn jitter_is_a_share() {
        for _ in 0..1000 {
            assert!((0.0..=1.0).contains(&jitter()));
        }
    }
}
