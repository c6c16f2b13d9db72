//! The `update` stage: a chain of GRPO steps of one role. Each step is a separate action that names
//! the action of the step before it.
//!
//! Checkpoints are stored at a fixed interval of steps and after the last step. Weights between two
//! checkpoints are recomputed from the earlier one and the stored samples; nothing is sampled
//! twice. The weights of a checkpoint that was dropped are recomputed in the same way from the
//! nearest one that the store still has, or from the model that the training started from.

mod metrics;
mod rollouts;
mod settings;
mod step_weights;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use serde_json::json;

pub use self::settings::{TrainedPart, UpdateSettings};

use self::rollouts::RolloutBuilder;
use super::compute_identity::ComputeIdentity;
use super::image_set::ImageSet;
use super::model::{LoadedModel, ModelAssets, ModelHandle, StoredModel, WEIGHTS, store_weights};
use super::role_prompt::RolePrompt;
use super::training_state::{TrainingInit, TrainingState, UPDATES, has_state};
use super::{Result, Runner, ShardOutput, Stage, StageError, TableOutput, inputs, new_action, schema};
use crate::ids::{ModelId, QuestionId};
use crate::random::Seed;
use crate::store::{Action, ActionKey, Counts, Output, Process, StageResult, Store, StoreError};
use crate::tables::{AnswerRow, MetricRow, QuestionRow, RewardRow, Role, TableRow};
use crate::training::TrainingError;
use crate::training::grpo_step::{GrpoStepReport, grpo_step};
use crate::training::trainable::{Snapshot, TrainableModel};
use crate::vlm::ops::Ops;

/// The stage's name.
pub const UPDATE: &str = "update";
const VERSION: u32 = 1;
/// Time that the process with the weights in memory has to begin the next step before others do.
const TRAINER_HEAD_START: Duration = Duration::from_secs(10);

/// Reads the tensors of a model by name.
pub type TensorReader<'a> = Box<dyn Fn() -> Result<HashMap<String, Tensor>> + Send + Sync + 'a>;

/// Everything that the training of a role depends on, except its samples and rewards.
pub struct TrainingSpec<'a> {
    /// Role to train.
    pub role: Role,
    /// Settings of the training.
    pub settings: &'a UpdateSettings,
    /// How the model computes.
    pub compute: &'a ComputeIdentity,
    /// Dtype of the computation.
    pub dtype: DType,
    /// Device of the computation.
    pub device: &'a Device,
    /// Implementation of the ops.
    pub ops: Ops,
    /// Model to start from.
    pub base: &'a StoredModel,
    /// Reads the tensors of that model, which may have been dropped.
    pub base_tensors: TensorReader<'a>,
    /// Parts of the model besides its weights.
    pub assets: Arc<ModelAssets>,
    /// Images of the samples.
    pub images: &'a ImageSet<'a>,
    /// Prompt of the role.
    pub prompt: &'a RolePrompt,
    /// Texts of the questions that the Reasoner answers; empty for the Questioner.
    pub texts: HashMap<QuestionId, String>,
    /// Temperature at which samples are drawn.
    pub temperature: f64,
    /// Maximum number of tokens of a sample.
    pub max_tokens: u32,
    /// Seed of fresh adapters.
    pub seed: u64,
}

/// The training of a role in progress: the steps done so far, and the weights after them.
pub struct TrainingChain<'a> {
    training: TrainingSpec<'a>,
    store: &'a Store,
    steps_done: Mutex<Vec<ChainStep>>,
    state: Mutex<Option<TrainingState>>,
    /// Weights that another process shared, for sampling only, and the time that reading them took.
    shared: Mutex<Option<(TrainableModel, Duration)>>,
}

/// A step that is done or about to be done.
#[derive(Debug, Clone)]
struct ChainStep {
    samples: Vec<StageResult>,
    rewards: StageResult,
    /// The step's result, once it is done.
    result: Option<StageResult>,
}

impl ChainStep {
    /// Returns the results that the step is computed from.
    fn sources(&self) -> impl Iterator<Item = &StageResult> {
        self.samples.iter().chain([&self.rewards])
    }
}

impl<'a> TrainingChain<'a> {
    /// Starts a role's training.
    pub fn new(training: TrainingSpec<'a>, store: &'a Store) -> Self {
        Self { training, store, steps_done: Mutex::default(), state: Mutex::default(), shared: Mutex::default() }
    }

    /// Returns the number of steps done.
    pub fn steps(&self) -> u32 {
        self.steps_done().len() as u32
    }

    /// Returns the results of the steps done.
    pub fn results(&self) -> Vec<StageResult> {
        self.steps_done().iter().filter_map(|chain_step| chain_step.result.clone()).collect()
    }

    /// Returns the id of the weights after the steps done. Between checkpoints no weights are
    /// stored that could be hashed, so the id is derived from the last step's action, which
    /// determines them.
    pub fn model_id(&self) -> ModelId {
        self.last_result().map_or(self.training.base.id, |result| model_after(result.action))
    }

    /// Returns the model after the steps done, loaded when it is needed.
    pub fn model(&self) -> ModelHandle<'_> {
        let step = self.steps();
        ModelHandle::in_training(self.model_id(), move || {
            if let Some(model) = self.shared_model(step)? {
                return Ok(model);
            }
            let mut state = self.state();
            let state = self.advance(&mut state, step)?;
            self.sampling_model(&state.weights)
        })
    }

    fn sampling_model(&self, weights: &TrainableModel) -> Result<LoadedModel> {
        LoadedModel::new(Arc::clone(&self.training.assets), &Snapshot(weights))
    }

    /// Returns the model after `step` steps from the weights that the process which made the update
    /// has shared; `None` where there are none, or making the updates here takes less time.
    fn shared_model(&self, step: u32) -> Result<Option<LoadedModel>> {
        let training = &self.training;
        let here = self.state().as_ref().map_or(0, |state| state.step);
        let is_own = self.last_result().is_none_or(|result| result.run.process == Process::current());
        if is_own || here == step {
            return Ok(None);
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some((_, reading)), true) = (&*shared, here < step) {
            let updating: u64 = self.results().iter().skip(here as usize).map(|result| result.run.took_ms).sum();
            if Duration::from_millis(updating) < *reading {
                return Ok(None);
            }
        }
        let began = Instant::now();
        let weights = match shared.take() {
            Some((weights, _)) => weights,
            None if self.store.step_weights(self.model_id())?.is_none() => return Ok(None),
            None => {
                let tensors = training.base.tensors(self.store)?;
                let (config, scope) = (&training.assets.config, training.settings.trained());
                let seed = Seed(training.seed);
                TrainableModel::new(config, scope, &tensors, seed, training.dtype, training.device)
                    .map_err(TrainingError::from)?
                    .with_ops(training.ops)
            }
        };
        let model = match step_weights::fetch(self.store, self.model_id(), &weights)? {
            true => Some(self.sampling_model(&weights)?),
            false => None,
        };
        *shared = Some((weights, began.elapsed()));
        Ok(model)
    }

    /// Runs the next step on its samples and their rewards. Returns `false` where the store has its
    /// result already.
    ///
    /// # Errors
    /// The step fails, the store fails, or the command is interrupted.
    pub fn step(&self, samples: Vec<StageResult>, rewards: StageResult, runner: &Runner<'_>) -> Result<bool> {
        let step = self.steps();
        let previous = self.last_result().map(|result| result.action);
        let chain_step = ChainStep { samples, rewards, result: None };
        let shard = Shard { step, previous, chain_step };
        let mut run =
            runner.run(&UpdateStage { chain: self, awaited: Mutex::default() }, std::slice::from_ref(&shard))?;
        let result = Some(run.results.remove(0));
        self.steps_done().push(ChainStep { result, ..shard.chain_step });
        Ok(run.computed > 0)
    }

    /// Returns the model after the last step; the base model if there was no step.
    ///
    /// # Errors
    /// The last result holds no weights.
    pub fn finish(&self) -> Result<StoredModel> {
        // The last step has a checkpoint.
        let shared: Vec<ModelId> = self.results().iter().map(|result| model_after(result.action)).collect();
        self.store.remove_step_weights(&shared)?;
        let Some(result) = self.last_result() else { return Ok(self.training.base.clone()) };
        let weights: Vec<_> = result.outputs_of(WEIGHTS).cloned().collect();
        if weights.is_empty() {
            return Err(StageError::missing_part(format!("the last step {}", result.action), WEIGHTS));
        }
        Ok(self.training.base.with_weights(weights))
    }

    fn steps_done(&self) -> MutexGuard<'_, Vec<ChainStep>> {
        self.steps_done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_result(&self) -> Option<StageResult> {
        self.steps_done().last()?.result.clone()
    }

    fn state(&self) -> MutexGuard<'_, Option<TrainingState>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shares the weights after `step` steps with the workers that sample with them too, and
    /// removes those that no worker needs any more.
    fn share_weights(&self, runner: &Runner<'_>, model: ModelId, weights: &TrainableModel) -> Result<()> {
        let has_others = runner.store.trainers()? > 0;
        if has_others {
            step_weights::share(self.store, model, weights)?;
        }
        let steps = self.steps_done();
        let mut earlier: Vec<ModelId> = Vec::new();
        // The weights before this step are still in use: a worker may be about to read them.
        for result in steps.iter().rev().skip(1).filter_map(|step| step.result.as_ref()) {
            earlier.push(model_after(result.action));
        }
        Ok(self.store.remove_step_weights(&earlier)?)
    }

    fn has_checkpoint(&self, step: u32) -> bool {
        let settings = self.training.settings;
        (step + 1).is_multiple_of(settings.checkpoint_every.max(1)) || step + 1 >= settings.steps
    }

    /// Advances the weights in memory to those after `step` steps.
    fn advance<'l>(&self, state: &'l mut Option<TrainingState>, step: u32) -> Result<&'l mut TrainingState> {
        // The update needs the memory.
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let steps_done = self.steps_done().clone();
        let before = &steps_done[..steps_done.len().min(step as usize)];
        let mut checkpoints = Vec::new();
        for (n, chain_step) in (1..).zip(before) {
            // Weights in memory are newer than the checkpoints before them.
            let is_newer = state.as_ref().is_none_or(|state| state.step > step || state.step < n);
            match &chain_step.result {
                Some(result) if is_newer && has_state(self.store, result)? => checkpoints.push((n, result)),
                _ => {}
            }
        }
        // The weights in memory are usable unless they are too far ahead or a checkpoint is nearer.
        if state.as_ref().is_none_or(|state| state.step > step) || !checkpoints.is_empty() {
            *state = Some(self.load(checkpoints.into_iter().rev())?);
        }
        let state = state.as_mut().ok_or_else(|| StageError::Internal("there are no weights in memory".into()))?;
        while state.step < step {
            let missing = || StageError::Internal("a training step is missing".into());
            self.apply(state, steps_done.get(state.step as usize).ok_or_else(missing)?)?;
        }
        Ok(state)
    }

    /// Loads the weights of the first of some checkpoints, given with the number of steps before
    /// each; without any, the weights that the training started from.
    fn load<'r>(&self, checkpoints: impl Iterator<Item = (u32, &'r StageResult)>) -> Result<TrainingState> {
        let training = &self.training;
        let tensors = (training.base_tensors)()?;
        let init = TrainingInit {
            trained: training.settings.trained(),
            optimizer: training.settings.optimizer(),
            reference: training.settings.beta > 0.0,
            dtype: training.dtype,
            device: training.device,
            ops: training.ops,
            seed: training.seed,
        };
        let mut state = TrainingState::start(&training.assets, &tensors, init)?;
        for (n, result) in checkpoints {
            match state.resume(self.store, result, n) {
                // Another process has just finished the round and dropped the checkpoint.
                Err(StageError::Store(StoreError::Missing { .. })) => {}
                resumed => {
                    resumed?;
                    break;
                }
            }
        }
        Ok(state)
    }

    /// Takes over the steps of a stored training up to its last one, as if they had just been done.
    ///
    /// # Errors
    /// A step, or a result that it was computed from, is missing from the store.
    pub fn take_over(&self, last: &StageResult) -> Result<()> {
        let read = |key: ActionKey| self.store.result(key)?.ok_or_else(|| StageError::lost_result(key));
        let (mut steps, mut next) = (Vec::new(), Some(last.clone()));
        while let Some(result) = next {
            let previous = self.store.action(result.action)?.parameters.remove("previous").unwrap_or_default();
            let previous: Option<ActionKey> = serde_json::from_value(previous)
                .map_err(|e| StageError::malformed(format!("the action {}", result.action), e))?;
            let sources = result.upstream.iter().filter(|key| Some(**key) != previous);
            let mut samples = sources.map(|&key| read(key)).collect::<Result<Vec<_>>>()?;
            let lacks = || StageError::missing_part(format!("the step {}", result.action), "rewards");
            let rewards = samples.pop().ok_or_else(lacks)?;
            steps.push(ChainStep { samples, rewards, result: Some(result) });
            next = previous.map(read).transpose()?;
        }
        steps.reverse();
        *self.steps_done() = steps;
        Ok(())
    }

    /// Recomputes the weights after the steps done, stores them and returns their objects.
    ///
    /// # Errors
    /// A step fails, the store fails, or the command is interrupted.
    pub fn recompute(&self, runner: &Runner<'_>) -> Result<Vec<Output>> {
        let (mut state, steps) = (self.state(), self.steps());
        let mut first = 0;
        for (n, chain_step) in (1..).zip(self.steps_done().iter()) {
            if let Some(result) = &chain_step.result
                && has_state(self.store, result)?
            {
                first = n;
            }
        }
        runner.progress.begin("recomputing weights that were dropped", u64::from(steps - first));
        for step in first..=steps {
            runner.interrupt.check()?;
            self.advance(&mut state, step)?;
            runner.progress.advance(u64::from(step > first));
        }
        runner.progress.end();
        let state = state.as_ref().ok_or_else(|| StageError::Internal("there are no weights in memory".into()))?;
        store_weights(self.store, &self.training.assets.config, &Snapshot(&state.weights))
    }

    /// Applies the updates of one step to the weights in memory.
    fn apply(&self, state: &mut TrainingState, chain_step: &ChainStep) -> Result<StepOutcome> {
        let training = &self.training;
        let builder = RolloutBuilder {
            store: self.store,
            assets: &training.assets,
            images: training.images,
            prompt: training.prompt,
            texts: &training.texts,
        };
        let (groups, rewards) = builder.groups(training.role, &chain_step.samples, &chain_step.rewards)?;
        let rates = training.settings.rates();
        let policy = training.settings.policy(training.max_tokens, training.temperature);
        // After an error the weights are between two steps and must not be used for either.
        let step = std::mem::replace(&mut state.step, u32::MAX);
        let TrainingState { weights, optimizer, reference, .. } = state;
        let report = grpo_step(weights, optimizer, reference.as_ref(), &groups, &policy, |n| rates.rate(n))?;
        state.step = step + 1;
        Ok(StepOutcome { report, groups, rewards })
    }
}

/// Returns the id of the weights after the step with this action.
fn model_after(action: ActionKey) -> ModelId {
    ModelId::of_step(&action.to_string())
}

/// The outcome of a step, and the rows it was computed from.
struct StepOutcome {
    report: GrpoStepReport,
    groups: Vec<crate::training::grpo_step::RolloutGroup>,
    rewards: Vec<RewardRow>,
}

struct UpdateStage<'c, 'a> {
    chain: &'c TrainingChain<'a>,
    /// When this process began to let another one make the step.
    awaited: Mutex<Option<Instant>>,
}

struct Shard {
    step: u32,
    previous: Option<ActionKey>,
    chain_step: ChainStep,
}

impl Stage for UpdateStage<'_, '_> {
    type Shard = Shard;
    const PHASE: &'static str = "training";
    const IS_CONCURRENT: bool = false;

    fn needs_trainer(&self) -> bool {
        true
    }

    fn is_turn(&self, shard: &Shard, runner: &Runner<'_>) -> Result<bool> {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        let is_prepared = self.chain.state().as_ref().is_some_and(|state| state.step == shard.step);
        let Some(previous) = self.chain.last_result().filter(|_| !is_prepared) else { return Ok(true) };
        // The process that made the previous step has the weights in memory. Others give it some
        // time, and longer than that only if it is gone.
        let began = *awaited.get_or_insert_with(Instant::now);
        Ok(began.elapsed() > TRAINER_HEAD_START || !runner.store.is_at_work(&previous.run.process)?)
    }

    fn typical_time(&self) -> Option<Duration> {
        let mut times: Vec<u64> = self.chain.results().iter().map(|result| result.run.took_ms).collect();
        times.sort_unstable();
        // A process that starts from a checkpoint makes the updates since then first.
        let updates = self.chain.training.settings.checkpoint_every.max(1);
        times.get(times.len() / 2).map(|ms| Duration::from_millis(*ms) * updates)
    }

    fn phase(&self) -> &'static str {
        match self.chain.training.role {
            Role::Questioner => "training the Questioner",
            Role::Reasoner => "training the Reasoner",
        }
    }

    fn action(&self, shard: &Shard) -> Action {
        let training = &self.chain.training;
        let outputs = shard.chain_step.sources().flat_map(|result| &result.outputs);
        let tables = [QuestionRow::TABLE, AnswerRow::TABLE, RewardRow::TABLE];
        // The settings include the interval between checkpoints, which does not change the weights:
        // with all settings in the key, the key alone tells how a chain was trained.
        Action {
            parameters: BTreeMap::from([
                ("compute".into(), json!(training.compute)),
                ("max_tokens".into(), json!(training.max_tokens)),
                ("previous".into(), json!(shard.previous)),
                ("prompt".into(), json!(training.prompt.id)),
                ("role".into(), json!(training.role)),
                ("settings".into(), json!(training.settings)),
                ("step".into(), json!(shard.step)),
                ("temperature".into(), json!(training.temperature)),
            ]),
            seed: training.seed,
            inputs: inputs(outputs.filter(|output| tables.contains(&output.role.as_str()))),
            model: Some(training.base.id.0),
            ..new_action(UPDATE, VERSION, [schema::<MetricRow>()])
        }
    }

    fn run_shard(&self, shard: &Shard, runner: &Runner<'_>) -> Result<ShardOutput> {
        let chain = self.chain;
        let mut state = chain.state();
        let state = chain.advance(&mut state, shard.step)?;
        let StepOutcome { report, groups, rewards } = chain.apply(state, &shard.chain_step)?;
        let row = metrics::metrics_row(chain.training.role, shard.step, &report, &groups, &rewards);
        let n = rewards.len() as u64;
        let mut outputs = vec![TableOutput::write_all(runner.store, [row])?];
        if chain.has_checkpoint(shard.step) {
            outputs.extend(state.save(runner.store, &chain.training.assets)?);
        }
        let key = self.action(shard).key().map_err(StoreError::from)?;
        chain.share_weights(runner, model_after(key), &state.weights)?;
        runner.progress.advance(1);
        let statistics = BTreeMap::from([(UPDATES.to_owned(), state.optimizer.updates())]);
        let mut upstream: Vec<ActionKey> = shard.previous.into_iter().collect();
        upstream.extend(shard.chain_step.sources().map(|result| result.action));
        Ok(ShardOutput { outputs, counts: Counts { rows_in: n, rows_out: n, rejects: 0 }, statistics, upstream })
    }
}
