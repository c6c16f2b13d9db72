//! The GRPO objective of an update: clipped surrogate plus KL penalty, as a loss over the tokens'
//! log-probabilities.

use super::grpo::{GrpoSettings, PolicyLoss, importance_weight, k3, policy_loss};
use super::layerwise::{Objective, TokenStats};

/// The loss of an update, a sum over its tokens t: `L = sum_t w_t (rho_t policy_loss_t + beta
/// k3_t)` with w the weight of the aggregation, rho the truncated importance weight (1 without it),
/// `policy_loss` the clipped surrogate and k3 the estimate of KL(policy || reference)
/// ([`grpo`](super::grpo)).
#[derive(Debug)]
pub struct PolicyObjective<'a> {
    /// Settings of the loss.
    pub settings: &'a GrpoSettings,
    /// Tokens of the update, in the order of the targets.
    pub tokens: Vec<PolicyToken>,
}

/// Inputs of a token's loss that the update does not change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicyToken {
    /// Advantage of the token's rollout.
    pub advantage: f64,
    /// Log-probability under the old policy, the denominator of the ratio. `None`: the current
    /// log-probability, so that the ratio is 1.
    pub old: Option<f32>,
    /// Log-probability that the sampler recorded.
    pub sampler: f32,
    /// Log-probability under the reference policy. `None`: no KL penalty.
    pub reference: Option<f32>,
    /// Weight in the sum over tokens.
    pub weight: f64,
}

/// Terms of a token's loss.
pub(super) struct TokenLoss {
    pub(super) policy: PolicyLoss,
    pub(super) importance: f64,
    pub(super) importance_capped: bool,
    pub(super) k3: f64,
    k3_gradient: f64,
}

impl PolicyObjective<'_> {
    /// Returns the weighted sums over all tokens of the policy loss and of k3 (without beta).
    pub fn losses(&self, stats: &[TokenStats]) -> (f64, f64) {
        self.tokens.iter().zip(stats).fold((0.0, 0.0), |(policy, k3), (token, stats)| {
            let terms = self.token_loss(token, stats.logprob);
            (policy + token.weight * terms.importance * terms.policy.loss, k3 + token.weight * terms.k3)
        })
    }

    pub(super) fn token_loss(&self, token: &PolicyToken, logprob: f32) -> TokenLoss {
        let logp = f64::from(logprob);
        let old = f64::from(token.old.unwrap_or(logprob));
        let (importance, importance_capped) = match self.settings.importance_cap {
            Some(cap) => importance_weight(old, f64::from(token.sampler), cap),
            None => (1.0, false),
        };
        let (k3, k3_gradient) = token.reference.map_or((0.0, 0.0), |reference| k3(logp, f64::from(reference)));
        let policy = policy_loss(logp, old, token.advantage, self.settings);
        TokenLoss { policy, importance, importance_capped, k3, k3_gradient }
    }
}

impl Objective for PolicyObjective<'_> {
    fn gradient(&self, number: usize, logprob: f32) -> f32 {
        let Some(token) = self.tokens.get(number) else { return 0.0 };
        let terms = self.token_loss(token, logprob);
        let gradient = terms.importance * terms.policy.gradient + self.settings.beta * terms.k3_gradient;
        (token.weight * gradient) as f32
    }
}
