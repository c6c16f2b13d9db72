//! Gates: statistics of a round's data with thresholds, checked before the Reasoner is trained on
//! it. Pure functions.
//!
//! A later study (arXiv 2605.22217) finds that gating the data, more than any reward, is what keeps
//! self-play stable.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::pipeline::{Gates, Thresholds};
use crate::stages::question_form::normalise;
use crate::tables::{QuestionRow, QuestionType, VoteRow};

/// The side of its thresholds that a value should be on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ThresholdSide {
    /// Values below a threshold warn or stop.
    AtLeast,
    /// Values above a threshold warn or stop.
    AtMost,
}

/// The outcome of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateVerdict {
    /// The value is within its thresholds.
    Passed,
    /// The value is beyond the warning threshold.
    Warned,
    /// The value is beyond the stop threshold: the round ends.
    Stopped,
}

/// A checked gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateResult {
    /// Name of the gate in the pipeline file.
    pub gate: String,
    /// The checked value; `None` where there was nothing to measure.
    #[serde(rename = "figure")]
    pub value: Option<f64>,
    /// The side of the thresholds that the value should be on.
    pub side: ThresholdSide,
    /// Threshold for a warning.
    pub warn: Option<f64>,
    /// Threshold for a stop.
    pub stop: Option<f64>,
    /// The outcome.
    pub verdict: GateVerdict,
}

impl GateResult {
    fn at_least(gate: &str, value: Option<f64>, thresholds: Thresholds) -> Self {
        Self::new(gate, value, ThresholdSide::AtLeast, thresholds)
    }

    fn new(gate: &str, value: Option<f64>, side: ThresholdSide, thresholds: Thresholds) -> Self {
        let beyond = |threshold: Option<f64>| match (value, threshold, side) {
            (_, None, _) => false,
            (Some(value), Some(threshold), ThresholdSide::AtLeast) => value < threshold,
            (Some(value), Some(threshold), ThresholdSide::AtMost) => value > threshold,
            // Nothing to measure counts as beyond every threshold.
            (None, Some(_), _) => true,
        };
        let verdict = match (beyond(thresholds.stop), beyond(thresholds.warn)) {
            (true, _) => GateVerdict::Stopped,
            (_, true) => GateVerdict::Warned,
            _ => GateVerdict::Passed,
        };
        let Thresholds { warn, stop } = thresholds;
        Self { gate: gate.to_owned(), value, side, warn, stop, verdict }
    }
}

impl fmt::Display for GateResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threshold = if self.verdict == GateVerdict::Stopped { self.stop } else { self.warn };
        let value = self.value.map_or_else(|| "no value".to_owned(), |value| format!("{value:.3}"));
        let side = if self.side == ThresholdSide::AtLeast { "at least" } else { "at most" };
        write!(f, "gates.{}: {value}", self.gate)?;
        threshold.map_or(Ok(()), |threshold| write!(f, ", which must be {side} {threshold}"))
    }
}

/// Statistics of a round's questions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QuestionStatistics {
    /// Number of samples of the Questioner.
    pub asked: u64,
    /// Number of samples with the required form.
    pub valid: u64,
    /// Number of distinct valid questions, counted within each image.
    pub distinct: u64,
    /// Number of distinct valid texts over all images.
    pub distinct_texts: u64,
    /// Number of valid questions by type.
    pub types: BTreeMap<String, u64>,
    /// Number of invalid samples by reason.
    pub invalid: BTreeMap<String, u64>,
    /// Mean negative log-probability of the sampled tokens, in nats: an estimate of the entropy.
    pub entropy: Option<f64>,
}

impl QuestionStatistics {
    /// Computes the statistics of questions.
    pub fn from_rows(rows: &[QuestionRow]) -> Self {
        let mut statistics = Self { asked: rows.len() as u64, ..Self::default() };
        let (mut distinct, mut texts) = (BTreeSet::new(), BTreeSet::new());
        let (mut nats, mut tokens) = (0.0, 0u64);
        for row in rows {
            nats -= row.logprobs.iter().map(|&logprob| f64::from(logprob)).sum::<f64>();
            tokens += row.logprobs.len() as u64;
            if let (true, Some(question)) = (row.valid, &row.question) {
                statistics.valid += 1;
                let text = normalise(question);
                distinct.insert((row.image_id, text.clone()));
                texts.insert(text);
                let kind = row.question_type.map_or("none", QuestionType::as_str);
                *statistics.types.entry(kind.to_owned()).or_default() += 1;
            } else {
                let reason = row.invalid_reason.clone().unwrap_or_default();
                *statistics.invalid.entry(reason).or_default() += 1;
            }
        }
        (statistics.distinct, statistics.distinct_texts) = (distinct.len() as u64, texts.len() as u64);
        statistics.entropy = (tokens > 0).then(|| nats / tokens as f64);
        statistics
    }

    /// Checks the gates on questions.
    pub fn check(&self, gates: &Gates) -> Vec<GateResult> {
        let of_valid = |part| share(part, self.valid);
        let top = self.types.values().max().copied().unwrap_or(0);
        vec![
            GateResult::at_least("valid_share", share(self.valid, self.asked), gates.valid_share),
            GateResult::at_least("distinct_share", of_valid(self.distinct), gates.distinct_share),
            GateResult::at_least("distinct_texts", of_valid(self.distinct_texts), gates.distinct_texts),
            GateResult::new("top_type_share", of_valid(top), ThresholdSide::AtMost, gates.top_type_share),
            GateResult::at_least("entropy", self.entropy, gates.entropy),
        ]
    }
}

/// Statistics of a round's votes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VoteStatistics {
    /// Number of questions voted on.
    pub voted: u64,
    /// Number of answers.
    pub answers: u64,
    /// Number of answers with a box.
    pub boxed: u64,
    /// Mean confidence.
    pub mean_confidence: Option<f64>,
    /// Number of questions by tenth of confidence: [0, 0.1), ..., [0.9, 1].
    pub confidence_tenths: [u64; 10],
    /// Number of rows in the curriculum.
    pub kept: u64,
}

impl VoteStatistics {
    /// Computes the statistics of votes, `kept` of which are in the curriculum.
    pub fn from_rows(rows: &[VoteRow], kept: u64) -> Self {
        let mut statistics = Self { voted: rows.len() as u64, kept, ..Self::default() };
        let (mut sum, mut n) = (0.0, 0u64);
        for row in rows {
            statistics.answers += u64::from(row.sampled);
            statistics.boxed += u64::from(row.boxed);
            if let Some(confidence) = row.confidence {
                (sum, n) = (sum + confidence, n + 1);
                // Rounding errors must not move a share such as 3 of 10 into the tenth below.
                let tenth = ((confidence * 10.0 + 1e-9) as usize).min(9);
                statistics.confidence_tenths[tenth] += 1;
            }
        }
        statistics.mean_confidence = (n > 0).then(|| sum / n as f64);
        statistics
    }

    /// Checks the gates on votes.
    pub fn check(&self, gates: &Gates) -> Vec<GateResult> {
        vec![
            GateResult::new("mean_confidence", self.mean_confidence, ThresholdSide::AtMost, gates.mean_confidence),
            GateResult::at_least("boxed_share", share(self.boxed, self.answers), gates.boxed_share),
            GateResult::at_least("kept_share", share(self.kept, self.voted), gates.kept_share),
            GateResult::at_least("kept_rows", Some(self.kept as f64), gates.kept_rows),
        ]
    }
}

/// Checks the gate on pseudo-labels whose truth is known: `correct` of `total`. It is evaluated
/// when a round is shown, not while it runs.
pub fn label_gate(gates: &Gates, correct: u64, total: u64) -> GateResult {
    GateResult::at_least("label_accuracy", share(correct, total), gates.label_accuracy)
}

/// Returns `part` as a share of `whole`; `None` if `whole` is 0.
pub(super) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_names_its_value_and_threshold() {
        let thresholds = Thresholds { warn: Some(0.5), stop: Some(0.2) };
        let verdict = |value| GateResult::at_least("valid_share", value, thresholds).verdict;
        assert_eq!(
            [verdict(Some(0.6)), verdict(Some(0.5)), verdict(Some(0.3)), verdict(Some(0.1)), verdict(None)],
            [GateVerdict::Passed, GateVerdict::Passed, GateVerdict::Warned, GateVerdict::Stopped, GateVerdict::Stopped]
        );
        let at_most = Thresholds { warn: None, stop: Some(0.95) };
        let stopped = GateResult::new("mean_confidence", Some(0.987_6), ThresholdSide::AtMost, at_most);
        assert_eq!(stopped.to_string(), "gates.mean_confidence: 0.988, which must be at most 0.95");
        let open = GateResult::at_least("entropy", None, Thresholds::default());
        assert_eq!((open.verdict, open.to_string().as_str()), (GateVerdict::Passed, "gates.entropy: no value"));
    }

    #[test]
    fn no_questions_at_all_stop_every_set_gate() {
        let all = Thresholds { warn: None, stop: Some(0.1) };
        let gates = Gates { valid_share: all, distinct_share: all, ..Gates::default() };
        let stopped = QuestionStatistics::from_rows(&[]).check(&gates);
        assert_eq!(stopped.iter().filter(|gate| gate.verdict == GateVerdict::Stopped).count(), 2);
    }
}
