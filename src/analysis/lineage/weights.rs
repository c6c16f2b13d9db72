//! Weights: which training made them, and what they were used for.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::catalogue::{Catalogue, StoredResult, step};
use super::describe::{by_stage, made_by, places};
use super::error::LineageError;
use crate::ids::{Digest, ModelId};
use crate::store::ActionKey;
use crate::tables::{MetricRow, ScoreRow};

/// Who made a model.
pub(super) enum ModelOrigin<'m> {
    /// A training step, whose weights may not be kept as bytes.
    Step(&'m StoredResult),
    /// It was put together under a name, from the weights of this step; `None` where no step of the store made them.
    Named(&'m StoredResult, Option<&'m StoredResult>),
    /// Nobody here: it was imported.
    Import,
}

pub(super) fn maker<'m>(catalogue: &'m Catalogue<'_>, id: ModelId) -> ModelOrigin<'m> {
    let all = || catalogue.made.values();
    let is_step =
        |made: &&StoredResult| made.action.stage == "update" && ModelId::of_step(&made.result.action.to_string()) == id;
    if let Some(made) = all().find(is_step) {
        return ModelOrigin::Step(made);
    }
    let is_named = |made: &&StoredResult| made.action.stage == "model.assemble" && made.action.model == Some(id.0);
    match all().find(is_named) {
        Some(named) => ModelOrigin::Named(named, last_step(catalogue, named)),
        None => ModelOrigin::Import,
    }
}

/// The training step that wrote the weights of a named model.
fn last_step<'m>(catalogue: &'m Catalogue<'_>, named: &StoredResult) -> Option<&'m StoredResult> {
    let weights =
        |made: &StoredResult| -> Vec<_> { made.result.outputs_of("weights").map(|output| output.object).collect() };
    let wanted = weights(named);
    catalogue.made.values().find(|made| made.action.stage == "update" && weights(made) == wanted)
}

/// A model in a few words: what it is and who made it.
pub(super) fn brief(catalogue: &Catalogue<'_>, id: ModelId) -> Value {
    match maker(catalogue, id) {
        ModelOrigin::Step(made) => json!({
            "id": id,
            "is": after_step(&made.action),
            "made by": made_by(catalogue, made.result.action),
        }),
        ModelOrigin::Named(named, made) => json!({
            "id": id,
            "is": made.map_or("a model that was never trained here".to_owned(), |made| after_step(&made.action)),
            "names": catalogue.names_of(named.result.action),
            "made by": made.map(|made| made_by(catalogue, made.result.action)),
        }),
        ModelOrigin::Import => {
            let import = import_of(catalogue, id);
            json!({
                "id": id,
                "is": "the base model",
                "made by": import.map(|made| made_by(catalogue, made.result.action)),
            })
        }
    }
}

fn after_step(action: &crate::store::Action) -> String {
    let role = action.parameters.get("role").and_then(Value::as_str).unwrap_or("a role");
    format!("the weights after step {} of the {role}'s training", step(action).unwrap_or(0))
}

/// The import of a base model: that of the rounds that began with it.
fn import_of<'m>(catalogue: &'m Catalogue<'_>, id: ModelId) -> Option<&'m StoredResult> {
    let of_round = catalogue.rounds.iter().find_map(|round| {
        let made = catalogue.made.get(&round.result.action)?;
        if made.action.model != Some(id.0) {
            return None;
        }
        catalogue.before(made, "model.import").first().copied()
    });
    of_round.or_else(|| {
        let mut imports = catalogue.made.values().filter(|made| made.action.stage == "model.import");
        let first = imports.next();
        // Of several nobody can say which it is.
        first.filter(|_| imports.next().is_none())
    })
}

/// The steps of a training up to one, from the first.
pub(super) fn chain<'m>(catalogue: &'m Catalogue<'_>, last: &'m StoredResult) -> Vec<&'m StoredResult> {
    let mut chain = vec![last];
    while let Some(made) = chain.last() {
        let previous = made.action.parameters.get("previous").and_then(Value::as_str);
        let key: Option<ActionKey> = previous.and_then(|key| key.parse().ok());
        match key.and_then(|key| catalogue.made.get(&key)) {
            Some(previous) => chain.push(previous),
            None => break,
        }
    }
    chain.reverse();
    chain
}

/// The step's figures that one wants to see first.
pub(super) fn step_figures(catalogue: &Catalogue<'_>, made: &StoredResult) -> Result<Value, LineageError> {
    let row = catalogue.rows::<MetricRow>(&made.result)?.into_iter().next();
    let row = row.as_ref();
    Ok(json!({
        "step": step(&made.action),
        "action": format!("{:.12}", made.result.action.to_string()),
        "reward": row.and_then(|row| row.reward_mean),
        "loss": row.and_then(|row| row.loss),
        "gradient": row.and_then(|row| row.grad_norm),
        "samples": row.map(|row| row.samples),
        "kept": made.result.outputs_of("weights").next().is_some(),
    }))
}

/// The first step from one on whose weights are kept as bytes, and the names of the model that came of the training.
pub(super) fn checkpoint(catalogue: &Catalogue<'_>, from: &StoredResult) -> Value {
    let mut made = from;
    let is_kept = |made: &StoredResult| made.result.outputs_of("weights").next().is_some();
    let next = |made: &StoredResult| {
        let key = made.result.action.to_string();
        let after = catalogue.after(made.result.action, "update").into_iter();
        after.into_iter().find(|after| after.action.parameters.get("previous").and_then(Value::as_str) == Some(&key))
    };
    while let Some(after) = next(made).filter(|_| !is_kept(made)) {
        made = after;
    }
    let kept = is_kept(made).then(|| json!({"step": step(&made.action), "action": made.result.action}));
    let mut last = made;
    while let Some(after) = next(last) {
        last = after;
    }
    let named = catalogue.after(last.result.action, "model.assemble");
    let own = |named: &&&StoredResult| {
        last_step(catalogue, named).is_some_and(|step| step.result.action == last.result.action)
    };
    let names: Vec<String> =
        named.iter().filter(own).flat_map(|named| catalogue.names_of(named.result.action)).collect();
    json!({"kept at": kept, "model": names})
}

/// The lineage of a model.
pub(super) fn of_model(catalogue: &Catalogue<'_>, id: Digest) -> Result<(Value, Value, Value), LineageError> {
    let model = ModelId(id);
    let last = match maker(catalogue, model) {
        ModelOrigin::Step(made) => Some(made),
        ModelOrigin::Named(_, made) => made,
        ModelOrigin::Import => None,
    };
    let up = match last {
        None => json!({}),
        Some(last) => {
            let steps = chain(catalogue, last);
            let rows = steps.iter().map(|made| step_figures(catalogue, made)).collect::<Result<Vec<_>, _>>()?;
            let base = last.action.model.map(|base| brief(catalogue, ModelId(base)));
            let first = steps.first().map_or(last, |first| first);
            let curriculum = catalogue.before(first, "answers").first().map(|answers| {
                let chosen = catalogue.before(answers, "curriculum");
                chosen.iter().map(|made| made_by(catalogue, made.result.action)).collect::<Vec<_>>()
            });
            json!({
                "trained from": base,
                "settings": last.action.parameters.get("settings"),
                "curriculum": curriculum,
                "gates": gates(catalogue, last.result.action),
                "steps": rows,
            })
        }
    };
    let used = || catalogue.made.values().filter(|made| made.action.model == Some(id));
    let mut drawn: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for made in used().filter(|made| matches!(made.action.stage.as_str(), "questions" | "answers" | "evaluation")) {
        for place in places(catalogue, made.result.action) {
            let (results, rows) = drawn.entry((made.action.stage.clone(), place)).or_default();
            (*results, *rows) = (*results + 1, *rows + made.result.counts.rows_out);
        }
    }
    let drawn: Vec<Value> = drawn
        .into_iter()
        .map(|((stage, place), (results, rows))| json!({"stage": stage, "in": place, "results": results, "rows": rows}))
        .collect();
    let mut scores = Vec::new();
    for made in used().filter(|made| made.action.stage == "evaluation.scores") {
        for row in catalogue.rows::<ScoreRow>(&made.result)?.into_iter().filter(|row| row.category.is_none()) {
            scores.push(json!({
                "benchmark": row.benchmark, "protocol": row.protocol, "value": row.value, "low": row.low, "high": row.high,
                "items": row.items,
            }));
        }
    }
    let trained = used().filter(|made| made.action.stage == "update" && step(&made.action) == Some(0));
    let down = json!({"drew": drawn, "scores": scores, "trained on from here": by_stage(trained)});
    Ok((brief(catalogue, model), up, down))
}

/// The gates of the rounds that a result belongs to, with their figures and thresholds.
pub(super) fn gates(catalogue: &Catalogue<'_>, key: ActionKey) -> Vec<Value> {
    let mut gates = Vec::new();
    for place in catalogue.places_of(key) {
        let is_of = |round: &&super::catalogue::CatalogueRound| {
            (&round.evolution, round.number) == (&place.evolution, place.round)
        };
        let Some(round) = catalogue.rounds.iter().find(is_of) else { continue };
        let report = catalogue.report(round);
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
