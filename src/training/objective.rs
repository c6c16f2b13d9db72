//! The GRPO loss as the worth of each token's log-probability.

use super::grpo::{GrpoSettings, PolicyLoss, importance_weight, k3, policy_loss};
use super::layerwise::{Objective, TokenStats};

/// The policy loss of an update: `sum of weight (importance policy_loss + beta k3)` over its tokens.
#[derive(Debug)]
pub struct PolicyObjective<'a> {
    /// The loss.
    pub settings: &'a GrpoSettings,
    /// Every target of the update, in order.
    pub tokens: Vec<PolicyToken>,
}

/// What is known of a token before the update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicyToken {
    /// Its response's advantage.
    pub advantage: f64,
    /// What the ratio compares with. None: the trainer's own log-probability as it comes, so that the ratio is 1.
    pub old: Option<f32>,
    /// The sampler's log-probability.
    pub sampler: f32,
    /// The reference's log-probability; none: no divergence is counted.
    pub reference: Option<f32>,
    /// Its weight in the sum.
    pub weight: f64,
}

/// A token's terms of the loss.
pub(super) struct TokenLoss {
    pub(super) policy: PolicyLoss,
    pub(super) importance: f64,
    pub(super) importance_capped: bool,
    pub(super) k3: f64,
    k3_gradient: f64,
}

impl PolicyObjective<'_> {
    /// The sums over all tokens of the policy loss and of k3 (without beta).
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
