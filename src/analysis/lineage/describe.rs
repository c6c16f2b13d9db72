//! Results, objects, images and prompts as they are shown in a lineage.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::catalogue::{Catalogue, RoundPosition, StoredResult};
use super::error::LineageError;
use crate::ids::{Digest, ImageId};
use crate::store::ActionKey;
use crate::tables::{ImageOrigin, RejectRow, SourceRow, shown_source};

/// How many things of a kind are named.
const NAMED: usize = 8;

/// The results that are meant by one id, of which there is one.
pub(super) fn of_results(
    catalogue: &Catalogue<'_>,
    keys: &BTreeSet<ActionKey>,
) -> Result<(Value, Value, Value), LineageError> {
    let Some(made) = keys.iter().next().and_then(|key| catalogue.made.get(key)) else {
        return Ok((json!({}), json!({}), json!({})));
    };
    let key = made.result.action;
    let what = json!({
        "result": made_by(catalogue, key),
        "parameters": made.action.parameters,
        "seed": made.action.seed,
        "names": catalogue.names_of(key),
        "counts": made.result.counts,
        "figures": made.result.figures,
        "wrote": outputs(made),
    });
    let before = made.result.upstream.iter().filter_map(|key| catalogue.made.get(key));
    let after = catalogue.after.get(&key).into_iter().flatten().filter_map(|key| catalogue.made.get(key));
    let up = json!({"made from": by_stage(before), "model": made.action.model, "inputs": made.action.inputs.len()});
    Ok((what, up, json!({"used by": by_stage(after)})))
}

/// An object: the results that have it and those that read it.
pub(super) fn of_object(
    catalogue: &Catalogue<'_>,
    id: Digest,
    keys: &BTreeSet<ActionKey>,
) -> Result<(Value, Value, Value), LineageError> {
    let made = || keys.iter().filter_map(|key| catalogue.made.get(key));
    let has = |made: &&StoredResult| made.result.outputs.iter().any(|output| output.object.digest == id);
    let reads = |made: &&StoredResult| made.action.inputs.iter().any(|input| input.object.digest == id);
    // The first that wrote it made it; what names it again is later.
    let first =
        made().filter(has).min_by_key(|made| (made.action.stage == "evolution.round", made.result.run.began_ms));
    let output = first.and_then(|made| made.result.outputs.iter().find(|output| output.object.digest == id));
    let what = match output {
        Some(output) => {
            json!({"object": output.object.to_string(), "role": output.role, "rows": output.rows, "bytes": output.bytes})
        }
        None => json!({"object": id, "role": "a listing of what an action is about"}),
    };
    let up = json!({
        "made by": first.map(|made| made_by(catalogue, made.result.action)),
        "named by": made().filter(has).flat_map(|made| catalogue.names_of(made.result.action)).collect::<Vec<_>>(),
    });
    Ok((what, up, json!({"read by": by_stage(made().filter(reads))})))
}

/// Results by stage: how many there are, and the first of them.
pub(super) fn by_stage<'m>(made: impl Iterator<Item = &'m StoredResult>) -> Value {
    let mut stages: BTreeMap<&str, (u64, Vec<String>)> = BTreeMap::new();
    for made in made {
        let (n, first) = stages.entry(&made.action.stage).or_default();
        *n += 1;
        if first.len() < NAMED {
            first.push(format!("{:.12}", made.result.action.to_string()));
        }
    }
    let rows =
        stages.into_iter().map(|(stage, (n, first))| json!({"stage": stage, "results": n, "such as": first.join(" ")}));
    Value::Array(rows.collect())
}

fn outputs(made: &StoredResult) -> Value {
    let mut roles: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    for output in &made.result.outputs {
        let (n, rows, bytes) = roles.entry(&output.role).or_default();
        (*n, *rows, *bytes) = (*n + 1, *rows + output.rows, *bytes + output.bytes);
    }
    let rows = roles
        .into_iter()
        .map(|(role, (n, rows, bytes))| json!({"role": role, "objects": n, "rows": rows, "bytes": bytes}));
    Value::Array(rows.collect())
}

/// A result in one line: stage, action, where it belongs.
pub(super) fn made_by(catalogue: &Catalogue<'_>, key: ActionKey) -> Value {
    let Some(made) = catalogue.made.get(&key) else { return json!({"action": key}) };
    json!({
        "stage": made.action.stage,
        "action": key,
        "in": places(catalogue, key),
        "seed": made.action.seed,
    })
}

/// Where a result belongs, in words.
pub(super) fn places(catalogue: &Catalogue<'_>, key: ActionKey) -> Vec<String> {
    catalogue.places_of(key).iter().map(place).collect()
}

fn place(place: &RoundPosition) -> String {
    let RoundPosition { evolution, round, part, step } = place;
    let step = step.map_or(String::new(), |step| format!(", step {step}"));
    format!("{evolution} round {round}, {part}{step}")
}

/// An image: where it came from.
pub(super) fn image(catalogue: &Catalogue<'_>, id: ImageId) -> Result<Value, LineageError> {
    for made in catalogue.made.values().filter(|made| made.action.stage == "ingest.pack") {
        for row in catalogue.rows::<ImageOrigin>(&made.result)? {
            if row.image_id == id {
                return Ok(json!({
                    "id": id,
                    "source": shown_source(&row.source, row.source_row),
                    "format": row.format,
                    "size": format!("{}x{}", row.width, row.height),
                    "bytes": row.size,
                    "stored by": made_by(catalogue, made.result.action),
                    "table": tables_of(catalogue, made),
                }));
            }
        }
    }
    // A labelled row's or a benchmark item's image is in its own file.
    Ok(json!({"id": id, "source": "not in a table of images"}))
}

/// The names of the tables of images that a shard is in.
fn tables_of(catalogue: &Catalogue<'_>, pack: &StoredResult) -> Vec<String> {
    let tables = catalogue.after(pack.result.action, "ingest");
    tables.iter().flat_map(|table| catalogue.names_of(table.result.action)).collect()
}

/// The other entries of the sources that have an image's bytes or were taken for the same.
pub(super) fn twins(catalogue: &Catalogue<'_>, id: ImageId) -> Result<Vec<Value>, LineageError> {
    let mut twins = Vec::new();
    for made in catalogue.made.values().filter(|made| made.action.stage == "ingest.decide") {
        for row in catalogue.rows::<SourceRow>(&made.result)? {
            if row.twin_id == Some(id) {
                twins.push(json!({"source": row.shown(), "reason": row.reason, "detail": row.detail}));
            }
        }
    }
    Ok(twins)
}

/// Rejects about an id.
pub(super) fn rejects(
    catalogue: &Catalogue<'_>,
    made: &StoredResult,
    id: Digest,
) -> Result<Vec<RejectRow>, LineageError> {
    let rows = catalogue.rows::<RejectRow>(&made.result)?;
    Ok(rows.into_iter().filter(|row| row.subject_id == Some(id)).collect())
}

/// A prompt: its text where a round keeps it.
pub(super) fn prompt(catalogue: &Catalogue<'_>, id: Digest) -> Result<Value, LineageError> {
    Ok(json!({"id": id, "text": catalogue.prompt_text(id)}))
}

/// Which stages used a prompt.
pub(super) fn used_prompt(catalogue: &Catalogue<'_>, id: Digest) -> Value {
    let word = id.to_string();
    let used = catalogue
        .made
        .values()
        .filter(|made| made.action.parameters.get("prompt").and_then(Value::as_str) == Some(&word));
    json!({"used by": by_stage(used)})
}
