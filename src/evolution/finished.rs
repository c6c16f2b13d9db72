//! A done round as the store has it: its refs, its result, its report and its tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::EvolutionError;
use super::report::RoundReport;
use crate::stages::StageError;
use crate::store::{Output, StageResult, Store, StoreError};
use crate::tables::{
    AnswerRow, CurriculumRow, MetricRow, PredictionRow, QuestionRow, RejectRow, RewardRow, ScoreRow, TableRow, VoteRow,
};

/// The part that the report plays in a round's result.
pub(super) const REPORT: &str = "report";
/// The parts that the texts of the prompts play in it.
pub(super) const PROMPTS: [&str; 2] = ["prompt.questioner", "prompt.reasoner"];
/// The parameter of a round's action that holds its settings.
pub(super) const SETTINGS: &str = "pipeline";
/// The stage that ends a round.
pub(super) const ROUND: &str = "evolution.round";
/// The part of a ref's name that stands for what a stopped round made.
pub(super) const STOPPED: &str = "stopped";
/// The tables that a round shows.
pub(super) const TABLES: [&str; 9] = [
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

/// A round that is done.
#[derive(Debug, Clone)]
pub struct FinishedRound {
    /// What came of it.
    pub report: RoundReport,
    /// Its result.
    pub result: StageResult,
    /// Whether it was done before.
    pub already_finished: bool,
}

/// What a stage of a round cost, all its shards together.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StageTime {
    /// The stage.
    pub stage: String,
    /// Results.
    pub results: u64,
    /// Milliseconds that making them took, on whatever machine made each.
    pub ms: u64,
}

impl FinishedRound {
    /// What the round cost, by stage.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn times(&self, store: &Store) -> Result<Vec<StageTime>, EvolutionError> {
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

/// The name of a round's ref, such as `round-0003/reasoner`.
pub fn ref_name(round: u32, part: &str) -> String {
    format!("round-{round:04}/{part}")
}

/// The first round that is not done.
///
/// # Errors
/// The store cannot be read.
pub fn next_round(store: &Store, evolution: &str) -> Result<u32, EvolutionError> {
    let mut round = 1;
    while store.head(evolution, &ref_name(round, "round"))?.is_some() {
        round += 1;
    }
    Ok(round)
}

/// A round that was done, by its ref and its own result alone: what went into it may be lost, or hidden from a replay.
///
/// # Errors
/// The store cannot be read.
pub fn finished_round(store: &Store, evolution: &str, round: u32) -> Result<Option<FinishedRound>, EvolutionError> {
    let Some(head) = store.head(evolution, &ref_name(round, "round"))? else { return Ok(None) };
    let Some(result) = store.result_with_outputs(head.result)? else { return Ok(None) };
    let report = read_report(store, &result)?;
    Ok(Some(FinishedRound { report, result, already_finished: true }))
}

/// The report of a round's result.
///
/// # Errors
/// It is not there or not to be read.
pub fn read_report(store: &Store, result: &StageResult) -> Result<RoundReport, StageError> {
    let record = || format!("the round {}", result.action);
    let output = result.outputs_of(REPORT).next().ok_or_else(|| StageError::missing_part(record(), "report"))?;
    let report = store.read_object(output.object)?;
    serde_json::from_slice(&report).map_err(|e| StageError::malformed(format!("the report of {}", record()), e))
}

/// What the next round of an evolution starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(untagged)]
pub enum CurrentRound {
    /// The last round done that keep-best lets be current.
    Round(u32),
    /// The base model.
    Base,
    /// This round, or one before it if keep-best does not let it be current: parts of its result are lost or damaged.
    Lost {
        /// The round.
        lost: u32,
    },
}

/// What the next round of an evolution starts from.
///
/// # Errors
/// The store cannot be read.
pub fn current_round(store: &Store, evolution: &str) -> Result<CurrentRound, EvolutionError> {
    for round in (1..next_round(store, evolution)?).rev() {
        match readable(finished_round(store, evolution, round))?.flatten() {
            Some(done) if done.report.is_current() => return Ok(CurrentRound::Round(round)),
            Some(_) => {}
            None => return Ok(CurrentRound::Lost { lost: round }),
        }
    }
    Ok(CurrentRound::Base)
}

/// What could be read; nothing of what is lost or damaged.
pub(super) fn readable<T>(read: Result<T, impl Into<EvolutionError>>) -> Result<Option<T>, EvolutionError> {
    match read.map_err(Into::into) {
        Ok(read) => Ok(Some(read)),
        Err(EvolutionError::Stage(StageError::Store(StoreError::Missing { .. } | StoreError::Damaged { .. }))) => {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// The tables among what stages made, each object once.
pub(super) fn tables_of(results: &[StageResult]) -> impl Iterator<Item = &Output> {
    let mut seen = BTreeSet::new();
    let outputs = results.iter().flat_map(|result| &result.outputs);
    let tables = outputs.filter(|output| TABLES.contains(&output.role.as_str()));
    tables.filter(move |output| seen.insert(output.object))
}

/// Lays out the tables of a round for people, below `views/<evolution>/`.
///
/// # Errors
/// The store cannot be written to.
pub(super) fn show(store: &Store, evolution: &str, round: u32, result: &StageResult) -> Result<(), StageError> {
    lay_out(store, &format!("{evolution}/round={round}"), result)
}

/// Lays out the tables of a round that was stopped, apart from those of done rounds: queries over `round=*` do not take them in.
/// Gives their folder.
///
/// # Errors
/// The store cannot be written to.
pub(super) fn show_stopped(
    store: &Store,
    evolution: &str,
    round: u32,
    result: &StageResult,
) -> Result<PathBuf, StageError> {
    let folder = format!("{evolution}/{STOPPED}/round={round}");
    lay_out(store, &folder, result)?;
    Ok(store.root().join("views").join(folder))
}

fn lay_out(store: &Store, folder: &str, result: &StageResult) -> Result<(), StageError> {
    for table in TABLES {
        let objects: Vec<_> = result.outputs_of(table).map(|output| output.object).collect();
        store.write_view(&format!("{folder}/{table}"), &objects)?;
    }
    Ok(())
}
