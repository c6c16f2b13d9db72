//! GRPO: advantages, the clipped policy loss and the divergence from a reference, as pure functions.
//!
//! Sources: GRPO (DeepSeekMath, arXiv 2402.03300, Eq. 3 and 4), its asymmetric clip and token mean (DAPO, arXiv
//! 2503.14476), the dual clip (arXiv 1912.09729), the bias-free variant (Dr. GRPO, arXiv 2503.20783), truncated importance
//! sampling (Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training").

use serde::{Deserialize, Serialize};

/// Added to the standard deviation that advantages are divided by.
const STD_EPS: f64 = 1e-6;
/// `ref - logp` is held within this before it enters k3.
const LOG_RATIO_LIMIT: f64 = 20.0;
/// k3 is held within this.
const K3_LIMIT: f64 = 10.0;

/// How token losses become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregation {
    /// The sum over all response tokens divided by their number (DAPO).
    Token,
    /// The mean over the tokens of a response, then over the responses (GRPO's Eq. 3, and what the released code computes).
    Sequence,
    /// The sum over all tokens divided by responses times the token limit; advantages are not divided by the standard
    /// deviation (Dr. GRPO).
    DrGrpo,
}

/// What the loss depends on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrpoSettings {
    /// A ratio below `1 - eps_low` is clipped.
    pub eps_low: f64,
    /// A ratio above `1 + eps_high` is clipped.
    pub eps_high: f64,
    /// Where the advantage is negative, the loss is at most `-advantage * dual`. None: no such limit.
    pub dual: Option<f64>,
    /// The weight of k3. 0 needs no reference.
    pub beta: f64,
    /// How token losses become one number.
    pub aggregation: Aggregation,
    /// The token limit of a response, for [`Aggregation::DrGrpo`].
    pub max_tokens: usize,
    /// Leave out responses that were cut off at the token limit.
    pub mask_truncated: bool,
    /// The largest importance weight of a token, `min(exp(logp_old - logp_sampler), cap)`. None: no such weight.
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

/// The advantages of a group, and what they came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Advantages {
    /// One a sample.
    pub values: Vec<f64>,
    /// Mean reward.
    pub mean: f64,
    /// Sample standard deviation (n - 1) of the rewards; 0 for a single sample.
    pub std: f64,
    /// Whether all rewards are equal, so that the group teaches nothing.
    pub zero_std: bool,
}

/// `A = (r - mean) / (std + 1e-6)` with the sample standard deviation; without the division for [`Aggregation::DrGrpo`].
/// A group whose rewards are all equal gives 0.
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

/// What is taken off the reward of a long response, not negative: 0 up to `limit - cache` tokens, rising to 1 at `limit`
/// (DAPO Eq. 13).
pub fn overlong_penalty(tokens: usize, limit: usize, cache: usize) -> f64 {
    let over = tokens.saturating_sub(limit.saturating_sub(cache)) as f64;
    (over / cache.max(1) as f64).min(1.0)
}

/// The policy loss of a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicyLoss {
    /// The loss.
    pub loss: f64,
    /// Its derivative by the token's log-probability.
    pub gradient: f64,
    /// `exp(logp - logp_old)`.
    pub ratio: f64,
    /// The clip at `1 - eps_low` took effect.
    pub clipped_low: bool,
    /// The clip at `1 + eps_high` took effect.
    pub clipped_high: bool,
    /// The dual clip took effect.
    pub dual_clipped: bool,
}

/// `max(-A r, -A clip(r, 1 - eps_low, 1 + eps_high))`, and where A < 0 at most `-A dual`; r = exp(logp - logp_old).
pub fn policy_loss(logp: f64, old: f64, advantage: f64, settings: &GrpoSettings) -> PolicyLoss {
    let ratio = libm::exp(logp - old);
    let (low, high) = (1.0 - settings.eps_low, 1.0 + settings.eps_high);
    let plain = -advantage * ratio;
    let clipped = -advantage * ratio.clamp(low, high);
    let mut out = PolicyLoss {
        loss: plain,
        gradient: plain,
        ratio,
        clipped_low: false,
        clipped_high: false,
        dual_clipped: false,
    };
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

/// `exp(x) - x - 1` for `x = ref - logp` held within 20, the result held within 10; and its derivative by `logp`
/// (Schulman 2020, "Approximating KL divergence", k3).
pub fn k3(logp: f64, reference: f64) -> (f64, f64) {
    let difference = reference - logp;
    let x = difference.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT);
    let k3 = libm::exp(x) - x - 1.0;
    let free = difference.abs() <= LOG_RATIO_LIMIT && k3 <= K3_LIMIT;
    (k3.min(K3_LIMIT), if free { 1.0 - libm::exp(x) } else { 0.0 })
}

/// `min(exp(logp_old - logp_sampler), cap)`, and whether the cap took effect.
pub fn importance_weight(old: f64, sampler: f64, cap: f64) -> (f64, bool) {
    let weight = libm::exp(old - sampler);
    (weight.min(cap), weight > cap)
}

/// What each token of a response of each of these lengths weighs in the loss of a batch.
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
    fn equal_rewards_teach_nothing() {
        for aggregation in [Aggregation::Token, Aggregation::Sequence, Aggregation::DrGrpo] {
            let of = advantages(&[0.3; 5], aggregation);
            assert_eq!((of.values, of.std, of.zero_std), (vec![0.0; 5], 0.0, true));
            assert_eq!(advantages(&[7.0], aggregation).values, [0.0]);
            assert!(advantages(&[], aggregation).values.is_empty());
        }
    }

    #[test]
    fn the_penalty_for_length_rises_at_the_end() {
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
