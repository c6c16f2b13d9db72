//! The `curriculum` stage: selects the voted questions that the Reasoner trains on, and records a
//! reason for each question that is left out.

mod labelled;
mod select;

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

pub use self::labelled::LabelledCurriculum;
pub use self::select::{CurriculumSettings, Labels, select};

use super::{Result, Runner, ShardOutput, Stage, TableOutput, new_action, read_rows, schema, table_inputs};
use crate::ids::QuestionId;
use crate::random::Seed;
use crate::store::{Action, Counts, StageResult};
use crate::tables::{CurriculumRow, QuestionRow, QuestionType, RejectRow, TableRow, VoteRow};

/// The stage's name.
pub const CURRICULUM: &str = "curriculum";
const VERSION: u32 = 1;

/// The `curriculum` stage. It has one shard, since caps and duplicates concern all rows.
pub struct Curriculum<'a> {
    /// Results that hold the questions.
    pub questions: &'a [StageResult],
    /// Results that hold the votes on them.
    pub votes: &'a [StageResult],
    /// Settings of the selection.
    pub settings: &'a CurriculumSettings,
    /// Seed of the control experiment that shuffles labels.
    pub seed: u64,
}

impl Stage for Curriculum<'_> {
    type Shard = ();
    const PHASE: &'static str = "choosing the curriculum";

    fn action(&self, _shard: &()) -> Action {
        let mut inputs = table_inputs(self.questions, QuestionRow::TABLE);
        inputs.extend(table_inputs(self.votes, VoteRow::TABLE));
        Action {
            parameters: BTreeMap::from([("settings".into(), json!(self.settings))]),
            seed: self.seed,
            inputs,
            ..new_action(CURRICULUM, VERSION, [schema::<CurriculumRow>(), schema::<RejectRow>()])
        }
    }

    fn run_shard(&self, _shard: &(), runner: &Runner<'_>) -> Result<ShardOutput> {
        let questions: Vec<QuestionRow> = read_rows(runner.store, self.questions)?;
        let votes: Vec<VoteRow> = read_rows(runner.store, self.votes)?;
        let by_id: HashMap<_, _> = questions.iter().map(|question| (question.question_id, question)).collect();
        let (mut kept, mut rejects) = (Vec::new(), Vec::new());
        let mut statistics = BTreeMap::<String, u64>::new();
        for (row, decision) in votes.iter().zip(select(&votes, &by_id, self.settings)) {
            match decision {
                Ok(confidence) => kept.extend(curriculum_row(row, &by_id, confidence)),
                Err(rejection) => {
                    *statistics.entry(format!("rejected.{}", rejection.reason)).or_default() += 1;
                    let (subject, id) = (format!("question {}", row.question_id), row.question_id.0);
                    rejects.push(rejection.into_row(CURRICULUM, subject, Some(id)));
                }
            }
        }
        if self.settings.labels == Labels::Shuffled {
            shuffle_labels(&mut kept, Seed(self.seed));
        }
        for row in &kept {
            let kind = row.question_type.map_or("none", QuestionType::as_str);
            *statistics.entry(format!("kept.{}", kind.replace(' ', "_"))).or_default() += 1;
        }
        let counts = Counts { rows_in: votes.len() as u64, rows_out: kept.len() as u64, rejects: rejects.len() as u64 };
        runner.progress.advance(1);
        let outputs = vec![TableOutput::write_all(runner.store, kept)?, TableOutput::write_all(runner.store, rejects)?];
        let upstream = self.questions.iter().chain(self.votes).map(|result| result.action).collect();
        Ok(ShardOutput { outputs, counts, statistics, upstream })
    }
}

fn curriculum_row(
    vote: &VoteRow,
    questions: &HashMap<QuestionId, &QuestionRow>,
    confidence: f64,
) -> Option<CurriculumRow> {
    let question = questions.get(&vote.question_id)?;
    Some(CurriculumRow {
        question_id: vote.question_id,
        image_id: vote.image_id,
        problem: question.question.clone()?,
        pseudo_label: vote.majority_answer.clone()?,
        confidence,
        margin: vote.margin.unwrap_or(0.0),
        question_type: question.question_type,
    })
}

/// Shuffles the pseudo-labels among the rows: a control experiment, from which training must not
/// improve the model.
fn shuffle_labels(rows: &mut [CurriculumRow], seed: Seed) {
    let mut labels: Vec<String> = rows.iter().map(|row| row.pseudo_label.clone()).collect();
    seed.stream(CURRICULUM, "shuffled labels", 0).shuffle(&mut labels);
    for (row, label) in rows.iter_mut().zip(labels) {
        row.pseudo_label = label;
    }
}
