//! Lineage of images and benchmark items.

use serde_json::json;

use super::catalogue::{ActionKeys, Catalogue};
use super::describe::{LineageSections, describe_image, describe_positions, find_duplicates};
use super::error::Result;
use crate::ids::{Digest, ImageId, ItemId, QuestionId};
use crate::tables::{CurriculumRow, PredictionRow, QuestionKey, QuestionRow, VoteRow};

/// Returns the lineage of an image, with the questions about it.
pub(super) fn image_lineage(catalogue: &Catalogue<'_>, id: Digest, keys: &ActionKeys) -> Result<LineageSections> {
    let image_id = ImageId(id);
    let description = describe_image(catalogue, image_id)?;
    let up = json!({"twins that were left out": find_duplicates(catalogue, image_id)?});
    let mut questions = Vec::new();
    for entry in catalogue.of_stage(keys, "questions") {
        let ids: Vec<QuestionId> = (catalogue.read_rows::<QuestionKey>(&entry.result)?.iter())
            .filter(|row| row.image_id == image_id)
            .map(|row| row.question_id)
            .collect();
        let answered = catalogue.find_derived(entry.result.action, "answers");
        let votes = catalogue.read_rows_where::<VoteRow>(&answered, |row| row.image_id == image_id)?;
        let mut kept = Vec::new();
        for entry in catalogue.find_derived(entry.result.action, "curriculum") {
            kept.extend(catalogue.read_rows::<CurriculumRow>(&entry.result)?.into_iter().map(|row| row.question_id));
        }
        for row in
            catalogue.read_rows::<QuestionRow>(&entry.result)?.iter().filter(|row| ids.contains(&row.question_id))
        {
            let vote = votes.iter().map(|(_, vote)| vote).find(|vote| vote.question_id == row.question_id);
            questions.push(json!({
                "id": row.question_id,
                "in": describe_positions(catalogue, entry.result.action).first(),
                "question": row.question.as_ref().unwrap_or(&row.raw_text),
                "valid": row.valid,
                "majority": vote.and_then(|vote| vote.majority_answer.clone()),
                "confidence": vote.and_then(|vote| vote.confidence),
                "kept": kept.contains(&row.question_id),
            }));
        }
    }
    Ok((description, up, json!({"questions": questions})))
}

/// Returns the lineage of a benchmark item, with every answer to it.
pub(super) fn item_lineage(catalogue: &Catalogue<'_>, id: Digest, keys: &ActionKeys) -> Result<LineageSections> {
    let (mut description, mut answers) = (json!({"id": id}), Vec::new());
    for entry in catalogue.of_stage(keys, "evaluation") {
        for row in
            catalogue.read_rows::<PredictionRow>(&entry.result)?.into_iter().filter(|row| row.item_id == ItemId(id))
        {
            description = json!({
                "id": id, "benchmark": row.benchmark, "category": row.category, "question": row.question, "gold": row.gold,
                "image": row.image_id,
            });
            answers.push(json!({
                "model": format!("{:.12}", row.model_id.to_string()),
                "in": describe_positions(catalogue, entry.result.action).first(),
                "protocol": row.protocol,
                "sample": row.sample,
                "answer": row.extracted_answer,
                "correct": row.correct,
                "rule": row.judge_reason,
            }));
        }
    }
    Ok((description, json!({}), json!({"answers": answers})))
}
