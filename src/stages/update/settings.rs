//! The knobs of a role's training, and how the trainer takes them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::training::grpo::{Aggregation, GrpoSettings};
use crate::training::grpo_step::{GrpoStepSettings, OldLogprobs};
use crate::training::lora::{LoraSettings, TARGETS};
use crate::training::step::ComputeSettings;
use crate::training::{AdamWSettings, MomentType, Schedule, ScheduleKind, TrainScope};

/// How a role is trained by GRPO.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateSettings {
    /// Steps of a round; 0 leaves the role as it is.
    pub steps: u32,
    /// Prompts of a step: images for the Questioner, curriculum rows for the Reasoner.
    pub prompts_per_step: u32,
    /// Prompts of an optimizer update (a minibatch).
    pub prompts_per_update: u32,
    /// How often the prompts of a step are gone through.
    pub epochs: u32,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How the rate goes on after the warm-up: constant or cosine.
    pub schedule: ScheduleKind,
    /// Updates over which the rate rises; the first is never 0.
    pub warmup_updates: u32,
    /// The share of the rate that a cosine falls to.
    pub final_share: f64,
    /// AdamW: decay of the first moment.
    pub beta1: f64,
    /// AdamW: decay of the second moment.
    pub beta2: f64,
    /// AdamW: added to the root of the second moment.
    pub epsilon: f64,
    /// AdamW: decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
    /// Gradients are scaled so that their global norm is at most this.
    pub max_grad_norm: f64,
    /// AdamW: what its moments are kept in, f32 or bf16 (half the memory, rounded up or down by chance).
    #[serde(skip_serializing_if = "MomentType::is_f32")]
    pub moments: MomentType,
    /// A ratio below 1 - eps_low is clipped.
    pub eps_low: f64,
    /// A ratio above 1 + eps_high is clipped.
    pub eps_high: f64,
    /// Where the advantage is negative, the loss is at most -advantage * dual; 0: no such limit.
    pub dual: f64,
    /// The weight of the divergence from the weights at the start of the role's training; 0 needs no reference.
    pub beta: f64,
    /// How token losses become one number: token, sequence or dr-grpo.
    pub aggregation: Aggregation,
    /// Whose log-probabilities the ratio compares with: trainer or sampler.
    pub old_logprobs: OldLogprobs,
    /// Leave out groups whose rewards are all equal (DAPO).
    pub drop_zero_std: bool,
    /// Leave out samples that were cut off at the token limit.
    pub mask_truncated: bool,
    /// Tokens before the limit over which a penalty for length rises to 1 (DAPO); 0: no penalty.
    pub overlong_tokens: u32,
    /// The largest importance weight between sampler and trainer of a token; 0: no such weight.
    pub importance_cap: f64,
    /// Which weights move.
    pub train: TrainedPart,
    /// LoRA: width of an adapter.
    pub lora_rank: u32,
    /// LoRA: the adapter's factor is alpha / rank.
    pub lora_alpha: f64,
    /// Tokens that go through the model together. Changes results by rounding only.
    pub micro_batch_tokens: u32,
    /// Activation checkpointing: layers recomputed together in the backward pass. Fewer take less memory
    /// and more time; as many as the model has recompute nothing.
    #[serde(rename(serialize = "layers_at_once"), alias = "layers_at_once")]
    pub layers_per_checkpoint: u32,
    /// A checkpoint is kept every so many steps, and after the last one.
    pub checkpoint_every: u32,
}

/// Which weights move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrainedPart {
    /// Every tensor.
    All,
    /// The text tower.
    Text,
    /// Adapters on the linear maps of the text tower.
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
    /// What is trained.
    pub fn trained(&self) -> TrainScope {
        match self.train {
            TrainedPart::All => TrainScope::All,
            TrainedPart::Text => TrainScope::Text,
            TrainedPart::Lora => TrainScope::Lora(LoraSettings {
                rank: self.lora_rank as usize,
                alpha: self.lora_alpha,
                targets: TARGETS.map(str::to_owned).to_vec(),
            }),
        }
    }

    /// The optimizer's constants.
    pub fn optimizer(&self) -> AdamWSettings {
        let Self { beta1, beta2, epsilon: eps, weight_decay, max_grad_norm, moments, .. } = *self;
        AdamWSettings { beta1, beta2, eps, weight_decay, max_grad_norm, moments }
    }

    /// The learning rates.
    pub fn rates(&self) -> Schedule {
        let updates_a_step = self.prompts_per_step.div_ceil(self.prompts_per_update.max(1)) * self.epochs.max(1);
        Schedule {
            kind: self.schedule,
            peak: self.learning_rate,
            warmup: u64::from(self.warmup_updates),
            total: u64::from(self.steps) * u64::from(updates_a_step),
            final_share: self.final_share,
        }
    }

    /// How a step is made on samples of at most `max_tokens` tokens, drawn at `temperature`.
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
