//! `[retention]`: the models and checkpoints that finished rounds keep.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::section;

section! {
    /// The models and checkpoints that finished rounds keep. Others are dropped once a round is
    /// finished, and recomputed from stored samples, bit for bit, when they are needed.
    pub struct Retention {
        /// Checkpoints of a role's training: final keeps only the trained model, weights the
        /// weights of every checkpoint, all the optimizer's state as well.
        pub checkpoints: CheckpointRetention = CheckpointRetention::Final,
        /// Trained models: all of them; reasoners keeps the Reasoner of every round and the
        /// Questioner of the current one; current keeps those of the current round only. Rounds
        /// that the store alone cannot recompute keep their models: those of a GPU, and those of
        /// the labelled baseline.
        pub models: ModelRetention = ModelRetention::Reasoners,
    }
}

/// The checkpoints that finished rounds keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CheckpointRetention {
    /// The weights after the last step, which are the trained model.
    Final,
    /// The weights of every checkpoint.
    Weights,
    /// The weights and the optimizer's state of every checkpoint.
    All,
}

/// The trained models that finished rounds keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModelRetention {
    /// Both models of every round.
    All,
    /// The Reasoner of every round, and the Questioner of the current one.
    Reasoners,
    /// Both models of the current round.
    Current,
}
