//! `metrics`: what a training step did, as figures that come out the same on every run.
//!
//! What differs from run to run (seconds, memory) is in `timings`, so that this table has a digest worth comparing.

use super::enums::Role;
use super::row::table;

table! {
    /// A training step. Figures of log-probabilities are in nats. What was not computed or not finite is null.
    #[table("metrics")]
    pub struct MetricRow {
        /// The role that trains; null in a warm start, before there are two.
        pub role: Option<Role>,
        /// The step, from 0.
        pub step: u32,
        /// Learning rate of the step's last optimizer update.
        pub learning_rate: f64,
        /// Optimizer updates made.
        pub updates: u32,
        /// Optimizer updates skipped because the gradient was not finite.
        pub updates_skipped: u32,
        /// The loss: the policy's (or cross-entropy in a warm start) and beta times k3.
        pub loss: Option<f64>,
        /// The clipped policy loss.
        pub policy_loss: Option<f64>,
        /// beta times the k3 estimate of the divergence from the reference.
        pub kl_loss: Option<f64>,
        /// Mean k3 divergence from the frozen reference, per token.
        pub kl_reference: Option<f64>,
        /// Mean of logp_old - logp, per token: divergence from the weights that sampled.
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
        /// Share of tokens held by the dual clip.
        pub dual_clip_fraction: Option<f64>,
        /// Global norm of the gradient before clipping, mean over the updates.
        pub grad_norm: Option<f64>,
        /// Largest global norm of the gradient before clipping.
        pub grad_norm_max: Option<f64>,
        /// Groups of samples scored.
        pub groups: u32,
        /// Groups left out of the update.
        pub groups_dropped: u32,
        /// Share of groups whose rewards are all equal.
        pub frac_zero_std: Option<f64>,
        /// Samples in the update.
        pub samples: u32,
        /// Mean reward.
        pub reward_mean: Option<f64>,
        /// Sample standard deviation of the reward.
        pub reward_std: Option<f64>,
        /// Mean advantage.
        pub advantage_mean: Option<f64>,
        /// Questioner: mean confidence of the votes on its questions.
        pub confidence_mean: Option<f64>,
        /// Questioner: mean reward for uncertainty.
        pub uncertainty_mean: Option<f64>,
        /// Questioner: mean penalty for being alike.
        pub diversity_penalty_mean: Option<f64>,
        /// Share of samples with the required form.
        pub valid_share: Option<f64>,
        /// Reasoner: share of samples equal to the pseudo-label.
        pub correct_share: Option<f64>,
        /// Prompt tokens, those of images included.
        pub prompt_tokens: u64,
        /// Response tokens.
        pub response_tokens: u64,
        /// Mean response length in tokens.
        pub response_length_mean: Option<f64>,
        /// Shortest response in tokens.
        pub response_length_min: Option<u32>,
        /// Longest response in tokens.
        pub response_length_max: Option<u32>,
        /// Share of responses that hit the token limit.
        pub truncated_share: Option<f64>,
        /// Mean absolute difference between the trainer's and the sampler's log-probability of a token.
        pub sampler_gap_mean: Option<f64>,
        /// Largest absolute difference between the trainer's and the sampler's log-probability of a token.
        pub sampler_gap_max: Option<f64>,
        /// Share of tokens whose sampler-to-trainer importance weight was truncated.
        pub importance_truncated_share: Option<f64>,
    }
}
