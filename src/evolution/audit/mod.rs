//! Audit: whether the tables of a round fit together, what its questions and labels are like, and how its settings differ from the
//! paper's.

mod checks;

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use serde_json::Value;

use self::checks::Checks;
use super::EvolutionError;
use super::finished::{FinishedRound, SETTINGS, finished_round};
use super::gates::{GateResult, QuestionStatistics, VoteStatistics};
use super::pipeline::Pipeline;
use super::settings::{SettingChange, changes_since};
use crate::analysis::consistency::ConsistencyReport;
use crate::analysis::labels::{self, LabelStatistics, LabelledQuestion};
use crate::scenes::KnownScenes;
use crate::stages::StageError;
use crate::stages::question_form::normalise;
use crate::store::{Counts, Store};
use crate::tables::{CurriculumRow, QuestionRow, VoteRow};

pub use crate::analysis::consistency::Inconsistency;

/// What an audit says about a round.
#[derive(Debug, Clone, Serialize)]
pub struct Audit {
    /// The evolution.
    pub evolution: String,
    /// The round.
    pub round: u32,
    /// Whether the tables fit together.
    pub alignment: ConsistencyReport,
    /// Rows in, out and rejected, by stage.
    pub counts: BTreeMap<String, Counts>,
    /// The round's questions.
    pub questions: QuestionStatistics,
    /// Shares of valid questions that are the same as an earlier one.
    pub duplicates: Duplicates,
    /// The votes.
    pub votes: VoteStatistics,
    /// What a majority is a share of.
    pub denominator: String,
    /// Left-out questions by reason.
    pub left_out: BTreeMap<String, u64>,
    /// The gates with their figures and thresholds.
    pub gates: Vec<GateResult>,
    /// How good the labels are, where the truth is known.
    pub truth: Option<LabelAccuracy>,
    /// How the round's settings differ from the paper's.
    pub differences: Vec<PaperDifference>,
}

/// Shares of valid questions that are the same as an earlier one.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Duplicates {
    /// About the same image.
    pub within_image: Option<f64>,
    /// About any image.
    pub over_all: Option<f64>,
}

/// How good labels are.
#[derive(Debug, Clone, Serialize)]
pub struct LabelAccuracy {
    /// Of all voted questions.
    pub voted: LabelStatistics,
    /// Of the curriculum.
    pub kept: LabelStatistics,
}

/// A setting that is not as in the paper.
#[derive(Debug, Clone, Serialize)]
pub struct PaperDifference {
    /// The key.
    pub key: String,
    /// The round's value.
    pub round: Value,
    /// The value of the preset `paper`, which has the program's defaults where the paper is silent.
    pub paper: Value,
    /// Where values of this key come from.
    pub source: String,
}

/// Audits a round that is done.
///
/// # Errors
/// The round is not done, or its tables cannot be read. Rows that do not fit are no error here but findings.
pub fn audit(store: &Store, evolution: &str, round: u32, truth: Option<&KnownScenes>) -> Result<Audit, EvolutionError> {
    let done = finished_round(store, evolution, round)?.ok_or_else(|| EvolutionError::Nothing {
        round,
        problem: format!("it is not done in `{evolution}`, so there is nothing to audit"),
        tables: None,
    })?;
    let checks = Checks::of(store, &done)?;
    let questions = QuestionStatistics::of(&checks.questions);
    let kept = checks.curriculum.len() as u64;
    let votes = VoteStatistics { kept, ..VoteStatistics::of(&checks.votes, kept) };
    let mut alignment = checks.run()?;
    let report = |name: &str, differs: bool, alignment: &mut ConsistencyReport| {
        if differs {
            alignment.add("report", format!("round {round}"), format!("its {name} are not those of the tables"));
        }
    };
    report("questions", questions != done.report.questions, &mut alignment);
    report("votes", votes != done.report.votes, &mut alignment);
    let settings = store.action(done.result.action)?.parameters.remove(SETTINGS).unwrap_or(Value::Null);
    Ok(Audit {
        evolution: evolution.to_owned(),
        round,
        counts: checks.counts.clone(),
        duplicates: duplicates(&checks.questions),
        denominator: checks.denominator.clone(),
        left_out: done.report.left_out.clone(),
        gates: done.report.gates.clone(),
        truth: truth.map(|truth| LabelAccuracy {
            voted: voted_figures(truth, &checks.questions, &checks.votes),
            kept: kept_figures(truth, &checks.curriculum),
        }),
        differences: from_paper(&settings)?,
        questions,
        votes,
        alignment,
    })
}

fn duplicates(rows: &[QuestionRow]) -> Duplicates {
    let (mut of_image, mut over_all, mut valid) = (HashSet::new(), HashSet::new(), 0usize);
    for row in rows {
        if let (true, Some(question)) = (row.valid, &row.question) {
            valid += 1;
            let text = normalise(question);
            of_image.insert((row.image_id, text.clone()));
            over_all.insert(text);
        }
    }
    let share = |distinct: usize| (valid > 0).then(|| 1.0 - distinct as f64 / valid as f64);
    Duplicates { within_image: share(of_image.len()), over_all: share(over_all.len()) }
}

fn voted_figures(truth: &KnownScenes, questions: &[QuestionRow], votes: &[VoteRow]) -> LabelStatistics {
    let texts: std::collections::HashMap<_, _> =
        questions.iter().filter_map(|row| Some((row.question_id, row.question.as_deref()?))).collect();
    let rows = votes.iter().filter_map(|vote| {
        Some(LabelledQuestion {
            image: vote.image_id,
            question: texts.get(&vote.question_id)?,
            label: vote.majority_answer.as_deref(),
            confidence: vote.confidence,
        })
    });
    labels::figures(truth, rows)
}

fn kept_figures(truth: &KnownScenes, rows: &[CurriculumRow]) -> LabelStatistics {
    let rows = rows.iter().map(|row| LabelledQuestion {
        image: row.image_id,
        question: &row.problem,
        label: Some(&row.pseudo_label),
        confidence: Some(row.confidence),
    });
    labels::figures(truth, rows)
}

/// How good the labels of a round's curriculum are.
///
/// # Errors
/// The curriculum cannot be read.
pub fn curriculum_truth(
    store: &Store,
    done: &FinishedRound,
    truth: &KnownScenes,
) -> Result<LabelStatistics, StageError> {
    let mut rows = Vec::new();
    for output in done.result.outputs_of(<CurriculumRow as crate::tables::TableRow>::TABLE) {
        let bytes = bytes::Bytes::from(store.read_object(output.object)?);
        rows.extend(crate::tables::read::<CurriculumRow>(output.object.name(), bytes)?);
    }
    Ok(kept_figures(truth, &rows))
}

fn from_paper(settings: &Value) -> Result<Vec<PaperDifference>, EvolutionError> {
    let paper = Pipeline::of_preset("paper")?;
    let differences = changes_since(settings, &paper).into_iter().map(|SettingChange { key, a, b }| PaperDifference {
        source: Pipeline::default_comment(&key).unwrap_or_else(|| "ours".to_owned()),
        key,
        round: a,
        paper: b,
    });
    Ok(differences.collect())
}
