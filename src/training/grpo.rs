//! The math of GRPO as pure functions: group-relative advantages, clipped surrogate, KL penalty,
//! importance weights.
//!
//! Sources: GRPO (DeepSeekMath, arXiv 2402.03300, Eq. 3 and 4); asymmetric clipping and token mean
//! (DAPO, arXiv 2503.14476); dual clip (arXiv 1912.09729); no division by standard deviation or
//! length (Dr. GRPO, arXiv 2503.20783); truncated importance sampling (Yao et al. 2025, "Your
//! efficient RL framework secretly brings you off-policy RL training").

use serde::{Deserialize, Serialize};

/// Added to the standard deviation in the advantage's denominator.
const STD_EPS: f64 = 1e-6;
/// Bound of `|ref - logp|` in k3.
const LOG_RATIO_LIMIT: f64 = 20.0;
/// Upper bound of k3.
const K3_LIMIT: f64 = 10.0;

/// Aggregation of the token losses into one loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// Mean over all response tokens of the batch (DAPO).
    Token,
    /// Mean over the tokens of each response, then over the responses (GRPO's Eq. 3, and what the
    /// released code computes).
    Sequence,
    /// Sum over all tokens divided by (number of responses × token limit); advantages are not
    /// divided by the standard deviation (Dr. GRPO).
    DrGrpo,
}

/// Settings of the GRPO loss.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpoSettings {
    /// Lower clip range: ratios below `1 - eps_low` are clipped.
    pub eps_low: f64,
    /// Upper clip range: ratios above `1 + eps_high` are clipped.
    pub eps_high: f64,
    /// Dual clip: with a negative advantage the loss is at most `-advantage * dual`. `None`: no
    /// dual clip.
    pub dual: Option<f64>,
    /// Coefficient of the KL penalty. With 0 no reference policy is needed.
    pub beta: f64,
    /// Aggregation of the token losses.
    pub aggregation: Aggregation,
    /// Token limit of a response, used by [`Aggregation::DrGrpo`].
    pub max_tokens: usize,
    /// Whether to leave out responses that were cut off at the token limit.
    pub mask_truncated: bool,
    /// Truncated importance sampling: the largest weight of a token, `min(exp(logp_old -
    /// logp_sampler), cap)`. `None`: no importance weights.
    pub importance_cap: Option<f64>,
}

impl Default for GrpoSettings {
    fn default() -> Self {
        Self {
            eps_low: 0.2,
            eps_high: 0.3,
            dual: Some(3.0),
            beta: 0.01,
            aggregation: Aggregation::Sequence,
            max_tokens: 1024,
            mask_truncated: false,
            importance_cap: None,
        }
    }
}

/// The advantages of a group and the statistics of its rewards.
#[derive(Debug, Clone, PartialEq)]
pub struct Advantages {
    /// Advantage of each rollout.
    pub values: Vec<f64>,
    /// Mean reward.
    pub mean: f64,
    /// Sample standard deviation (n - 1) of the rewards; 0 for a single rollout.
    pub std: f64,
    /// Whether all rewards are equal, so that the group has no gradient.
    pub zero_std: bool,
}

/// Returns the group-relative advantages `A = (r - mean) / (std + 1e-6)` with the sample standard
/// deviation (DeepSeekMath, outcome supervision), or `A = r - mean` for [`Aggregation::DrGrpo`]. A
/// group whose rewards are all equal has advantages of 0.
pub fn advantages(rewards: &[f64], aggregation: Aggregation) -> Advantages {
    let n = rewards.len() as f64;
    let zero_std = rewards.iter().all(|reward| *reward == rewards[0]);
    let mean = if rewards.is_empty() { 0.0 } else { rewards.iter().sum::<f64>() / n };
    if zero_std {
        return Advantages { values: vec![0.0; rewards.len()], mean, std: 0.0, zero_std };
    }
    let std = (rewards.iter().map(|reward| (reward - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let divisor = if aggregation == Aggregation::DrGrpo { 1.0 } else { std + STD_EPS };
    Advantages { values: rewards.iter().map(|reward| (reward - mean) / divisor).collect(), mean, std, zero_std }
}

/// Settings of the advantages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdvantageSettings {
    /// Aggregation of token losses, which decides whether advantages are divided by the standard
    /// deviation.
    pub aggregation: Aggregation,
    /// Whether a group whose rewards are all equal is left out of the update (DAPO).
    pub drop_zero_std: bool,
    /// Number of tokens before the limit over which the length penalty rises to 1; 0: no penalty.
    pub overlong_tokens: u32,
    /// Maximum number of tokens of a sample.
    pub max_tokens: u32,
}

impl AdvantageSettings {
    /// Returns the length penalty of a sample of `tokens` tokens; `None` where the penalty is off.
    pub fn length_penalty(&self, tokens: usize) -> Option<f64> {
        let (limit, cache) = (self.max_tokens as usize, self.overlong_tokens as usize);
        (cache > 0).then(|| overlong_penalty(tokens, limit, cache))
    }
}

/// Returns the penalty on the reward of a long response (DAPO Eq. 13): 0 up to `limit - cache`
/// tokens, then rising linearly to 1 at `limit`.
pub fn overlong_penalty(tokens: usize, limit: usize, cache: usize) -> f64 {
    let over = tokens.saturating_sub(limit.saturating_sub(cache)) as f64;
    (over / cache.max(1) as f64).min(1.0)
}

/// The clipped surrogate of a token.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PolicyLoss {
    /// The loss.
    pub loss: f64,
    /// Derivative of the loss with respect to the token's log-probability.
    pub gradient: f64,
    /// `exp(logp - logp_old)`.
    pub ratio: f64,
    /// Whether the ratio was clipped at `1 - eps_low`, possible only with a negative advantage.
    pub clipped_low: bool,
    /// Whether the ratio was clipped at `1 + eps_high`, possible only with a positive advantage.
    pub clipped_high: bool,
    /// Whether the dual clip limited the loss.
    pub dual_clipped: bool,
}

/// Returns the clipped surrogate of a token (DeepSeekMath Eq. 3 with DAPO's clip range): `max(-A r,
/// -A clip(r, 1 - eps_low, 1 + eps_high))`, and for A < 0 at most `-A dual`; r = exp(logp -
/// logp_old).
pub fn policy_loss(logp: f64, old: f64, advantage: f64, settings: &GrpoSettings) -> PolicyLoss {
    let ratio = libm::exp(logp - old);
    let (low, high) = (1.0 - settings.eps_low, 1.0 + settings.eps_high);
    let plain = -advantage * ratio;
    let clipped = -advantage * ratio.clamp(low, high);
    let mut out = PolicyLoss { loss: plain, gradient: plain, ratio, ..PolicyLoss::default() };
    if clipped > plain {
        out.loss = clipped;
        out.gradient = 0.0;
        (out.clipped_low, out.clipped_high) = (ratio < low, ratio > high);
    }
    if let Some(dual) = settings.dual
        && advantage < 0.0
        && out.loss > -advantage * dual
    {
        out.loss = -advantage * dual;
        out.gradient = 0.0;
        out.dual_clipped = true;
    }
    out
}

/// Returns the k3 estimate of KL(policy || reference), `exp(x) - x - 1` with `x = ref - logp`
/// clamped to ±20 and the result clamped to 10, and its derivative with respect to `logp`
/// (DeepSeekMath Eq. 4; Schulman 2020, "Approximating KL divergence").
pub fn k3(logp: f64, reference: f64) -> (f64, f64) {
    let difference = reference - logp;
    let x = difference.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT);
    let k3 = libm::exp(x) - x - 1.0;
    let free = difference.abs() <= LOG_RATIO_LIMIT && k3 <= K3_LIMIT;
    (k3.min(K3_LIMIT), if free { 1.0 - libm::exp(x) } else { 0.0 })
}

/// Returns the truncated importance weight `min(exp(logp_old - logp_sampler), cap)` and whether it
/// was truncated.
pub fn importance_weight(old: f64, sampler: f64, cap: f64) -> (f64, bool) {
    let weight = libm::exp(old - sampler);
    (weight.min(cap), weight > cap)
}

/// Returns, for responses of these lengths, the weight of each of their tokens in the loss of a
/// batch.
pub fn token_weights(lengths: &[usize], aggregation: Aggregation, max_tokens: usize) -> Vec<f64> {
    let responses = lengths.iter().filter(|length| **length > 0).count().max(1) as f64;
    let tokens = lengths.iter().sum::<usize>().max(1) as f64;
    let weight = |length: &usize| match aggregation {
        Aggregation::Token => 1.0 / tokens,
        Aggregation::Sequence => 1.0 / (responses * (*length).max(1) as f64),
        Aggregation::DrGrpo => 1.0 / (responses * max_tokens.max(1) as f64),
    };
    lengths.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_rewards_have_advantage_0() {
        for aggregation in [Aggregation::Token, Aggregation::Sequence, Aggregation::DrGrpo] {
            let of = advantages(&[0.3; 5], aggregation);
            assert_eq!((of.values, of.std, of.zero_std), (vec![0.0; 5], 0.0, true));
            assert_eq!(advantages(&[7.0], aggregation).values, [0.0]);
            assert!(advantages(&[], aggregation).values.is_empty());
        }
    }

    #[test]
    fn the_overlong_penalty_rises_linearly_to_1() {
        let penalties = [0, 80, 81, 90, 100, 200].map(|tokens| overlong_penalty(tokens, 100, 20));
        assert_eq!(penalties, [0.0, 0.0, 0.05, 0.5, 1.0, 1.0]);
    }

    proptest! {
        #[test]
        fn gradients_are_slopes(
            logp in -8.0f64..0.0, old in -8.0f64..0.0, reference in -8.0f64..0.0, advantage in -3.0f64..3.0,
        ) {
            let settings = GrpoSettings::default();
            let step = 1e-6;
            let policy = |x: f64| policy_loss(x, old, advantage, &settings);
            let slope = (policy(logp + step).loss - policy(logp - step).loss) / (2.0 * step);
            let here = policy(logp);
            let edge = policy(logp + step).gradient == 0.0 && policy(logp - step).gradient != 0.0
                || policy(logp + step).gradient != 0.0 && policy(logp - step).gradient == 0.0;
            prop_assert!(edge || (slope - here.gradient).abs() <= 1e-5 * (1.0 + here.ratio * 3.0), "{slope} {here:?}");
            let slope = (k3(logp + step, reference).0 - k3(logp - step, reference).0) / (2.0 * step);
            let (value, gradient) = k3(logp, reference);
            prop_assert!(value >= 0.0);
            let edge = value > K3_LIMIT - 0.01;
            prop_assert!(edge || (slope - gradient).abs() <= 1e-5 * (1.0 + gradient.abs()), "{slope} {gradient}");
        }

        #[test]
        fn advantages_have_mean_zero_and_spread_one(rewards in prop::collection::vec(-1.0f64..1.0, 2..12)) {
            let of = advantages(&rewards, Aggregation::Sequence);
            if !of.zero_std && of.std > 1e-3 {
                let n = rewards.len() as f64;
                prop_assert!((of.values.iter().sum::<f64>() / n).abs() < 1e-9);
                let spread = (of.values.iter().map(|a| a * a).sum::<f64>() / (n - 1.0)).sqrt();
                prop_assert!((spread - 1.0).abs() < 2e-3);
            }
        }
    }
}
