//! Descriptions of results, objects, images and prompts for a lineage.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::catalogue::{ActionKeys, Catalogue, RoundPosition, StoredResult};
use super::error::Result;
use crate::ids::{Digest, ImageId};
use crate::store::{Action, ActionKey, Output};
use crate::tables::{ImageOrigin, RejectRow, SourceRow, source_display_name};

/// The three sections of a lineage: the entity, its origins, and what was derived from it.
pub(super) type LineageSections = (Value, Value, Value);

/// Maximum number of results listed per stage.
const MAX_LISTED: usize = 8;

/// Returns the lineage of the result that an id names.
pub(super) fn result_lineage(catalogue: &Catalogue<'_>, keys: &ActionKeys) -> Result<LineageSections> {
    let Some(entry) = keys.iter().next().and_then(|key| catalogue.entries.get(key)) else {
        return Ok((json!({}), json!({}), json!({})));
    };
    let key = entry.result.action;
    let description = json!({
        "result": summarize_result(catalogue, key),
        "parameters": entry.action.parameters,
        "seed": entry.action.seed,
        "names": catalogue.names_of(key),
        "counts": entry.result.counts,
        "figures": entry.result.statistics,
        "wrote": summarize_outputs(entry),
    });
    let before = entry.result.upstream.iter().filter_map(|key| catalogue.entries.get(key));
    let Action { model, inputs, .. } = &entry.action;
    let up = json!({"made from": group_by_stage(before), "model": model, "inputs": inputs.len()});
    Ok((description, up, json!({"used by": group_by_stage(catalogue.all_derived(key))})))
}

/// Returns the lineage of an object: the results that wrote it and those that read it.
pub(super) fn object_lineage(catalogue: &Catalogue<'_>, id: Digest, keys: &ActionKeys) -> LineageSections {
    let entry = || keys.iter().filter_map(|key| catalogue.entries.get(key));
    let has = |entry: &&StoredResult| entry.result.outputs.iter().any(|output| output.object.digest == id);
    let reads = |entry: &&StoredResult| entry.action.inputs.iter().any(|input| input.object.digest == id);
    // The first result that wrote the object produced it; a round's own result only lists it again.
    let first =
        entry().filter(has).min_by_key(|entry| (entry.action.stage == "evolution.round", entry.result.run.began_ms));
    let output = first.and_then(|entry| entry.result.outputs.iter().find(|output| output.object.digest == id));
    let description = match output {
        Some(Output { object, role, rows, bytes }) => {
            json!({"object": object.to_string(), "role": role, "rows": rows, "bytes": bytes})
        }
        None => json!({"object": id, "role": "a listing of what an action is about"}),
    };
    let up = json!({
        "made by": first.map(|entry| summarize_result(catalogue, entry.result.action)),
        "named by": entry().filter(has).flat_map(|entry| catalogue.names_of(entry.result.action)).collect::<Vec<_>>(),
    });
    (description, up, json!({"read by": group_by_stage(entry().filter(reads))}))
}

/// Groups results by stage, with their number and the first ones.
pub(super) fn group_by_stage<'m>(entry: impl Iterator<Item = &'m StoredResult>) -> Value {
    let mut stages: BTreeMap<&str, (u64, Vec<String>)> = BTreeMap::new();
    for entry in entry {
        let (n, first) = stages.entry(&entry.action.stage).or_default();
        *n += 1;
        if first.len() < MAX_LISTED {
            first.push(format!("{:.12}", entry.result.action.to_string()));
        }
    }
    let row = |(stage, (n, first)): (_, (_, Vec<_>))| json!({"stage": stage, "results": n, "such as": first.join(" ")});
    stages.into_iter().map(row).collect()
}

fn summarize_outputs(entry: &StoredResult) -> Value {
    let mut roles: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    for output in &entry.result.outputs {
        let (n, rows, bytes) = roles.entry(&output.role).or_default();
        (*n, *rows, *bytes) = (*n + 1, *rows + output.rows, *bytes + output.bytes);
    }
    let row = |(role, (n, rows, bytes))| json!({"role": role, "objects": n, "rows": rows, "bytes": bytes});
    roles.into_iter().map(row).collect()
}

/// Returns a summary of a result: stage, action and positions.
pub(super) fn summarize_result(catalogue: &Catalogue<'_>, key: ActionKey) -> Value {
    let Some(entry) = catalogue.entries.get(&key) else { return json!({"action": key}) };
    json!({
        "stage": entry.action.stage,
        "action": key,
        "in": describe_positions(catalogue, key),
        "seed": entry.action.seed,
    })
}

/// Returns the positions of a result as text.
pub(super) fn describe_positions(catalogue: &Catalogue<'_>, key: ActionKey) -> Vec<String> {
    let describe = |RoundPosition { evolution, round, part, step }: &RoundPosition| {
        let step = step.map_or(String::new(), |step| format!(", step {step}"));
        format!("{evolution} round {round}, {part}{step}")
    };
    catalogue.positions_of(key).iter().map(describe).collect()
}

/// Returns a description of an image and its source.
pub(super) fn describe_image(catalogue: &Catalogue<'_>, id: ImageId) -> Result<Value> {
    for entry in catalogue.entries.values().filter(|entry| entry.action.stage == "ingest.pack") {
        for row in catalogue.read_rows::<ImageOrigin>(&entry.result)? {
            if row.image_id == id {
                // The image tables that contain the shard.
                let tables = catalogue.find_derived(entry.result.action, "ingest").into_iter();
                let tables: Vec<String> = tables.flat_map(|table| catalogue.names_of(table.result.action)).collect();
                return Ok(json!({
                    "id": id,
                    "source": source_display_name(&row.source, row.source_row),
                    "format": row.format,
                    "size": format!("{}x{}", row.width, row.height),
                    "bytes": row.size,
                    "stored by": summarize_result(catalogue, entry.result.action),
                    "table": tables,
                }));
            }
        }
    }
    // The image of a labelled row or of a benchmark item is in that row's own file.
    Ok(json!({"id": id, "source": "not in a table of images"}))
}

/// Returns the entries of the sources that were rejected as exact or near duplicates of an image.
pub(super) fn find_duplicates(catalogue: &Catalogue<'_>, id: ImageId) -> Result<Vec<Value>> {
    let mut twins = Vec::new();
    for entry in catalogue.entries.values().filter(|entry| entry.action.stage == "ingest.decide") {
        for row in catalogue.read_rows::<SourceRow>(&entry.result)? {
            if row.twin_id == Some(id) {
                twins.push(json!({"source": row.display_name(), "reason": row.reason, "detail": row.detail}));
            }
        }
    }
    Ok(twins)
}

/// Returns the rows in which a result rejects a subject.
pub(super) fn find_rejects(catalogue: &Catalogue<'_>, entry: &StoredResult, id: Digest) -> Result<Vec<RejectRow>> {
    let rows = catalogue.read_rows::<RejectRow>(&entry.result)?;
    Ok(rows.into_iter().filter(|row| row.subject_id == Some(id)).collect())
}

/// Returns a description of a prompt, with its text if a round stores it.
pub(super) fn describe_prompt(catalogue: &Catalogue<'_>, id: Digest) -> Value {
    json!({"id": id, "text": catalogue.prompt_text(id)})
}

/// Returns the stages that used a prompt.
pub(super) fn find_prompt_uses(catalogue: &Catalogue<'_>, id: Digest) -> Value {
    let word = Some(Value::from(id.to_string()));
    let uses = |entry: &&StoredResult| entry.action.parameters.get("prompt") == word.as_ref();
    json!({"used by": group_by_stage(catalogue.entries.values().filter(uses))})
}
