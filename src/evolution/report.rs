//! The report of a round: statistics and scores computed from its results.

use serde::{Deserialize, Serialize};

use super::gates::{GateResult, QuestionStatistics, VoteStatistics};
use crate::ids::ModelId;
use crate::tables::{MetricRow, ScoreRow};

/// The report of a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundReport {
    /// The round, from 1.
    pub round: u32,
    /// Number of images in the round's slice.
    pub images: u64,
    /// Summary of the Questioner's training.
    pub questioner: Option<TrainingSummary>,
    /// Statistics of the questions.
    pub questions: QuestionStatistics,
    /// Statistics of the votes and the curriculum.
    pub votes: VoteStatistics,
    /// Number of questions left out of the curriculum, by reason.
    pub left_out: std::collections::BTreeMap<String, u64>,
    /// Summary of the Reasoner's training.
    pub reasoner: Option<TrainingSummary>,
    /// The gates that were checked.
    pub gates: Vec<GateResult>,
    /// Benchmark scores of the Reasoner before and after the round.
    pub scores: Vec<ScoreChange>,
    /// The label-free score, where keep-best is on.
    #[serde(rename = "kept")]
    pub keep_best: Option<KeepBestScore>,
    /// The Questioner's weights after the round.
    pub questioner_model: ModelId,
    /// The Reasoner's weights after the round.
    pub reasoner_model: ModelId,
}

impl RoundReport {
    /// Whether the next round may start from this one.
    pub fn is_current(&self) -> bool {
        self.keep_best.is_none_or(|score| score.current)
    }
}

/// A label-free score of a round's Reasoner: its agreement, by greedy answers, with the base
/// model's majority answers to the base model's questions. In our study this score ranked rounds
/// correctly, but mean confidence did not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepBestScore {
    /// Share of questions on which they agree.
    pub score: f64,
    /// The score of the Reasoner that the round started from.
    pub before: f64,
    /// Number of questions.
    pub questions: u64,
    /// Whether the round becomes current, so that the next round starts from its models.
    pub current: bool,
}

/// A summary of a role's training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSummary {
    /// Number of steps.
    pub steps: u32,
    /// Mean reward of the first and the last step.
    pub reward: [Option<f64>; 2],
    /// Entropy of the first and the last step, in nats.
    pub entropy: [Option<f64>; 2],
    /// KL divergence from the reference policy at the last step, in nats.
    pub kl_reference: Option<f64>,
    /// Mean share of groups whose rewards are all equal.
    pub frac_zero_std: Option<f64>,
    /// Number of updates that were skipped.
    pub updates_skipped: u32,
}

impl TrainingSummary {
    /// Summarises the metrics of a role's steps; `None` without a step.
    pub fn from_rows(rows: &[MetricRow]) -> Option<Self> {
        let (first, last) = (rows.first()?, rows.last()?);
        let zero: Vec<f64> = rows.iter().filter_map(|row| row.frac_zero_std).collect();
        Some(Self {
            steps: rows.len() as u32,
            reward: [first.reward_mean, last.reward_mean],
            entropy: [first.entropy, last.entropy],
            kl_reference: last.kl_reference,
            frac_zero_std: (!zero.is_empty()).then(|| zero.iter().sum::<f64>() / zero.len() as f64),
            updates_skipped: rows.iter().map(|row| row.updates_skipped).sum(),
        })
    }
}

/// A benchmark score before and after a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreChange {
    /// The benchmark.
    pub benchmark: String,
    /// The protocol that answers were sampled and scored by.
    pub protocol: String,
    /// The score before the round, and the ends of its 95 % interval.
    pub before: [Option<f64>; 3],
    /// The score after the round, and the ends of its 95 % interval.
    pub after: [Option<f64>; 3],
    /// Number of items.
    pub items: u32,
}

impl ScoreChange {
    /// Pairs the scores before and after a round; scores of single categories are left out.
    pub fn pair(before: &[ScoreRow], after: &[ScoreRow]) -> Vec<Self> {
        let with_interval = |row: &ScoreRow| [Some(row.value), row.low, row.high];
        let whole = after.iter().filter(|row| row.category.is_none());
        whole
            .map(|row| {
                let same = |other: &&ScoreRow| {
                    (&other.benchmark, &other.protocol, &other.category) == (&row.benchmark, &row.protocol, &None)
                };
                Self {
                    benchmark: row.benchmark.clone(),
                    protocol: row.protocol.clone(),
                    before: before.iter().find(same).map_or([None; 3], with_interval),
                    after: with_interval(row),
                    items: row.items,
                }
            })
            .collect()
    }
}
