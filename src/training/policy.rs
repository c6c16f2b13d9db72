//! A GRPO step: sampled groups with their advantages become optimizer updates and figures to watch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::TrainingError;
use super::adamw::AdamW;
use super::grpo::{GrpoSettings, token_weights};
use super::layerwise::TokenFigures;
use super::objective::{PolicyObjective, PolicyToken};
use super::step::{Compute, figures, gradients};
use super::trainable::Trainable;
use super::tree::{Branch, Tree};
use crate::vlm::image_processor::Patches;

/// Samples of one prompt, compared with each other.
#[derive(Debug, Clone)]
pub struct Group {
    /// The prompt.
    pub prompt: Vec<u32>,
    /// Its images.
    pub images: Vec<Arc<Patches>>,
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
pub struct PolicySettings {
    /// The loss.
    pub loss: GrpoSettings,
    /// Groups of an optimizer update; the last may have fewer.
    pub groups_per_update: usize,
    /// How often the step's groups are gone through.
    pub epochs: usize,
    /// Whose log-probabilities the ratio compares with.
    pub old: OldLogprobs,
    /// How it is computed.
    pub compute: Compute,
}

/// What a step did: figures of log-probabilities in nats, means over the step's updates weighted by tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PolicyReport {
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
    /// Mean k3 a token.
    pub kl_reference: Option<f64>,
    /// Mean of `logp_old - logp`, a token.
    pub kl_old: f64,
    /// Mean entropy, a token.
    pub entropy: f64,
    /// Mean ratio.
    pub ratio_mean: f64,
    /// Largest ratio.
    pub ratio_max: f64,
    /// Share of tokens clipped below.
    pub clip_low_fraction: f64,
    /// Share of tokens clipped above.
    pub clip_high_fraction: f64,
    /// Share of tokens held by the dual clip.
    pub dual_clip_fraction: f64,
    /// Mean global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Largest one.
    pub grad_norm_max: f64,
    /// Mean absolute difference between the trainer's log-probability before the first update and the sampler's.
    pub sampler_gap_mean: f64,
    /// Largest one.
    pub sampler_gap_max: f64,
    /// Share of tokens whose importance weight was held at its cap.
    pub importance_truncated_share: Option<f64>,
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
pub fn policy_step(
    weights: &Trainable,
    optimizer: &mut AdamW,
    reference: Option<&Trainable>,
    groups: &[Group],
    settings: &PolicySettings,
    rate: impl Fn(u64) -> f64,
) -> Result<PolicyReport, TrainingError> {
    check(groups, settings, reference)?;
    let mut report = PolicyReport::default();
    let kept: Vec<(Tree, Vec<&Rollout>)> = groups.iter().filter_map(|group| tree(group, &settings.loss)).collect();
    let trees: Vec<Tree> = kept.iter().map(|(tree, _)| tree.clone()).collect();
    let per_update = settings.groups_per_update.max(1);
    let clock = Instant::now();
    let reference = match reference.filter(|_| settings.loss.beta != 0.0) {
        Some(reference) => Some(figures(reference, &trees, settings.compute)?),
        None => None,
    };
    let several = trees.len() > per_update || settings.epochs > 1;
    let before = match settings.old {
        OldLogprobs::Trainer if several => Some(figures(weights, &trees, settings.compute)?),
        _ => None,
    };
    report.reference_time = clock.elapsed();
    let mut sums = Sums::default();
    for epoch in 0..settings.epochs.max(1) {
        let mut first = 0;
        for (kept, trees) in kept.chunks(per_update).zip(trees.chunks(per_update)) {
            let targets: usize = trees.iter().map(Tree::targets).sum();
            let slice = |figures: &Option<Vec<TokenFigures>>, i: usize| figures.as_ref().map(|f| f[first + i].logprob);
            let old = |i: usize, sampler: f32| match settings.old {
                OldLogprobs::Sampler => Some(sampler),
                OldLogprobs::Trainer => slice(&before, i),
            };
            let policy = PolicyObjective {
                settings: &settings.loss,
                tokens: tokens(kept, &settings.loss, old, |i| slice(&reference, i)),
            };
            let clock = Instant::now();
            let (after, gradients) = gradients(weights, trees, &policy, settings.compute)?;
            report.gradient_time += clock.elapsed();
            let clock = Instant::now();
            report.learning_rate = rate(optimizer.updates());
            let update = optimizer.update(weights, &gradients, report.learning_rate)?;
            report.optimizer_time += clock.elapsed();
            sums.update(update.grad_norm);
            if update.skipped {
                report.updates_skipped += 1
            } else {
                report.updates += 1
            }
            let gap =
                if epoch == 0 { before.as_ref().map_or(after.as_slice(), |b| &b[first..first + targets]) } else { &[] };
            sums.tokens(&policy, &after, gap);
            first += targets;
        }
    }
    for (tree, rollouts) in &kept {
        report.samples += rollouts.len() as u32;
        report.prompt_tokens += (tree.prefix.len() * rollouts.len()) as u64;
        report.response_tokens += tree.targets() as u64;
    }
    sums.enter(&mut report, settings);
    Ok(report)
}

fn check(groups: &[Group], settings: &PolicySettings, reference: Option<&Trainable>) -> Result<(), TrainingError> {
    let fail = |key, problem: &str| Err(TrainingError::Setting { key, problem: problem.to_owned() });
    if settings.loss.beta != 0.0 && reference.is_none() {
        return fail("beta", "a divergence from the reference needs a reference");
    }
    if !(settings.compute.temperature > 0.0 && settings.compute.temperature.is_finite()) {
        return fail("temperature", "the log-probabilities of greedy samples teach nothing: it must be above 0");
    }
    for (tree, group) in groups.iter().enumerate() {
        for (branch, rollout) in group.rollouts.iter().enumerate() {
            if rollout.logprobs.len() != rollout.token_ids.len() {
                let (a, b) = (rollout.token_ids.len(), rollout.logprobs.len());
                let problem = format!("{a} tokens with {b} log-probabilities");
                return Err(TrainingError::Sequence { tree, branch, problem });
            }
            if !rollout.advantage.is_finite() {
                let problem = format!("its advantage is {}", rollout.advantage);
                return Err(TrainingError::Sequence { tree, branch, problem });
            }
        }
    }
    Ok(())
}

/// The part of a group that is trained on; none if nothing is left of it.
fn tree<'a>(group: &'a Group, settings: &GrpoSettings) -> Option<(Tree, Vec<&'a Rollout>)> {
    let takes_part = |rollout: &&Rollout| {
        rollout.in_update && !rollout.token_ids.is_empty() && !(settings.mask_truncated && rollout.truncated)
    };
    let rollouts: Vec<&Rollout> = group.rollouts.iter().filter(takes_part).collect();
    let branches: Vec<Branch> = rollouts.iter().map(|r| Branch::response(r.token_ids.clone())).collect();
    let tree = Tree { prefix: group.prompt.clone(), images: group.images.clone(), branches };
    (!rollouts.is_empty()).then_some((tree, rollouts))
}

/// What is known of every token of an update.
fn tokens(
    kept: &[(Tree, Vec<&Rollout>)],
    settings: &GrpoSettings,
    old: impl Fn(usize, f32) -> Option<f32>,
    reference: impl Fn(usize) -> Option<f32>,
) -> Vec<PolicyToken> {
    let rollouts = || kept.iter().flat_map(|(_, rollouts)| rollouts);
    let lengths: Vec<usize> = rollouts().map(|rollout| rollout.token_ids.len()).collect();
    let weights = token_weights(&lengths, settings.aggregation, settings.max_tokens);
    let mut tokens = Vec::with_capacity(lengths.iter().sum());
    for (rollout, weight) in rollouts().zip(weights) {
        for sampler in &rollout.logprobs {
            let i = tokens.len();
            let (old, reference) = (old(i, *sampler), reference(i));
            tokens.push(PolicyToken { advantage: rollout.advantage, old, sampler: *sampler, reference, weight });
        }
    }
    tokens
}

/// Sums over the tokens of all updates.
#[derive(Debug, Default)]
struct Sums {
    updates: f64,
    norm: f64,
    norm_max: f64,
    policy_loss: f64,
    k3_loss: f64,
    tokens: f64,
    k3: f64,
    kl_old: f64,
    entropy: f64,
    ratio: f64,
    ratio_max: f64,
    low: f64,
    high: f64,
    dual: f64,
    capped: f64,
    gap_tokens: f64,
    gap: f64,
    gap_max: f64,
}

impl Sums {
    fn update(&mut self, norm: f64) {
        self.updates += 1.0;
        self.norm += norm;
        self.norm_max = if norm > self.norm_max || norm.is_nan() { norm } else { self.norm_max };
    }

    fn tokens(&mut self, policy: &PolicyObjective<'_>, figures: &[TokenFigures], before: &[TokenFigures]) {
        let (policy_loss, k3_loss) = policy.losses(figures);
        self.policy_loss += policy_loss;
        self.k3_loss += k3_loss;
        for (token, figures) in policy.tokens.iter().zip(figures) {
            let parts = policy.parts(token, figures.logprob);
            self.tokens += 1.0;
            self.k3 += parts.k3;
            self.kl_old += f64::from(token.old.unwrap_or(figures.logprob)) - f64::from(figures.logprob);
            self.entropy += f64::from(figures.entropy);
            self.ratio += parts.policy.ratio;
            self.ratio_max = self.ratio_max.max(parts.policy.ratio);
            self.low += f64::from(u8::from(parts.policy.clipped_low));
            self.high += f64::from(u8::from(parts.policy.clipped_high));
            self.dual += f64::from(u8::from(parts.policy.dual_clipped));
            self.capped += f64::from(u8::from(parts.importance_capped));
        }
        for (token, before) in policy.tokens.iter().zip(before) {
            let gap = (f64::from(before.logprob) - f64::from(token.sampler)).abs();
            self.gap_tokens += 1.0;
            self.gap += gap;
            self.gap_max = self.gap_max.max(gap);
        }
    }

    fn enter(&self, report: &mut PolicyReport, settings: &PolicySettings) {
        let tokens = self.tokens.max(1.0);
        let updates = self.updates.max(1.0);
        report.policy_loss = self.policy_loss / updates;
        report.kl_loss = settings.loss.beta * self.k3_loss / updates;
        report.loss = report.policy_loss + report.kl_loss;
        report.kl_reference = (settings.loss.beta != 0.0).then_some(self.k3 / tokens);
        report.kl_old = self.kl_old / tokens;
        report.entropy = self.entropy / tokens;
        report.ratio_mean = self.ratio / tokens;
        report.ratio_max = self.ratio_max;
        report.clip_low_fraction = self.low / tokens;
        report.clip_high_fraction = self.high / tokens;
        report.dual_clip_fraction = self.dual / tokens;
        report.grad_norm = self.norm / updates;
        report.grad_norm_max = self.norm_max;
        report.sampler_gap_mean = self.gap / self.gap_tokens.max(1.0);
        report.sampler_gap_max = self.gap_max;
        report.importance_truncated_share = settings.loss.importance_cap.map(|_| self.capped / tokens);
    }
}
