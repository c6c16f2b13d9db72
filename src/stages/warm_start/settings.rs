//! The settings of a warm start, and their conversion to the trainer's settings.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::training::lora::LoraSettings;
use crate::training::step::ComputeSettings;
use crate::training::{AdamWSettings, MomentType, Schedule, ScheduleKind, TrainScope};

/// Settings of a warm start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WarmStartSettings {
    /// Number of rows per step.
    pub rows_per_step: u32,
    /// Number of passes over the table.
    pub epochs: u32,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Schedule of the learning rate after the warm-up: constant or cosine.
    pub schedule: ScheduleKind,
    /// Number of warm-up steps; the rate of the first step is not 0.
    pub warmup_steps: u32,
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
    /// Whether to leave the vision tower unchanged.
    pub freeze_vision: bool,
    /// Rank of LoRA adapters on the text tower, the only weights trained then; 0: no adapters.
    pub lora_rank: u32,
    /// LoRA: alpha; an adapter's output is scaled by alpha / rank.
    pub lora_alpha: f64,
    /// Maximum number of tokens of prompt and response together; longer rows are left out.
    pub max_tokens: u32,
    /// Number of tokens per micro-batch. Changes results by rounding only.
    pub micro_batch_tokens: u32,
    /// Activation checkpointing: number of layers recomputed together in the backward pass. Fewer
    /// take less memory and more time; as many as the model has recompute nothing.
    #[serde(rename(serialize = "layers_at_once"), alias = "layers_at_once")]
    pub layers_per_checkpoint: u32,
    /// Interval between checkpoints, in steps; the last step always has one.
    pub checkpoint_every: u32,
    /// Seed of fresh adapters.
    pub seed: u64,
}

impl Default for WarmStartSettings {
    fn default() -> Self {
        Self {
            rows_per_step: 64,
            epochs: 1,
            learning_rate: 1e-5,
            schedule: ScheduleKind::Cosine,
            warmup_steps: 20,
            final_share: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            max_grad_norm: 1.0,
            freeze_vision: false,
            lora_rank: 0,
            lora_alpha: 32.0,
            max_tokens: 4096,
            micro_batch_tokens: 4096,
            layers_per_checkpoint: 4,
            checkpoint_every: 100,
            seed: 0,
        }
    }
}

impl WarmStartSettings {
    pub(super) fn trained(&self) -> TrainScope {
        match (self.lora_rank, self.freeze_vision) {
            (0, false) => TrainScope::All,
            (0, true) => TrainScope::Text,
            (rank, _) => TrainScope::Lora(LoraSettings::on_all_targets(rank as usize, self.lora_alpha)),
        }
    }

    pub(super) fn optimizer(&self) -> AdamWSettings {
        let Self { beta1, beta2, epsilon: eps, weight_decay, max_grad_norm, .. } = *self;
        AdamWSettings { beta1, beta2, eps, weight_decay, max_grad_norm, moments: MomentType::F32 }
    }

    pub(super) fn schedule(&self, steps: u32) -> Schedule {
        Schedule {
            kind: self.schedule,
            peak: self.learning_rate,
            warmup: u64::from(self.warmup_steps),
            total: u64::from(steps),
            final_share: self.final_share,
        }
    }

    pub(super) fn compute(&self, threads: usize) -> ComputeSettings {
        ComputeSettings {
            temperature: 1.0,
            micro_batch_tokens: self.micro_batch_tokens as usize,
            layers_per_checkpoint: self.layers_per_checkpoint as usize,
            threads,
        }
    }

    /// Returns the number of steps over a table of `rows` rows; `None` where it does not fit the
    /// counter.
    pub fn steps(&self, rows: usize) -> Option<u32> {
        let steps_per_epoch = u32::try_from(rows.div_ceil(self.rows_per_step.max(1) as usize)).ok()?;
        steps_per_epoch.checked_mul(self.epochs)
    }
}
