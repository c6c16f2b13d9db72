//! The checks of an audit, which compare each result of a round with its inputs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rayon::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::super::Result;
use super::super::finished::{FinishedRound, ROUND};
use crate::analysis::consistency::{self, ConsistencyReport, RewardSetup, VotingSetup};
use crate::ids::{ImageId, ModelId, QuestionId};
use crate::reward::{Denominator, QuestionerSettings, ReasonerSettings};
use crate::stages::answers::ANSWERS;
use crate::stages::curriculum::{CURRICULUM, CurriculumSettings, Labels, select};
use crate::stages::evaluation::{self, EVALUATION};
use crate::stages::image_set::image_ids;
use crate::stages::ingest::INGEST;
use crate::stages::questions::QUESTIONS;
use crate::stages::rewards::REWARDS;
use crate::stages::update::UPDATE;
use crate::stages::{StageError, read_rows};
use crate::store::{Action, ActionKey, Counts, StageResult, Store};
use crate::tables::{
    AnswerRow, CurriculumRow, ImageRow, MetricRow, PredictionRow, QuestionRow, RejectRow, RewardRow, ScoreRow,
    TableRow, VoteRow,
};

/// A stored result with its action.
struct StoredResult {
    action: Action,
    result: StageResult,
}

/// The results of a round, and the tables of its own questions.
pub(super) struct RoundChecks<'a> {
    store: &'a Store,
    results: BTreeMap<ActionKey, StoredResult>,
    images: HashSet<ImageId>,
    /// The round's own questions, their votes and the curriculum.
    pub(super) questions: Vec<QuestionRow>,
    pub(super) votes: Vec<VoteRow>,
    pub(super) curriculum: Vec<CurriculumRow>,
    /// Denominator of the labels' confidence.
    pub(super) denominator: String,
    /// Number of rows by stage.
    pub(super) counts: BTreeMap<String, Counts>,
}

impl<'a> RoundChecks<'a> {
    /// Reads the results that went into a round.
    pub(super) fn read(store: &'a Store, done: &FinishedRound) -> Result<Self> {
        let mut results = BTreeMap::new();
        let mut images = HashSet::new();
        let mut counts = BTreeMap::<String, Counts>::new();
        for &key in &done.result.upstream {
            let lost = || StageError::lost_result(key);
            let (action, result) = (store.action(key)?, store.result(key)?.ok_or_else(lost)?);
            if action.stage == INGEST {
                let objects: Vec<_> = result.outputs_of(ImageRow::TABLE).map(|output| output.object).collect();
                images.extend(image_ids(store, &objects)?);
            }
            if results.insert(key, StoredResult { action: action.clone(), result: result.clone() }).is_none() {
                *counts.entry(action.stage).or_default() += result.counts;
            }
        }
        let (questions, votes, curriculum, denominator) = (Vec::new(), Vec::new(), Vec::new(), "none".into());
        let mut checks = Self { store, results, images, questions, votes, curriculum, denominator, counts };
        let Some(curriculum) = checks.results.values().find(|stored| stored.action.stage.starts_with(CURRICULUM))
        else {
            return Ok(checks);
        };
        let questions = checks.upstream_rows(curriculum, |stage| stage == QUESTIONS)?;
        let votes = checks.upstream_rows(curriculum, |stage| stage == ANSWERS)?;
        let rows = checks.rows_of_result(&curriculum.result)?;
        let voted = checks.upstream(curriculum).find(|stored| stored.action.stage == ANSWERS);
        let denominator = voted.and_then(|stored| stored.action.parameters["settings"].get("denominator"));
        if let Some(denominator) = denominator.map(|name| name.as_str().unwrap_or_default().to_owned()) {
            checks.denominator = denominator;
        }
        (checks.questions, checks.votes, checks.curriculum) = (questions, votes, rows);
        Ok(checks)
    }

    /// Returns the results of the round that a result was derived from.
    fn upstream(&self, stored: &StoredResult) -> impl Iterator<Item = &StoredResult> {
        stored.result.upstream.iter().filter_map(|key| self.results.get(key))
    }

    /// Reads a table of the upstream results of some stages.
    fn upstream_rows<R: TableRow>(&self, stored: &StoredResult, is_wanted: impl Fn(&str) -> bool) -> Result<Vec<R>> {
        let upstream = self.upstream(stored).filter(|stored| is_wanted(&stored.action.stage));
        Ok(read_rows(self.store, &upstream.map(|stored| stored.result.clone()).collect::<Vec<_>>())?)
    }

    /// Checks all results.
    pub(super) fn run(&self) -> Result<ConsistencyReport> {
        let results: Vec<&StoredResult> = self.results.values().collect();
        let reports: Vec<ConsistencyReport> =
            results.par_iter().map(|stored| self.check(stored)).collect::<Result<_, _>>()?;
        let mut all = ConsistencyReport::default();
        reports.into_iter().for_each(|report| all.merge(report));
        Ok(all)
    }

    fn check(&self, stored: &StoredResult) -> Result<ConsistencyReport> {
        let mut report = match stored.action.stage.as_str() {
            QUESTIONS => self.check_questions(stored)?,
            ANSWERS => self.check_answers(stored)?,
            CURRICULUM => self.check_curriculum(stored)?,
            REWARDS => self.check_rewards(stored)?,
            UPDATE => self.check_metrics(stored)?,
            EVALUATION => consistency::check_predictions(&self.rows_of_result(&stored.result)?),
            "evaluation.scores" => self.check_scores(stored)?,
            _ => ConsistencyReport::default(),
        };
        self.reconcile(stored, &mut report)?;
        Ok(report)
    }

    fn rows_of_result<R: TableRow>(&self, result: &StageResult) -> Result<Vec<R>> {
        Ok(read_rows(self.store, std::slice::from_ref(result))?)
    }

    /// Checks that rows in are rows out plus rejects, and that reject rows are as counted.
    fn reconcile(&self, stored: &StoredResult, report: &mut ConsistencyReport) -> Result<()> {
        let StoredResult { action, result } = stored;
        let row = format!("{} {}", action.stage, result.action);
        if !result.counts.reconcile() {
            report.add("result", &row, format!("its counts do not add up: {:?}", result.counts));
        }
        // The results of an images table and of a round list the reject tables of their stages,
        // which counted them.
        if action.stage.starts_with(INGEST) || action.stage == ROUND {
            return Ok(());
        }
        let rejects: Vec<RejectRow> = self.rows_of_result(result)?;
        report.count_checked("rejects", rejects.len());
        if rejects.len() as u64 != result.counts.rejects {
            report.add("rejects", &row, format!("{} rows of {} rejects", rejects.len(), result.counts.rejects));
        }
        Ok(())
    }

    fn check_questions(&self, stored: &StoredResult) -> Result<ConsistencyReport> {
        let rows: Vec<QuestionRow> = self.rows_of_result(&stored.result)?;
        let samples: u32 = read_parameter(&stored.action, "samples")?;
        let mut report = consistency::check_questions(&rows, &self.images, samples);
        let images: Vec<ImageId> = self.read_listing(&stored.action, "images")?;
        let rejects: Vec<RejectRow> = self.rows_of_result(&stored.result)?;
        let expected = images.len() * samples as usize;
        if rows.len() + rejects.len() != expected {
            let problem = format!("{} rows and {} rejects of {expected} samples", rows.len(), rejects.len());
            report.add("questions", stored.result.action, problem);
        }
        Ok(report)
    }

    fn check_answers(&self, stored: &StoredResult) -> Result<ConsistencyReport> {
        #[derive(Deserialize)]
        struct Settings {
            samples: u32,
            denominator: Denominator,
            greedy: bool,
        }
        #[derive(Deserialize)]
        struct QuestionToAnswer {
            question_id: QuestionId,
            image_id: ImageId,
        }
        let Settings { samples, denominator, greedy } = read_parameter(&stored.action, "settings")?;
        let question_images: Vec<QuestionToAnswer> = self.read_listing(&stored.action, "asked")?;
        let question_images: HashMap<QuestionId, ImageId> =
            question_images.iter().map(|row| (row.question_id, row.image_id)).collect();
        let (answers, votes): (Vec<AnswerRow>, Vec<VoteRow>) =
            (self.rows_of_result(&stored.result)?, self.rows_of_result(&stored.result)?);
        let setup = VotingSetup { samples, denominator, greedy };
        let mut report = consistency::check_votes(&answers, &votes, &question_images, setup);
        let rejects: Vec<RejectRow> = self.rows_of_result(&stored.result)?;
        let mut open: BTreeSet<QuestionId> = question_images.keys().copied().collect();
        for vote in &votes {
            open.remove(&vote.question_id);
        }
        for reject in &rejects {
            if !reject.subject_id.is_some_and(|id| open.remove(&QuestionId(id))) {
                report.add("rejects", &reject.subject, "it was not asked, or has a vote as well");
            }
        }
        for question in open {
            report.add("votes", question, "the question was asked and has neither a vote nor a reject");
        }
        // The questions must be rows of the upstream tables.
        let generated: Vec<QuestionRow> = self.upstream_rows(stored, |stage| stage == QUESTIONS)?;
        let kept: Vec<CurriculumRow> = self.upstream_rows(stored, |stage| stage.starts_with(CURRICULUM))?;
        let mut known: HashSet<QuestionId> = generated.iter().map(|row| row.question_id).collect();
        known.extend(kept.iter().map(|row| row.question_id));
        let all: BTreeSet<QuestionId> = question_images.keys().copied().collect();
        for question in all.iter().filter(|question| !known.contains(question)) {
            report.add("answers", question, "the question is in no table that was asked from");
        }
        Ok(report)
    }

    /// Checks that the curriculum and its rejects follow from the votes by its rules.
    fn check_curriculum(&self, stored: &StoredResult) -> Result<ConsistencyReport> {
        let mut report = ConsistencyReport::default();
        let settings: CurriculumSettings = read_parameter(&stored.action, "settings")?;
        let kept: Vec<CurriculumRow> = self.rows_of_result(&stored.result)?;
        let rejects: Vec<RejectRow> = self.rows_of_result(&stored.result)?;
        report.count_checked("curriculum", kept.len());
        let by_id: HashMap<QuestionId, &QuestionRow> =
            self.questions.iter().map(|question| (question.question_id, question)).collect();
        let mut kept_rows: HashMap<QuestionId, &CurriculumRow> =
            kept.iter().map(|row| (row.question_id, row)).collect();
        let mut left_rows: HashMap<QuestionId, &RejectRow> =
            rejects.iter().filter_map(|row| Some((QuestionId(row.subject_id?), row))).collect();
        for (vote, decision) in self.votes.iter().zip(select(&self.votes, &by_id, &settings)) {
            let id = vote.question_id;
            let Some(question) = by_id.get(&id) else {
                report.add("votes", id, "its question is not in the questions table");
                continue;
            };
            match (decision, kept_rows.remove(&id), left_rows.remove(&id)) {
                (Ok(confidence), Some(row), None) => {
                    let expected = CurriculumRow {
                        question_id: id,
                        image_id: vote.image_id,
                        problem: question.question.clone().unwrap_or_default(),
                        pseudo_label: match settings.labels {
                            Labels::AsVoted => vote.majority_answer.clone().unwrap_or_default(),
                            // The seed decides which row has whose label.
                            Labels::Shuffled => row.pseudo_label.clone(),
                        },
                        confidence,
                        margin: vote.margin.unwrap_or(0.0),
                        question_type: question.question_type,
                    };
                    if *row != expected {
                        report.add("curriculum", id, format!("it is {row:?} and should be {expected:?}"));
                    }
                }
                (Ok(_), Some(_), Some(_)) => report.add("rejects", id, "it is in the curriculum as well"),
                (Ok(_), None, _) => report.add("curriculum", id, "the rule keeps it, and it is not there"),
                (Err(left), None, Some(row)) => {
                    let (there, rule) = (&row.reason, left.reason);
                    if *there != rule {
                        let problem = format!("the reason is {there}, but by the rule it should be {rule}");
                        report.add("rejects", id, problem);
                    }
                }
                (Err(left), Some(_), _) => {
                    report.add("curriculum", id, format!("the rule leaves it out ({})", left.reason));
                }
                (Err(left), None, None) => {
                    report.add("rejects", id, format!("the rule leaves it out ({}), but it has no row", left.reason));
                }
            }
        }
        for row in kept.iter().filter(|row| kept_rows.contains_key(&row.question_id)) {
            report.add("curriculum", row.question_id, "it has no vote");
        }
        for row in rejects.iter().filter(|row| row.subject_id.is_some_and(|id| left_rows.contains_key(&QuestionId(id))))
        {
            report.add("rejects", &row.subject, "it has no vote");
        }
        if kept.len() + rejects.len() != self.votes.len() {
            let problem = format!("{} rows and {} rejects of {} votes", kept.len(), rejects.len(), self.votes.len());
            report.add("curriculum", stored.result.action, problem);
        }
        if settings.labels == Labels::Shuffled {
            let voted: HashMap<QuestionId, &VoteRow> = self.votes.iter().map(|vote| (vote.question_id, vote)).collect();
            let majority = |row: &CurriculumRow| voted.get(&row.question_id)?.majority_answer.clone();
            let mut labels: Vec<String> = kept.iter().map(|row| row.pseudo_label.clone()).collect();
            let mut voted: Vec<String> = kept.iter().filter_map(majority).collect();
            labels.sort();
            voted.sort();
            if labels != voted {
                let problem = "its labels are not those of the votes in another order";
                report.add("curriculum", stored.result.action, problem);
            }
        }
        Ok(report)
    }

    fn check_rewards(&self, stored: &StoredResult) -> Result<ConsistencyReport> {
        #[derive(Deserialize)]
        struct Settings {
            questioner: Option<QuestionerSettings>,
            reasoner: Option<ReasonerSettings>,
        }
        let setup = RewardSetup {
            advantage: read_parameter(&stored.action, "advantage")?,
            step: read_parameter(&stored.action, "step")?,
        };
        let rewards: Vec<RewardRow> = self.rows_of_result(&stored.result)?;
        let settings: Settings = read_parameter(&stored.action, "settings")?;
        let all = |_: &str| true;
        Ok(match (settings.questioner, settings.reasoner) {
            (Some(settings), _) => {
                let (questions, votes) = (self.upstream_rows(stored, all)?, self.upstream_rows(stored, all)?);
                consistency::check_questioner_step(&rewards, &questions, &votes, &settings, setup)
            }
            (None, Some(settings)) => {
                let (answers, curriculum) = (self.upstream_rows(stored, all)?, self.upstream_rows(stored, all)?);
                consistency::check_reasoner_step(&rewards, &answers, &curriculum, &settings, setup)
            }
            (None, None) => ConsistencyReport::default(),
        })
    }

    fn check_metrics(&self, stored: &StoredResult) -> Result<ConsistencyReport> {
        let metrics: Vec<MetricRow> = self.rows_of_result(&stored.result)?;
        Ok(consistency::check_metrics(&metrics, &self.upstream_rows(stored, |stage| stage == REWARDS)?))
    }

    fn check_scores(&self, stored: &StoredResult) -> Result<ConsistencyReport> {
        let mut report = ConsistencyReport::default();
        let scores: Vec<ScoreRow> = self.rows_of_result(&stored.result)?;
        report.count_checked("scores", scores.len());
        let rows: Vec<PredictionRow> = self.upstream_rows(stored, |_| true)?;
        let benchmark: String = read_parameter(&stored.action, "benchmark")?;
        let model = ModelId(stored.action.model.unwrap_or(crate::ids::Digest::from_bytes([0; 32])));
        let expected = evaluation::scores(&benchmark, model, &rows);
        for row in scores.iter().filter(|row| !expected.contains(row)) {
            report.add("scores", format!("{} {}", row.benchmark, row.protocol), "its predictions give another score");
        }
        if scores.len() != expected.len() {
            report.add("scores", &benchmark, format!("{} rows and {} expected scores", scores.len(), expected.len()));
        }
        Ok(report)
    }

    /// Reads an input listing of an action.
    fn read_listing<T: DeserializeOwned>(&self, action: &Action, role: &str) -> Result<Vec<T>> {
        let lacks = || StageError::missing_part(format!("an action of {}", action.stage), format!("listing `{role}`"));
        let input = action.inputs.iter().find(|input| input.role == role).ok_or_else(lacks)?;
        let bytes = self.store.read_object(input.object)?;
        Ok(serde_json::from_slice(&bytes).map_err(|e| StageError::malformed(input.object.name(), e))?)
    }
}

/// Reads a parameter of an action.
fn read_parameter<T: DeserializeOwned>(action: &Action, name: &str) -> Result<T> {
    let value = action.parameters.get(name).cloned().unwrap_or_default();
    let record = || format!("the parameter `{name}` of an action of {}", action.stage);
    Ok(serde_json::from_value(value).map_err(|e| StageError::malformed(record(), e))?)
}
