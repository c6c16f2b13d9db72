//! Training metrics of policy updates: means over the tokens in the loss.

use super::layerwise::TokenStats;
use super::objective::PolicyObjective;
use crate::tables::MetricRow;

/// Sums over the tokens of updates, from which the means are computed.
#[derive(Debug, Default)]
pub struct PolicyMetricSums {
    policy_loss: f64,
    k3_loss: f64,
    tokens: f64,
    with_reference: f64,
    k3: f64,
    kl_old: f64,
    entropy: f64,
    ratio: f64,
    ratio_max: f64,
    low: f64,
    high: f64,
    dual: f64,
    with_cap: f64,
    capped: f64,
    gap_tokens: f64,
    gap: f64,
    gap_max: f64,
}

fn one_if(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

impl PolicyMetricSums {
    /// Adds an update's tokens. `stats` are their statistics in this update; `before` are those
    /// before the step's first update, for the gap between trainer and sampler, and may be empty.
    pub fn add(&mut self, policy: &PolicyObjective<'_>, stats: &[TokenStats], before: &[TokenStats]) {
        let (policy_loss, k3_loss) = policy.losses(stats);
        self.policy_loss += policy_loss;
        self.k3_loss += k3_loss;
        for (token, stats) in policy.tokens.iter().zip(stats) {
            let terms = policy.token_loss(token, stats.logprob);
            self.tokens += 1.0;
            self.with_reference += one_if(token.reference.is_some());
            self.k3 += terms.k3;
            self.kl_old += f64::from(token.old.unwrap_or(stats.logprob)) - f64::from(stats.logprob);
            self.entropy += f64::from(stats.entropy);
            self.ratio += terms.policy.ratio;
            self.ratio_max = self.ratio_max.max(terms.policy.ratio);
            self.low += one_if(terms.policy.clipped_low);
            self.high += one_if(terms.policy.clipped_high);
            self.dual += one_if(terms.policy.dual_clipped);
            self.with_cap += one_if(policy.settings.importance_cap.is_some());
            self.capped += one_if(terms.importance_capped);
        }
        for (token, before) in policy.tokens.iter().zip(before) {
            let gap = (f64::from(before.logprob) - f64::from(token.sampler)).abs();
            self.gap_tokens += 1.0;
            self.gap += gap;
            self.gap_max = self.gap_max.max(gap);
        }
    }

    /// Returns the sum over the updates of the policy loss.
    pub fn policy_loss(&self) -> f64 {
        self.policy_loss
    }

    /// Returns the sum over the updates of the aggregated k3, without beta.
    pub fn k3_loss(&self) -> f64 {
        self.k3_loss
    }

    /// Returns a row of metrics with the means over the tokens; null where there is no token.
    pub fn means(&self) -> MetricRow {
        let finite = |x: f64| x.is_finite().then_some(x);
        let mean = |sum: f64, tokens: f64| (tokens > 0.0).then(|| sum / tokens).and_then(finite);
        let of_all = |sum: f64| mean(sum, self.tokens);
        MetricRow {
            kl_reference: mean(self.k3, self.with_reference),
            kl_old: of_all(self.kl_old),
            entropy: of_all(self.entropy),
            ratio_mean: of_all(self.ratio),
            ratio_max: (self.tokens > 0.0).then_some(self.ratio_max).and_then(finite),
            clip_low_fraction: of_all(self.low),
            clip_high_fraction: of_all(self.high),
            dual_clip_fraction: of_all(self.dual),
            sampler_gap_mean: mean(self.gap, self.gap_tokens),
            sampler_gap_max: (self.gap_tokens > 0.0).then_some(self.gap_max).and_then(finite),
            importance_truncated_share: mean(self.capped, self.with_cap),
            ..MetricRow::default()
        }
    }
}
