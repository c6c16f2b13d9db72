//! Lineage of weights: the training that produced them and the results that used them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::catalogue::{Catalogue, StoredResult, training_step};
use super::describe::{LineageSections, describe_positions, group_by_stage, summarize_result};
use super::error::Result;
use crate::ids::{Digest, ModelId};
use crate::store::ActionKey;
use crate::tables::{MetricRow, ScoreRow};

/// Origin of a model.
pub(super) enum ModelOrigin<'m> {
    /// A training step, whose weights may not be stored.
    Step(&'m StoredResult),
    /// Assembled under a name from the weights of a step, or of no step of this store.
    Named(&'m StoredResult, Option<&'m StoredResult>),
    /// Imported.
    Import,
}

pub(super) fn find_origin<'m>(catalogue: &'m Catalogue<'_>, id: ModelId) -> ModelOrigin<'m> {
    let all = || catalogue.entries.values();
    let is_step = |entry: &&StoredResult| {
        entry.action.stage == "update" && ModelId::of_step(&entry.result.action.to_string()) == id
    };
    if let Some(entry) = all().find(is_step) {
        return ModelOrigin::Step(entry);
    }
    let is_named = |entry: &&StoredResult| entry.action.stage == "model.assemble" && entry.action.model == Some(id.0);
    match all().find(is_named) {
        Some(named) => ModelOrigin::Named(named, find_last_step(catalogue, named)),
        None => ModelOrigin::Import,
    }
}

/// Returns the training step that wrote the weights of a named model.
fn find_last_step<'m>(catalogue: &'m Catalogue<'_>, named: &StoredResult) -> Option<&'m StoredResult> {
    let weights =
        |entry: &StoredResult| -> Vec<_> { entry.result.outputs_of("weights").map(|output| output.object).collect() };
    let stored = weights(named);
    catalogue.entries.values().find(|entry| entry.action.stage == "update" && weights(entry) == stored)
}

/// Returns a summary of a model: description and origin.
pub(super) fn summarize_model(catalogue: &Catalogue<'_>, id: ModelId) -> Value {
    let (description, made_by, names) = match find_origin(catalogue, id) {
        ModelOrigin::Step(entry) => (describe_weights(&entry.action), Some(entry), None),
        ModelOrigin::Named(named, entry) => {
            let untrained = || "a model that was never trained here".to_owned();
            let description = entry.map_or_else(untrained, |entry| describe_weights(&entry.action));
            (description, entry, Some(catalogue.names_of(named.result.action)))
        }
        ModelOrigin::Import => ("the base model".to_owned(), find_import(catalogue, id), None),
    };
    let made_by = made_by.map(|entry| summarize_result(catalogue, entry.result.action));
    match names {
        Some(names) => json!({"id": id, "is": description, "names": names, "made by": made_by}),
        None => json!({"id": id, "is": description, "made by": made_by}),
    }
}

fn describe_weights(action: &crate::store::Action) -> String {
    let role = action.parameters.get("role").and_then(Value::as_str).unwrap_or("a role");
    format!("the weights after step {} of the {role}'s training", training_step(action).unwrap_or(0))
}

/// Returns the import of a base model, found through the rounds that started from it.
fn find_import<'m>(catalogue: &'m Catalogue<'_>, id: ModelId) -> Option<&'m StoredResult> {
    let of_round = catalogue.rounds.iter().find_map(|round| {
        let entry = catalogue.entries.get(&round.result.action)?;
        if entry.action.model != Some(id.0) {
            return None;
        }
        catalogue.find_sources(entry, "model.import").first().copied()
    });
    of_round.or_else(|| {
        let mut imports = catalogue.entries.values().filter(|entry| entry.action.stage == "model.import");
        let first = imports.next();
        // With several imports the right one is unknown.
        first.filter(|_| imports.next().is_none())
    })
}

/// Returns the steps of a training up to `last`, first step first.
pub(super) fn list_steps<'m>(catalogue: &'m Catalogue<'_>, last: &'m StoredResult) -> Vec<&'m StoredResult> {
    let previous = |entry: &&'m StoredResult| {
        let key: ActionKey = entry.action.parameters.get("previous")?.as_str()?.parse().ok()?;
        catalogue.entries.get(&key)
    };
    let mut steps: Vec<&StoredResult> = std::iter::successors(Some(last), previous).collect();
    steps.reverse();
    steps
}

/// Returns the most important metrics of a step.
pub(super) fn read_step_metrics(catalogue: &Catalogue<'_>, entry: &StoredResult) -> Result<Value> {
    let rows = catalogue.read_rows::<MetricRow>(&entry.result)?;
    let row = rows.first();
    Ok(json!({
        "step": training_step(&entry.action),
        "action": format!("{:.12}", entry.result.action.to_string()),
        "reward": row.and_then(|row| row.reward_mean),
        "loss": row.and_then(|row| row.loss),
        "gradient": row.and_then(|row| row.grad_norm),
        "samples": row.map(|row| row.samples),
        "kept": has_weights(catalogue, entry),
    }))
}

/// Whether the store has the weights after a step. Those of most checkpoints are dropped once the
/// round is finished.
fn has_weights(catalogue: &Catalogue<'_>, entry: &StoredResult) -> bool {
    let mut weights = entry.result.outputs_of("weights").peekable();
    weights.peek().is_some() && weights.all(|output| catalogue.store.has_object(output).unwrap_or(false))
}

/// Returns the first step from `from` on with stored weights, and the names of the trained model.
pub(super) fn find_next_checkpoint(catalogue: &Catalogue<'_>, from: &StoredResult) -> Value {
    let next = |entry: &StoredResult| {
        let key = entry.result.action.to_string();
        let after = catalogue.find_derived(entry.result.action, "update").into_iter();
        after.into_iter().find(|after| after.action.parameters.get("previous").and_then(Value::as_str) == Some(&key))
    };
    let steps: Vec<&StoredResult> = std::iter::successors(Some(from), |&entry| next(entry)).collect();
    let kept = steps.iter().find(|entry| has_weights(catalogue, entry));
    let kept = kept.map(|entry| json!({"step": training_step(&entry.action), "action": entry.result.action}));
    let last = steps.last().copied().unwrap_or(from);
    let named = catalogue.find_derived(last.result.action, "model.assemble");
    let is_of_last = |named: &&&StoredResult| {
        find_last_step(catalogue, named).is_some_and(|step| step.result.action == last.result.action)
    };
    let names: Vec<String> =
        named.iter().filter(is_of_last).flat_map(|named| catalogue.names_of(named.result.action)).collect();
    json!({"kept at": kept, "model": names})
}

/// Returns the lineage of a model.
pub(super) fn model_lineage(catalogue: &Catalogue<'_>, id: Digest) -> Result<LineageSections> {
    let model = ModelId(id);
    let last = match find_origin(catalogue, model) {
        ModelOrigin::Step(entry) => Some(entry),
        ModelOrigin::Named(_, entry) => entry,
        ModelOrigin::Import => None,
    };
    let up = match last {
        None => json!({}),
        Some(last) => {
            let steps = list_steps(catalogue, last);
            let rows = steps.iter().map(|entry| read_step_metrics(catalogue, entry)).collect::<Result<Vec<_>>>()?;
            let base = last.action.model.map(|base| summarize_model(catalogue, ModelId(base)));
            let first = steps.first().map_or(last, |first| first);
            let curriculum = catalogue.find_sources(first, "answers").first().map(|answers| {
                let curricula = catalogue.find_sources(answers, "curriculum");
                curricula.iter().map(|entry| summarize_result(catalogue, entry.result.action)).collect::<Vec<_>>()
            });
            json!({
                "trained from": base,
                "settings": last.action.parameters.get("settings"),
                "curriculum": curriculum,
                "gates": list_gates(catalogue, last.result.action),
                "steps": rows,
            })
        }
    };
    let used = || catalogue.entries.values().filter(|entry| entry.action.model == Some(id));
    let mut samples: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for entry in used().filter(|entry| matches!(entry.action.stage.as_str(), "questions" | "answers" | "evaluation")) {
        for place in describe_positions(catalogue, entry.result.action) {
            let (results, rows) = samples.entry((entry.action.stage.clone(), place)).or_default();
            (*results, *rows) = (*results + 1, *rows + entry.result.counts.rows_out);
        }
    }
    let samples: Vec<Value> = samples
        .into_iter()
        .map(|((stage, place), (results, rows))| json!({"stage": stage, "in": place, "results": results, "rows": rows}))
        .collect();
    let mut scores = Vec::new();
    for entry in used().filter(|entry| entry.action.stage == "evaluation.scores") {
        for row in catalogue.read_rows::<ScoreRow>(&entry.result)?.into_iter().filter(|row| row.category.is_none()) {
            scores.push(json!({
                "benchmark": row.benchmark, "protocol": row.protocol, "value": row.value, "low": row.low, "high": row.high,
                "items": row.items,
            }));
        }
    }
    let trained = used().filter(|entry| entry.action.stage == "update" && training_step(&entry.action) == Some(0));
    let down = json!({"drew": samples, "scores": scores, "trained on from here": group_by_stage(trained)});
    Ok((summarize_model(catalogue, model), up, down))
}

/// Returns the gates of the rounds that a result belongs to, with values and thresholds.
pub(super) fn list_gates(catalogue: &Catalogue<'_>, key: ActionKey) -> Vec<Value> {
    let mut gates = Vec::new();
    for place in catalogue.positions_of(key) {
        let is_of = |round: &&super::catalogue::CatalogueRound| {
            (&round.evolution, round.number) == (&place.evolution, place.round)
        };
        let Some(round) = catalogue.rounds.iter().find(is_of) else { continue };
        let report = catalogue.read_report(round);
        for gate in report["gates"].as_array().into_iter().flatten() {
            let mut row = json!({"round": format!("{} {}", place.evolution, place.round)});
            for column in ["gate", "figure", "side", "warn", "stop", "verdict"] {
                row[column] = gate[column].clone();
            }
            if !gates.contains(&row) {
                gates.push(row);
            }
        }
    }
    gates
}
