//! Models whose weights were dropped: when they are needed, they are recomputed from the stored
//! samples of the round that trained them, and stored again.
//!
//! The model that this round started from may have been dropped too; it is recomputed first, and so
//! on back to the base model, which is always kept.

use std::collections::HashMap;

use candle_core::Tensor;
use serde_json::{Value, json};

use super::context::EvolutionContext;
use super::finished::ref_name;
use super::pipeline::Pipeline;
use super::round::roles_before;
use super::stored_round::{StoredRound, upstream_of};
use super::training::training_spec;
use super::{EvolutionError, Result};
use crate::device::DeviceChoice;
use crate::stages::curriculum::CURRICULUM;
use crate::stages::model::{LoadedModel, ModelHandle, StoredModel, WEIGHTS};
use crate::stages::update::{TrainingChain, UPDATE};
use crate::stages::{OPTIMIZER, Runner, StageError, read_rows};
use crate::store::{Output, StageResult, Store};
use crate::tables::{CurriculumRow, Role};

impl EvolutionContext<'_> {
    /// Returns a handle that loads a stored model on first use.
    pub fn handle<'m>(&'m self, model: &'m StoredModel) -> ModelHandle<'m> {
        ModelHandle::new(model.id, move || {
            let tensors = self.tensors(model)?;
            let model = &self.pipeline.model;
            LoadedModel::from_stored(self.assets()?, &tensors, model.dtype.dtype(), &self.device, model.ops)
        })
    }

    /// Reads the tensors of a stored model, restoring its weights if they were dropped.
    pub(super) fn tensors(&self, model: &StoredModel) -> Result<HashMap<String, Tensor>, StageError> {
        restore_weights(model, self.pipeline, self.runner)?;
        model.tensors(self.runner.store)
    }
}

/// The training that produced a model.
struct StoredTraining {
    round: StoredRound,
    role: Role,
    /// The result of its last step.
    last: StageResult,
}

/// Recomputes the weights of a model if they were dropped. `current` gives what the settings of a
/// stored round leave out.
///
/// # Errors
/// The weights cannot be recomputed, or give other bytes than were recorded, or the command is
/// interrupted.
pub fn restore_weights(model: &StoredModel, current: &Pipeline, runner: &Runner<'_>) -> Result<(), StageError> {
    if !lacks_dropped_weights(model, runner.store)? {
        return Ok(());
    }
    let not_restored = |model: String, problem: String| StageError::NotRestored { model, problem };
    let to_stage_error = |e: EvolutionError, name: &str| match e {
        EvolutionError::Stage(e) => e,
        e => not_restored(name.to_owned(), e.to_string()),
    };
    let found = StoredTraining::find(model, runner.store).map_err(|e| to_stage_error(e, "a model"))?;
    let lost = || not_restored(model.id.to_string(), "no finished round of the store trained them".to_owned());
    let training = found.ok_or_else(lost)?;
    let name = training.name();
    let recomputed = training.recompute(current, runner).map_err(|e| to_stage_error(e, &name))?;
    let differs = recomputed.iter().zip(model.weights()).find(|(a, b)| a.object != b.object);
    let Some((recomputed, recorded)) = differs else { return Ok(()) };
    let problem = format!(
        "the recomputed object {} should be {}; they were trained by visplay {} on {}, and another kind of processor or \
         another version may round differently",
        recomputed.object, recorded.object, training.last.run.program, training.last.run.process.host
    );
    Err(not_restored(name, problem))
}

/// Whether weights of a model are missing, all of them because they were dropped. If some are lost,
/// reading them says so.
fn lacks_dropped_weights(model: &StoredModel, store: &Store) -> Result<bool, StageError> {
    let mut lacks = false;
    for output in model.weights() {
        if !store.has_object(output)? {
            if !store.is_dropped(output.object)? {
                return Ok(false);
            }
            lacks = true;
        }
    }
    Ok(lacks)
}

impl StoredTraining {
    /// Finds the training that produced a model; `None` if no finished round has it.
    fn find(model: &StoredModel, store: &Store) -> Result<Option<Self>> {
        let mut rounds = StoredRound::list(store)?;
        // Later rounds may leave a role as it is.
        rounds.sort_by_key(|round| round.number);
        for round in rounds {
            for &key in &round.result.upstream {
                let Some(last) = store.recorded_result(key)? else { continue };
                if last.outputs_of(OPTIMIZER).next().is_none() || !last.outputs_of(WEIGHTS).eq(model.weights()) {
                    continue;
                }
                let mut action = store.action(key)?;
                let role = action.parameters.remove("role").and_then(|role| serde_json::from_value(role).ok());
                if let (UPDATE, Some(role)) = (action.stage.as_str(), role) {
                    return Ok(Some(Self { round, role, last }));
                }
            }
        }
        Ok(None)
    }

    /// Returns the name of the model.
    fn name(&self) -> String {
        let role = if self.role == Role::Questioner { "questioner" } else { "reasoner" };
        format!("{}/{}", self.round.evolution, ref_name(self.round.number, role))
    }

    /// Recomputes the weights after the last step, and stores them.
    fn recompute(&self, current: &Pipeline, runner: &Runner<'_>) -> Result<Vec<Output>> {
        let (store, round, number) = (runner.store, &self.round, self.round.number);
        let mut pipeline = round.pipeline(store, current)?;
        let compute = store.action(self.last.action)?.parameters.remove("compute").unwrap_or(Value::Null);
        if compute.get("device").is_none() {
            pipeline.model.device = DeviceChoice::Cpu;
        }
        let context = EvolutionContext::from_pinned(&pipeline, runner, round.inputs(store, current)?)?;
        if json!(context.compute) != compute {
            let problem =
                format!("they were computed with {compute}, and would be with {} here", json!(context.compute));
            return Err(StageError::NotRestored { model: self.name(), problem }.into());
        }
        let roles = roles_before(&context, &round.before(store)?)?;
        let base = if self.role == Role::Questioner { &roles.questioner } else { &roles.reasoner };
        let curriculum = match self.role {
            Role::Questioner => Vec::new(),
            Role::Reasoner => vec![upstream_of(store, &round.result, CURRICULUM)?],
        };
        let rows: Vec<CurriculumRow> = read_rows(store, &curriculum)?;
        let texts = rows.into_iter().map(|row| (row.question_id, row.problem)).collect();
        let images = context.image_set(&context.slice(number)?);
        let chain = TrainingChain::new(training_spec(&context, number, self.role, base, &images, texts)?, store);
        chain.take_over(&self.last)?;
        let name = self.name();
        runner.progress.say(&format!("the weights of {name} were dropped; recomputing them from stored samples"));
        Ok(chain.recompute(runner)?)
    }
}
