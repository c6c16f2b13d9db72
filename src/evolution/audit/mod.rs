//! Audit of a round: consistency of its tables, quality of its questions and labels, and settings
//! that differ from the paper's.

mod checks;

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::Value;

use self::checks::RoundChecks;
use super::finished::{FinishedRound, SETTINGS, finished_round};
use super::gates::{GateResult, QuestionStatistics, VoteStatistics, share};
use super::pipeline::Pipeline;
use super::settings::{SettingChange, changes_since};
use super::{EvolutionError, Result};
use crate::analysis::consistency::ConsistencyReport;
use crate::analysis::labels::{self, LabelStatistics, LabelledQuestion};
use crate::scenes::KnownScenes;
use crate::stages::read_rows;
use crate::store::{Counts, Store};
use crate::tables::{CurriculumRow, QuestionRow, VoteRow};

pub use crate::analysis::consistency::Inconsistency;

/// The audit of a round.
#[derive(Debug, Clone, Serialize)]
pub struct Audit {
    /// Name of the evolution.
    pub evolution: String,
    /// Number of the round.
    pub round: u32,
    /// Consistency of the tables.
    pub alignment: ConsistencyReport,
    /// Number of rows in, out and rejected, by stage.
    pub counts: BTreeMap<String, Counts>,
    /// Statistics of the round's questions.
    pub questions: QuestionStatistics,
    /// Shares of duplicates among the valid questions.
    pub duplicates: Duplicates,
    /// Statistics of the votes.
    pub votes: VoteStatistics,
    /// Denominator of the confidence.
    pub denominator: String,
    /// Number of questions left out of the curriculum, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// The gates with their values and thresholds.
    pub gates: Vec<GateResult>,
    /// Accuracy of the labels, where the truth is known.
    pub truth: Option<LabelAccuracy>,
    /// Settings that differ from the paper's.
    pub differences: Vec<PaperDifference>,
}

/// Shares of valid questions that repeat an earlier one.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Duplicates {
    /// Among questions about the same image.
    pub within_image: Option<f64>,
    /// Among all questions.
    pub over_all: Option<f64>,
}

/// Accuracy of pseudo-labels.
#[derive(Debug, Clone, Serialize)]
pub struct LabelAccuracy {
    /// Labels of all voted questions.
    pub voted: LabelStatistics,
    /// Labels of the curriculum.
    pub kept: LabelStatistics,
}

/// A setting that differs from the paper's.
#[derive(Debug, Clone, Serialize)]
pub struct PaperDifference {
    /// The key.
    pub key: String,
    /// The round's value.
    pub round: Value,
    /// The value of the preset `paper`, with the program's defaults where the paper gives none.
    pub paper: Value,
    /// Source of the values of this key.
    pub source: String,
}

/// Audits a finished round.
///
/// # Errors
/// The round is not finished, or its tables cannot be read. Inconsistencies are no errors.
pub fn audit(store: &Store, evolution: &str, round: u32, truth: Option<&KnownScenes>) -> Result<Audit> {
    let done = finished_round(store, evolution, round)?.ok_or_else(|| EvolutionError::MissingData {
        round,
        problem: format!("it is not finished in `{evolution}`, so there is nothing to audit"),
        tables: None,
    })?;
    let checks = RoundChecks::read(store, &done)?;
    let questions = QuestionStatistics::from_rows(&checks.questions);
    let kept = checks.curriculum.len() as u64;
    let votes = VoteStatistics::from_rows(&checks.votes, kept);
    let mut alignment = checks.run()?;
    for (name, differs) in [("questions", questions != done.report.questions), ("votes", votes != done.report.votes)] {
        if differs {
            alignment.add("report", format!("round {round}"), format!("its {name} are not those of the tables"));
        }
    }
    let settings = store.action(done.result.action)?.parameters.remove(SETTINGS).unwrap_or(Value::Null);
    Ok(Audit {
        evolution: evolution.to_owned(),
        round,
        counts: checks.counts.clone(),
        duplicates: Duplicates {
            within_image: share(questions.valid - questions.distinct, questions.valid),
            over_all: share(questions.valid - questions.distinct_texts, questions.valid),
        },
        denominator: checks.denominator.clone(),
        left_out: done.report.left_out.clone(),
        gates: done.report.gates.clone(),
        truth: truth.map(|truth| LabelAccuracy {
            voted: voted_label_statistics(truth, &checks.questions, &checks.votes),
            kept: kept_label_statistics(truth, &checks.curriculum),
        }),
        differences: differences_from_paper(&settings)?,
        questions,
        votes,
        alignment,
    })
}

fn voted_label_statistics(truth: &KnownScenes, questions: &[QuestionRow], votes: &[VoteRow]) -> LabelStatistics {
    let texts: HashMap<_, _> =
        questions.iter().filter_map(|row| Some((row.question_id, row.question.as_deref()?))).collect();
    let rows = votes.iter().filter_map(|vote| {
        Some(LabelledQuestion {
            image: vote.image_id,
            question: texts.get(&vote.question_id)?,
            label: vote.majority_answer.as_deref(),
            confidence: vote.confidence,
        })
    });
    labels::label_statistics(truth, rows)
}

fn kept_label_statistics(truth: &KnownScenes, rows: &[CurriculumRow]) -> LabelStatistics {
    let rows = rows.iter().map(|row| LabelledQuestion {
        image: row.image_id,
        question: &row.problem,
        label: Some(&row.pseudo_label),
        confidence: Some(row.confidence),
    });
    labels::label_statistics(truth, rows)
}

/// Computes the accuracy of the labels in a round's curriculum.
///
/// # Errors
/// The curriculum cannot be read.
pub fn curriculum_truth(store: &Store, done: &FinishedRound, truth: &KnownScenes) -> Result<LabelStatistics> {
    let rows = read_rows(store, std::slice::from_ref(&done.result))?;
    Ok(kept_label_statistics(truth, &rows))
}

fn differences_from_paper(settings: &Value) -> Result<Vec<PaperDifference>> {
    let paper = Pipeline::of_preset("paper")?;
    let differences = changes_since(settings, &paper).into_iter().map(|SettingChange { key, a, b }| PaperDifference {
        source: Pipeline::default_comment(&key).unwrap_or_else(|| "ours".to_owned()),
        key,
        round: a,
        paper: b,
    });
    Ok(differences.collect())
}
