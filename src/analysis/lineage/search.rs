//! Search for the entities whose id begins with some digits, and for the results that hold them.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde_json::Value;

use super::catalogue::{ActionKeys, Catalogue};
use super::entity::{Candidate, EntityKind};
use super::error::Result;
use crate::ids::{Digest, ModelId};
use crate::store::{ActionKey, ObjectId};
use crate::tables::{AnswerKey, CurriculumRow, ImageFacts, PredictionKey, QuestionKey, TableRow};

/// Entities that match, each with the results that hold it.
pub(super) type Matches = BTreeMap<Candidate, ActionKeys>;

/// Finds every entity whose id begins with `prefix`.
pub(super) fn search(catalogue: &Catalogue<'_>, prefix: &str) -> Result<Matches> {
    let mut matches = Matches::new();
    let mut add = |kind, id: Digest, key| {
        if id.hex().starts_with(prefix) {
            matches.entry(Candidate { kind, id }).or_default().insert(key);
        }
    };
    // A round's own result names the objects of its stages again and is left out.
    let mut objects: BTreeMap<(String, ObjectId), Vec<ActionKey>> = BTreeMap::new();
    for (key, entry) in &catalogue.entries {
        add(EntityKind::Result, key.to_string().parse().unwrap_or(Digest::from_bytes([0; 32])), *key);
        if let Some(model) = entry.action.model {
            add(EntityKind::Model, model, *key);
        }
        if entry.action.stage == "update" {
            add(EntityKind::Model, ModelId::of_step(&key.to_string()).0, *key);
        }
        if let Some(prompt) =
            entry.action.parameters.get("prompt").and_then(Value::as_str).and_then(|id| id.parse().ok())
        {
            add(EntityKind::Prompt, prompt, *key);
        }
        for output in &entry.result.outputs {
            add(EntityKind::Object, output.object.digest, *key);
            if entry.action.stage != "evolution.round" {
                objects.entry((output.role.clone(), output.object)).or_default().push(*key);
            }
        }
        for input in &entry.action.inputs {
            add(EntityKind::Object, input.object.digest, *key);
        }
    }
    // A full id of one of these needs no search in the tables.
    if prefix.len() == Digest::HEX_LEN && matches.keys().any(|candidate| candidate.kind != EntityKind::Object) {
        return Ok(matches);
    }
    let objects: Vec<((String, ObjectId), Vec<ActionKey>)> = objects.into_iter().collect();
    let find_ids = |((role, object), _): &((String, ObjectId), _)| {
        let mut ids = read_ids(catalogue, role, *object)?;
        ids.retain(|(_, id)| id.hex().starts_with(prefix));
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    };
    let ids_of_objects: Vec<Vec<(EntityKind, Digest)>> = objects.par_iter().map(find_ids).collect::<Result<_>>()?;
    for ((_, keys), ids) in objects.iter().zip(ids_of_objects) {
        for (kind, id) in ids {
            matches.entry(Candidate { kind, id }).or_default().extend(keys);
        }
    }
    // The id of a labelled row names both a question and a benchmark item. Keep the first kind,
    // whose lineage says more.
    let ids: BTreeSet<Digest> = matches.keys().map(|candidate| candidate.id).collect();
    for id in ids {
        let candidates: Vec<Candidate> = matches.keys().filter(|candidate| candidate.id == id).copied().collect();
        for candidate in candidates.iter().skip(1) {
            matches.remove(candidate);
        }
    }
    Ok(matches)
}

/// Reads the ids of entities in an object of a table.
fn read_ids(catalogue: &Catalogue<'_>, table: &str, object: ObjectId) -> Result<Vec<(EntityKind, Digest)>> {
    macro_rules! ids {
        ($row:ty: $($kind:ident $column:ident)+) => {{
            let rows = catalogue.read_object_rows::<$row>(object)?;
            rows.iter().flat_map(|row| [$((EntityKind::$kind, row.$column.0)),+]).collect()
        }};
    }
    Ok(match table {
        QuestionKey::TABLE => ids!(QuestionKey: Question question_id Image image_id),
        CurriculumRow::TABLE => ids!(CurriculumRow: Question question_id),
        AnswerKey::TABLE => ids!(AnswerKey: Answer answer_id),
        ImageFacts::TABLE => ids!(ImageFacts: Image image_id),
        PredictionKey::TABLE => ids!(PredictionKey: Item item_id),
        _ => Vec::new(),
    })
}
