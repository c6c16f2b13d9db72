//! Supervised fine-tuning (the warm start): mean cross-entropy of the response tokens.

use super::Result;
use super::gradients::Gradients;
use super::layerwise::{Objective, TokenStats};
use super::prefix_group::PrefixGroup;
use super::step::{ComputeSettings, gradients};
use super::trainable::TrainableModel;

/// The loss `-1/n * sum of log p` over the `n` targets of a batch.
struct CrossEntropy {
    /// 1 / n.
    weight: f32,
}

impl Objective for CrossEntropy {
    fn gradient(&self, _: usize, _: f32) -> f32 {
        -self.weight
    }
}

/// Computes the loss of a batch, the statistics of every target, and the gradients.
pub fn cross_entropy(
    weights: &TrainableModel,
    prefix_groups: &[PrefixGroup],
    compute: ComputeSettings,
) -> Result<(f64, Vec<TokenStats>, Gradients)> {
    let targets = prefix_groups.iter().map(PrefixGroup::targets).sum::<usize>().max(1);
    let objective = CrossEntropy { weight: 1.0 / targets as f32 };
    let (stats, gradients) = gradients(weights, prefix_groups, &objective, compute)?;
    let sum: f64 = stats.iter().map(|token| f64::from(token.logprob)).sum();
    Ok((-sum / targets as f64, stats, gradients))
}
