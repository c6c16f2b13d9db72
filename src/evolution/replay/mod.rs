//! Replay: makes stored results again from their stored inputs, and compares.
//!
//! A round is gone through as it was made, over the store but into a scratch folder (see [`Store::replay_overlay`]). What is to be replayed looks
//! as if it were not there, is made, and is compared; everything behind it goes on with the stored result. The settings, the prompts,
//! the base model and the images are those that the round's own action and result name, not those of today's files.

mod divergence;
mod targets;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use self::divergence::nearest_differences;
pub use self::targets::{ReplayTarget, RoundPart};

use self::divergence::divergence;
use self::targets::{Targets, targets};
use super::EvolutionError;
use super::context::PinnedInputs;
use super::evolve::replay_round;
use super::finished::{PROMPTS, SETTINGS, read_report};
use super::pipeline::Pipeline;
use super::settings::apply;
use crate::analysis::compare::{self, ComparisonResult};
use crate::ids::{Digest, PromptId};
use crate::random::Seed;
use crate::stages::ingest::{INGEST, replay_ingest};
use crate::stages::model::import;
use crate::stages::role_prompt::RolePrompt;
use crate::stages::{Interrupt, Progress, Runner, StageError};
use crate::store::{ActionKey, ObjectId, StageResult, Store, StoreError, scratch_folder};
use crate::tables::Role;

/// What to replay, and with what.
pub struct ReplayRequest<'a> {
    /// The store.
    pub store: &'a Store,
    /// The pipeline file of today: for what a round's own settings do not say, such as where benchmarks lie.
    pub pipeline: &'a Pipeline,
    /// What is to be replayed.
    pub target: &'a ReplayTarget,
    /// So many of the results, chosen by the seed; `None`: all.
    pub sample: Option<usize>,
    /// The seed that chooses.
    pub seed: u64,
    /// Folders and files that were ingested: only for the bytes of what became no image.
    pub images: &'a [PathBuf],
    /// Where the scratch folder is made.
    pub scratch: &'a Path,
    /// Who hears of it.
    pub progress: &'a dyn Progress,
    /// Whether to stop.
    pub interrupt: &'a Interrupt,
}

/// A result that was to be replayed.
#[derive(Debug, Clone, Serialize)]
pub struct ReplayedResult {
    /// Its stage.
    pub stage: String,
    /// What part of its round it is.
    pub part: RoundPart,
    /// Its action.
    pub action: ActionKey,
    /// How it compares; without a level when it was not made again, or nothing holds.
    #[serde(flatten)]
    pub compared: ComparisonResult,
    /// Why it was not made again.
    pub not_made: Option<String>,
}

/// What came of a replay.
#[derive(Debug, Clone, Serialize)]
pub struct ReplayReport {
    /// The results, in the order in which they were made.
    pub results: Vec<ReplayedResult>,
    /// Results that the target has, of which `results` are all or a sample.
    pub of: usize,
}

/// Replays; see the module.
///
/// # Errors
/// There is no such target, or something fails that is not about a single result. A result that comes out otherwise is no error here.
pub fn replay(request: &ReplayRequest<'_>) -> Result<ReplayReport, EvolutionError> {
    let Targets { round, mut results } = targets(request.store, request.target)?;
    let of = results.len();
    if let Some(sample) = request.sample {
        let mut chosen = Seed(request.seed).stream("replay", "", 0).sample_indexes(of, sample);
        chosen.sort_unstable();
        results = chosen.into_iter().map(|i| results[i].clone()).collect();
    }
    let scratch = scratch_folder(request.scratch)?;
    let work = Work { request, scratch: scratch.path() };
    let is_of = |part: RoundPart| move |result: &&Target| result.part == part;
    let mut replayed = Vec::new();
    for part in [RoundPart::Base, RoundPart::Images] {
        let of_part: Vec<&Target> = results.iter().filter(is_of(part)).collect();
        replayed.extend(work.make(&of_part, |runner| match part {
            RoundPart::Base => Ok(import(&request.pipeline.model.base, runner).map(|_| ())?),
            _ => work.ingest(&of_part, round.as_ref().map(|round| &round.result), runner),
        })?);
    }
    let rest: Vec<&Target> =
        results.iter().filter(|target| !matches!(target.part, RoundPart::Base | RoundPart::Images)).collect();
    if let Some(round) = &round {
        replayed.extend(work.make(&rest, |runner| work.round(round, runner))?);
    }
    Ok(ReplayReport { results: replayed, of })
}

/// A round that is done.
#[derive(Debug, Clone)]
struct StoredRound {
    evolution: String,
    number: u32,
    result: StageResult,
}

/// A result to be made again.
#[derive(Debug, Clone)]
struct Target {
    stage: String,
    part: RoundPart,
    result: StageResult,
}

/// Progress without talk: what a round has to say it said when it was made.
struct Quiet<'a>(&'a dyn Progress);

impl Progress for Quiet<'_> {
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

struct Work<'a> {
    request: &'a ReplayRequest<'a>,
    scratch: &'a Path,
}

impl Work<'_> {
    /// Makes results again by going through `walk`, and compares.
    fn make(
        &self,
        targets: &[&Target],
        walk: impl FnOnce(&Runner<'_>) -> Result<(), EvolutionError>,
    ) -> Result<Vec<ReplayedResult>, EvolutionError> {
        let Some(first) = targets.first() else { return Ok(Vec::new()) };
        let keys: BTreeSet<ActionKey> = targets.iter().map(|target| target.result.action).collect();
        let stored = self.request.store;
        // Each walk has a folder of its own, so that none finds what another one made.
        let folder = self.scratch.join(first.part.word());
        let store = stored.replay_overlay(&folder, keys);
        let progress = Quiet(self.request.progress);
        let runner = Runner { store: &store, progress: &progress, interrupt: self.request.interrupt, dry_run: false };
        let ended = match walk(&runner) {
            Ok(()) | Err(EvolutionError::Stage(StageError::Store(StoreError::ReplayComplete))) => None,
            Err(e @ EvolutionError::Stage(StageError::Interrupted)) => return Err(e),
            Err(EvolutionError::Stage(StageError::Store(StoreError::ReplayDiverged { action }))) => {
                Some(divergence(stored, &action)?)
            }
            Err(e) => Some(e.to_string()),
        };
        targets.iter().map(|target| self.compared(target, &store, ended.as_deref())).collect()
    }

    fn compared(&self, target: &Target, store: &Store, ended: Option<&str>) -> Result<ReplayedResult, EvolutionError> {
        let key = target.result.action;
        let (compared, not_made) = match store.replayed_result(key)? {
            Some(again) => {
                let stored = self.request.store;
                let compared = compare::results(
                    &target.result,
                    &again,
                    |output| stored.read_object(output.object),
                    |output| store.read_object(output.object),
                );
                (compared, None)
            }
            None => {
                let why = ended.unwrap_or("the round, gone through as it was made, does not ask for it");
                (ComparisonResult::default(), Some(why.to_owned()))
            }
        };
        let Target { stage, part, .. } = target.clone();
        Ok(ReplayedResult { stage, part, action: key, compared, not_made })
    }

    /// Makes the table of images again that the targets are parts of.
    fn ingest(
        &self,
        targets: &[&Target],
        round: Option<&StageResult>,
        runner: &Runner<'_>,
    ) -> Result<(), EvolutionError> {
        let store = self.request.store;
        let table = match round {
            Some(round) => upstream_of(store, round, INGEST)?,
            None => targets::table_of(store, targets.iter().map(|target| target.result.action))?,
        };
        let sources =
            if self.request.images.is_empty() { &self.request.pipeline.ingest.sources } else { self.request.images };
        Ok(replay_ingest(store, &table, sources, self.scratch, runner)?)
    }

    /// Goes through a round with what it was made with.
    fn round(&self, round: &StoredRound, runner: &Runner<'_>) -> Result<(), EvolutionError> {
        let store = self.request.store;
        let action = store.action(round.result.action)?;
        let report = read_report(store, &round.result)?;
        let lost = || StageError::missing_part(format!("the action of a round of {}", round.evolution), SETTINGS);
        let settings = action.parameters.get(SETTINGS).ok_or_else(lost)?;
        let mut pipeline = apply(settings, &report.gates, self.request.pipeline)?;
        pipeline.evolution.clone_from(&round.evolution);
        let pinned = PinnedInputs {
            questioner_prompt: self.prompt(round, Role::Questioner)?,
            reasoner_prompt: self.prompt(round, Role::Reasoner)?,
            base: upstream_of(store, &round.result, "model.import")?,
            images: upstream_of(store, &round.result, INGEST)?,
        };
        replay_round(&pipeline, runner, round.number, pinned).map(|_| ())
    }

    /// The prompt of a role in a round: the stored one, or, for a round that stored none, that of the file, which must
    /// not have changed.
    fn prompt(&self, round: &StoredRound, role: Role) -> Result<RolePrompt, EvolutionError> {
        let output_role = PROMPTS[usize::from(role == Role::Reasoner)];
        if let Some(output) = round.result.outputs_of(output_role).next() {
            return self.stored_prompt(output_role, output.object);
        }
        let prompt = self.request.pipeline.prompt(role)?;
        self.check_prompt(round, role, prompt.id)?;
        Ok(prompt)
    }

    fn stored_prompt(&self, part: &str, object: ObjectId) -> Result<RolePrompt, EvolutionError> {
        let bytes = self.request.store.read_object(object)?;
        let record = || format!("{part} {object}");
        let text: String = serde_json::from_slice(&bytes).map_err(|e| StageError::malformed(record(), e))?;
        Ok(RolePrompt::parse(Path::new(part), &text).map_err(|e| StageError::malformed(record(), e))?)
    }

    /// A file's prompt must be one of those that the round's samples were drawn with.
    fn check_prompt(&self, round: &StoredRound, role: Role, now: PromptId) -> Result<(), EvolutionError> {
        let mut then = BTreeSet::<Digest>::new();
        for &key in &round.result.upstream {
            let action = self.request.store.action(key)?;
            then.extend(action.parameters.get("prompt").and_then(|id| id.as_str()?.parse::<Digest>().ok()));
        }
        if then.contains(&now.0) {
            return Ok(());
        }
        let problem = format!("the prompt {now} is not the one that the round was made with; restore the template");
        let key = if role == Role::Questioner { "prompts.questioner" } else { "prompts.reasoner" };
        Err(self.request.pipeline.source.error(key, problem).into())
    }
}

/// The first result of a stage that a result was made from.
fn upstream_of(store: &Store, result: &StageResult, stage: &str) -> Result<StageResult, EvolutionError> {
    for &key in &result.upstream {
        if store.action(key)?.stage == stage
            && let Some(found) = store.result(key)?
        {
            return Ok(found);
        }
    }
    Err(StageError::missing_part(format!("the result {}", result.action), format!("input from the stage `{stage}`"))
        .into())
}
