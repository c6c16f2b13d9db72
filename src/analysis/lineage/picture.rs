//! Images and benchmark items: the questions about an image, the answers to an item.

use std::collections::BTreeSet;

use serde_json::json;

use super::catalogue::Catalogue;
use super::describe::{image, places, twins};
use super::error::LineageError;
use super::question::{LineageSections, of_stage};
use crate::ids::{Digest, ImageId, ItemId, QuestionId};
use crate::store::{ActionKey, StageResult};
use crate::tables::{CurriculumRow, PredictionRow, QuestionKey, QuestionRow, VoteRow};

/// The lineage of an image.
pub(super) fn of_image(
    catalogue: &Catalogue<'_>,
    id: Digest,
    keys: &BTreeSet<ActionKey>,
) -> Result<LineageSections, LineageError> {
    let image_id = ImageId(id);
    let what = image(catalogue, image_id)?;
    let up = json!({"twins that were left out": twins(catalogue, image_id)?});
    let mut questions = Vec::new();
    for made in of_stage(catalogue, keys, "questions") {
        let ids: Vec<QuestionId> = (catalogue.rows::<QuestionKey>(&made.result)?.iter())
            .filter(|row| row.image_id == image_id)
            .map(|row| row.question_id)
            .collect();
        let votes = {
            let answered = catalogue.after(made.result.action, "answers");
            let results: Vec<&StageResult> = answered.iter().map(|made| &made.result).collect();
            catalogue.rows_where::<VoteRow>(&results, |row| row.image_id == image_id)?
        };
        let mut chosen = Vec::new();
        for made in catalogue.after(made.result.action, "curriculum") {
            chosen.extend(catalogue.rows::<CurriculumRow>(&made.result)?.into_iter().map(|row| row.question_id));
        }
        for row in catalogue.rows::<QuestionRow>(&made.result)?.iter().filter(|row| ids.contains(&row.question_id)) {
            let vote = votes.iter().map(|(_, vote)| vote).find(|vote| vote.question_id == row.question_id);
            questions.push(json!({
                "id": row.question_id,
                "in": places(catalogue, made.result.action).first(),
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

/// The lineage of a benchmark item: every answer to it.
pub(super) fn of_item(
    catalogue: &Catalogue<'_>,
    id: Digest,
    keys: &BTreeSet<ActionKey>,
) -> Result<LineageSections, LineageError> {
    let (mut what, mut answers) = (json!({"id": id}), Vec::new());
    for made in of_stage(catalogue, keys, "evaluation") {
        for row in catalogue.rows::<PredictionRow>(&made.result)?.into_iter().filter(|row| row.item_id == ItemId(id)) {
            what = json!({
                "id": id, "benchmark": row.benchmark, "category": row.category, "question": row.question, "gold": row.gold,
                "image": row.image_id,
            });
            answers.push(json!({
                "model": format!("{:.12}", row.model_id.to_string()),
                "in": places(catalogue, made.result.action).first(),
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
