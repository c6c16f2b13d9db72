//! Replay: recomputes stored results from their stored inputs and compares.
//!
//! The round runs again on an overlay of the store that writes to a scratch folder (see
//! [`Store::replay_overlay`]). The results to replay are hidden in the overlay, so their stages
//! recompute them; later stages continue with the stored results. Settings, prompts, base model and
//! images are those of the stored round, not those of today's files.

mod divergence;
mod targets;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use self::divergence::nearest_differences;
pub use self::targets::{ReplayTarget, RoundPart};

use self::divergence::describe_divergence;
use self::targets::{Targets, find_targets};
use super::context::{EvolutionContext, PinnedInputs};
use super::finished::{SETTINGS, finished_round, read_report};
use super::pipeline::Pipeline;
use super::round;
use super::settings::apply;
use super::stored_inputs::{has_used, raw_prompt, stored_prompt, upstream_result};
use super::{EvolutionError, Result};
use crate::analysis::compare::{self, ComparisonResult};
use crate::random::Seed;
use crate::stages::ingest::{INGEST, replay_ingest};
use crate::stages::model::{CHECKPOINT, IMPORT, import, is_emptied, store_companions};
use crate::stages::role_prompt::RolePrompt;
use crate::stages::{Interrupt, Progress, Runner, StageError};
use crate::store::{ActionKey, Output, StageResult, Store, StoreError, scratch_folder};
use crate::tables::Role;

/// The parameters of a replay.
pub struct ReplayRequest<'a> {
    /// The store.
    pub store: &'a Store,
    /// Today's pipeline file, for what stored settings leave out, such as the paths of benchmarks.
    pub pipeline: &'a Pipeline,
    /// The results to replay.
    pub target: &'a ReplayTarget,
    /// Number of results to choose by the seed; `None` for all.
    pub sample: Option<usize>,
    /// The seed of the choice.
    pub seed: u64,
    /// Folders and files that were ingested; needed for the bytes of rejected files, which the
    /// store does not have.
    pub images: &'a [PathBuf],
    /// The folder in which to create the scratch folder.
    pub scratch: &'a Path,
    /// Receives progress events.
    pub progress: &'a dyn Progress,
    /// Tells whether to stop.
    pub interrupt: &'a Interrupt,
}

/// The outcome for one result.
#[derive(Debug, Clone, Serialize)]
pub struct ReplayedResult {
    /// Its stage.
    pub stage: String,
    /// Its part of the round.
    pub part: RoundPart,
    /// Its action.
    pub action: ActionKey,
    /// The comparison; it has no level if the result was not recomputed or passes none.
    #[serde(flatten)]
    pub compared: ComparisonResult,
    /// The reason why it was not recomputed.
    #[serde(rename = "not_made")]
    pub not_recomputed: Option<String>,
}

/// The outcome of a replay.
#[derive(Debug, Clone, Serialize)]
pub struct ReplayReport {
    /// The results, in their order in the round.
    pub results: Vec<ReplayedResult>,
    /// Number of results that the target has; `results` holds all or a sample of them.
    #[serde(rename = "of")]
    pub total: usize,
}

/// Recomputes stored results and compares them; see the module.
///
/// # Errors
/// The target does not exist, or the replay as a whole fails. A differing result is no error here.
pub fn replay(request: &ReplayRequest<'_>) -> Result<ReplayReport> {
    let Targets { round, mut results } = find_targets(request.store, request.target)?;
    leave_out_lost_base(request, &mut results)?;
    let total = results.len();
    if let Some(sample) = request.sample {
        let mut indexes = Seed(request.seed).stream("replay", "", 0).sample_indexes(total, sample);
        indexes.sort_unstable();
        results = indexes.into_iter().map(|i| results[i].clone()).collect();
    }
    let scratch = scratch_folder(request.scratch)?;
    let replayer = Replayer { request, scratch: scratch.path() };
    let mut replayed = Vec::new();
    for part in [RoundPart::Base, RoundPart::Images] {
        let part_results: Vec<&TargetResult> = results.iter().filter(|result| result.part == part).collect();
        replayed.extend(replayer.recompute(&part_results, |runner| match part {
            RoundPart::Base => replayer.replay_import(runner),
            _ => replayer.replay_ingest(&part_results, round.as_ref().map(|round| &round.result), runner),
        })?);
    }
    let rest: Vec<&TargetResult> =
        results.iter().filter(|target| !matches!(target.part, RoundPart::Base | RoundPart::Images)).collect();
    if let Some(round) = &round {
        replayed.extend(replayer.recompute(&rest, |runner| replayer.replay_round(round, runner))?);
    }
    Ok(ReplayReport { results: replayed, total })
}

/// Leaves out the import of the base model if its folder is gone, which nothing but the import
/// needs. A target that has nothing else cannot be replayed then.
fn leave_out_lost_base(request: &ReplayRequest<'_>, results: &mut Vec<TargetResult>) -> Result<()> {
    let folder = &request.pipeline.model.base;
    let is_base = |target: &TargetResult| target.part == RoundPart::Base;
    let Some(import) = results.iter().find(|target| is_base(target)) else { return Ok(()) };
    let problem = match request.pipeline.check_path("model.base", folder) {
        Err(e) => e,
        Ok(()) => {
            if import.stage != IMPORT || !folder.is_dir() || !is_emptied(folder, &import.result, request.store)? {
                return Ok(());
            }
            let problem = format!("`{}` has lost files of the base model", folder.display());
            request.pipeline.source.error("model.base", problem)
        }
    };
    if results.iter().all(is_base) {
        return Err(problem.into());
    }
    results.retain(|target| !is_base(target));
    request.progress.say(&format!("the import of the base model is not recomputed: {problem}"));
    Ok(())
}

/// A stored round.
#[derive(Debug, Clone)]
struct StoredRound {
    evolution: String,
    number: u32,
    result: StageResult,
}

/// A stored result to recompute.
#[derive(Debug, Clone)]
struct TargetResult {
    stage: String,
    part: RoundPart,
    result: StageResult,
}

/// Forwards progress but not messages, which the user saw when the round was first run.
struct QuietProgress<'a>(&'a dyn Progress);

impl Progress for QuietProgress<'_> {
    fn begin(&self, phase: &str, total: u64) {
        self.0.begin(phase, total);
    }

    fn advance(&self, units: u64) {
        self.0.advance(units);
    }

    fn end(&self) {
        self.0.end();
    }

    fn say(&self, _message: &str) {}
}

struct Replayer<'a> {
    request: &'a ReplayRequest<'a>,
    scratch: &'a Path,
}

impl Replayer<'_> {
    /// Recomputes results with `run_stages`, and compares them with the stored ones.
    fn recompute(
        &self,
        targets: &[&TargetResult],
        run_stages: impl FnOnce(&Runner<'_>) -> Result<()>,
    ) -> Result<Vec<ReplayedResult>> {
        let Some(first) = targets.first() else { return Ok(Vec::new()) };
        let keys: BTreeSet<ActionKey> = targets.iter().map(|target| target.result.action).collect();
        let stored = self.request.store;
        // Each run has its own scratch folder, so that it does not find the results of another.
        let folder = self.scratch.join(first.part.name());
        let store = stored.replay_overlay(&folder, keys);
        let progress = QuietProgress(self.request.progress);
        let runner = Runner::new(&store, &progress, self.request.interrupt);
        let end_reason = match run_stages(&runner) {
            Ok(()) | Err(EvolutionError::Stage(StageError::Store(StoreError::ReplayComplete))) => None,
            Err(e @ EvolutionError::Stage(StageError::Interrupted | StageError::Drained)) => return Err(e),
            Err(EvolutionError::Stage(StageError::Store(StoreError::ReplayDiverged { action }))) => {
                Some(describe_divergence(stored, &action)?)
            }
            Err(e) => Some(e.to_string()),
        };
        targets.iter().map(|target| self.compare(target, &store, end_reason.as_deref())).collect()
    }

    fn compare(&self, target: &TargetResult, store: &Store, end_reason: Option<&str>) -> Result<ReplayedResult> {
        let key = target.result.action;
        let (compared, not_recomputed) = match store.replayed_result(key)? {
            Some(recomputed) => {
                let read_stored = |output: &Output| self.request.store.read_object(output.object);
                let read_recomputed = |output: &Output| store.read_object(output.object);
                (compare::compare_results(&target.result, &recomputed, read_stored, read_recomputed), None)
            }
            None => {
                let reason = end_reason.unwrap_or("the replayed round does not request it");
                (ComparisonResult::default(), Some(reason.to_owned()))
            }
        };
        let TargetResult { stage, part, .. } = target.clone();
        Ok(ReplayedResult { stage, part, action: key, compared, not_recomputed })
    }

    /// Imports the base model again.
    fn replay_import(&self, runner: &Runner<'_>) -> Result<()> {
        let folder = &self.request.pipeline.model.base;
        let (imported, _) = import(folder, runner)?;
        store_companions(folder, &imported, runner)?;
        Ok(())
    }

    /// Recomputes the images table that the targets are part of.
    fn replay_ingest(&self, targets: &[&TargetResult], round: Option<&StageResult>, runner: &Runner<'_>) -> Result<()> {
        let store = self.request.store;
        let table = match round {
            Some(round) => upstream_of(store, round, INGEST)?,
            None => targets::find_table(store, targets.iter().map(|target| target.result.action))?,
        };
        let sources =
            if self.request.images.is_empty() { &self.request.pipeline.ingest.sources } else { self.request.images };
        Ok(replay_ingest(store, &table, sources, self.scratch, runner)?)
    }

    /// Runs a stored round again with its own inputs and settings.
    fn replay_round(&self, round: &StoredRound, runner: &Runner<'_>) -> Result<()> {
        let store = self.request.store;
        let action = store.action(round.result.action)?;
        let report = read_report(store, &round.result)?;
        let lost = || StageError::missing_part(format!("the action of a round of {}", round.evolution), SETTINGS);
        let settings = action.parameters.get(SETTINGS).ok_or_else(lost)?;
        let mut pipeline = apply(settings, &report.gates, self.request.pipeline)?;
        pipeline.evolution.clone_from(&round.evolution);
        let pinned = PinnedInputs {
            questioner_prompt: self.read_prompt(round, Role::Questioner)?,
            reasoner_prompt: self.read_prompt(round, Role::Reasoner)?,
            base: upstream_of(store, &round.result, IMPORT)?,
            companions: upstream_result(store, &round.result, CHECKPOINT)?,
            images: upstream_of(store, &round.result, INGEST)?,
        };
        let mut before = Vec::new();
        for number in 1..round.number {
            before.extend(finished_round(runner.store, &round.evolution, number)?);
        }
        let context = EvolutionContext::from_pinned(&pipeline, runner, pinned)?;
        round::run(&context, round.number, &before, None).map(|_| ())
    }

    /// Returns the prompt of a role in a round: the stored one, or, for a round that stored none,
    /// that of the file, which must not have changed.
    fn read_prompt(&self, round: &StoredRound, role: Role) -> Result<RolePrompt> {
        if let Some(prompt) = stored_prompt(self.request.store, &round.result, role)? {
            return Ok(prompt);
        }
        // It must be one of those that the round's samples were drawn with.
        let (pipeline, store) = (self.request.pipeline, self.request.store);
        if let Some(prompt) = raw_prompt(pipeline, store, &round.result, role)? {
            return Ok(prompt);
        }
        let prompt = pipeline.prompt(role)?;
        if has_used(store, &round.result, &prompt)? {
            return Ok(prompt);
        }
        let problem = format!("this template ({}) is not the one that the round used; restore that one", prompt.id);
        let key = if role == Role::Questioner { "prompts.questioner" } else { "prompts.reasoner" };
        Err(pipeline.source.error(key, problem).into())
    }
}

/// Returns the first upstream result of a stage.
fn upstream_of(store: &Store, result: &StageResult, stage: &str) -> Result<StageResult> {
    for &key in &result.upstream {
        if store.action(key)?.stage == stage
            && let Some(upstream) = store.result(key)?
        {
            return Ok(upstream);
        }
    }
    Err(StageError::missing_part(format!("the result {}", result.action), format!("input from the stage `{stage}`"))
        .into())
}
