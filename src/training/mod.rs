//! Training: GRPO and supervised steps, layer by layer, on the same layers that sampling uses.
//!
//! A step takes [`Tree`]s: token sequences that share a beginning (and its images), computed once. Each micro-batch of
//! trees goes forward through both towers keeping the inputs of a few layers at a time, through the head in pieces, and
//! back ([`layerwise`]). What a token's log-probability is worth is an [`Objective`]: cross-entropy ([`supervised`]) or the
//! policy loss ([`grpo`]). AdamW with moments in f32 or bf16 ([`adamw`]) then moves the [`Trainable`] weights.
//!
//! The same step gives the same bytes on one class of machine: micro-batches do not depend on threads, and their
//! gradients are added in their order.

pub mod adamw;
pub mod adapter;
mod by_kernels;
mod chain;
pub mod gradients;
pub mod grpo;
mod head;
pub mod layerwise;
pub mod lora;
mod micro_batch;
pub mod objective;
pub mod picture;
pub mod policy;
pub mod policy_figures;
mod rounding;
pub mod schedule;
mod seed;
pub mod step;
pub mod supervised;
pub mod trainable;
pub mod tree;

pub use adamw::{AdamW, AdamWSettings, MomentType};
pub use layerwise::{Objective, TokenFigures};
pub use picture::Picture;
pub use policy::{Group, OldLogprobs, PolicyReport, PolicySettings, Rollout, policy_step};
pub use schedule::{Schedule, ScheduleKind};
pub use step::Compute;
pub use trainable::{Trainable, Trained};
pub use tree::{Branch, Tree};

/// Why a training step cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainingError {
    /// A tensor operation failed.
    #[error("the training step failed: {0}")]
    Model(#[from] candle_core::Error),
    /// Images and placeholders do not agree.
    #[error(transparent)]
    Placeholders(#[from] crate::vlm::rope::PlaceholderError),
    /// A sequence that cannot be trained on.
    #[error("sequence {tree}, branch {branch}: {problem}")]
    Sequence {
        /// The tree's place in the batch.
        tree: usize,
        /// The branch's place in the tree.
        branch: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// An image that cannot be cut into patches.
    #[error("an image cannot be looked at: {0}")]
    Image(String),
    /// A setting without a meaning.
    #[error("{key}: {problem}")]
    Setting {
        /// The setting's name.
        key: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Threads cannot be started, or one of them died.
    #[error("a training thread failed: {0}")]
    Threads(String),
}
