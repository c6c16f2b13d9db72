//! Lineage of images and benchmark items.

use std::collections::BTreeSet;

use serde_json::json;

use super::catalogue::Catalogue;
use super::describe::{image, places, twins};
use super::error::LineageError;
use super::question::{LineageSections, of_stage};
use crate::ids::{Digest, ImageId, ItemId, QuestionId};
use crate::store::{ActionKey, StageResult};
use crate::tables::{CurriculumRow, PredictionRow, QuestionKey, QuestionRow, VoteRow};

/// Returns the lineage of an image, with the questions about it.
pub(super) fn of_image(
    catalogue: &Catalogue<'_>,
    id: Digest,
    keys: &BTreeSet<ActionKey>,
) -> Result<LineageSections, LineageError> {
    let image_id = ImageId(id);
    let what = image(catalogue, image_id)?;
    let up = json!({"twins that were left out": twins(catalogue, image_id)?});
    let mut questions = Vec::new();
    for entry in of_stage(catalogue, keys, "questions") {
        let ids: Vec<QuestionId> = (catalogue.rows::<QuestionKey>(&entry.result)?.iter())
            .filter(|row| row.image_id == image_id)
            .map(|row| row.question_id)
            .collect();
        let votes = {
            let answered = catalogue.after(entry.result.action, "answers");
            let results: Vec<&StageResult> = answered.iter().map(|entry| &entry.result).collect();
            catalogue.rows_where::<VoteRow>(&results, |row| row.image_id == image_id)?
        };
        let mut chosen = Vec::new();
        for entry in catalogue.after(entry.result.action, "curriculum") {
            chosen.extend(catalogue.rows::<CurriculumRow>(&entry.result)?.into_iter().map(|row| row.question_id));
        }
        for row in catalogue.rows::<QuestionRow>(&entry.result)?.iter().filter(|row| ids.contains(&row.question_id)) {
            let vote = votes.iter().map(|(_, vote)| vote).find(|vote| vote.question_id == row.question_id);
            questions.push(json!({
                "id": row.question_id,
                "in": places(catalogue, entry.result.action).first(),
                "question": row.question.as_ref().unwrap_or(&row.raw_text),
                "valid": row.valid,
                "majority": vote.and_then(|vote| vote.majority_answer.clone()),
                "confidence": vote.and_then(|vote| vote.confidence),
                "kept": chosen.contains(&row.question_id),
            }));
        }
    }
    Ok((what, up, json!({"questions": questions})))
}

/// Returns the lineage of a benchmark item, with every answer to it.
pub(super) fn of_item(
    catalogue: &Catalogue<'_>,
    id: Digest,
    keys: &BTreeSet<ActionKey>,
) -> Result<LineageSections, LineageError> {
    let (mut what, mut answers) = (json!({"id": id}), Vec::new());
    for entry in of_stage(catalogue, keys, "evaluation") {
        for row in catalogue.rows::<PredictionRow>(&entry.result)?.into_iter().filter(|row| row.item_id == ItemId(id)) {
            what = json!({
                "id": id, "benchmark": row.benchmark, "category": row.category, "question": row.question, "gold": row.gold,
                "image": row.image_id,
            });
            answers.push(json!({
                "model": format!("{:.12}", row.model_id.to_string()),
                "in": places(catalogue, entry.result.action).first(),
                "protocol": row.protocol,
                "sample": row.sample,
                "answer": row.extracted_answer,
                "correct": row.correct,
                "rule": row.judge_reason,
            }));
        }
    }
    Ok((what, json!({}), json!({"answers": answers})))
}
