//! The `rewards` table: all scored samples of both roles, with their reward, its parts and the
//! advantage.

use super::enums::Role;
use super::row::table;
use crate::ids::{Digest, GroupId, ImageId};

table! {
    /// A scored sample. The parts are as they enter the reward, with weights applied; a part that
    /// the role or preset does not have is null.
    #[table("rewards")]
    pub struct RewardRow {
        /// Role that sampled: questioner or reasoner.
        pub role: Role,
        /// Training step, from 0.
        pub step: u32,
        /// Id of the sample: a question id for the questioner, an answer id for the reasoner.
        pub subject_id: Digest,
        /// Id of the image that it is about.
        pub image_id: ImageId,
        /// Id of the group that it is compared in.
        pub group_id: GroupId,
        /// Index of the sample in its group, from 0.
        pub sample: u32,
        /// Reward preset.
        pub preset: String,
        /// Reward.
        pub reward: f64,
        /// Whether the sample is in the format that its preset requires.
        pub valid: bool,
        /// Questioner: share of the majority answer among the answers, 0 to 1; null if none was
        /// counted.
        pub confidence: Option<f64>,
        /// Questioner: uncertainty reward.
        pub uncertainty: Option<f64>,
        /// Questioner: penalty for similarity to other questions, subtracted from the reward; at
        /// least 0.
        pub diversity_penalty: Option<f64>,
        /// Questioner: index of its cluster of similar questions within the scope.
        pub cluster: Option<u32>,
        /// Questioner: number of questions in its cluster.
        pub cluster_size: Option<u32>,
        /// Questioner: number of questions in the scope that was clustered.
        pub scope_size: Option<u32>,
        /// Reasoner: whether its answer equals the pseudo-label.
        pub correct: Option<bool>,
        /// Reasoner: reward for a correct answer.
        pub correctness: Option<f64>,
        /// Reward or penalty for the format.
        pub form: Option<f64>,
        /// Penalty for length, subtracted from the reward; at least 0.
        pub overlong_penalty: Option<f64>,
        /// Mean reward of the group.
        pub group_mean: f64,
        /// Sample standard deviation (n - 1) of the group's rewards.
        pub group_std: f64,
        /// Advantage; 0 if all rewards of the group are equal.
        pub advantage: f64,
        /// Whether the sample was used in the update; false if an option left out the sample or its
        /// group.
        pub in_update: bool,
    }
}
