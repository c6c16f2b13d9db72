//! The `warm-start` stage: supervised training on the responses of a table, before any evolution.
//!
//! A warm start is a chain of segments of several steps. Each segment is an action, whose result
//! holds the weights and the optimizer state after its last step.

mod data;
mod settings;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use candle_core::{DType, Device};
use crossbeam_channel::bounded;
use serde_json::json;

pub use self::data::Demonstrations;
use self::data::RejectedRows;
pub use self::settings::WarmStartSettings;

use super::model::{ModelAssets, StoredModel, WEIGHTS};
use super::training_state::{TrainingInit, TrainingState, UPDATES, trained_tensors};
use super::{Result, Runner, ShardOutput, Stage, StageError, TableOutput, finite, new_action, read_rows, schema};
use crate::device::DeviceClass;
use crate::input_kind::kind_in_rejection;
use crate::store::{Action, ActionKey, Counts, StageResult, Store};
use crate::tables::{DemonstrationRow, MetricRow, RejectRow, TableRow};
use crate::training::adapter::LoraAdapter;
use crate::training::step::ComputeSettings;
use crate::training::supervised::cross_entropy;
use crate::training::{PrefixGroup, Schedule, TrainScope, TrainingError};
use crate::vlm::ops::Ops;

/// The stage's name.
pub const WARM_START: &str = "warm-start";
const VERSION: u32 = 2;

/// Trains `base` on the table, computing in `dtype` on `device`. Returns the results of the
/// segments, and the model after the last one.
///
/// # Errors
/// A step fails, the store fails, or the command is interrupted.
pub fn warm_start(
    base: &StoredModel,
    data: &Demonstrations,
    settings: &WarmStartSettings,
    (dtype, device): (DType, &Device),
    runner: &Runner<'_>,
) -> Result<(Vec<StageResult>, StoredModel)> {
    let assets = Arc::new(base.assets(runner.store, None)?);
    let too_many = || StageError::parameter("epochs", "the number of steps does not fit in 32 bits; lower it");
    let steps = settings.steps(data.len()).ok_or_else(too_many)?;
    let stage = WarmStart { base, data, settings, dtype, device, assets, steps, state: Mutex::default() };
    let mut done: Vec<StageResult> = Vec::new();
    for first in (0..steps).step_by(settings.checkpoint_every.max(1) as usize) {
        let end = steps.min(first.saturating_add(settings.checkpoint_every.max(1)));
        let segment = Segment { steps: first..end, before: done.last().cloned() };
        done.extend(runner.run(&stage, &[segment])?.results);
    }
    let Some(last) = done.last() else {
        return Err(StageError::parameter("epochs", "there are no steps to run; it must be at least 1"));
    };
    if done.iter().all(|segment| segment.counts.rows_out == 0) {
        let rejects: Vec<RejectRow> = read_rows(runner.store, &done[..1])?;
        let first_reason = rejects.first().map_or(String::new(), |row| {
            let kind = kind_in_rejection(&row.detail).map_or(String::new(), |kind| format!(" ({})", kind.name()));
            format!("; the first: {}: {}{kind}", row.reason, row.detail)
        });
        let problem = format!("none of its {} rows can be trained on{first_reason}", data.len());
        return Err(StageError::source(&data.file, problem));
    }
    let model = base.with_weights(last.outputs_of(WEIGHTS).cloned().collect());
    Ok((done, model))
}

/// Returns the adapter that a warm start trained, from its last segment; `None` where the model
/// itself was trained.
///
/// # Errors
/// The store fails.
pub fn trained_adapter(store: &Store, last: &StageResult, settings: &WarmStartSettings) -> Result<Option<LoraAdapter>> {
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
    /// Number of steps of the whole warm start.
    steps: u32,
    /// The state after the last segment that this process computed.
    state: Mutex<Option<TrainingState>>,
}

/// A range of steps, and the segment before it.
struct Segment {
    steps: Range<u32>,
    before: Option<StageResult>,
}

/// A step's batch, prepared on a thread ahead of the training.
type Batch = Result<(Vec<PrefixGroup>, RejectedRows)>;

impl WarmStart<'_> {
    /// Returns the rows of a step.
    fn rows(&self, step: u32) -> Range<usize> {
        let per_step = self.settings.rows_per_step.max(1) as usize;
        let first = step as usize % self.data.len().div_ceil(per_step) * per_step;
        first..self.data.len().min(first + per_step)
    }

    fn start(&self, segment: &Segment, runner: &Runner<'_>) -> Result<TrainingState> {
        let init = TrainingInit {
            trained: self.settings.trained(),
            optimizer: self.settings.optimizer(),
            reference: false,
            dtype: self.dtype,
            device: self.device,
            ops: Ops::Kernels,
            seed: self.settings.seed,
        };
        let mut state = TrainingState::start(&self.assets, &self.base.tensors(runner.store)?, init)?;
        if let Some(before) = &segment.before {
            state.resume(runner.store, before, segment.steps.start)?;
        }
        Ok(state)
    }

    /// Trains the steps of a segment. Returns a row of metrics per step, and the rows left out.
    fn train(
        &self,
        segment: &Segment,
        state: &mut TrainingState,
        runner: &Runner<'_>,
    ) -> Result<(Vec<MetricRow>, Vec<RejectRow>)> {
        /// Number of prepared batches that may wait.
        const AHEAD: usize = 2;
        let schedule = self.settings.schedule(self.steps);
        let compute = self.settings.compute(rayon::current_num_threads());
        let (mut metrics, mut rejects) = (Vec::new(), Vec::new());
        thread::scope(|scope| {
            // The channel is dropped with this closure, so the preparing thread ends in every case.
            let (send, batches) = bounded::<Batch>(AHEAD);
            scope.spawn(move || {
                for step in segment.steps.clone() {
                    let max_tokens = self.settings.max_tokens as usize;
                    if send.send(self.data.prefix_groups(self.rows(step), &self.assets, max_tokens)).is_err() {
                        return;
                    }
                }
            });
            for step in segment.steps.clone() {
                runner.interrupt.check()?;
                let lost = || StageError::Internal("the thread that prepares batches died".into());
                let (prefix_groups, rejected) = batches.recv().map_err(|_| lost())??;
                rejects.extend(rejected.into_iter().map(|(row, rejection)| RejectRow {
                    subject_row: Some(row as u64),
                    ..rejection.into_row(WARM_START, DemonstrationRow::TABLE.to_owned(), None)
                }));
                metrics.push(self.step(step, &prefix_groups, state, &schedule, compute)?);
                runner.progress.advance(1);
            }
            Ok::<(), StageError>(())
        })?;
        state.step = segment.steps.end;
        Ok((metrics, rejects))
    }

    fn step(
        &self,
        step: u32,
        prefix_groups: &[PrefixGroup],
        state: &mut TrainingState,
        schedule: &Schedule,
        compute: ComputeSettings,
    ) -> Result<MetricRow> {
        let (loss, token_statistics, gradients) = cross_entropy(&state.weights, prefix_groups, compute)?;
        let rate = schedule.rate(state.optimizer.updates());
        // A step whose rows were all left out has no update, and the optimizer does not count it.
        let has_rows = !prefix_groups.is_empty();
        let update = has_rows.then(|| state.optimizer.update(state.weights.variables(), &gradients, rate));
        let update = update.transpose().map_err(TrainingError::from)?;
        let grad_norm = update.and_then(|update| finite(update.grad_norm));
        let continuations = prefix_groups.iter().flat_map(|prefix_group| &prefix_group.continuations);
        let lengths: Vec<usize> = continuations.map(|continuation| continuation.targets().len()).collect();
        let (samples, tokens) = (lengths.len(), lengths.iter().sum::<usize>());
        let prompts: usize =
            prefix_groups.iter().flat_map(|t| t.continuations.iter().map(|b| t.prefix.len() + b.first_target)).sum();
        let mean = |sum: f64, count: usize| if count == 0 { None } else { finite(sum / count as f64) };
        Ok(MetricRow {
            step,
            learning_rate: rate,
            updates: u32::from(update.is_some_and(|update| !update.skipped)),
            updates_skipped: u32::from(update.is_some_and(|update| update.skipped)),
            loss: if update.is_some() { finite(loss) } else { None },
            entropy: mean(token_statistics.iter().map(|token| f64::from(token.entropy)).sum(), token_statistics.len()),
            grad_norm,
            grad_norm_max: grad_norm,
            samples: samples as u32,
            prompt_tokens: prompts as u64,
            response_tokens: tokens as u64,
            response_length_mean: mean(tokens as f64, samples),
            response_length_min: lengths.iter().min().map(|&n| n as u32),
            response_length_max: lengths.iter().max().map(|&n| n as u32),
            ..MetricRow::default()
        })
    }
}

impl Stage for WarmStart<'_> {
    type Shard = Segment;
    const PHASE: &'static str = "training on demonstrations";
    const IS_CONCURRENT: bool = false;

    fn action(&self, segment: &Segment) -> Action {
        let mut parameters = BTreeMap::from([
            ("data".into(), json!(self.data.digest())),
            ("previous".into(), json!(segment.before.as_ref().map(|result| result.action))),
            ("settings".into(), json!(self.settings)),
            ("steps".into(), json!([segment.steps.start, segment.steps.end])),
        ]);
        // f32 on the CPU is left out of the key.
        if self.dtype != DType::F32 || !self.device.is_cpu() {
            let compute = json!({"dtype": self.dtype.as_str(), "device": DeviceClass::from_device(self.device)});
            parameters.insert("compute".into(), compute);
        }
        Action {
            parameters,
            seed: self.settings.seed,
            model: Some(self.base.id.0),
            ..new_action(WARM_START, VERSION, [schema::<MetricRow>(), schema::<RejectRow>()])
        }
    }

    fn units(&self, segment: &Segment) -> u64 {
        u64::from(segment.steps.end - segment.steps.start)
    }

    fn run_shard(&self, segment: &Segment, runner: &Runner<'_>) -> Result<ShardOutput> {
        let mut kept = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = match kept.take().filter(|state| state.step == segment.steps.start) {
            Some(state) => state,
            None => self.start(segment, runner)?,
        };
        let (metrics, rejects) = self.train(segment, &mut state, runner)?;
        let rows_in: u64 = segment.steps.clone().map(|step| self.rows(step).len() as u64).sum();
        let counts = Counts { rows_in, rows_out: rows_in - rejects.len() as u64, rejects: rejects.len() as u64 };
        let mut outputs =
            vec![TableOutput::write_all(runner.store, metrics)?, TableOutput::write_all(runner.store, rejects)?];
        outputs.extend(state.save(runner.store, &self.assets)?);
        let statistics = BTreeMap::from([(UPDATES.to_owned(), state.optimizer.updates())]);
        let upstream: Vec<ActionKey> = segment.before.iter().map(|result| result.action).collect();
        *kept = Some(state);
        Ok(ShardOutput { outputs, counts, statistics, upstream })
    }
}
