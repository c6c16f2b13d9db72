//! A GRPO step: sampled groups with their advantages become optimizer updates and stats to watch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::TrainingError;
use super::adamw::AdamW;
use super::grpo::{GrpoSettings, token_weights};
use super::layerwise::TokenStats;
use super::objective::{PolicyObjective, PolicyToken};
use super::picture::Picture;
use super::policy_metrics::{PolicyMetricSums, TokenMeans};
use super::prefix_group::{Continuation, PrefixGroup};
use super::step::{ComputeSettings, gradients, token_stats};
use super::trainable::TrainableModel;

/// Samples of one prompt, compared with each other.
#[derive(Debug, Clone)]
pub struct Group {
    /// The prompt.
    pub prompt: Vec<u32>,
    /// Its images.
    pub images: Vec<Arc<Picture>>,
    /// Its samples.
    pub rollouts: Vec<Rollout>,
}

/// A sample and what it is worth.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// Its tokens.
    pub token_ids: Vec<u32>,
    /// The sampler's log-probability of each.
    pub logprobs: Vec<f32>,
    /// Its advantage.
    pub advantage: f64,
    /// Whether it was cut off at the token limit.
    pub truncated: bool,
    /// Whether it takes part in the update.
    pub in_update: bool,
}

impl Rollout {
    /// Whether it counts: among the tokens, among the samples, and in the stats. What is masked counts nowhere; only its
    /// reward is in its group's mean.
    pub fn counts(&self, settings: &GrpoSettings) -> bool {
        self.in_update && !self.token_ids.is_empty() && !(settings.mask_truncated && self.truncated)
    }
}

/// Whose log-probabilities the ratio compares with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OldLogprobs {
    /// The trainer's own before the first update of the step, whatever the sampler's rounding. A step of one update needs
    /// no extra pass for them: its ratio is 1.
    Trainer,
    /// Those that the sampler recorded.
    Sampler,
}

/// How a step is made.
#[derive(Debug, Clone, PartialEq)]
pub struct GrpoStepSettings {
    /// The loss.
    pub loss: GrpoSettings,
    /// Groups of an optimizer update; the last may have fewer.
    pub groups_per_update: usize,
    /// How often the step's groups are gone through.
    pub epochs: usize,
    /// Whose log-probabilities the ratio compares with.
    pub old: OldLogprobs,
    /// How it is computed.
    pub compute: ComputeSettings,
}

/// What a step did: stats of log-probabilities in nats.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GrpoStepReport {
    /// Updates made.
    pub updates: u32,
    /// Updates skipped, because the gradient was not finite.
    pub updates_skipped: u32,
    /// Learning rate of the last update.
    pub learning_rate: f64,
    /// Mean over the updates of the whole loss.
    pub loss: f64,
    /// Its policy part.
    pub policy_loss: f64,
    /// Its part of beta times k3.
    pub kl_loss: f64,
    /// Means over the tokens.
    pub tokens: TokenMeans,
    /// Mean global norm of the gradient before clipping; none where there was nothing to update by.
    pub grad_norm: Option<f64>,
    /// Largest one.
    pub grad_norm_max: Option<f64>,
    /// Prompt tokens of all samples.
    pub prompt_tokens: u64,
    /// Response tokens in the updates.
    pub response_tokens: u64,
    /// Samples in the updates.
    pub samples: u32,
    /// Time for the reference's and the old log-probabilities.
    pub reference_time: Duration,
    /// Time for forward and backward passes.
    pub gradient_time: Duration,
    /// Time for the optimizer.
    pub optimizer_time: Duration,
}

/// Makes the updates of a step. `reference` is needed where beta is not 0; `rate` gives the learning rate of an update by
/// the optimizer's count.
pub fn grpo_step(
    weights: &TrainableModel,
    optimizer: &mut AdamW,
    reference: Option<&TrainableModel>,
    groups: &[Group],
    settings: &GrpoStepSettings,
    rate: impl Fn(u64) -> f64,
) -> Result<GrpoStepReport, TrainingError> {
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
    let several = prefix_groups.len() > per_update || settings.epochs > 1;
    let before = match settings.old {
        OldLogprobs::Trainer if several => Some(token_stats(weights, &prefix_groups, settings.compute)?),
        _ => None,
    };
    report.reference_time = clock.elapsed();
    let mut norms = Vec::new();
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
            let policy = PolicyObjective {
                settings: &settings.loss,
                tokens: policy_tokens(rollouts(kept), &settings.loss, old, |i| slice(&reference, i)),
            };
            let clock = Instant::now();
            let (after, gradients) = gradients(weights, prefix_groups, &policy, settings.compute)?;
            report.gradient_time += clock.elapsed();
            let clock = Instant::now();
            report.learning_rate = rate(optimizer.updates());
            let update = optimizer.update(weights.variables(), &gradients, report.learning_rate)?;
            report.optimizer_time += clock.elapsed();
            norms.push(update.grad_norm);
            if update.skipped {
                report.updates_skipped += 1
            } else {
                report.updates += 1
            }
            let gap =
                if epoch == 0 { before.as_ref().map_or(after.as_slice(), |b| &b[first..first + targets]) } else { &[] };
            sums.add(&policy, &after, gap);
            first += targets;
        }
    }
    for (prefix_group, rollouts) in &kept {
        report.samples += rollouts.len() as u32;
        report.prompt_tokens += (prefix_group.prefix.len() * rollouts.len()) as u64;
        report.response_tokens += prefix_group.targets() as u64;
    }
    if !norms.is_empty() {
        let updates = norms.len() as f64;
        let larger = |a: f64, b: f64| if b > a || b.is_nan() { b } else { a };
        report.grad_norm = Some(norms.iter().sum::<f64>() / updates);
        report.grad_norm_max = Some(norms.iter().copied().fold(0.0, larger));
        report.policy_loss = sums.policy_loss() / updates;
        report.kl_loss = settings.loss.beta * sums.k3_loss() / updates;
        report.loss = report.policy_loss + report.kl_loss;
    }
    report.tokens = sums.means();
    Ok(report)
}

fn check(
    groups: &[Group],
    settings: &GrpoStepSettings,
    reference: Option<&TrainableModel>,
) -> Result<(), TrainingError> {
    let fail = |key, problem: &str| Err(TrainingError::Setting { key, problem: problem.to_owned() });
    if settings.loss.beta != 0.0 && reference.is_none() {
        return fail("beta", "a divergence from the reference needs a reference");
    }
    if !(settings.compute.temperature > 0.0 && settings.compute.temperature.is_finite()) {
        return fail("temperature", "the log-probabilities of greedy samples teach nothing: it must be above 0");
    }
    for (prefix_group, group) in groups.iter().enumerate() {
        for (continuation, rollout) in group.rollouts.iter().enumerate() {
            if rollout.logprobs.len() != rollout.token_ids.len() {
                let (a, b) = (rollout.token_ids.len(), rollout.logprobs.len());
                let problem = format!("{a} tokens with {b} log-probabilities");
                return Err(TrainingError::Sequence { prefix_group, continuation, problem });
            }
            if !rollout.advantage.is_finite() {
                let problem = format!("its advantage is {}", rollout.advantage);
                return Err(TrainingError::Sequence { prefix_group, continuation, problem });
            }
        }
    }
    Ok(())
}

/// The part of a group that is trained on; none if nothing is left of it.
fn prefix_group<'a>(group: &'a Group, settings: &GrpoSettings) -> Option<(PrefixGroup, Vec<&'a Rollout>)> {
    let rollouts: Vec<&Rollout> = group.rollouts.iter().filter(|rollout| rollout.counts(settings)).collect();
    let continuations: Vec<Continuation> =
        rollouts.iter().map(|r| Continuation::response(r.token_ids.clone())).collect();
    let prefix_group = PrefixGroup { prefix: group.prompt.clone(), images: group.images.clone(), continuations };
    (!rollouts.is_empty()).then_some((prefix_group, rollouts))
}

fn rollouts<'a>(kept: &'a [(PrefixGroup, Vec<&'a Rollout>)]) -> Vec<&'a Rollout> {
    kept.iter().flat_map(|(_, rollouts)| rollouts.iter().copied()).collect()
}

/// What is known of every token of an update: its samples are those that count, and `old` and `reference` give the
/// log-probabilities of a token by its number, `old` from the sampler's.
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
