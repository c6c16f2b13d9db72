//! Search for the entities whose id begins with some digits, and for the results that hold them.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use serde_json::Value;

use super::catalogue::Catalogue;
use super::entity::{Candidate, EntityKind};
use super::error::Result;
use crate::ids::{Digest, ModelId};
use crate::store::{ActionKey, ObjectId};
use crate::tables::{AnswerKey, CurriculumRow, ImageFacts, PredictionKey, QuestionKey, TableRow};

/// Entities that match, each with the results that hold it.
pub(super) type Matches = BTreeMap<Candidate, BTreeSet<ActionKey>>;

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
    let ids_of_objects: Vec<Vec<(EntityKind, Digest)>> = objects
        .par_iter()
        .map(|((role, object), _)| {
            let mut ids: Vec<(EntityKind, Digest)> = match role.as_str() {
                QuestionKey::TABLE => {
                    let rows: Vec<QuestionKey> = catalogue.read_object_rows(*object)?;
                    let both = |row: QuestionKey| {
                        [(EntityKind::Question, row.question_id.0), (EntityKind::Image, row.image_id.0)]
                    };
                    rows.into_iter().flat_map(both).collect()
                }
                CurriculumRow::TABLE => {
                    let rows: Vec<CurriculumRow> = catalogue.read_object_rows(*object)?;
                    rows.into_iter().map(|row| (EntityKind::Question, row.question_id.0)).collect()
                }
                AnswerKey::TABLE => {
                    let rows: Vec<AnswerKey> = catalogue.read_object_rows(*object)?;
                    rows.into_iter().map(|row| (EntityKind::Answer, row.answer_id.0)).collect()
                }
                ImageFacts::TABLE => {
                    let rows: Vec<ImageFacts> = catalogue.read_object_rows(*object)?;
                    rows.into_iter().map(|row| (EntityKind::Image, row.image_id.0)).collect()
                }
                PredictionKey::TABLE => {
                    let rows: Vec<PredictionKey> = catalogue.read_object_rows(*object)?;
                    rows.into_iter().map(|row| (EntityKind::Item, row.item_id.0)).collect()
                }
                _ => Vec::new(),
            };
            ids.retain(|(_, id)| id.hex().starts_with(prefix));
            ids.sort_unstable();
            ids.dedup();
            Ok(ids)
        })
        .collect::<Result<_>>()?;
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
