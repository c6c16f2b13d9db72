//! What came of a round, in figures that are functions of its results: the closing table, and what later rounds are compared with.

use serde::{Deserialize, Serialize};

use super::gates::{GateResult, QuestionStatistics, VoteStatistics};
use crate::ids::ModelId;
use crate::tables::{MetricRow, ScoreRow};

/// What came of a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundReport {
    /// The round, from 1.
    pub round: u32,
    /// Images of its slice.
    pub images: u64,
    /// The Questioner's training.
    pub questioner: Option<TrainingSummary>,
    /// The questions.
    pub questions: QuestionStatistics,
    /// The votes and the curriculum.
    pub votes: VoteStatistics,
    /// Left-out questions by reason.
    pub left_out: std::collections::BTreeMap<String, u64>,
    /// The Reasoner's training.
    pub reasoner: Option<TrainingSummary>,
    /// The gates.
    pub gates: Vec<GateResult>,
    /// Scores of the Reasoner before the round and after it.
    pub scores: Vec<ScoreChange>,
    /// The label-free score, where it decides which round is current.
    pub kept: Option<KeepBestScore>,
    /// The Questioner's weights after the round.
    pub questioner_model: ModelId,
    /// The Reasoner's weights after the round.
    pub reasoner_model: ModelId,
}

impl RoundReport {
    /// Whether the next round may start from this one.
    pub fn is_current(&self) -> bool {
        self.kept.is_none_or(|kept| kept.current)
    }
}

/// How a round's Reasoner agrees with what the base model's majority says about the base model's questions, greedily and without
/// any label: what ranked rounds rightly in our study, which mean confidence does not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepBestScore {
    /// The share of questions on which they agree.
    pub score: f64,
    /// That of the Reasoner that the round started from.
    pub before: f64,
    /// Questions.
    pub questions: u64,
    /// Whether the round is current: the next one starts from it, and not from what this one started from.
    pub current: bool,
}

/// A role's training, by its first and last steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingSummary {
    /// Steps.
    pub steps: u32,
    /// Mean reward of the first step and of the last.
    pub reward: [Option<f64>; 2],
    /// Entropy of the first step and of the last, in nats.
    pub entropy: [Option<f64>; 2],
    /// Divergence from the reference at the last step.
    pub kl_reference: Option<f64>,
    /// Mean share of groups whose rewards are all equal.
    pub frac_zero_std: Option<f64>,
    /// Updates skipped.
    pub updates_skipped: u32,
}

impl TrainingSummary {
    /// The figures of a role's steps; `None` without a step.
    pub fn of(rows: &[MetricRow]) -> Option<Self> {
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

/// A figure on a benchmark before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreChange {
    /// The benchmark.
    pub benchmark: String,
    /// How answers were drawn and judged.
    pub protocol: String,
    /// The figure before the round with its 95 % interval.
    pub before: [Option<f64>; 3],
    /// The figure after it.
    pub after: [Option<f64>; 3],
    /// Items.
    pub items: u32,
}

impl ScoreChange {
    /// The changes of the figures over whole benchmarks.
    pub fn of(before: &[ScoreRow], after: &[ScoreRow]) -> Vec<Self> {
        let figures = |row: &ScoreRow| [Some(row.value), row.low, row.high];
        let whole = after.iter().filter(|row| row.category.is_none());
        whole
            .map(|row| {
                let same = |other: &&ScoreRow| {
                    (&other.benchmark, &other.protocol, &other.category) == (&row.benchmark, &row.protocol, &None)
                };
                Self {
                    benchmark: row.benchmark.clone(),
                    protocol: row.protocol.clone(),
                    before: before.iter().find(same).map_or([None; 3], figures),
                    after: figures(row),
                    items: row.items,
                }
            })
            .collect()
    }
}
