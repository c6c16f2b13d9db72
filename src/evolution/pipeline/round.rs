//! `[round]` and `[evaluation]`: how much a round does, and how its Reasoner is measured.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stages::evaluation::Protocols;

/// A round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Round {
    /// The seed of everything random.
    pub seed: u64,
    /// Images of a round: its own slice of all of them; 0 takes all.
    pub images: u32,
    /// Questions that the trained Questioner writes about each of them.
    pub questions_per_image: u32,
    /// The labelled baseline: a Parquet file with the columns image, question and answer (the right one), relative to the working
    /// folder, whose rows are the Reasoner's curriculum; the Questioner rests. Empty: the method itself, which sees no label.
    pub labelled: PathBuf,
    /// Rows of a shard, the unit in which an interrupted stage goes on.
    pub shard_rows: u32,
    /// Whether a round whose Reasoner scores lower, without labels, than the one before is kept but not current.
    pub keep_best: bool,
    /// How much lower a score may be before it counts as lower: its noise, since a score near 1 wavers by a question or two.
    pub keep_best_slack: f64,
    /// Questions of the label-free score of `keep_best`, asked and voted on by the base model once.
    pub keep_best_questions: u32,
    /// Answers of the base model to each of them.
    pub keep_best_samples: u32,
}

impl Default for Round {
    fn default() -> Self {
        Self {
            seed: 0,
            images: 0,
            questions_per_image: 8,
            labelled: PathBuf::new(),
            shard_rows: 256,
            keep_best: false,
            keep_best_slack: 0.0,
            keep_best_questions: 1000,
            keep_best_samples: 20,
        }
    }
}

impl Round {
    /// Whether the round is the labelled baseline: trained on given answers.
    pub fn is_labelled(&self) -> bool {
        !self.labelled.as_os_str().is_empty()
    }
}

/// What measures a Reasoner.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationSection {
    /// Parquet files with the columns image, question, answer and, if they have one, category; relative to the working folder.
    pub benchmarks: Vec<PathBuf>,
    /// What is in the images, where they are drawn scenes: the `scenes.parquet` that `visplay scenes` writes beside them, relative to
    /// the working folder. It tells, when a round is shown or audited, how many pseudo-labels are right; no stage reads it. Empty: not
    /// known.
    pub truth: PathBuf,
    /// The most items of a benchmark; 0 takes all.
    pub items: u32,
    /// How answers are drawn.
    pub protocols: Protocols,
}
