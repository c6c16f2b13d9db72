//! `[round]` and `[evaluation]`: the size of a round, and the measurement of its Reasoner.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::section;
use crate::stages::evaluation::{BenchmarkColumns, Protocols};

section! {
    /// The size, seed and mode of a round.
    pub struct Round {
        /// Seed of all randomness.
        pub seed: u64 = 0,
        /// Number of images in a round, a slice of all images; 0 takes all.
        pub images: u32 = 0,
        /// Questions per image, asked by the trained Questioner.
        pub questions_per_image: u32 = 8,
        /// The labelled baseline: a Parquet file with the columns image, question and answer (the
        /// correct one), whose rows are the Reasoner's curriculum; the Questioner is not trained.
        /// Empty for the method itself, which uses no labels.
        pub labelled: PathBuf = PathBuf::new(),
        /// Columns of that file, where they have other names.
        pub labelled_columns: BenchmarkColumns = BenchmarkColumns::default(),
        /// Number of rows in a shard, the unit in which an interrupted stage resumes.
        pub shard_rows: u32 = 256,
        /// Maximum number of tokens that the samples of a shard can have, which sets the number of
        /// its rows instead of `shard_rows`; 0 sets it by rows. Small shards spread over more
        /// workers.
        #[serde(skip_serializing_if = "is_zero")]
        pub shard_tokens: u32 = 0,
        /// Minimum number of shards of a stage with at least as many rows; 0 sets none.
        #[serde(skip_serializing_if = "is_zero")]
        pub min_shards: u32 = 0,
        /// Whether a round is kept but does not become current when its Reasoner has a lower
        /// label-free score than before.
        pub keep_best: bool = false,
        /// Noise of the score: a score counts as lower only if it is lower by more than this.
        pub keep_best_slack: f64 = 0.0,
        /// Number of questions of the label-free score, asked and voted on once by the base model.
        pub keep_best_questions: u32 = 1000,
        /// Answers of the base model to each of these questions.
        pub keep_best_samples: u32 = 20,
    }
}

/// Whether a key has the value that leaves results as they were before the key existed: then it is
/// no part of the settings that a round stores.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Round {
    /// Whether the round is the labelled baseline.
    pub fn is_labelled(&self) -> bool {
        !self.labelled.as_os_str().is_empty()
    }
}

/// The benchmarks and protocols that measure a Reasoner.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluationSection {
    /// Parquet files with columns of an image, a question, an answer and optionally a category.
    pub benchmarks: Vec<PathBuf>,
    /// The `scenes.parquet` that `visplay scenes` writes with generated images. It gives the
    /// accuracy of pseudo-labels when a round is shown or audited; no stage reads it. Empty if the
    /// truth is not known.
    pub truth: PathBuf,
    /// Maximum number of items of a benchmark; 0 takes all.
    pub items: u32,
    /// Protocols by which answers are sampled and scored.
    pub protocols: Protocols,
}
