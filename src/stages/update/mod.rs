//! Update: a chain of GRPO steps of one role. Each step is an action of its own; what it starts from is the action before it.
//!
//! A checkpoint is kept every so many steps and after the last. Whoever needs the weights between two of them starts from the kept
//! one before and makes the updates again from the stored samples; nothing is ever sampled twice.

mod metrics;
mod rollouts;
mod settings;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device};
use serde_json::{Value, json};

pub use self::settings::{TrainedPart, UpdateSettings};

use self::rollouts::RolloutBuilder;
use super::image_set::ImageSet;
use super::model::{LoadedModel, ModelAssets, ModelHandle, StoredModel, WEIGHTS};
use super::role_prompt::RolePrompt;
use super::training_state::{TrainingInit, TrainingState, UPDATES};
use super::{Runner, ShardOutput, Stage, StageError, TableOutput};
use crate::ids::{ModelId, QuestionId};
use crate::store::{Action, ActionKey, Counts, Input, StageResult, Store};
use crate::tables::{MetricRow, PROFILE, RewardRow, Role, TableRow};
use crate::training::grpo_step::{GrpoStepReport, grpo_step};
use crate::training::trainable::Snapshot;
use crate::vlm::ops::Ops;

/// The stage's name.
pub const UPDATE: &str = "update";
const VERSION: u32 = 1;

/// What a chain of updates is about.
pub struct TrainingSpec<'a> {
    /// The role.
    pub role: Role,
    /// The knobs.
    pub settings: &'a UpdateSettings,
    /// How the model computes, as actions name it.
    pub compute: &'a Value,
    /// The number format that it computes in.
    pub dtype: DType,
    /// Where it computes.
    pub device: &'a Device,
    /// The implementation of the ops that it computes by.
    pub ops: Ops,
    /// The model at the start.
    pub base: &'a StoredModel,
    /// What goes with its weights.
    pub assets: Arc<ModelAssets>,
    /// The images that samples are about.
    pub images: &'a ImageSet<'a>,
    /// The role's prompt.
    pub prompt: &'a RolePrompt,
    /// The texts of the questions that the Reasoner answers; empty for the Questioner.
    pub texts: HashMap<QuestionId, String>,
    /// The temperature that samples are drawn at.
    pub temperature: f64,
    /// The most tokens of a sample.
    pub max_tokens: u32,
    /// The seed of fresh adapters.
    pub seed: u64,
}

/// A role in training.
pub struct TrainingChain<'a> {
    training: TrainingSpec<'a>,
    store: &'a Store,
    links: Mutex<Vec<ChainStep>>,
    live: Mutex<Option<TrainingState>>,
}

/// A step that is done, or about to be.
#[derive(Debug, Clone)]
struct ChainStep {
    samples: Vec<StageResult>,
    rewards: StageResult,
    /// The step's own result, once there is one.
    result: Option<StageResult>,
}

impl<'a> TrainingChain<'a> {
    /// The beginning of a role's training.
    pub fn new(training: TrainingSpec<'a>, store: &'a Store) -> Self {
        Self { training, store, links: Mutex::default(), live: Mutex::default() }
    }

    /// Steps done.
    pub fn steps(&self) -> u32 {
        self.links().len() as u32
    }

    /// The results of the steps done.
    pub fn results(&self) -> Vec<StageResult> {
        self.links().iter().filter_map(|link| link.result.clone()).collect()
    }

    /// The id of the weights after the steps done. Between checkpoints there are no bytes to take a digest of; what they are a
    /// function of is the last step's action.
    pub fn model_id(&self) -> ModelId {
        match self.links().last().and_then(|link| link.result.as_ref()) {
            None => self.training.base.id,
            Some(result) => ModelId::of_step(&result.action.to_string()),
        }
    }

    /// The model after the steps done, loaded when it is needed.
    pub fn model(&self) -> ModelHandle<'_> {
        let step = self.steps();
        ModelHandle::new(self.model_id(), move || {
            let mut live = self.live();
            let live = self.advance(&mut live, step)?;
            LoadedModel::new(Arc::clone(&self.training.assets), &Snapshot(&live.weights))
        })
    }

    /// Makes the next step from its samples and their rewards; `false` where its result was there already.
    ///
    /// # Errors
    /// The step fails, the store fails, or somebody asked to stop.
    pub fn step(
        &self,
        samples: Vec<StageResult>,
        rewards: StageResult,
        runner: &Runner<'_>,
    ) -> Result<bool, StageError> {
        let step = self.steps();
        let previous = self.links().last().and_then(|link| link.result.as_ref()).map(|result| result.action);
        let link = ChainStep { samples, rewards, result: None };
        let shard = Shard { step, previous, link };
        let mut ran = runner.run(&UpdateStage { chain: self }, std::slice::from_ref(&shard))?;
        let result = Some(ran.results.remove(0));
        self.links().push(ChainStep { result, ..shard.link });
        Ok(ran.made > 0)
    }

    /// The model after the last step, which is kept; the base where there was no step.
    ///
    /// # Errors
    /// The last result holds no weights.
    pub fn finish(&self) -> Result<StoredModel, StageError> {
        let links = self.links();
        let Some(result) = links.last().and_then(|link| link.result.as_ref()) else {
            return Ok(self.training.base.clone());
        };
        let weights: Vec<_> = result.outputs_of(WEIGHTS).cloned().collect();
        if weights.is_empty() {
            return Err(StageError::Conflict(format!("the last step {} kept no weights", result.action)));
        }
        Ok(self.training.base.with_weights(weights))
    }

    fn links(&self) -> MutexGuard<'_, Vec<ChainStep>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> MutexGuard<'_, Option<TrainingState>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_kept(&self, step: u32) -> bool {
        let settings = self.training.settings;
        (step + 1).is_multiple_of(settings.checkpoint_every.max(1)) || step + 1 >= settings.steps
    }

    /// Brings the weights in memory to where `step` steps are done.
    fn advance<'l>(&self, live: &'l mut Option<TrainingState>, step: u32) -> Result<&'l mut TrainingState, StageError> {
        let links = self.links().clone();
        let kept =
            |link: &ChainStep| link.result.as_ref().is_some_and(|result| result.outputs_of(WEIGHTS).next().is_some());
        let nearest = links.iter().take(step as usize).rposition(kept).map(|i| i as u32 + 1);
        // What is in memory will do unless it is ahead, or a checkpoint is nearer.
        let usable = live.as_ref().is_some_and(|live| live.step <= step && nearest.is_none_or(|n| n <= live.step));
        if !usable {
            let training = &self.training;
            let tensors = training.base.tensors(self.store)?;
            let begin = TrainingInit {
                trained: training.settings.trained(),
                optimizer: training.settings.optimizer(),
                reference: training.settings.beta > 0.0,
                dtype: training.dtype,
                device: training.device,
                ops: training.ops,
                seed: training.seed,
            };
            let mut fresh = TrainingState::start(&training.assets, &tensors, begin)?;
            if let Some((n, result)) = nearest.and_then(|n| Some((n, links[n as usize - 1].result.as_ref()?))) {
                fresh.resume(self.store, result, n)?;
            }
            *live = Some(fresh);
        }
        let live = live.as_mut().ok_or_else(|| StageError::Conflict("there are no weights in memory".into()))?;
        while live.step < step {
            let link = links.get(live.step as usize).ok_or_else(|| StageError::Conflict("a step is missing".into()))?;
            self.apply(live, link)?;
        }
        Ok(live)
    }

    /// Makes one step's updates on the weights in memory.
    fn apply(&self, live: &mut TrainingState, link: &ChainStep) -> Result<StepOutcome, StageError> {
        let training = &self.training;
        let prompting = RolloutBuilder {
            store: self.store,
            assets: &training.assets,
            images: training.images,
            prompt: training.prompt,
            texts: &training.texts,
        };
        let (groups, rewards) = prompting.groups(training.role, &link.samples, &link.rewards)?;
        let rates = training.settings.rates();
        let policy = training.settings.policy(training.max_tokens, training.temperature);
        // Part-way after an error, the weights must not be taken for those of any step.
        let step = std::mem::replace(&mut live.step, u32::MAX);
        let TrainingState { weights, optimizer, reference, .. } = live;
        let report = grpo_step(weights, optimizer, reference.as_ref(), &groups, &policy, |n| rates.rate(n))?;
        live.step = step + 1;
        Ok(StepOutcome { report, groups, rewards })
    }
}

/// What a step did, and to what.
struct StepOutcome {
    report: GrpoStepReport,
    groups: Vec<crate::training::grpo_step::Group>,
    rewards: Vec<RewardRow>,
}

struct UpdateStage<'c, 'a> {
    chain: &'c TrainingChain<'a>,
}

struct Shard {
    step: u32,
    previous: Option<ActionKey>,
    link: ChainStep,
}

impl Stage for UpdateStage<'_, '_> {
    type Shard = Shard;

    fn phase(&self) -> &'static str {
        match self.chain.training.role {
            Role::Questioner => "training the Questioner",
            Role::Reasoner => "training the Reasoner",
        }
    }

    fn runs_concurrently(&self) -> bool {
        false
    }

    fn action(&self, shard: &Shard) -> Action {
        let training = &self.chain.training;
        let outputs = shard.link.samples.iter().chain([&shard.link.rewards]).flat_map(|result| &result.outputs);
        let wanted = [crate::tables::QuestionRow::TABLE, crate::tables::AnswerRow::TABLE, RewardRow::TABLE];
        let inputs = outputs
            .filter(|output| wanted.contains(&output.role.as_str()))
            .map(|output| Input { role: output.role.clone(), object: output.object });
        // How much a batch holds at once and how often weights are kept are in the settings too, though only the first changes
        // bytes: a chain is simple to reason about when its knobs are its name.
        Action {
            stage: UPDATE.into(),
            stage_version: VERSION,
            parameters: BTreeMap::from([
                ("compute".into(), training.compute.clone()),
                ("max_tokens".into(), json!(training.max_tokens)),
                ("previous".into(), json!(shard.previous)),
                ("prompt".into(), json!(training.prompt.id)),
                ("role".into(), json!(training.role)),
                ("settings".into(), json!(training.settings)),
                ("step".into(), json!(shard.step)),
                ("temperature".into(), json!(training.temperature)),
            ]),
            seed: training.seed,
            inputs: inputs.collect(),
            model: Some(training.base.id.0),
            shard: BTreeMap::new(),
            schemas: BTreeMap::from([(MetricRow::TABLE.into(), MetricRow::schema_id())]),
            writer_profile: PROFILE.number,
        }
    }

    fn units(&self, _shard: &Shard) -> u64 {
        1
    }

    fn run_shard(&self, shard: &Shard, runner: &Runner<'_>) -> Result<ShardOutput, StageError> {
        let chain = self.chain;
        let mut live = chain.live();
        let live = chain.advance(&mut live, shard.step)?;
        let StepOutcome { report, groups, rewards } = chain.apply(live, &shard.link)?;
        let row = metrics::row(chain.training.role, shard.step, &report, &groups, &rewards);
        let n = rewards.len() as u64;
        let mut outputs = vec![TableOutput::write_all(runner.store, [row])?];
        if chain.is_kept(shard.step) {
            outputs.extend(live.keep(runner.store, &chain.training.assets)?);
        }
        runner.progress.advance(1);
        let figures = BTreeMap::from([(UPDATES.to_owned(), live.optimizer.updates())]);
        let mut upstream: Vec<ActionKey> = shard.previous.into_iter().collect();
        upstream.extend(shard.link.samples.iter().chain([&shard.link.rewards]).map(|result| result.action));
        Ok(ShardOutput { outputs, counts: Counts { rows_in: n, rows_out: n, rejects: 0 }, figures, upstream })
    }
}
