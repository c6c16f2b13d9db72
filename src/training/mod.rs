//! Training on the CPU and on GPUs: GRPO and supervised steps, LoRA, AdamW.
//!
//! A step takes [`PrefixGroup`]s: token sequences that share a prefix (and its images), which is
//! computed once. The groups are cut into micro-batches whose gradients are accumulated. Each
//! micro-batch runs forward through the vision tower, the text tower and the LM head, and backward
//! again ([`layerwise`]); activations are checkpointed, so that only the inputs of a few layers are
//! held. The loss is an [`Objective`] over the log-probabilities of the target tokens:
//! cross-entropy ([`supervised`]) or the clipped policy loss of GRPO ([`grpo`], [`objective`]).
//! AdamW ([`adamw`]), with moments in f32 or bf16, updates the trained tensors of a
//! [`TrainableModel`].
//!
//! The layers are those that sampling uses. A step gives the same bytes on one class of machine for
//! any number of threads: the micro-batches do not depend on the threads, and their gradients are
//! added in a fixed order.

pub mod adamw;
pub mod adapter;
mod backward_from;
mod checkpointed_towers;
mod cpu_backward;
mod floats;
pub mod gradients;
pub mod grpo;
pub mod grpo_step;
pub mod layerwise;
mod lm_head;
pub mod lora;
mod micro_batch;
pub mod objective;
pub mod policy_metrics;
pub mod prefix_group;
pub mod prepared_image;
mod rounding;
pub mod schedule;
pub mod step;
pub mod supervised;
pub mod trainable;

pub use adamw::{AdamW, AdamWSettings, MomentType};
pub use grpo_step::{GrpoStepReport, GrpoStepSettings, OldLogprobs, Rollout, RolloutGroup, grpo_step};
pub use layerwise::{Objective, TokenStats};
pub use prefix_group::{Continuation, PrefixGroup};
pub use prepared_image::PreparedImage;
pub use schedule::{Schedule, ScheduleKind};
pub use step::ComputeSettings;
pub use trainable::{TrainScope, TrainableModel};

/// The result of a part of a training step.
pub type Result<T, E = TrainingError> = std::result::Result<T, E>;

/// An error of a training step.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// A tensor operation failed.
    #[error("the training step failed: {0}")]
    Model(#[from] candle_core::Error),
    /// The images do not match the image placeholders of a prompt.
    #[error(transparent)]
    Placeholders(#[from] crate::vlm::rope::PlaceholderError),
    /// A sequence cannot be trained on.
    #[error("prefix group {prefix_group}, continuation {continuation}: {problem}")]
    Sequence {
        /// Index of the prefix group in the batch.
        prefix_group: usize,
        /// Index of the continuation in its prefix group.
        continuation: usize,
        /// Description of the problem.
        problem: String,
    },
    /// An image cannot be cut into patches.
    #[error("an image cannot be cut into patches: {0}")]
    Image(String),
    /// A setting has no valid value.
    #[error("{key}: {problem}")]
    Setting {
        /// Name of the setting.
        key: &'static str,
        /// Description of the problem.
        problem: String,
    },
    /// A thread cannot be started or ended early.
    #[error("a training thread failed: {0}")]
    Threads(String),
}
