//! `rewards`: every scored sample of either role, with each part of its reward and its advantage.

use super::enums::Role;
use super::row::table;
use crate::ids::{Digest, GroupId, ImageId};

table! {
    /// A scored sample. The parts are as they enter the reward, weights applied; a part that its role or preset lacks is null.
    #[table("rewards")]
    pub struct RewardRow {
        /// Whose sample it is: questioner or reasoner.
        pub role: Role,
        /// The training step, from 0.
        pub step: u32,
        /// The sample: a question id for the questioner, an answer id for the reasoner.
        pub subject_id: Digest,
        /// The image it is about.
        pub image_id: ImageId,
        /// The group it is compared in.
        pub group_id: GroupId,
        /// Number of the sample in its group, from 0.
        pub sample: u32,
        /// The preset of the reward.
        pub preset: String,
        /// The reward.
        pub reward: f64,
        /// Whether the sample has the form that its preset asks for.
        pub valid: bool,
        /// Questioner: the share of the majority among the answers, 0 to 1; null when no answer was counted.
        pub confidence: Option<f64>,
        /// Questioner: the reward for uncertainty.
        pub uncertainty: Option<f64>,
        /// Questioner: what is taken off for being alike others; not negative.
        pub diversity_penalty: Option<f64>,
        /// Questioner: number of its cluster of alike questions within the scope.
        pub cluster: Option<u32>,
        /// Questioner: questions in its cluster.
        pub cluster_size: Option<u32>,
        /// Questioner: questions in the scope, which the cluster is a share of.
        pub scope_size: Option<u32>,
        /// Reasoner: whether its answer equals the pseudo-label.
        pub correct: Option<bool>,
        /// Reasoner: the reward for being correct.
        pub correctness: Option<f64>,
        /// The reward or penalty for the form.
        pub form: Option<f64>,
        /// What is taken off for length; not negative.
        pub overlong_penalty: Option<f64>,
        /// Mean reward of the group.
        pub group_mean: f64,
        /// Sample standard deviation (n - 1) of the group's rewards.
        pub group_std: f64,
        /// The advantage; 0 where all rewards of the group are equal.
        pub advantage: f64,
        /// Whether the sample entered the update; false where its group or the sample was left out by an option.
        pub in_update: bool,
    }
}
