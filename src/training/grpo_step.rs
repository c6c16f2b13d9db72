//! A GRPO training step: groups of rollouts with advantages become optimizer updates and metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::adamw::AdamW;
use super::grpo::{GrpoSettings, token_weights};
use super::layerwise::TokenStats;
use super::objective::{PolicyObjective, PolicyToken};
use super::policy_metrics::PolicyMetricSums;
use super::prefix_group::{Continuation, PrefixGroup};
use super::prepared_image::PreparedImage;
use super::step::{ComputeSettings, gradients, token_stats};
use super::trainable::TrainableModel;
use super::{Result, TrainingError};
use crate::tables::MetricRow;

/// The rollouts of one prompt, whose rewards are compared with each other.
#[derive(Debug, Clone)]
pub struct RolloutGroup {
    /// Token ids of the prompt.
    pub prompt: Vec<u32>,
    /// Images of the prompt.
    pub images: Vec<Arc<PreparedImage>>,
    /// Rollouts of the prompt.
    pub rollouts: Vec<Rollout>,
}

/// A sampled response with its advantage.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Token ids of the response.
    pub token_ids: Vec<u32>,
    /// Log-probability of each token, as the sampler recorded it.
    pub logprobs: Vec<f32>,
    /// Advantage.
    pub advantage: f64,
    /// Whether the response was cut off at the token limit.
    pub truncated: bool,
    /// Whether the rollout is part of the update.
    pub in_update: bool,
}

impl Rollout {
    /// Whether the rollout is in the loss and the metrics. One that is not only contributes its
    /// reward to its group's mean.
    pub fn is_in_loss(&self, settings: &GrpoSettings) -> bool {
        self.in_update && !self.token_ids.is_empty() && !(settings.mask_truncated && self.truncated)
    }
}

/// Source of the old policy's log-probabilities, the denominator of the ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OldLogprobs {
    /// Recomputed by the trainer before the step's first update, free of the sampler's rounding. A
    /// step of a single update needs no extra forward pass: its ratio is 1.
    Trainer,
    /// Recorded by the sampler.
    Sampler,
}

/// Settings of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpoStepSettings {
    /// Settings of the loss.
    pub loss: GrpoSettings,
    /// Number of groups per optimizer update; the last update may have fewer.
    pub groups_per_update: usize,
    /// Number of passes over the step's groups.
    pub epochs: usize,
    /// Source of the old policy's log-probabilities.
    pub old: OldLogprobs,
    /// Settings of the computation of batches.
    pub compute: ComputeSettings,
}

/// Metrics and times of a step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GrpoStepReport {
    /// The metrics of the updates; those of groups, rewards and response lengths are not set.
    pub metrics: MetricRow,
    /// Time for log-probabilities under the reference and the old policy.
    pub reference_time: Duration,
    /// Time for forward and backward passes.
    pub gradient_time: Duration,
    /// Time for the optimizer.
    pub optimizer_time: Duration,
}

/// Runs the updates of a step. `reference` is required if beta is not 0; `rate` maps the
/// optimizer's update count to the learning rate.
pub fn grpo_step(
    weights: &TrainableModel,
    optimizer: &mut AdamW,
    reference: Option<&TrainableModel>,
    groups: &[RolloutGroup],
    settings: &GrpoStepSettings,
    rate: impl Fn(u64) -> f64,
) -> Result<GrpoStepReport> {
    check(groups, settings, reference)?;
    let mut report = GrpoStepReport::default();
    let kept: Vec<(PrefixGroup, Vec<&Rollout>)> =
        groups.iter().filter_map(|group| prefix_group(group, &settings.loss)).collect();
    let prefix_groups: Vec<PrefixGroup> = kept.iter().map(|(prefix_group, _)| prefix_group.clone()).collect();
    let per_update = settings.groups_per_update.max(1);
    let clock = Instant::now();
    let reference = match reference.filter(|_| settings.loss.beta != 0.0) {
        Some(reference) => Some(token_stats(reference, &prefix_groups, settings.compute)?),
        None => None,
    };
    let has_several_updates = prefix_groups.len() > per_update || settings.epochs > 1;
    let before = match settings.old {
        OldLogprobs::Trainer if has_several_updates => Some(token_stats(weights, &prefix_groups, settings.compute)?),
        _ => None,
    };
    report.reference_time = clock.elapsed();
    let (mut norms, mut updates_skipped, mut learning_rate) = (Vec::new(), 0, 0.0);
    let mut sums = PolicyMetricSums::default();
    for epoch in 0..settings.epochs.max(1) {
        let mut first = 0;
        for (kept, prefix_groups) in kept.chunks(per_update).zip(prefix_groups.chunks(per_update)) {
            let targets: usize = prefix_groups.iter().map(PrefixGroup::targets).sum();
            let slice = |stats: &Option<Vec<TokenStats>>, i: usize| stats.as_ref().map(|f| f[first + i].logprob);
            let old = |i: usize, sampler: f32| match settings.old {
                OldLogprobs::Sampler => Some(sampler),
                OldLogprobs::Trainer => slice(&before, i),
            };
            let rollouts = kept.iter().flat_map(|(_, rollouts)| rollouts.iter().copied()).collect();
            let policy = PolicyObjective {
                settings: &settings.loss,
                tokens: policy_tokens(rollouts, &settings.loss, old, |i| slice(&reference, i)),
            };
            let clock = Instant::now();
            let (after, gradients) = gradients(weights, prefix_groups, &policy, settings.compute)?;
            report.gradient_time += clock.elapsed();
            let clock = Instant::now();
            learning_rate = rate(optimizer.updates());
            let update = optimizer.update(weights.variables(), &gradients, learning_rate)?;
            report.optimizer_time += clock.elapsed();
            norms.push(update.grad_norm);
            updates_skipped += u32::from(update.skipped);
            let gap =
                if epoch == 0 { before.as_ref().map_or(after.as_slice(), |b| &b[first..first + targets]) } else { &[] };
            sums.add(&policy, &after, gap);
            first += targets;
        }
    }
    let updates = norms.len().max(1) as f64;
    let larger = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
    let finite = |x: f64| x.is_finite().then_some(x);
    let (policy_loss, kl_loss) = (sums.policy_loss() / updates, settings.loss.beta * sums.k3_loss() / updates);
    report.metrics = MetricRow {
        updates: norms.len() as u32 - updates_skipped,
        updates_skipped,
        learning_rate,
        loss: finite(policy_loss + kl_loss),
        policy_loss: finite(policy_loss),
        kl_loss: finite(kl_loss),
        // Null without an update.
        grad_norm: (!norms.is_empty()).then(|| norms.iter().sum::<f64>() / updates).and_then(finite),
        grad_norm_max: norms.iter().copied().reduce(larger).and_then(finite),
        // Counted for every rollout.
        prompt_tokens: kept.iter().map(|(group, rollouts)| (group.prefix.len() * rollouts.len()) as u64).sum(),
        response_tokens: prefix_groups.iter().map(PrefixGroup::targets).sum::<usize>() as u64,
        samples: kept.iter().map(|(_, rollouts)| rollouts.len() as u32).sum(),
        ..sums.means()
    };
    Ok(report)
}

fn check(groups: &[RolloutGroup], settings: &GrpoStepSettings, reference: Option<&TrainableModel>) -> Result<()> {
    let fail = |key, problem: &str| Err(TrainingError::Setting { key, problem: problem.to_owned() });
    if settings.loss.beta != 0.0 && reference.is_none() {
        return fail("beta", "a KL penalty needs a reference policy");
    }
    if !(settings.compute.temperature > 0.0 && settings.compute.temperature.is_finite()) {
        return fail("temperature", "it must be above 0: greedy sampling has no policy gradient");
    }
    for (prefix_group, group) in groups.iter().enumerate() {
        for (continuation, rollout) in group.rollouts.iter().enumerate() {
            let (tokens, logprobs) = (rollout.token_ids.len(), rollout.logprobs.len());
            let problem = match rollout.advantage {
                _ if tokens != logprobs => format!("{tokens} tokens with {logprobs} log-probabilities"),
                advantage if !advantage.is_finite() => format!("its advantage is {advantage}"),
                _ => continue,
            };
            return Err(TrainingError::Sequence { prefix_group, continuation, problem });
        }
    }
    Ok(())
}

/// Returns the rollouts of a group that are in the loss; `None` if there are none.
fn prefix_group<'a>(group: &'a RolloutGroup, settings: &GrpoSettings) -> Option<(PrefixGroup, Vec<&'a Rollout>)> {
    let rollouts: Vec<&Rollout> = group.rollouts.iter().filter(|rollout| rollout.is_in_loss(settings)).collect();
    let continuations: Vec<Continuation> =
        rollouts.iter().map(|r| Continuation::response(r.token_ids.clone())).collect();
    let prefix_group = PrefixGroup { prefix: group.prompt.clone(), images: group.images.clone(), continuations };
    (!rollouts.is_empty()).then_some((prefix_group, rollouts))
}

/// Returns the loss inputs of every token of an update. `rollouts` are those in the loss; `old` and
/// `reference` map a token's index to its log-probabilities, `old` given also the sampler's.
pub fn policy_tokens(
    rollouts: Vec<&Rollout>,
    settings: &GrpoSettings,
    old: impl Fn(usize, f32) -> Option<f32>,
    reference: impl Fn(usize) -> Option<f32>,
) -> Vec<PolicyToken> {
    let lengths: Vec<usize> = rollouts.iter().map(|rollout| rollout.token_ids.len()).collect();
    let weights = token_weights(&lengths, settings.aggregation, settings.max_tokens);
    let mut tokens = Vec::with_capacity(lengths.iter().sum());
    for (rollout, weight) in rollouts.into_iter().zip(weights) {
        for sampler in &rollout.logprobs {
            let i = tokens.len();
            let (old, reference) = (old(i, *sampler), reference(i));
            tokens.push(PolicyToken { advantage: rollout.advantage, old, sampler: *sampler, reference, weight });
        }
    }
    tokens
}
