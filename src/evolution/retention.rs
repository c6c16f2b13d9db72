//! Retention: finds the objects of finished rounds that can be recomputed from stored samples, and
//! drops those that `[retention]` does not keep.
//!
//! Only tensors are dropped: the optimizer's states and the weights of training steps, and trained
//! models. The base model, every table and every result stay, so that each step can be run again
//! from the samples and rewards that the store has. An object that another result needs stays, such
//! as one of a round in progress, or of another evolution whose settings keep it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::Result;
use super::finished::{CurrentRound, PROMPTS, current_round, none_if_damaged, read_report, ref_name};
use super::pipeline::{CheckpointRetention, ModelRetention, Pipeline, Retention};
use super::stored_round::StoredRound;
use crate::stages::model::{ASSEMBLE, WEIGHTS};
use crate::stages::update::UPDATE;
use crate::stages::{OPTIMIZER, Runner};
use crate::store::{ActionKey, GarbageOptions, ObjectId, StageResult, Store, StoreError};

/// A class of objects that can be recomputed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DroppableKind {
    /// The optimizer's state at a checkpoint.
    Optimizer,
    /// The weights of a checkpoint that is no trained model.
    Checkpoint,
    /// The weights of a trained model.
    Model,
}

/// An object that retention does not keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DroppableObject {
    /// The object.
    pub object: ObjectId,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its class.
    pub kind: DroppableKind,
    /// The last finished round that it belongs to.
    pub round: u32,
}

/// A stored result that holds tensors.
struct TensorResult {
    stage: String,
    /// True for a result of a GPU: to get the same bits again, the same kind of GPU is needed.
    is_of_gpu: bool,
    result: StageResult,
}

/// Finds the objects of finished rounds that retention does not keep, by the settings that each
/// evolution has in the store, or the default ones: of one evolution, or of all. An object that
/// does not exist any more is listed too. The optimizer's states come last, those of the newest
/// round at the end.
///
/// # Errors
/// The store cannot be read, or a round's report is damaged.
pub fn find_droppable(store: &Store, evolution: Option<&str>) -> Result<Vec<DroppableObject>> {
    let rounds = StoredRound::list(store)?;
    let tensors = tensor_results(store)?;
    let mut last_round = BTreeMap::<ActionKey, u32>::new();
    for round in rounds.iter().filter(|round| evolution.is_none_or(|name| name == round.evolution)) {
        for &key in &round.result.upstream {
            let last = last_round.entry(key).or_default();
            *last = round.number.max(*last);
        }
    }
    let mut kept = BTreeSet::new();
    let mut found = BTreeMap::<ObjectId, DroppableObject>::new();
    for (key, TensorResult { stage, result, .. }) in &tensors {
        for output in &result.outputs {
            let kind = match (stage.as_str(), output.role.as_str()) {
                (UPDATE, OPTIMIZER) => Some(DroppableKind::Optimizer),
                (UPDATE, WEIGHTS) => Some(DroppableKind::Checkpoint),
                (ASSEMBLE, WEIGHTS) => Some(DroppableKind::Model),
                _ => None,
            };
            let (Some(kind), Some(&round)) = (kind, last_round.get(key)) else {
                kept.insert(output.object);
                continue;
            };
            let (object, bytes) = (output.object, output.bytes);
            let droppable = found.entry(object).or_insert(DroppableObject { object, bytes, kind, round });
            (droppable.kind, droppable.round) = (droppable.kind.max(kind), droppable.round.max(round));
        }
    }
    let mut current = BTreeMap::new();
    for round in &rounds {
        let current = match current.get(&round.evolution) {
            Some(current) => *current,
            None => *current.entry(round.evolution.clone()).or_insert(current_round(store, &round.evolution)?),
        };
        keep_of_round(store, round, current, &tensors, &mut kept)?;
    }
    let mut droppable: Vec<_> = found.into_values().filter(|droppable| !kept.contains(&droppable.object)).collect();
    droppable.sort_by_key(|droppable| (droppable.kind == DroppableKind::Optimizer, droppable.round));
    Ok(droppable)
}

/// Reads the results that hold weights or an optimizer's state.
fn tensor_results(store: &Store) -> Result<BTreeMap<ActionKey, TensorResult>> {
    let mut tensors = BTreeMap::new();
    for result in store.results()? {
        if !result.outputs.iter().any(|output| [WEIGHTS, OPTIMIZER].contains(&output.role.as_str())) {
            continue;
        }
        // The objects of a result without its action stay.
        let action = none_if_damaged(store.action(result.action))?;
        let device = action.as_ref().and_then(|action| action.parameters.get("compute")?.get("device"));
        let is_of_gpu = device.is_some();
        let stage = action.map(|action| action.stage).unwrap_or_default();
        tensors.insert(result.action, TensorResult { stage, is_of_gpu, result });
    }
    Ok(tensors)
}

/// Adds the objects that a round keeps.
fn keep_of_round(
    store: &Store,
    round: &StoredRound,
    current: CurrentRound,
    tensors: &BTreeMap<ActionKey, TensorResult>,
    kept: &mut BTreeSet<ObjectId>,
) -> Result<()> {
    // Until a damaged round is rebuilt, it is unknown which models the next one starts from.
    let is_uncertain = matches!(current, CurrentRound::Lost { .. });
    let settings = match store.retention::<Retention>(&round.evolution) {
        // Settings that cannot be read may keep everything.
        Err(StoreError::Damaged { .. }) => {
            Retention { checkpoints: CheckpointRetention::All, models: ModelRetention::All }
        }
        settings => settings?.unwrap_or_default(),
    };
    let updates = || round.result.upstream.iter().filter_map(|key| tensors.get(key)).filter(|t| t.stage == UPDATE);
    for output in updates().flat_map(|update| &update.result.outputs) {
        let is_kept = match settings.checkpoints {
            CheckpointRetention::Final => is_uncertain,
            CheckpointRetention::Weights => is_uncertain || output.role == WEIGHTS,
            CheckpointRetention::All => true,
        };
        if is_kept {
            kept.insert(output.object);
        }
    }
    let is_current = is_uncertain || current == CurrentRound::Round(round.number);
    let is_recomputable = !updates().any(|update| update.is_of_gpu) && has_all_inputs(store, round)?;
    for part in ["questioner", "reasoner"] {
        let is_kept = match settings.models {
            ModelRetention::All => true,
            ModelRetention::Reasoners => is_current || part == "reasoner",
            ModelRetention::Current => is_current,
        };
        let Some(head) = store.head(&round.evolution, &ref_name(round.number, part))? else { continue };
        if let (true, Some(model)) = (is_kept || !is_recomputable, tensors.get(&head.result)) {
            kept.extend(model.result.outputs.iter().map(|output| output.object));
        }
    }
    Ok(())
}

/// Whether the store has everything that the trainings of a round were computed from. Images of the
/// labelled baseline are in a file of the user, and rounds of earlier versions did not store their
/// prompts.
fn has_all_inputs(store: &Store, round: &StoredRound) -> Result<bool> {
    let has_prompts = PROMPTS.iter().all(|role| round.result.outputs_of(role).next().is_some());
    Ok(has_prompts && read_report(store, &round.result)?.questions.asked > 0)
}

/// Writes the retention settings of an evolution into the store, where `gc` finds them.
pub(super) fn record_settings(pipeline: &Pipeline, runner: &Runner<'_>) -> Result<()> {
    let recorded = none_if_damaged(runner.store.retention::<Retention>(&pipeline.evolution))?.flatten();
    if runner.dry_run || recorded.as_ref() == Some(&pipeline.retention) {
        return Ok(());
    }
    Ok(runner.store.set_retention(&pipeline.evolution, &pipeline.retention)?)
}

/// Drops what the finished rounds of an evolution do not keep. A failure is reported and does not
/// end the run: what is left takes space, nothing else.
pub(super) fn drop_finished(pipeline: &Pipeline, runner: &Runner<'_>) {
    let outcome = record_settings(pipeline, runner).and_then(|()| drop_of_evolution(runner.store, &pipeline.evolution));
    match outcome {
        Ok((0, _)) => {}
        Ok((objects, bytes)) => {
            let megabytes = bytes as f64 / 1e6;
            let what = format!("{objects} objects of finished rounds, {megabytes:.1} MB");
            runner.progress.say(&format!("dropped {what}; they can be recomputed from stored samples ([retention])"));
        }
        Err(e) => {
            let message =
                format!("the checkpoints of finished rounds could not be dropped: {e}; `visplay gc` does it too");
            runner.progress.say(&message);
        }
    }
}

/// Drops what the finished rounds of an evolution do not keep, and returns the number of objects
/// and their size in bytes.
fn drop_of_evolution(store: &Store, evolution: &str) -> Result<(usize, u64)> {
    let droppable = find_droppable(store, Some(evolution))?;
    let objects: Vec<_> = droppable.iter().map(|droppable| (droppable.object, droppable.bytes)).collect();
    // Without a grace period: a process that still works on these rounds recomputes what it needs.
    let dropped = store.drop_objects(&objects, GarbageOptions { grace: Duration::ZERO, delete: true })?;
    Ok((dropped.garbage.len(), dropped.bytes))
}

/// Makes the trained models of a round incomplete if they were dropped. A round whose own result is
/// lost is rebuilt without knowing which training its models came from, so that the training has to
/// end with them again.
pub(super) fn forget_drops(store: &Store, evolution: &str, round: u32) -> Result<()> {
    for part in ["questioner", "reasoner"] {
        let head = none_if_damaged(store.head(evolution, &ref_name(round, part)))?.flatten();
        let Some(head) = head else { continue };
        let model = none_if_damaged(store.result(head.result))?.flatten();
        for output in model.iter().flat_map(|model| &model.outputs) {
            store.forget_drop(output.object)?;
        }
    }
    Ok(())
}

/// Whether a process was killed while it dropped what a round does not keep: the optimizer's states
/// of the newest round are dropped last.
///
/// # Errors
/// The store cannot be read.
pub(super) fn has_leftovers(store: &Store, settings: &Retention, round: &StageResult) -> Result<bool> {
    if settings.checkpoints == CheckpointRetention::All {
        return Ok(false);
    }
    for &key in &round.upstream {
        for output in store.result(key)?.iter().flat_map(|result| result.outputs_of(OPTIMIZER)) {
            if store.has_object(output)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
