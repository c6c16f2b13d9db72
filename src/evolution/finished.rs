//! A finished round in the store: its refs, result, report and tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::report::RoundReport;
use super::{EvolutionError, Result};
use crate::stages::StageError;
use crate::store::{Output, StageResult, Store, StoreError};
use crate::tables::{
    AnswerRow, CurriculumRow, MetricRow, PredictionRow, QuestionRow, RejectRow, RewardRow, ScoreRow, TableRow, VoteRow,
};

/// The role of the report among the outputs of a round.
pub(super) const REPORT: &str = "report";
/// The roles of the prompt texts among the outputs of a round: Questioner, Reasoner.
pub(super) const PROMPTS: [&str; 2] = ["prompt.questioner", "prompt.reasoner"];
/// The parameter of a round's action that holds its settings.
pub(super) const SETTINGS: &str = "pipeline";
/// The stage that ends a round.
pub(super) const ROUND: &str = "evolution.round";
/// The last part of the ref of a stopped round.
pub(super) const STOPPED: &str = "stopped";
/// The tables in a round's view.
pub const TABLES: [&str; 9] = [
    QuestionRow::TABLE,
    AnswerRow::TABLE,
    VoteRow::TABLE,
    CurriculumRow::TABLE,
    RewardRow::TABLE,
    MetricRow::TABLE,
    PredictionRow::TABLE,
    ScoreRow::TABLE,
    RejectRow::TABLE,
];

/// A finished round.
#[derive(Debug, Clone)]
pub struct FinishedRound {
    /// Its report.
    pub report: RoundReport,
    /// Its result.
    pub result: StageResult,
    /// Whether the round was finished before this run.
    pub already_finished: bool,
}

/// The time that the shards of a stage took in a round.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StageTime {
    /// The stage.
    pub stage: String,
    /// Number of results.
    pub results: u64,
    /// Milliseconds of computation, summed over the machines that computed them.
    pub ms: u64,
}

impl FinishedRound {
    /// Returns the time of each stage of the round.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn times(&self, store: &Store) -> Result<Vec<StageTime>> {
        let mut times = BTreeMap::<String, (u64, u64)>::new();
        for &key in &self.result.upstream {
            if let Some(result) = store.result(key)? {
                let time = times.entry(store.action(key)?.stage).or_default();
                *time = (time.0 + 1, time.1 + result.run.took_ms);
            }
        }
        Ok(times.into_iter().map(|(stage, (results, ms))| StageTime { stage, results, ms }).collect())
    }
}

/// Returns the name of a round's ref, such as `round-0003/reasoner`.
pub fn ref_name(round: u32, part: &str) -> String {
    format!("round-{round:04}/{part}")
}

/// Returns the first unfinished round.
///
/// # Errors
/// The store cannot be read.
pub fn next_round(store: &Store, evolution: &str) -> Result<u32> {
    let mut round = 1;
    while store.head(evolution, &ref_name(round, "round"))?.is_some() {
        round += 1;
    }
    Ok(round)
}

/// Reads a finished round by its ref. Its inputs are not checked: they may be missing or hidden.
///
/// # Errors
/// The store cannot be read.
pub fn finished_round(store: &Store, evolution: &str, round: u32) -> Result<Option<FinishedRound>> {
    let Some(head) = store.head(evolution, &ref_name(round, "round"))? else { return Ok(None) };
    let Some(result) = store.result_with_outputs(head.result)? else { return Ok(None) };
    let report = read_report(store, &result)?;
    Ok(Some(FinishedRound { report, result, already_finished: true }))
}

/// Reads the report of a round's result.
///
/// # Errors
/// The report is missing or cannot be read.
pub fn read_report(store: &Store, result: &StageResult) -> Result<RoundReport, StageError> {
    let record = || format!("the round {}", result.action);
    let output = result.outputs_of(REPORT).next().ok_or_else(|| StageError::missing_part(record(), "report"))?;
    let report = store.read_object(output.object)?;
    serde_json::from_slice(&report).map_err(|e| StageError::malformed(format!("the report of {}", record()), e))
}

/// The starting point of the next round of an evolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum CurrentRound {
    /// The last finished round that keep-best accepted.
    Round(u32),
    /// The base model.
    Base,
    /// Unknown, since parts of this round are missing or damaged: this round, or an earlier one if
    /// keep-best rejected it.
    Lost {
        /// The round.
        lost: u32,
    },
}

/// Returns the starting point of the next round of an evolution.
///
/// # Errors
/// The store cannot be read.
pub fn current_round(store: &Store, evolution: &str) -> Result<CurrentRound> {
    for round in (1..next_round(store, evolution)?).rev() {
        match none_if_damaged(finished_round(store, evolution, round))?.flatten() {
            Some(done) if done.report.is_current() => return Ok(CurrentRound::Round(round)),
            Some(_) => {}
            None => return Ok(CurrentRound::Lost { lost: round }),
        }
    }
    Ok(CurrentRound::Base)
}

/// Turns errors of missing or damaged files into `None`.
pub(super) fn none_if_damaged<T>(read: Result<T, impl Into<EvolutionError>>) -> Result<Option<T>> {
    use StoreError::{Damaged, Missing};
    match read.map_err(Into::into) {
        Err(EvolutionError::Stage(StageError::Store(Missing { .. } | Damaged { .. }))) => Ok(None),
        read => read.map(Some),
    }
}

/// Returns the tables among the outputs of results, each object once.
pub(super) fn tables_of(results: &[StageResult]) -> impl Iterator<Item = &Output> {
    let mut seen = BTreeSet::new();
    let outputs = results.iter().flat_map(|result| &result.outputs);
    let tables = outputs.filter(|output| TABLES.contains(&output.role.as_str()));
    tables.filter(move |output| seen.insert(output.object))
}

/// Writes the view of a round, `views/<evolution>/round=N/`, and returns its folder.
pub(super) fn write_round_view(store: &Store, evolution: &str, round: u32, result: &StageResult) -> Result<PathBuf> {
    let folder = format!("{evolution}/round={round}");
    for table in TABLES {
        let objects: Vec<_> = result.outputs_of(table).map(|output| output.object).collect();
        store.write_view(&format!("{folder}/{table}"), &objects)?;
    }
    Ok(store.root().join("views").join(folder))
}
