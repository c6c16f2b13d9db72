//! Sampling: continuous batching of many prompts with many samples each.
//!
//! The vision tower runs once per image; a prompt is prefilled once and its samples share its
//! blocks of the KV cache (prefix sharing); finished samples are replaced at once (continuous
//! batching); and the cache is allocated once. A sample is a function of the model, its prompt, its
//! options and its own random stream: batch size, order, other samples and threads do not change
//! it. On a CPU in f32 that holds to the last bit, log-probabilities included, because the kernels
//! are batch-invariant ([`crate::kernels`]). On a GPU the matrix products choose the order of their
//! sums by shape, and it holds up to rounding.

mod batch_worker;
mod block_pool;
mod engine;
mod image;
mod job;
mod options;
mod partial_sample;
mod sample_on_device;
mod sample_token;
mod score;
mod ticket_queue;

pub use engine::{Engine, EngineOptions};
pub use image::ImageInput;
pub use job::{FinishReason, Job, Outcome, Sample, SamplingError};
pub use options::{OptionsError, SamplingOptions};
pub use sample_token::{SampledToken, sample_token};
pub use score::{argmax_tokens, score};
