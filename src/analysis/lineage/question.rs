//! Lineage of questions and answers, from image and prompt to votes, curriculum and updates.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::catalogue::{ActionKeys, Catalogue, StoredResult};
use super::describe::{
    LineageSections, describe_image, describe_positions, describe_prompt, find_rejects, summarize_result,
};
use super::error::Result;
use super::weights::{find_next_checkpoint, list_gates, read_step_metrics, summarize_model};
use crate::grading::compare;
use crate::ids::{AnswerId, Digest, QuestionId};
use crate::store::ActionKey;
use crate::tables::{AnswerRow, CurriculumRow, QuestionRow, RewardRow, VoteRow};

fn mean_logprob(logprobs: &[f32]) -> Option<f64> {
    (!logprobs.is_empty()).then(|| logprobs.iter().map(|&p| f64::from(p)).sum::<f64>() / logprobs.len() as f64)
}

/// Returns the lineage of a question, which may be a row of the labelled baseline's curriculum.
pub(super) fn question_lineage(catalogue: &Catalogue<'_>, id: Digest, keys: &ActionKeys) -> Result<LineageSections> {
    let question_id = QuestionId(id);
    let generated = catalogue.of_stage(keys, "questions");
    let curricula = catalogue.of_stage(keys, "curriculum");
    let is_row = |row: &QuestionRow| row.question_id == question_id;
    let is_kept = |row: &CurriculumRow| row.question_id == question_id;
    let row = generated.first().map(|entry| catalogue.find_row(entry, is_row)).transpose()?.flatten();
    let kept = curricula.first().map(|entry| catalogue.find_row(entry, is_kept)).transpose()?.flatten();
    let image_id = row.as_ref().map(|row| row.image_id).or_else(|| kept.as_ref().map(|row| row.image_id));
    let description = match (&row, &kept) {
        (Some(row), _) => describe_question(row),
        (None, Some(row)) => json!({"id": id, "question": row.problem, "label": row.pseudo_label}),
        (None, None) => json!({"id": id}),
    };
    let up = json!({
        "image": image_id.map(|id| describe_image(catalogue, id)).transpose()?,
        "prompt": row.as_ref().map(|row| describe_prompt(catalogue, row.prompt_id.0)),
        "weights": row.as_ref().map(|row| summarize_model(catalogue, row.model_id)),
        "seed": row.as_ref().map(|row| row.seed),
        "made by": generated.first().or(curricula.first()).map(|entry| summarize_result(catalogue, entry.result.action)),
    });
    let sources = if generated.is_empty() { &curricula } else { &generated };
    Ok((description, up, describe_descendants(catalogue, question_id, sources)?))
}

fn describe_question(row: &QuestionRow) -> Value {
    json!({
        "id": row.question_id,
        "question": row.question,
        "type": row.question_type,
        "valid": row.valid,
        "invalid reason": row.invalid_reason,
        "raw text": row.raw_text,
        "claimed answer": row.claimed_answer,
        "sample": row.sample,
        "finish": row.finish,
        "tokens": row.token_ids.len(),
        "mean log-probability": mean_logprob(&row.logprobs),
    })
}

/// Returns everything derived from a question, from the results on that generated or selected it.
fn describe_descendants(catalogue: &Catalogue<'_>, id: QuestionId, sources: &[&StoredResult]) -> Result<Value> {
    let keys: Vec<ActionKey> = sources.iter().map(|entry| entry.result.action).collect();
    let after = |stage: &str| -> Vec<&StoredResult> {
        let mut seen = BTreeSet::new();
        let all = keys.iter().flat_map(|key| catalogue.find_derived(*key, stage));
        all.filter(|entry| seen.insert(entry.result.action)).collect()
    };
    let mut curricula = after("curriculum");
    curricula.extend(sources.iter().filter(|entry| entry.action.stage.starts_with("curriculum")));
    let rewards = after("rewards");
    let mut decisions = Vec::new();
    for entry in &curricula {
        let positions = describe_positions(catalogue, entry.result.action);
        if let Some(row) = catalogue.find_row(entry, |row: &CurriculumRow| row.question_id == id)? {
            decisions.push(json!({
                "kept": true, "label": row.pseudo_label, "confidence": row.confidence, "margin": row.margin,
                "in": positions, "by": entry.result.action,
            }));
        }
        for row in find_rejects(catalogue, entry, id.0)? {
            decisions.push(json!({
                "kept": false, "reason": row.reason, "detail": row.detail, "instead": row.twin_id, "in": positions,
                "by": entry.result.action,
            }));
        }
    }
    let mut votes = Vec::new();
    for entry in after("answers") {
        votes.extend(describe_vote(catalogue, entry, id)?);
        for row in find_rejects(catalogue, entry, id.0)? {
            let positions = describe_positions(catalogue, entry.result.action);
            votes.push(json!({"in": positions, "rejected": row.reason, "detail": row.detail}));
        }
    }
    let mut trained: Vec<Value> = Vec::new();
    let mut updates = Vec::new();
    for entry in &rewards {
        // A question of the Questioner's training is itself a scored sample.
        trained.extend(collect_rewards(catalogue, entry, &|subject| subject == id.0, &mut updates)?);
    }
    for entry in &curricula {
        trained.extend(collect_training_rewards(catalogue, entry, id, &mut updates)?);
    }
    trained.sort_by_key(|row| (row["step"].as_u64(), row["sample"].as_u64()));
    updates.sort_by_key(|update| update["step"].as_u64());
    let first = curricula.first().copied().or(rewards.first().copied());
    Ok(json!({
        "votes": votes,
        "fate": decisions,
        "gates": first.map(|entry| list_gates(catalogue, entry.result.action)),
        "rewards": trained,
        "updates": updates,
    }))
}

/// Returns the vote on a question, with every sample and the rule that assigned it to its class.
fn describe_vote(catalogue: &Catalogue<'_>, entry: &StoredResult, id: QuestionId) -> Result<Option<Value>> {
    let Some(vote) = catalogue.find_row(entry, |row: &VoteRow| row.question_id == id)? else { return Ok(None) };
    let mut answers = catalogue.read_rows::<AnswerRow>(&entry.result)?;
    answers.retain(|row| row.question_id == id);
    answers.sort_by_key(|row| row.sample);
    let mut seen = BTreeSet::new();
    let samples: Vec<Value> = answers
        .iter()
        .map(|row| {
            let is_first = row.vote_class.is_some_and(|class| seen.insert(class));
            json!({
                "sample": row.sample,
                "id": row.answer_id,
                "answer": row.boxed_answer,
                "class": row.vote_class,
                "rule": describe_rule(row, &vote, is_first),
                "text": row.raw_text,
                "finish": row.finish,
                "mean log-probability": mean_logprob(&row.logprobs),
            })
        })
        .collect();
    let classes = vote.class_answers.iter().zip(&vote.class_counts);
    let classes: Vec<Value> = classes.map(|(answer, n)| json!({"answer": answer, "count": n})).collect();
    let reasoner = answers.first().map(|row| summarize_model(catalogue, row.model_id));
    Ok(Some(json!({
        "in": describe_positions(catalogue, entry.result.action),
        "by": entry.result.action,
        "sampled": vote.sampled,
        "boxed": vote.boxed,
        "majority": vote.majority_answer,
        "majority count": vote.majority_count,
        "runner-up count": vote.runner_up_count,
        "confidence": vote.confidence,
        "margin": vote.margin,
        "greedy answer": vote.greedy_answer,
        "greedy agrees": vote.greedy_agrees,
        "classes": classes,
        "answered by": reasoner,
        "prompt": answers.first().map(|row| describe_prompt(catalogue, row.prompt_id.0)),
        "samples": samples,
    })))
}

/// Returns the grader's rule by which an answer belongs to its class.
fn describe_rule(row: &AnswerRow, vote: &VoteRow, is_first: bool) -> Value {
    let (Some(answer), Some(class)) = (&row.boxed_answer, row.vote_class) else { return "no box".into() };
    if is_first {
        return "first of its class".into();
    }
    match vote.class_answers.get(class as usize) {
        Some(of_class) => json!(compare(answer, of_class).rule),
        None => "the class is lost".into(),
    }
}

/// Returns the rewards of some subjects in a result; adds the updates that used them to `updates`.
fn collect_rewards(
    catalogue: &Catalogue<'_>,
    entry: &StoredResult,
    is_subject: &(dyn Fn(Digest) -> bool + Sync),
    updates: &mut Vec<Value>,
) -> Result<Vec<Value>> {
    let rows = catalogue.read_rows::<RewardRow>(&entry.result)?;
    let selected: Vec<&RewardRow> = rows.iter().filter(|row| is_subject(row.subject_id)).collect();
    if selected.is_empty() {
        return Ok(Vec::new());
    }
    for update in catalogue.find_derived(entry.result.action, "update") {
        let mut metrics = read_step_metrics(catalogue, update)?;
        metrics["in"] = json!(describe_positions(catalogue, update.result.action));
        metrics["checkpoint"] = find_next_checkpoint(catalogue, update);
        if !updates.contains(&metrics) {
            updates.push(metrics);
        }
    }
    let shown = selected.into_iter().map(|row| {
        let mut value = json!({"subject": row.subject_id, "role": row.role, "step": row.step, "sample": row.sample});
        let parts = json!({
            "reward": row.reward, "confidence": row.confidence, "uncertainty": row.uncertainty,
            "diversity penalty": row.diversity_penalty, "cluster size": row.cluster_size, "correct": row.correct,
            "form": row.form, "overlong penalty": row.overlong_penalty, "group mean": row.group_mean,
            "group std": row.group_std, "advantage": row.advantage, "in update": row.in_update,
        });
        if let (Value::Object(value), Value::Object(parts)) = (&mut value, parts) {
            value.extend(parts.into_iter().filter(|(_, part)| !part.is_null()));
        }
        value
    });
    Ok(shown.collect())
}

/// Returns the rewards of the answers that the Reasoner gave to a kept question in training, and
/// adds the updates that used them to `updates`.
fn collect_training_rewards(
    catalogue: &Catalogue<'_>,
    curriculum: &StoredResult,
    id: QuestionId,
    updates: &mut Vec<Value>,
) -> Result<Vec<Value>> {
    let answered = catalogue.find_derived(curriculum.result.action, "answers");
    let rows = catalogue.read_rows_where::<AnswerRow>(&answered, |row| row.question_id == id)?;
    let ids: BTreeSet<Digest> = rows.iter().map(|(_, row)| row.answer_id.0).collect();
    let keys: BTreeSet<ActionKey> = rows.iter().map(|(key, _)| *key).collect();
    let mut seen = BTreeSet::new();
    let mut rewards = Vec::new();
    for entry in keys.iter().flat_map(|key| catalogue.find_derived(*key, "rewards")) {
        if seen.insert(entry.result.action) {
            rewards.extend(collect_rewards(catalogue, entry, &|subject| ids.contains(&subject), updates)?);
        }
    }
    Ok(rewards)
}

/// Returns the lineage of an answer.
pub(super) fn answer_lineage(catalogue: &Catalogue<'_>, id: Digest, keys: &ActionKeys) -> Result<LineageSections> {
    let unknown = || Ok((json!({"id": id}), json!({}), json!({})));
    let entry = catalogue.of_stage(keys, "answers");
    let Some(entry) = entry.first() else { return unknown() };
    let rows = catalogue.read_rows::<AnswerRow>(&entry.result)?;
    let Some(row) = rows.iter().find(|row| row.answer_id == AnswerId(id)) else { return unknown() };
    let mut vote = describe_vote(catalogue, entry, row.question_id)?.unwrap_or(Value::Null);
    let of_vote = |column: &str| vote["samples"].get(row.sample as usize).map(|sample| sample[column].clone());
    let description = json!({
        "id": id,
        "answer": row.boxed_answer,
        "text": row.raw_text,
        "sample": row.sample,
        "class": row.vote_class,
        "rule": of_vote("rule"),
        "finish": row.finish,
        "tokens": row.token_ids.len(),
        "mean log-probability": mean_logprob(&row.logprobs),
    });
    let question = describe_upstream_question(catalogue, entry, row.question_id)?;
    let up = json!({
        "question": question,
        "image": describe_image(catalogue, row.image_id)?,
        "prompt": describe_prompt(catalogue, row.prompt_id.0),
        "weights": summarize_model(catalogue, row.model_id),
        "seed": row.seed,
        "made by": summarize_result(catalogue, entry.result.action),
    });
    let mut updates = Vec::new();
    let mut rewards = Vec::new();
    for scored_by in catalogue.find_derived(entry.result.action, "rewards") {
        rewards.extend(collect_rewards(catalogue, scored_by, &|subject| subject == id, &mut updates)?);
    }
    let mut decisions = Vec::new();
    for curriculum in catalogue.find_derived(entry.result.action, "curriculum") {
        let is_kept = |kept: &CurriculumRow| kept.question_id == row.question_id;
        if let Some(kept) = catalogue.find_row(curriculum, is_kept)? {
            decisions.push(json!({"kept": true, "label": kept.pseudo_label, "confidence": kept.confidence}));
        }
        for reject in find_rejects(catalogue, curriculum, row.question_id.0)? {
            decisions.push(json!({"kept": false, "reason": reject.reason, "detail": reject.detail}));
        }
    }
    if let Value::Object(vote) = &mut vote {
        // The other samples belong to the question's own lineage.
        vote.remove("samples");
        vote.remove("answered by");
        vote.remove("prompt");
    }
    let down = json!({
        "vote": vote,
        "question's fate": decisions,
        "gates": list_gates(catalogue, entry.result.action),
        "rewards": rewards,
        "updates": updates,
    });
    Ok((description, up, down))
}

/// Returns a question as described by the last result upstream of its answers that generated or
/// selected it.
fn describe_upstream_question(catalogue: &Catalogue<'_>, entry: &StoredResult, id: QuestionId) -> Result<Value> {
    let mut question = json!({"id": id});
    for from in entry.result.upstream.iter().filter_map(|key| catalogue.entries.get(key)) {
        let is_row = |row: &QuestionRow| row.question_id == id;
        let is_kept = |row: &CurriculumRow| row.question_id == id;
        let describe_kept = |row: CurriculumRow| {
            let CurriculumRow { problem, pseudo_label, confidence, .. } = row;
            json!({"id": id, "question": problem, "label": pseudo_label, "confidence": confidence})
        };
        let row = match from.action.stage.as_str() {
            "questions" => catalogue.find_row(from, is_row)?.as_ref().map(describe_question),
            stage if stage.starts_with("curriculum") => catalogue.find_row(from, is_kept)?.map(describe_kept),
            _ => None,
        };
        question = row.unwrap_or(question);
    }
    Ok(question)
}
