//! Supervised steps: cross-entropy on response tokens, the warm start.

use super::TrainingError;
use super::gradients::Gradients;
use super::layerwise::{Objective, TokenFigures};
use super::step::{Compute, gradients};
use super::trainable::Trainable;
use super::tree::Tree;

/// The mean of `-log p` over all targets of a batch.
#[derive(Debug, Clone, Copy)]
pub struct CrossEntropy {
    /// One over the number of targets.
    weight: f32,
}

impl CrossEntropy {
    /// Over so many targets.
    pub fn over(targets: usize) -> Self {
        Self { weight: 1.0 / targets.max(1) as f32 }
    }
}

impl Objective for CrossEntropy {
    fn gradient(&self, _: usize, _: f32) -> f32 {
        -self.weight
    }
}

/// The loss, the figures of every target, and the gradients of a batch.
pub fn cross_entropy(
    weights: &Trainable,
    trees: &[Tree],
    compute: Compute,
) -> Result<(f64, Vec<TokenFigures>, Gradients), TrainingError> {
    let targets = trees.iter().map(Tree::targets).sum();
    let (figures, gradients) = gradients(weights, trees, &CrossEntropy::over(targets), compute)?;
    let sum: f64 = figures.iter().map(|token| f64::from(token.logprob)).sum();
    Ok((-sum / targets.max(1) as f64, figures, gradients))
}
