//! The `metrics` table: reproducible measurements of training steps.
//!
//! Measurements that differ from run to run (seconds, memory) are in `timings`, so that digests of
//! this table can be compared.

use super::enums::Role;
use super::row::table;

table! {
    /// A training step. Log-probabilities and divergences are in nats. Values that were not
    /// computed or are not finite are null.
    #[table("metrics")]
    #[derive(Default)]
    pub struct MetricRow {
        /// Role that is trained; null in a warm start, which has no roles.
        pub role: Option<Role>,
        /// Step, from 0.
        pub step: u32,
        /// Learning rate of the step's last optimizer update.
        pub learning_rate: f64,
        /// Number of optimizer updates.
        pub updates: u32,
        /// Number of optimizer updates skipped because the gradient was not finite.
        pub updates_skipped: u32,
        /// Loss: policy loss (cross-entropy in a warm start) plus beta times k3.
        pub loss: Option<f64>,
        /// Clipped policy loss.
        pub policy_loss: Option<f64>,
        /// Beta times the k3 estimate of the KL divergence from the reference policy.
        pub kl_loss: Option<f64>,
        /// Mean k3 estimate of the KL divergence from the frozen reference policy, per token.
        pub kl_reference: Option<f64>,
        /// Mean of logp_old - logp, per token: KL divergence from the weights that sampled.
        pub kl_old: Option<f64>,
        /// Mean entropy of the next token's distribution, per response token.
        pub entropy: Option<f64>,
        /// Mean ratio exp(logp - logp_old), per token.
        pub ratio_mean: Option<f64>,
        /// Largest ratio.
        pub ratio_max: Option<f64>,
        /// Share of tokens clipped below, at 1 - eps_low.
        pub clip_low_fraction: Option<f64>,
        /// Share of tokens clipped above, at 1 + eps_high.
        pub clip_high_fraction: Option<f64>,
        /// Share of tokens limited by the dual clip.
        pub dual_clip_fraction: Option<f64>,
        /// Mean global norm of the gradient before clipping, over the updates.
        pub grad_norm: Option<f64>,
        /// Largest global norm of the gradient before clipping.
        pub grad_norm_max: Option<f64>,
        /// Number of groups that were scored.
        pub groups: u32,
        /// Number of groups left out of the update.
        pub groups_dropped: u32,
        /// Share of groups whose rewards are all equal.
        pub frac_zero_std: Option<f64>,
        /// Number of samples in the update.
        pub samples: u32,
        /// Mean reward.
        pub reward_mean: Option<f64>,
        /// Sample standard deviation of the reward.
        pub reward_std: Option<f64>,
        /// Mean advantage.
        pub advantage_mean: Option<f64>,
        /// Questioner: mean confidence of the votes on its questions.
        pub confidence_mean: Option<f64>,
        /// Questioner: mean uncertainty reward.
        pub uncertainty_mean: Option<f64>,
        /// Questioner: mean diversity penalty for similar questions.
        pub diversity_penalty_mean: Option<f64>,
        /// Share of samples in the required format.
        pub valid_share: Option<f64>,
        /// Reasoner: share of samples equal to the pseudo-label.
        pub correct_share: Option<f64>,
        /// Number of prompt tokens, including image tokens.
        pub prompt_tokens: u64,
        /// Number of response tokens.
        pub response_tokens: u64,
        /// Mean response length in tokens.
        pub response_length_mean: Option<f64>,
        /// Shortest response in tokens.
        pub response_length_min: Option<u32>,
        /// Longest response in tokens.
        pub response_length_max: Option<u32>,
        /// Share of responses that reached the token limit.
        pub truncated_share: Option<f64>,
        /// Mean absolute difference between the trainer's and the sampler's log-probability of a
        /// token.
        pub sampler_gap_mean: Option<f64>,
        /// Largest absolute difference between the trainer's and the sampler's log-probability of a
        /// token.
        pub sampler_gap_max: Option<f64>,
        /// Share of tokens whose sampler-to-trainer importance weight was truncated.
        pub importance_truncated_share: Option<f64>,
    }
}
