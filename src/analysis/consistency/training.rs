//! Consistency of rewards, advantages and metrics with a training step's samples, votes and labels.

use std::collections::HashMap;
use std::fmt::Display;

use super::report::ConsistencyReport;
use crate::grading::Answer;
use crate::ids::QuestionId;
use crate::reward::{QuestionOutcome, QuestionerSettings, ReasonerSettings, questioner_rewards, reasoner_reward};
use crate::tables::{AnswerRow, CurriculumRow, MetricRow, QuestionRow, RewardRow, Role, VoteRow};
use crate::training::grpo::{AdvantageSettings, advantages};

/// How rewards were computed.
#[derive(Debug, Clone, Copy)]
pub struct RewardSetup {
    /// Training step.
    pub step: u32,
    /// Settings of the advantages.
    pub advantage: AdvantageSettings,
}

impl RewardSetup {
    fn penalty(&self, tokens: usize) -> f64 {
        self.advantage.length_penalty(tokens).unwrap_or(0.0)
    }
}

/// Checks the Questioner's rewards of a step against its samples, votes and settings.
pub fn check_questioner_step(
    rewards: &[RewardRow],
    questions: &[QuestionRow],
    votes: &[VoteRow],
    settings: &QuestionerSettings,
    setup: RewardSetup,
) -> ConsistencyReport {
    let mut report = ConsistencyReport::default();
    let votes: HashMap<QuestionId, &VoteRow> = votes.iter().map(|vote| (vote.question_id, vote)).collect();
    let vote_on = |row: &QuestionRow| votes.get(&row.question_id).copied().filter(|_| row.valid);
    let groups: Vec<&[QuestionRow]> = questions.chunk_by(|a, b| a.group_id == b.group_id).collect();
    let outcome = |row: &QuestionRow| QuestionOutcome {
        text: row.question.clone().unwrap_or_default(),
        valid: vote_on(row).is_some(),
        confidence: vote_on(row).and_then(|vote| vote.confidence).unwrap_or(0.0),
    };
    let outcomes: Vec<Vec<QuestionOutcome>> = groups.iter().map(|group| group.iter().map(outcome).collect()).collect();
    let expected = match questioner_rewards(&outcomes, settings) {
        Ok(expected) => expected,
        Err(e) => {
            report.add("rewards", format!("step {}", setup.step), e.to_string());
            return report;
        }
    };
    let rows: HashMap<_, &RewardRow> = rewards.iter().map(|row| (row.subject_id, row)).collect();
    for (row, reward) in questions.iter().zip(expected.into_iter().flatten()) {
        let Some(stored) = rows.get(&row.question_id.0) else {
            report.add("rewards", row.question_id, "the sample has no reward");
            continue;
        };
        let id = &row.question_id;
        let confidence = vote_on(row).and_then(|vote| vote.confidence);
        report.expect_near(("rewards", id, "confidence"), stored.confidence, confidence);
        report.expect_near(("rewards", id, "uncertainty"), stored.uncertainty, Some(reward.uncertainty));
        let penalty = Some(reward.diversity_penalty);
        report.expect_near(("rewards", id, "diversity_penalty"), stored.diversity_penalty, penalty);
        report.expect_equal(("rewards", id, "cluster_size"), &stored.cluster_size, &Some(reward.cluster_size as u32));
        let recomputed = reward.reward - setup.penalty(row.token_ids.len());
        report.expect_near(("rewards", id, "reward"), Some(stored.reward), Some(recomputed));
        report.expect_equal(("rewards", id, "sample"), &(stored.group_id, stored.sample), &(row.group_id, row.sample));
    }
    check_groups(&mut report, rewards, Role::Questioner, questions.len(), setup);
    report
}

/// Checks the Reasoner's rewards of a step against its answers, pseudo-labels and settings.
pub fn check_reasoner_step(
    rewards: &[RewardRow],
    answers: &[AnswerRow],
    curriculum: &[CurriculumRow],
    settings: &ReasonerSettings,
    setup: RewardSetup,
) -> ConsistencyReport {
    let mut report = ConsistencyReport::default();
    let labels: HashMap<QuestionId, Answer> =
        curriculum.iter().map(|row| (row.question_id, Answer::new(&row.pseudo_label))).collect();
    let rows: HashMap<_, &RewardRow> = rewards.iter().map(|row| (row.subject_id, row)).collect();
    for row in answers {
        let id = &row.answer_id;
        let Some(label) = labels.get(&row.question_id) else {
            report.add("answers", id, format!("its question {} is not in the curriculum", row.question_id));
            continue;
        };
        let Some(stored) = rows.get(&row.answer_id.0) else {
            report.add("rewards", id, "the sample has no reward");
            continue;
        };
        let reward = reasoner_reward(&row.raw_text, label, settings);
        report.expect_equal(("rewards", id, "correct"), &stored.correct, &Some(reward.correct));
        let recomputed = reward.reward - setup.penalty(row.token_ids.len());
        report.expect_near(("rewards", id, "reward"), Some(stored.reward), Some(recomputed));
        report.expect_equal(("rewards", id, "sample"), &(stored.group_id, stored.sample), &(row.group_id, row.sample));
    }
    check_groups(&mut report, rewards, Role::Reasoner, answers.len(), setup);
    report
}

/// Checks the group statistics and advantages.
fn check_groups(report: &mut ConsistencyReport, rewards: &[RewardRow], role: Role, samples: usize, setup: RewardSetup) {
    report.count_checked("rewards", rewards.len());
    if rewards.len() != samples {
        let problem = format!("{} rewards of {samples} samples", rewards.len());
        report.add("rewards", format!("step {}", setup.step), problem);
    }
    for group in rewards.chunk_by(|a, b| a.group_id == b.group_id) {
        let values: Vec<f64> = group.iter().map(|row| row.reward).collect();
        let recomputed = advantages(&values, setup.advantage.aggregation);
        for (row, advantage) in group.iter().zip(recomputed.values) {
            let id = &row.subject_id;
            report.expect_equal(("rewards", id, "role"), &row.role, &role);
            report.expect_equal(("rewards", id, "step"), &row.step, &setup.step);
            report.expect_near(("rewards", id, "group_mean"), Some(row.group_mean), Some(recomputed.mean));
            report.expect_near(("rewards", id, "group_std"), Some(row.group_std), Some(recomputed.std));
            report.expect_near(("rewards", id, "advantage"), Some(row.advantage), Some(advantage));
            let in_update = !(recomputed.zero_std && setup.advantage.drop_zero_std);
            report.expect_equal(("rewards", id, "in_update"), &row.in_update, &in_update);
        }
    }
}

/// Checks the metrics of a training step that follow from its rewards.
pub fn check_metrics(rows: &[MetricRow], rewards: &[RewardRow]) -> ConsistencyReport {
    let mut report = ConsistencyReport::default();
    report.count_checked("metrics", rows.len());
    let mean = |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
    let share = |column: &dyn Fn(&RewardRow) -> Option<bool>| {
        mean(rewards.iter().filter_map(|row| column(row).map(|yes| f64::from(u8::from(yes)))).collect())
    };
    for row in rows {
        let id = format!("{} step {}", row.role.map_or_else(String::new, |role| role.to_string()), row.step);
        let at = |column: &'static str| ("metrics", &id as &dyn Display, column);
        let groups: Vec<&[RewardRow]> = rewards.chunk_by(|a, b| a.group_id == b.group_id).collect();
        report.expect_equal(at("groups"), &(row.groups as usize), &groups.len());
        let zero = groups.iter().map(|group| f64::from(u8::from(group[0].group_std == 0.0))).collect();
        report.expect_near(at("frac_zero_std"), row.frac_zero_std, mean(zero));
        report.expect_near(at("reward_mean"), row.reward_mean, mean(rewards.iter().map(|r| r.reward).collect()));
        let advantages = rewards.iter().map(|r| r.advantage).collect();
        report.expect_near(at("advantage_mean"), row.advantage_mean, mean(advantages));
        let confidences = rewards.iter().filter_map(|r| r.confidence).collect();
        report.expect_near(at("confidence_mean"), row.confidence_mean, mean(confidences));
        report.expect_near(at("valid_share"), row.valid_share, share(&|r| Some(r.valid)));
        report.expect_near(at("correct_share"), row.correct_share, share(&|r| r.correct));
    }
    report
}
