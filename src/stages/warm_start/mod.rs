//! Warm start: supervised cross-entropy on the responses of a table, before any evolution.
//!
//! A chain of segments of some steps each; a segment is an action, and keeps the weights and the optimizer after its last step.

mod data;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use candle_core::{DType, Device};
use crossbeam_channel::bounded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::data::Demonstrations;
use self::data::RejectedRows;

use super::image_set::Refusal;
use super::model::{ModelAssets, StoredModel, WEIGHTS};
use super::training_state::{TrainingInit, TrainingState, UPDATES, trained_tensors};
use super::{Runner, ShardOutput, Stage, StageError, TableOutput, read_rows};
use crate::device::DeviceClass;
use crate::store::{Action, ActionKey, Counts, StageResult, Store};
use crate::tables::{DemonstrationRow, MetricRow, PROFILE, RejectRow, TableRow};
use crate::training::adapter::LoraAdapter;
use crate::training::lora::{LoraSettings, TARGETS};
use crate::training::step::ComputeSettings;
use crate::training::supervised::cross_entropy;
use crate::training::{AdamWSettings, MomentType, PrefixGroup, Schedule, ScheduleKind, TrainScope};
use crate::vlm::ops::Ops;

/// The stage's name.
pub const WARM_START: &str = "warm-start";
const VERSION: u32 = 2;

/// How a warm start is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WarmStartSettings {
    /// Rows of a step.
    pub rows_per_step: u32,
    /// How often the table is gone through.
    pub epochs: u32,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How the rate goes on after the warm-up: constant or cosine.
    pub schedule: ScheduleKind,
    /// Steps over which the rate rises; the first is never 0.
    pub warmup_steps: u32,
    /// The share of the rate that a cosine falls to.
    pub final_share: f64,
    /// AdamW: decay of the first moment.
    pub beta1: f64,
    /// AdamW: decay of the second moment.
    pub beta2: f64,
    /// AdamW: added to the root of the second moment.
    pub epsilon: f64,
    /// AdamW: decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
    /// Gradients are scaled so that their global norm is at most this.
    pub max_grad_norm: f64,
    /// Leave the vision tower as it is.
    pub freeze_vision: bool,
    /// Width of LoRA adapters on the text tower, which alone are trained then; 0: no adapters.
    pub lora_rank: u32,
    /// LoRA: the adapter's factor is alpha / rank.
    pub lora_alpha: f64,
    /// A longer row is left out, in tokens of prompt and response.
    pub max_tokens: u32,
    /// Tokens that go through the model together. Changes results by rounding only.
    pub micro_batch_tokens: u32,
    /// Activation checkpointing: layers recomputed together in the backward pass. Fewer take less memory
    /// and more time; as many as the model has recompute nothing.
    #[serde(rename(serialize = "layers_at_once"), alias = "layers_at_once")]
    pub layers_per_checkpoint: u32,
    /// Weights and optimizer are kept every so many steps, and after the last one.
    pub checkpoint_every: u32,
    /// The seed of fresh adapters.
    pub seed: u64,
}

impl Default for WarmStartSettings {
    fn default() -> Self {
        Self {
            rows_per_step: 64,
            epochs: 1,
            learning_rate: 1e-5,
            schedule: ScheduleKind::Cosine,
            warmup_steps: 20,
            final_share: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            freeze_vision: false,
            lora_rank: 0,
            lora_alpha: 32.0,
            max_tokens: 4096,
            micro_batch_tokens: 4096,
            layers_per_checkpoint: 4,
            checkpoint_every: 100,
            seed: 0,
        }
    }
}

impl WarmStartSettings {
    fn trained(&self) -> TrainScope {
        match (self.lora_rank, self.freeze_vision) {
            (0, false) => TrainScope::All,
            (0, true) => TrainScope::Text,
            (rank, _) => TrainScope::Lora(LoraSettings {
                rank: rank as usize,
                alpha: self.lora_alpha,
                targets: TARGETS.map(str::to_owned).to_vec(),
            }),
        }
    }

    fn optimizer(&self) -> AdamWSettings {
        AdamWSettings {
            beta1: self.beta1,
            beta2: self.beta2,
            eps: self.epsilon,
            weight_decay: self.weight_decay,
            max_grad_norm: self.max_grad_norm,
            moments: MomentType::F32,
        }
    }

    fn schedule(&self, steps: u32) -> Schedule {
        Schedule {
            kind: self.schedule,
            peak: self.learning_rate,
            warmup: u64::from(self.warmup_steps),
            total: u64::from(steps),
            final_share: self.final_share,
        }
    }

    fn compute(&self, threads: usize) -> ComputeSettings {
        ComputeSettings {
            temperature: 1.0,
            micro_batch_tokens: self.micro_batch_tokens as usize,
            layers_per_checkpoint: self.layers_per_checkpoint as usize,
            threads,
        }
    }

    /// Steps over a table of so many rows; `None` where they are more than can be counted.
    pub fn steps(&self, rows: usize) -> Option<u32> {
        let an_epoch = u32::try_from(rows.div_ceil(self.rows_per_step.max(1) as usize)).ok()?;
        an_epoch.checked_mul(self.epochs)
    }
}

/// Trains `base` on the table, computing in a number format on a device. Gives the results of the segments, and the model after the last.
///
/// # Errors
/// A step fails, the store fails, or somebody asked to stop.
pub fn warm_start(
    base: &StoredModel,
    data: &Demonstrations,
    settings: &WarmStartSettings,
    (dtype, device): (DType, &Device),
    runner: &Runner<'_>,
) -> Result<(Vec<StageResult>, StoredModel), StageError> {
    let assets = Arc::new(base.assets(runner.store, None)?);
    let too_many =
        || StageError::Parameter { key: "epochs", problem: "there are more steps than can be counted".into() };
    let steps = settings.steps(data.len()).ok_or_else(too_many)?;
    let stage = WarmStart { base, data, settings, dtype, device, assets, steps, live: Mutex::default() };
    let mut done: Vec<StageResult> = Vec::new();
    for first in (0..steps).step_by(settings.checkpoint_every.max(1) as usize) {
        let end = steps.min(first.saturating_add(settings.checkpoint_every.max(1)));
        let segment = Segment { steps: first..end, before: done.last().cloned() };
        let mut ran = runner.run(&stage, std::slice::from_ref(&segment))?;
        done.append(&mut ran.results);
    }
    let Some(last) = done.last() else {
        return Err(StageError::Parameter { key: "epochs", problem: "there is no step to make".into() });
    };
    if done.iter().all(|segment| segment.counts.rows_out == 0) {
        let rejects: Vec<RejectRow> = read_rows(runner.store, &done[..1])?;
        let why = rejects.first().map_or(String::new(), |row| format!("; the first: {}: {}", row.reason, row.detail));
        let problem = format!("none of its {} rows can be learnt from{why}", data.len());
        return Err(StageError::Source { path: data.file().to_owned(), problem });
    }
    let model = base.with_weights(last.outputs_of(WEIGHTS).cloned().collect());
    Ok((done, model))
}

/// The adapter that a warm start trained, from its last segment; none where the model itself was trained.
///
/// # Errors
/// The store fails.
pub fn trained_adapter(
    store: &Store,
    last: &StageResult,
    settings: &WarmStartSettings,
) -> Result<Option<LoraAdapter>, StageError> {
    let TrainScope::Lora(settings) = settings.trained() else { return Ok(None) };
    Ok(Some(LoraAdapter { settings, tensors: trained_tensors(store, last)? }))
}

struct WarmStart<'a> {
    base: &'a StoredModel,
    data: &'a Demonstrations,
    settings: &'a WarmStartSettings,
    dtype: DType,
    device: &'a Device,
    assets: Arc<ModelAssets>,
    /// Of the whole warm start.
    steps: u32,
    live: Mutex<Option<TrainingState>>,
}

/// Some steps, and what they start from.
struct Segment {
    steps: Range<u32>,
    before: Option<StageResult>,
}

/// A step's batch, made ahead of the model.
type Batch = Result<(Vec<PrefixGroup>, RejectedRows), StageError>;

impl WarmStart<'_> {
    /// The rows of a step.
    fn rows(&self, step: u32) -> Range<usize> {
        let a_step = self.settings.rows_per_step.max(1) as usize;
        let first = step as usize % self.data.len().div_ceil(a_step) * a_step;
        first..self.data.len().min(first + a_step)
    }

    fn start(&self, segment: &Segment, runner: &Runner<'_>) -> Result<TrainingState, StageError> {
        let begin = TrainingInit {
            trained: self.settings.trained(),
            optimizer: self.settings.optimizer(),
            reference: false,
            dtype: self.dtype,
            device: self.device,
            ops: Ops::Kernels,
            seed: self.settings.seed,
        };
        let mut live = TrainingState::start(&self.assets, &self.base.tensors(runner.store)?, begin)?;
        if let Some(before) = &segment.before {
            live.resume(runner.store, before, segment.steps.start)?;
        }
        Ok(live)
    }

    /// Makes the steps of a segment: a row of metrics each, and the rows left out.
    fn train(
        &self,
        segment: &Segment,
        live: &mut TrainingState,
        runner: &Runner<'_>,
    ) -> Result<(Vec<MetricRow>, Vec<RejectRow>), StageError> {
        /// Batches that wait ready.
        const AHEAD: usize = 2;
        let schedule = self.settings.schedule(self.steps);
        let compute = self.settings.compute(rayon::current_num_threads());
        let (mut metrics, mut rejects) = (Vec::new(), Vec::new());
        thread::scope(|scope| {
            // Both ends live in here: however this ends, the thread that reads ahead finds nobody to send to and ends too.
            let (send, batches) = bounded::<Batch>(AHEAD);
            scope.spawn(move || {
                for step in segment.steps.clone() {
                    let rows = self.rows(step);
                    let batch =
                        self.data.prefix_groups(rows.start, rows.end, &self.assets, self.settings.max_tokens as usize);
                    if send.send(batch).is_err() {
                        return;
                    }
                }
            });
            for step in segment.steps.clone() {
                runner.interrupt.check()?;
                let lost = || StageError::Conflict("the thread that reads ahead died".into());
                let (prefix_groups, refused) = batches.recv().map_err(|_| lost())??;
                rejects.extend(refused.into_iter().map(|(row, refusal)| self.reject(row, refusal)));
                metrics.push(self.step(step, &prefix_groups, live, &schedule, compute)?);
                runner.progress.advance(1);
            }
            Ok::<(), StageError>(())
        })?;
        live.step = segment.steps.end;
        Ok((metrics, rejects))
    }

    fn step(
        &self,
        step: u32,
        prefix_groups: &[PrefixGroup],
        live: &mut TrainingState,
        schedule: &Schedule,
        compute: ComputeSettings,
    ) -> Result<MetricRow, StageError> {
        let (loss, figures, gradients) = cross_entropy(&live.weights, prefix_groups, compute)?;
        let rate = schedule.rate(live.optimizer.updates());
        // Where every row was left out there is nothing to update by, and the optimizer counts nothing.
        let update = match prefix_groups.is_empty() {
            true => None,
            false => {
                let update = live.optimizer.update(live.weights.variables(), &gradients, rate);
                Some(update.map_err(crate::training::TrainingError::from)?)
            }
        };
        let grad_norm = update.and_then(|update| finite(update.grad_norm));
        let lengths = || {
            prefix_groups
                .iter()
                .flat_map(|prefix_group| &prefix_group.continuations)
                .map(|continuation| continuation.targets().len())
        };
        let samples = lengths().count();
        let tokens: usize = lengths().sum();
        let prompts: usize =
            prefix_groups.iter().flat_map(|t| t.continuations.iter().map(|b| t.prefix.len() + b.first_target)).sum();
        let mean = |sum: f64, of: usize| if of == 0 { None } else { finite(sum / of as f64) };
        Ok(MetricRow {
            role: None,
            step,
            learning_rate: rate,
            updates: u32::from(update.is_some_and(|update| !update.skipped)),
            updates_skipped: u32::from(update.is_some_and(|update| update.skipped)),
            loss: if update.is_some() { finite(loss) } else { None },
            policy_loss: None,
            kl_loss: None,
            kl_reference: None,
            kl_old: None,
            entropy: mean(figures.iter().map(|token| f64::from(token.entropy)).sum(), figures.len()),
            ratio_mean: None,
            ratio_max: None,
            clip_low_fraction: None,
            clip_high_fraction: None,
            dual_clip_fraction: None,
            grad_norm,
            grad_norm_max: grad_norm,
            groups: 0,
            groups_dropped: 0,
            frac_zero_std: None,
            samples: samples as u32,
            reward_mean: None,
            reward_std: None,
            advantage_mean: None,
            confidence_mean: None,
            uncertainty_mean: None,
            diversity_penalty_mean: None,
            valid_share: None,
            correct_share: None,
            prompt_tokens: prompts as u64,
            response_tokens: tokens as u64,
            response_length_mean: mean(tokens as f64, samples),
            response_length_min: lengths().min().map(|n| n as u32),
            response_length_max: lengths().max().map(|n| n as u32),
            truncated_share: None,
            sampler_gap_mean: None,
            sampler_gap_max: None,
            importance_truncated_share: None,
        })
    }

    fn reject(&self, row: usize, refusal: Refusal) -> RejectRow {
        RejectRow {
            stage: WARM_START.to_owned(),
            subject: DemonstrationRow::TABLE.to_owned(),
            subject_row: Some(row as u64),
            subject_id: None,
            reason: refusal.reason.to_owned(),
            detail: refusal.detail,
            twin_id: None,
        }
    }
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

impl Stage for WarmStart<'_> {
    type Shard = Segment;

    fn phase(&self) -> &'static str {
        "learning from demonstrations"
    }

    fn runs_concurrently(&self) -> bool {
        false
    }

    fn action(&self, segment: &Segment) -> Action {
        let mut parameters = BTreeMap::from([
            ("data".into(), json!(self.data.digest())),
            ("previous".into(), json!(segment.before.as_ref().map(|result| result.action))),
            ("settings".into(), json!(self.settings)),
            ("steps".into(), json!([segment.steps.start, segment.steps.end])),
        ]);
        // f32 on a CPU is not named.
        if self.dtype != DType::F32 || !self.device.is_cpu() {
            parameters.insert(
                "compute".into(),
                json!({"dtype": self.dtype.as_str(), "device": DeviceClass::of(self.device)}),
            );
        }
        Action {
            stage: WARM_START.into(),
            stage_version: VERSION,
            parameters,
            seed: self.settings.seed,
            inputs: Vec::new(),
            model: Some(self.base.id.0),
            shard: BTreeMap::<String, Value>::new(),
            schemas: BTreeMap::from([
                (MetricRow::TABLE.into(), MetricRow::schema_id()),
                (RejectRow::TABLE.into(), RejectRow::schema_id()),
            ]),
            writer_profile: PROFILE.number,
        }
    }

    fn units(&self, segment: &Segment) -> u64 {
        u64::from(segment.steps.end - segment.steps.start)
    }

    fn run_shard(&self, segment: &Segment, runner: &Runner<'_>) -> Result<ShardOutput, StageError> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = match live.take().filter(|live| live.step == segment.steps.start) {
            Some(state) => state,
            None => self.start(segment, runner)?,
        };
        let (metrics, rejects) = self.train(segment, &mut state, runner)?;
        let rows_in: u64 = segment.steps.clone().map(|step| self.rows(step).len() as u64).sum();
        let counts = Counts { rows_in, rows_out: rows_in - rejects.len() as u64, rejects: rejects.len() as u64 };
        let mut outputs =
            vec![TableOutput::write_all(runner.store, metrics)?, TableOutput::write_all(runner.store, rejects)?];
        outputs.extend(state.keep(runner.store, &self.assets)?);
        let figures = BTreeMap::from([(UPDATES.to_owned(), state.optimizer.updates())]);
        let upstream: Vec<ActionKey> = segment.before.iter().map(|result| result.action).collect();
        *live = Some(state);
        Ok(ShardOutput { outputs, counts, figures, upstream })
    }
}
