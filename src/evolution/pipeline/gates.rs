//! `[gates.*]`: figures at which a round warns or stops.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The thresholds of a gate. Without a key the gate does not do that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// The figure beyond which a round says so.
    pub warn: Option<f64>,
    /// The figure beyond which a round stops.
    pub stop: Option<f64>,
}

/// Every gate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Gates {
    /// After the questions: the least share that is valid.
    pub valid_share: Thresholds,
    /// After the questions: the least share of valid ones that differ, within an image.
    pub distinct_share: Thresholds,
    /// After the questions: the least share of valid ones that differ, over all images.
    pub distinct_texts: Thresholds,
    /// After the questions: the largest share of one type.
    pub top_type_share: Thresholds,
    /// After the questions: the least mean log-probability, turned positive, of a sampled token, in nats.
    pub entropy: Thresholds,
    /// After the votes: the largest mean confidence.
    pub mean_confidence: Thresholds,
    /// After the votes: the least share of answers with a box.
    pub boxed_share: Thresholds,
    /// After the votes: the least share of voted questions that the curriculum keeps.
    pub kept_share: Thresholds,
    /// After the votes: the fewest rows of the curriculum.
    pub kept_rows: Thresholds,
    /// When the round is shown, where the truth is known (`evaluation.truth`): the least share of pseudo-labels that are right. It can
    /// warn only: what the truth says steers no round.
    pub label_accuracy: Thresholds,
}
