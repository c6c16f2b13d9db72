//! The settings of a role's training, and their conversion to the trainer's settings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::training::grpo::{Aggregation, GrpoSettings};
use crate::training::grpo_step::{GrpoStepSettings, OldLogprobs};
use crate::training::lora::LoraSettings;
use crate::training::step::ComputeSettings;
use crate::training::{AdamWSettings, MomentType, Schedule, ScheduleKind, TrainScope};

/// Settings of a role's training by GRPO.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateSettings {
    /// Number of steps per round; 0 leaves the role unchanged.
    pub steps: u32,
    /// Number of prompts per step: images for the Questioner, curriculum rows for the Reasoner.
    pub prompts_per_step: u32,
    /// Number of prompts per optimizer update (minibatch).
    pub prompts_per_update: u32,
    /// Number of passes over the prompts of a step.
    pub epochs: u32,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Schedule of the learning rate after the warm-up: constant or cosine.
    pub schedule: ScheduleKind,
    /// Number of warm-up updates; the rate of the first update is not 0.
    pub warmup_updates: u32,
    /// Share of the peak rate that the cosine schedule ends at.
    pub final_share: f64,
    /// AdamW: decay rate of the first moment.
    pub beta1: f64,
    /// AdamW: decay rate of the second moment.
    pub beta2: f64,
    /// AdamW: constant added to the square root of the second moment.
    pub epsilon: f64,
    /// AdamW: decoupled weight decay, multiplied by the learning rate.
    pub weight_decay: f64,
    /// Maximum global norm of the gradients, to which they are scaled down.
    pub max_grad_norm: f64,
    /// AdamW: dtype of the moments, f32 or bf16 (half the memory, with stochastic rounding).
    #[serde(skip_serializing_if = "MomentType::is_f32")]
    pub moments: MomentType,
    /// Lower clipping range: ratios below 1 - eps_low are clipped.
    pub eps_low: f64,
    /// Upper clipping range: ratios above 1 + eps_high are clipped.
    pub eps_high: f64,
    /// Dual clipping: for a negative advantage the loss is at most -advantage * dual; 0: no limit.
    pub dual: f64,
    /// Weight of the KL divergence from the reference policy, which is the model at the start of
    /// the role's training; 0: no reference policy.
    pub beta: f64,
    /// Aggregation of token losses: token, sequence or dr-grpo.
    pub aggregation: Aggregation,
    /// Source of the old log-probabilities in the ratio: trainer or sampler.
    pub old_logprobs: OldLogprobs,
    /// Whether to leave out groups whose rewards are all equal (DAPO).
    pub drop_zero_std: bool,
    /// Whether to leave out samples that were truncated at the token limit.
    pub mask_truncated: bool,
    /// Number of tokens before the limit over which the length penalty rises to 1 (DAPO); 0: no
    /// penalty.
    pub overlong_tokens: u32,
    /// Maximum importance weight of a token between sampler and trainer; 0: no importance weights.
    pub importance_cap: f64,
    /// Weights to train: all, text or lora.
    pub train: TrainedPart,
    /// LoRA: rank of the adapters.
    pub lora_rank: u32,
    /// LoRA: alpha; an adapter's output is scaled by alpha / rank.
    pub lora_alpha: f64,
    /// Number of tokens per micro-batch. Changes results by rounding only.
    pub micro_batch_tokens: u32,
    /// Activation checkpointing: number of layers recomputed together in the backward pass. Fewer
    /// take less memory and more time; as many as the model has recompute nothing.
    #[serde(rename(serialize = "layers_at_once"), alias = "layers_at_once")]
    pub layers_per_checkpoint: u32,
    /// Interval between checkpoints, in steps; the last step always has one.
    pub checkpoint_every: u32,
}

/// The weights to train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrainedPart {
    /// Every tensor.
    All,
    /// The text tower.
    Text,
    /// LoRA adapters on the linear layers of the text tower.
    Lora,
}

impl Default for UpdateSettings {
    fn default() -> Self {
        Self {
            steps: 20,
            prompts_per_step: 512,
            prompts_per_update: 128,
            epochs: 1,
            learning_rate: 1e-6,
            schedule: ScheduleKind::Constant,
            warmup_updates: 0,
            final_share: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            moments: MomentType::F32,
            eps_low: 0.2,
            eps_high: 0.3,
            dual: 3.0,
            beta: 0.01,
            aggregation: Aggregation::Sequence,
            old_logprobs: OldLogprobs::Trainer,
            drop_zero_std: false,
            mask_truncated: false,
            overlong_tokens: 0,
            importance_cap: 0.0,
            train: TrainedPart::All,
            lora_rank: 16,
            lora_alpha: 32.0,
            micro_batch_tokens: 8192,
            layers_per_checkpoint: 4,
            checkpoint_every: 5,
        }
    }
}

impl UpdateSettings {
    /// Returns the weights to train.
    pub fn trained(&self) -> TrainScope {
        match self.train {
            TrainedPart::All => TrainScope::All,
            TrainedPart::Text => TrainScope::Text,
            TrainedPart::Lora => {
                TrainScope::Lora(LoraSettings::on_all_targets(self.lora_rank as usize, self.lora_alpha))
            }
        }
    }

    /// Returns the settings of the optimizer.
    pub fn optimizer(&self) -> AdamWSettings {
        let Self { beta1, beta2, epsilon: eps, weight_decay, max_grad_norm, moments, .. } = *self;
        AdamWSettings { beta1, beta2, eps, weight_decay, max_grad_norm, moments }
    }

    /// Returns the learning-rate schedule.
    pub fn rates(&self) -> Schedule {
        let updates_per_step = self.prompts_per_step.div_ceil(self.prompts_per_update.max(1)) * self.epochs.max(1);
        Schedule {
            kind: self.schedule,
            peak: self.learning_rate,
            warmup: u64::from(self.warmup_updates),
            total: u64::from(self.steps) * u64::from(updates_per_step),
            final_share: self.final_share,
        }
    }

    /// Returns the settings of a GRPO step on samples of at most `max_tokens` tokens, drawn at
    /// `temperature`.
    pub fn policy(&self, max_tokens: u32, temperature: f64) -> GrpoStepSettings {
        GrpoStepSettings {
            loss: GrpoSettings {
                eps_low: self.eps_low,
                eps_high: self.eps_high,
                dual: (self.dual > 0.0).then_some(self.dual),
                beta: self.beta,
                aggregation: self.aggregation,
                max_tokens: max_tokens as usize,
                mask_truncated: self.mask_truncated,
                importance_cap: (self.importance_cap > 0.0).then_some(self.importance_cap),
            },
            groups_per_update: self.prompts_per_update as usize,
            epochs: self.epochs as usize,
            old: self.old_logprobs,
            compute: ComputeSettings {
                temperature,
                micro_batch_tokens: self.micro_batch_tokens as usize,
                layers_per_checkpoint: self.layers_per_checkpoint as usize,
                threads: rayon::current_num_threads(),
            },
        }
    }
}
