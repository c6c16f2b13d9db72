//! `[gates.*]`: thresholds at which a round warns or stops.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The thresholds of a gate; each is optional.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Threshold beyond which the round prints a warning.
    pub warn: Option<f64>,
    /// Threshold beyond which the round stops.
    pub stop: Option<f64>,
}

/// The thresholds of all gates.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gates {
    /// After the questions: minimum share of valid samples.
    pub valid_share: Thresholds,
    /// After the questions: minimum share of distinct valid questions, counted within each image.
    pub distinct_share: Thresholds,
    /// After the questions: minimum share of distinct valid questions over all images.
    pub distinct_texts: Thresholds,
    /// After the questions: maximum share of one question type.
    pub top_type_share: Thresholds,
    /// After the questions: minimum mean negative log-probability of the sampled tokens, in nats.
    pub entropy: Thresholds,
    /// After the votes: maximum mean confidence.
    pub mean_confidence: Thresholds,
    /// After the votes: minimum share of answers with a box.
    pub boxed_share: Thresholds,
    /// After the votes: minimum share of voted questions that the curriculum keeps.
    pub kept_share: Thresholds,
    /// After the votes: minimum number of rows in the curriculum.
    pub kept_rows: Thresholds,
    /// When the round is shown, if the truth is known (`evaluation.truth`): minimum share of
    /// correct pseudo-labels. It can only warn, since the truth must not influence a round.
    pub label_accuracy: Thresholds,
}
