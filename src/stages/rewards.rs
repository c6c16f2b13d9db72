//! The `rewards` stage: scores the samples of a training step and turns rewards into advantages
//! within each group.

use std::collections::{BTreeMap, HashMap};

use serde_json::json;

use super::{Result, Runner, ShardOutput, Stage, StageError, TableOutput, new_action, read_rows, schema, table_inputs};
use crate::grading::Answer;
use crate::ids::{Digest, GroupId, ImageId, QuestionId};
use crate::reward::{
    Denominator, DiversityScope, QuestionOutcome, QuestionerReward, QuestionerSettings, ReasonerSettings,
    questioner_rewards, reasoner_reward,
};
use crate::store::{Action, Counts, StageResult};
use crate::tables::{AnswerRow, CurriculumRow, QuestionRow, RewardRow, Role, TableRow, VoteRow};
use crate::training::grpo::{AdvantageSettings, Advantages, advantages};

/// The stage's name.
pub const REWARDS: &str = "rewards";
const VERSION: u32 = 1;

/// The samples of one training step of one role, and the rows that their rewards are computed from.
pub enum RewardInputs<'a> {
    /// Questions, scored by the Reasoner's votes on them.
    Questioner {
        /// Results that hold the questions.
        questions: &'a [StageResult],
        /// Results that hold the votes on them.
        votes: &'a [StageResult],
        /// Settings of the reward.
        settings: &'a QuestionerSettings,
        /// Samples that the confidence is a share of.
        denominator: Denominator,
    },
    /// Answers, scored by their pseudo-labels.
    Reasoner {
        /// Results that hold the answers.
        answers: &'a [StageResult],
        /// Results that hold the curriculum.
        curriculum: &'a [StageResult],
        /// Settings of the reward.
        settings: &'a ReasonerSettings,
    },
}

impl RewardInputs<'_> {
    /// Returns the results that rows are read from, and the table that is read.
    fn tables(&self) -> [(&[StageResult], &'static str); 2] {
        match self {
            Self::Questioner { questions, votes, .. } => [(questions, QuestionRow::TABLE), (votes, VoteRow::TABLE)],
            Self::Reasoner { answers, curriculum, .. } => {
                [(answers, AnswerRow::TABLE), (curriculum, CurriculumRow::TABLE)]
            }
        }
    }
}

/// The `rewards` stage.
pub struct Rewards<'a> {
    /// Samples to score.
    pub inputs: RewardInputs<'a>,
    /// Name of the preset that the settings are based on.
    pub preset: &'a str,
    /// Training step, from 0.
    pub step: u32,
    /// Settings of the advantages.
    pub advantage: AdvantageSettings,
}

impl Stage for Rewards<'_> {
    type Shard = ();
    const PHASE: &'static str = "scoring samples";

    fn action(&self, _shard: &()) -> Action {
        let settings = match &self.inputs {
            RewardInputs::Questioner { settings, denominator, .. } => {
                json!({"questioner": settings, "denominator": denominator})
            }
            RewardInputs::Reasoner { settings, .. } => json!({"reasoner": settings}),
        };
        Action {
            parameters: BTreeMap::from([
                ("advantage".into(), json!(self.advantage)),
                ("preset".into(), json!(self.preset)),
                ("settings".into(), settings),
                ("step".into(), json!(self.step)),
            ]),
            inputs: self.inputs.tables().map(|(results, table)| table_inputs(results, table)).concat(),
            ..new_action(REWARDS, VERSION, [schema::<RewardRow>()])
        }
    }

    fn run_shard(&self, _shard: &(), runner: &Runner<'_>) -> Result<ShardOutput> {
        let store = runner.store;
        let mut rows = match &self.inputs {
            RewardInputs::Questioner { questions, votes, settings, .. } => {
                self.questioner_rows(&read_rows(store, questions)?, &read_rows(store, votes)?, settings)?
            }
            RewardInputs::Reasoner { answers, curriculum, settings } => {
                self.reasoner_rows(&read_rows(store, answers)?, &read_rows(store, curriculum)?, settings)?
            }
        };
        self.fill_in_advantages(&mut rows);
        runner.progress.advance(1);
        let n = rows.len() as u64;
        let counts = Counts { rows_in: n, rows_out: n, rejects: 0 };
        let outputs = vec![TableOutput::write_all(runner.store, rows)?];
        let upstream = self.inputs.tables().into_iter().flat_map(|(results, _)| results);
        let upstream = upstream.map(|result| result.action).collect();
        Ok(ShardOutput { outputs, counts, upstream, ..ShardOutput::default() })
    }
}

impl Rewards<'_> {
    fn questioner_rows(
        &self,
        questions: &[QuestionRow],
        votes: &[VoteRow],
        settings: &QuestionerSettings,
    ) -> Result<Vec<RewardRow>> {
        let votes: HashMap<QuestionId, &VoteRow> = votes.iter().map(|vote| (vote.question_id, vote)).collect();
        // A question without a vote (its prompt could not be built) counts as invalid.
        let vote_on = |row: &QuestionRow| votes.get(&row.question_id).copied().filter(|_| row.valid);
        let question = |row: &QuestionRow| QuestionOutcome {
            text: row.question.clone().unwrap_or_default(),
            valid: vote_on(row).is_some(),
            confidence: vote_on(row).and_then(|vote| vote.confidence).unwrap_or(0.0),
        };
        let groups: Vec<&[QuestionRow]> = questions.chunk_by(|a, b| a.group_id == b.group_id).collect();
        let outcomes: Vec<Vec<QuestionOutcome>> =
            groups.iter().map(|group| group.iter().map(question).collect()).collect();
        let rewards = questioner_rewards(&outcomes, settings)?;
        let mut rows = Vec::with_capacity(questions.len());
        for ((group, outcomes), rewards) in groups.iter().zip(&outcomes).zip(&rewards) {
            let scope = if settings.scope == DiversityScope::Group { group.len() } else { questions.len() };
            for ((row, question), reward) in group.iter().zip(outcomes).zip(rewards) {
                let QuestionerReward { reward, uncertainty, diversity_penalty, cluster, cluster_size, .. } = *reward;
                let sample = (row.sample, reward, row.token_ids.len());
                rows.push(RewardRow {
                    confidence: vote_on(row).and_then(|vote| vote.confidence),
                    uncertainty: Some(uncertainty),
                    diversity_penalty: Some(diversity_penalty),
                    cluster: Some(cluster as u32),
                    cluster_size: Some(cluster_size as u32),
                    scope_size: Some(scope as u32),
                    valid: question.valid,
                    ..self.reward_row(Role::Questioner, row.question_id.0, (row.image_id, row.group_id), sample)
                });
            }
        }
        Ok(rows)
    }

    fn reasoner_rows(
        &self,
        answers: &[AnswerRow],
        curriculum: &[CurriculumRow],
        settings: &ReasonerSettings,
    ) -> Result<Vec<RewardRow>> {
        let labels: HashMap<QuestionId, Answer> =
            curriculum.iter().map(|row| (row.question_id, Answer::new(&row.pseudo_label))).collect();
        answers
            .iter()
            .map(|row| {
                let question = || format!("question {}, which was answered", row.question_id);
                let missing = || StageError::missing_part("the curriculum", question());
                let label = labels.get(&row.question_id).ok_or_else(missing)?;
                let scored = reasoner_reward(&row.raw_text, label, settings);
                let sample = (row.sample, scored.reward, row.token_ids.len());
                Ok(RewardRow {
                    correct: Some(scored.correct),
                    correctness: Some(if scored.correct { settings.correct } else { 0.0 }),
                    form: Some(if scored.well_formed { settings.form } else { 0.0 }),
                    // Where the format has no weight, a valid answer is one with a box.
                    valid: if settings.form > 0.0 { scored.well_formed } else { row.boxed_answer.is_some() },
                    ..self.reward_row(Role::Reasoner, row.answer_id.0, (row.image_id, row.group_id), sample)
                })
            })
            .collect()
    }

    fn reward_row(
        &self,
        role: Role,
        subject_id: Digest,
        (image_id, group_id): (ImageId, GroupId),
        (sample, reward, tokens): (u32, f64, usize),
    ) -> RewardRow {
        let overlong_penalty = self.advantage.length_penalty(tokens);
        RewardRow {
            role,
            step: self.step,
            subject_id,
            image_id,
            group_id,
            sample,
            preset: self.preset.to_owned(),
            reward: reward - overlong_penalty.unwrap_or(0.0),
            valid: false,
            confidence: None,
            uncertainty: None,
            diversity_penalty: None,
            cluster: None,
            cluster_size: None,
            scope_size: None,
            correct: None,
            correctness: None,
            form: None,
            overlong_penalty,
            group_mean: 0.0,
            group_std: 0.0,
            advantage: 0.0,
            in_update: true,
        }
    }

    /// Fills in the statistics of each group, and the advantages.
    fn fill_in_advantages(&self, rows: &mut [RewardRow]) {
        for group in rows.chunk_by_mut(|a, b| a.group_id == b.group_id) {
            let rewards: Vec<f64> = group.iter().map(|row| row.reward).collect();
            let Advantages { values, mean, std, zero_std } = advantages(&rewards, self.advantage.aggregation);
            let in_update = !(zero_std && self.advantage.drop_zero_std);
            for (row, advantage) in group.iter_mut().zip(values) {
                (row.group_mean, row.group_std, row.advantage, row.in_update) = (mean, std, advantage, in_update);
            }
        }
    }
}
